"""How one candidate is timed: what a study says of it, and what a worker is told."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .measurement import Border

FORMAT_1_TIMING = frozenset({"warmup", "iterations", "timeout_s"})
"""What of it every study's digest is made of, as `WorkloadSpec.counted` of a candidate's."""

MINIMUM_SAMPLES = 5
"""Timing never stops early below this many samples."""


class Timing(Border):
    """Iterations and time of one candidate: 5 to warm up, then 20 that are timed.

    `timeout_s` bounds one whole candidate, set-up included.

    Raises: pydantic.ValidationError, naming the field, for numbers that leave nothing to measure.
    """

    warmup: Annotated[int, Field(ge=0)] = 5
    iterations: Annotated[int, Field(gt=0)] = 20
    timeout_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 300.0
