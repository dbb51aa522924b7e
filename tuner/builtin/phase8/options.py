"""How a candidate of Phase 8 is trained, in the trainer's words."""

from __future__ import annotations

from ....phase8.training import TrainingOptions
from ...predict.lines import LineKey
from ...values.candidate import Candidate


def options_of(of: LineKey | Candidate, *, seed: int = 0) -> TrainingOptions:
    """The trainer's options for a candidate, or for those of a line."""
    return TrainingOptions(
        kernel_version=of.kernel_version,
        gradient_checkpointing=of.gradient_checkpointing,
        mixed_precision=of.mixed_precision,
        optimizer_state=of.optimizer_state,
        master_weights=of.master_weights,
        seed=seed,
    )
