"""Chosen before any test module is imported: without a GPU, Triton kernels run under Triton's interpreter."""

from __future__ import annotations

import os

# One thread a test process: pytest runs two side by side, and spinning OpenMP teams slow each other tenfold.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from hypothesis import HealthCheck, settings

# How long an example takes says something about the machine, not about the code.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# Triton reads the variable when a kernel is decorated, for its own library when it is imported: so here, at
# the root, not in the kernels' folder, which pytest may collect after a folder that already imports triton.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
