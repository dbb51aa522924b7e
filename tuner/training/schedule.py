"""The learning rate over a training."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """Linear warm-up, then half a cosine down to the share `least` of the peak rate at the last step."""

    peak: float
    steps: int
    warmup_steps: int
    least: float = 0.1

    @classmethod
    def of(cls, peak: float, steps: int, warmup_steps: int | None = None, least: float = 0.1) -> Schedule:
        """warmup_steps None: a tenth of the steps, at most 100."""
        warmup = min(100, max(steps // 10, 1)) if warmup_steps is None else warmup_steps
        return cls(peak=peak, steps=steps, warmup_steps=warmup, least=least)

    def rate(self, step: int) -> float:
        """Of a step, from 0."""
        if step < self.warmup_steps:
            return self.peak * (step + 1) / self.warmup_steps
        progress = min((step - self.warmup_steps) / max(self.steps - self.warmup_steps, 1), 1.0)
        middle, swing = (1 + self.least) / 2, (1 - self.least) / 2
        return self.peak * (middle + swing * math.cos(math.pi * progress))
