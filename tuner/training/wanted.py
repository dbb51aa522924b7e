"""What a training is asked to do, and what its checkpoints say of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..workloads.settings import TrainingSettings
from .checkpoint import Progress, Tokenization
from .schedule import Schedule


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What a training shall do. parts: batches an update; max_time_s: of this session, None for no limit."""

    steps: int
    schedule: Schedule
    log_every: int
    evaluate_every: int
    save_every: int
    parts: int = 1
    max_time_s: float | None = None

    def is_owed(self, progress: Progress) -> bool:
        """Whether an evaluation is due at the progress's step that did not come to its end."""
        step, is_due = progress.step, progress.step % self.evaluate_every == 0 or progress.step == self.steps
        return is_due and progress.evaluated_step not in (None, step)


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """What a checkpoint says beside tensors and progress. output: where the weights go."""

    settings: TrainingSettings
    tokenizer: Tokenization
    output: Path
