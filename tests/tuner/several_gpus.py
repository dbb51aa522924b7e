"""`phase8-tune` on fake GPUs, as a process of its own: `several_gpus.py WORKER-COMMAND ARGUMENTS…`.

Everything is real but what NVML and torch would say of the GPUs, and what runs in the workers.
"""

from __future__ import annotations

import shlex
import sys

import pytest

from phase8_tune.tuner.cli import main
from phase8_tune.tuner.measuring import worker_measurer
from phase8_tune.tuner.places import here

if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker_measurer, "WORKER_COMMAND", tuple(shlex.split(sys.argv[1])))
        patch.setattr(here, "select_gpus", lambda text: tuple(text.split(",")))
        patch.setattr(here, "resolve_device", lambda choice, gpus: "cuda")
        patch.setattr(here, "device_total_bytes", lambda device, gpus: 16 << 30)
        main(sys.argv[2:])
