"""Which of a run's points may be an answer: what the user asks of it beside the goal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from ..records.frontier import Point
from ..records.recommend import is_trainable
from ..records.wording import items_of
from ..values.errors import NothingFitsError, UserInputError
from ..values.sizes import format_budget
from ..workloads.settings import settings_class


@dataclass(frozen=True, kw_only=True, slots=True)
class Filters:
    """Conditions that an answer has to meet; None or empty asks for nothing.

    min_parameters: without the position table. max_power_w: mean of the card over the timed samples.
    budget_bytes: smaller than the run's. tokens_per_update: no step may have more tokens, and where several
    batches make so many, their gradients, which stay from one to the next, have to fit too.
    """

    models: tuple[str, ...] = ()
    min_seq: int | None = None
    min_parameters: int | None = None
    max_power_w: float | None = None
    budget_bytes: int | None = None
    tokens_per_update: int | None = None

    def select(self, points: Sequence[Point]) -> list[Point]:
        """The points that phase8-train can train and that meet every condition.

        Raises: NothingFitsError that names the first condition that nothing meets; UserInputError for a model
        that is not among the points, a budget above the run's, or a power where none was measured.
        """
        left = [point for point in points if is_trainable(point)]
        if not left:
            raise NothingFitsError("no training configuration of this run fits its budget")
        self._check(left)
        for condition in self._conditions():
            kept = [point for point in left if condition.meets(point)]
            if not kept:
                raise NothingFitsError(
                    f"{condition.text}: nothing that fits here has it; {condition.at_best(left)}"
                )
            left = kept
        return left

    def without_measured(self) -> Filters:
        """What of it can be asked of predictions, under a budget that they have already."""
        return replace(self, max_power_w=None, budget_bytes=None)

    def describe(self) -> str:
        """The conditions as options, for example `--min-seq 1024`; empty where there are none."""
        return ", ".join(dict.fromkeys(condition.text for condition in self._conditions()))

    def _check(self, points: Sequence[Point]) -> None:
        known = sorted({point.candidate.model for point in points})
        for model in self.models:
            if model not in known:
                raise UserInputError(
                    f"--model: expected one of those that fit here ({', '.join(known)}), got {model}"
                )
        budget_bytes = max(point.record.budget_bytes for point in points)
        if self.budget_bytes is not None and self.budget_bytes > budget_bytes:
            raise UserInputError(
                f"--vram: expected at most the {format_budget(budget_bytes)} of this run, got "
                f"{format_budget(self.budget_bytes)}; search again with that budget"
            )
        if self.max_power_w is not None and all(power_w(point) is None for point in points):
            raise UserInputError(
                "--max-power: expected a run in which energy was measured, got one without; leave it out"
            )

    def _conditions(self) -> Iterator[_Condition]:
        if self.models:
            yield _Condition(
                f"--model {', '.join(self.models)}", lambda p: p.candidate.model in self.models, lambda ps: ""
            )
        if (budget_bytes := self.budget_bytes) is not None:
            yield _Condition(
                f"--vram {format_budget(budget_bytes)}",
                lambda p: needed_bytes(p) <= budget_bytes,
                lambda ps: f"the least takes {format_budget(min(map(needed_bytes, ps)))}",
            )
        if (min_seq := self.min_seq) is not None:
            yield _Condition(
                f"--min-seq {min_seq}",
                lambda p: p.candidate.length >= min_seq,
                lambda ps: f"the longest is {max(p.candidate.length for p in ps)}",
            )
        if (least := self.min_parameters) is not None:
            yield _Condition(
                f"--min-params {least:,}",
                lambda p: p.body_parameters >= least,
                lambda ps: f"the largest has {max(p.body_parameters for p in ps):,}",
            )
        if (tokens := self.tokens_per_update) is not None:
            yield _Condition(
                f"--tokens-per-update {tokens:,}",
                lambda p: p.candidate.items_per_step <= tokens,
                lambda ps: (
                    f"the smallest batch has {min(p.candidate.items_per_step for p in ps):,} {items_of(ps)}"
                ),
            )
            yield _Condition(
                f"--tokens-per-update {tokens:,}",
                lambda p: accumulating_bytes(p, tokens) <= (self.budget_bytes or p.record.budget_bytes),
                lambda ps: (
                    "with gradients that stay from batch to batch the least takes "
                    f"{format_budget(min(accumulating_bytes(p, tokens) for p in ps))}"
                ),
            )
        if (watts := self.max_power_w) is not None:
            yield _Condition(
                f"--max-power {watts:g}",
                lambda p: (power := power_w(p)) is not None and power <= watts,
                lambda ps: f"the least drew {min(w for p in ps if (w := power_w(p)) is not None):.0f} W",
            )


@dataclass(frozen=True, slots=True)
class _Condition:
    text: str
    meets: Callable[[Point], bool]
    at_best: Callable[[Sequence[Point]], str]


def needed_bytes(point: Point) -> int:
    """What the budget has to hold: the measured peak, or the predicted one with its margin."""
    predicted = point.record.measurement.predicted
    return point.peak_bytes if predicted is None else predicted.peak_bytes_high


def accumulating_bytes(point: Point, tokens: int) -> int:
    """What the budget has to hold where an update gathers at least so many tokens.

    Gradients that stay are counted whole: it is what they take where the loss holds most of the memory.
    """
    candidate = point.candidate
    kind = settings_class(candidate.workload)
    if kind is None or candidate.parts > 1 or candidate.items_per_step >= tokens:
        return needed_bytes(point)
    settings = kind.of_candidate(candidate, measured=None, predicted=None)
    return needed_bytes(point) + settings.gradient_bytes()


def power_w(point: Point) -> float | None:
    """Mean power of the card over the timed samples; None where it was not measured."""
    measurement = point.record.measurement
    if measurement.telemetry is None or measurement.telemetry.energy_j is None or not measurement.samples_s:
        return None
    return measurement.telemetry.energy_j / sum(measurement.samples_s)
