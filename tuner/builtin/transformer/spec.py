"""What can be set of the built-in transformer: its axes with their values and defaults. Loads no torch."""

from __future__ import annotations

from ....phase8.config import VOCAB_SIZE
from ...workloads.training import AxisValue

KERNEL_VERSIONS = ("eager", "compiled")
LOSSES = ("dense", "chunked", "linear_cross_entropy", "liger")
PRECISIONS = ("bf16", "fp16", "none")
DEFAULTS: dict[str, AxisValue] = {
    "n_seq": 1024,
    "vocab_size": VOCAB_SIZE,
    "family": "llama",
    "queries_per_kv": 1,
    "kernel_version": "eager",
    "loss": "dense",
    "mixed_precision": "bf16",
    "gradient_checkpointing": False,
}
AXES: tuple[str, ...] = tuple(DEFAULTS)
"""In the order in which reports show them. The first two are numbers of which near ones are alike."""
