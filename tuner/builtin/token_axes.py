"""Axes that workloads of tokens have in common. Imports no torch: the driver reads them."""

from __future__ import annotations

from ..values.axes import Axis
from ..values.candidate import CHECKPOINTING_FLAGS, DEFAULT_VOCAB_SIZE, LARGEST_VOCAB_SIZE

VOCABULARY = Axis(
    name="vocab_size",
    kind=int,
    minimum=1,
    maximum=LARGEST_VOCAB_SIZE,
    default=DEFAULT_VOCAB_SIZE,
    is_of_model=True,
    is_quiet=True,
    title="Vocabulary",
    word="vocab{}",
)
SEQUENCE = Axis(
    name="n_seq",
    kind=int,
    minimum=1,
    is_ordered=True,
    is_cell_key=True,
    title="Sequence",
    phrase="sequence {}",
)
PRECISION = Axis(
    name="mixed_precision",
    values=("bf16", "fp16", "none"),
    default="bf16",
    title="Precision",
    phrase="precision {}",
    plain="none",
)
ACCUMULATION = Axis(
    name="gradient_accumulation",
    kind=int,
    minimum=1,
    default=1,
    searched=(1,),
    is_later=True,
    is_quiet=True,
    title="Batches a step",
    word="accumulate{}",
    phrase="{} batches a step",
    plain=1,
)
CHECKPOINTING = Axis(
    name="gradient_checkpointing",
    values=("none", "selective", "full"),
    searched=("none", "full"),
    default="none",
    flags=CHECKPOINTING_FLAGS,
    title="Checkpointing",
    word="{} checkpointing",
    phrase="{} checkpointing",
    said=(("none", ""), ("full", "checkpointing")),
    plain="none",
)
