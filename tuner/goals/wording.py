"""Answers in words: what a point is, why it was chosen, what another would cost or gain."""

from __future__ import annotations

from ..records.frontier import Point
from ..records.recommend import recommendation_name
from ..records.wording import items_of, length_word, rate_of
from ..values.sizes import MIB, format_budget, format_duration
from .filters import Filters
from .goals import KEPT, Answer, Goal
from .loss import BAND, FREE_EPOCHS, SMALLEST_FITTED_PARAMETERS, Horizon, ModelLoss


def describe_point(point: Point) -> str:
    """A configuration with its figures: `small 8×256 fast bf16 train: 1,709,000 tokens/s, 7,946 MB`."""
    return f"{point.candidate.describe()}: {describe_figures(point)}"


def describe_figures(point: Point) -> str:
    """`1,709,000 tokens/s, 7,946 MB`; of a predicted one the rate to three figures, and marked."""
    return f"{_rate(point)} {rate_of(point)}, {point.peak_bytes / MIB:,.0f} MB"


def compare(point: Point, other: Point) -> str:
    """What another point would gain (+) or cost (−) against one: `tokens/s −3.1 %, memory −430 MB`."""
    parts = []
    if other.body_parameters != point.body_parameters:
        parts.append(f"parameters {_share(other.body_parameters / point.body_parameters)}")
    if other.candidate.length != point.candidate.length:
        word = length_word([point.candidate, other.candidate])
        parts.append(f"{word} {other.candidate.length} for {point.candidate.length}")
    parts.append(f"{rate_of(point)} {_share(other.tokens_per_s / point.tokens_per_s)}")
    parts.append(f"memory {_signed((other.peak_bytes - point.peak_bytes) / MIB, ',.0f')} MB")
    return ", ".join(parts)


def why_fastest(point: Point, others: list[Point]) -> list[str]:
    """Lines of a model's own file: why it was chosen of the model's points, and the next fastest."""
    name, budget = recommendation_name(point.candidate), format_budget(point.record.budget_bytes)
    lines = [f"why: the most {rate_of(point)} of every training configuration of {name} that fits {budget}"]
    rivals = [other for other in others if other.record.digest != point.record.digest]
    if not rivals:
        return [*lines, "next best: no other fits"]
    second = max(rivals, key=lambda p: (p.tokens_per_s, -p.peak_bytes, p.record.digest))
    return [*lines, f"next best: {second.candidate.describe()}: {compare(point, second)}"]


def why(answer: Answer, filters: Filters, horizon: Horizon) -> list[str]:
    """Lines of a goal's file: the goal, what was asked beside it, why, and the next best."""
    told = ": ".join
    return [f"goal {answer.goal}: {answer.goal.sentence}", *map(told, reasons(answer, filters, horizon))]


def reasons(answer: Answer, filters: Filters, horizon: Horizon) -> list[tuple[str, str]]:
    """What is said of an answer below its goal, each with its name: what was asked, why, the next best."""
    found = [("asked", asked)] if (asked := filters.describe()) else []
    found.append(("why", _reason(answer, horizon)))
    other = answer.next_best
    found.append(
        ("next best", "nothing else fits")
        if other is None
        else ("next best", f"{other.candidate.describe()}: {compare(answer.point, other)}")
    )
    if answer.beaten_by:
        found.append(("not on the frontier", _explain(answer)))
    return found


def caveats(answer: Answer, filters: Filters, horizon: Horizon) -> list[str]:
    """What has to be known of less memory than the run's, and of expected losses where a goal has them."""
    said = []
    own_bytes = answer.point.record.budget_bytes
    if filters.budget_bytes is not None and filters.budget_bytes < own_bytes:
        asked = format_budget(filters.budget_bytes)
        said.append(
            f"Chosen among what this run recorded, whose batches are those for {format_budget(own_bytes)}: a "
            f"run with --vram {asked} has those for {asked}."
        )
    if not answer.losses:
        return said
    best = answer.losses[0]
    said.append(
        f"Expected losses are by the law of {horizon.law.title}, fitted to transformers of "
        f"{SMALLEST_FITTED_PARAMETERS / 1e6:.0f} M parameters and more: for this architecture it is an "
        "extrapolation"
        + (
            ", and for models below that size too"
            if any(item.is_extrapolated for item in answer.losses)
            else ""
        )
        + f". Sizes within {BAND:.0%} are not told apart."
    )
    repeated = [item.model for item in answer.losses if item.repeats_too_often]
    if repeated:
        said.append(
            f"The text would be seen more than {FREE_EPOCHS} times by {', '.join(repeated)}"
            + (f" ({best.epochs:.1f} times by {best.model})" if best.epochs is not None else "")
            + ": the law then expects too much; train for less time, or on more text."
        )
    return said


def describe_loss(item: ModelLoss) -> str:
    """`small 3.731 (148.8 G tokens)`."""
    epochs = "" if item.epochs is None else f", {item.epochs:.1f} epochs"
    tokens = f"{item.tokens / 1e9:,.1f} G" if item.tokens >= 1e9 else f"{item.tokens / 1e6:,.1f} M"
    return f"{item.model} {item.loss:.3f} ({tokens} tokens{epochs})"


def _reason(answer: Answer, horizon: Horizon) -> str:
    point = answer.point
    if answer.goal is Goal.THROUGHPUT:
        return f"{_rate(point)} {rate_of(point)} are the most"
    if answer.goal is Goal.MODEL_SIZE:
        return f"{point.body_parameters:,} parameters are the most"
    if answer.goal is Goal.CONTEXT:
        word = length_word([point.candidate])
        return f"{point.candidate.length} {items_of([point])} are the longest {word}"
    if answer.goal is Goal.MEMORY:
        return f"{point.peak_bytes / MIB:,.0f} MB are the least"
    band = ", ".join(describe_loss(item) for item in answer.losses if item.in_band)
    after = format_duration(horizon.train_time_s)
    if answer.goal is Goal.COMPUTE_OPTIMAL:
        return f"the lowest expected loss after {after}; within {BAND:.0%}: {band}"
    name, word = recommendation_name(point.candidate), length_word([point.candidate])
    said = f"{name} is the smallest within {BAND:.0%} of the best expected loss after {after} ({band})"
    if not word:
        return said
    kept = f"{KEPT:.0%} of its {rate_of(point)}"
    return f"{said}, and {point.candidate.length} the longest {word} that keeps {kept}"


def _explain(answer: Answer) -> str:
    """Why points that are at least as good in every objective were passed over."""
    chosen, best = answer.point.candidate, answer.beaten_by[0].candidate
    if recommendation_name(best) != recommendation_name(chosen):
        reason = "another model, whose expected loss is no better"
    elif best.length < chosen.length:
        reason = "a shorter sequence"
    else:
        reason = "a longer sequence, which keeps less of the model's tokens/s"
    return f"{best.describe()} has at least the tokens/s in no more memory, for {reason}"


def _rate(point: Point) -> str:
    if point.tokens_per_s_std is None:
        return f"~{float(f'{point.tokens_per_s:.3g}'):,.0f}"
    return f"{point.tokens_per_s:,.0f}"


def _share(ratio: float) -> str:
    return f"{_signed((ratio - 1) * 100, ',.1f')} %"


def _signed(value: float, form: str) -> str:
    sign = "−" if value < 0 else "+"
    return f"{sign}{format(abs(value), form)}"
