"""Outlooks that are made up, for the tests of the search."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from phase8_tune.tuner.predict.outlook import Outlook, Rung
from phase8_tune.tuner.predict.rate.throughput import StepEstimate
from phase8_tune.tuner.values.candidate import Candidate

from .search_bench import BUDGET_BYTES

Rate = Callable[[int], float]
"""Tokens a second by batch."""


def step_of(seconds: float) -> StepEstimate:
    return StepEstimate(traffic_s=seconds, arithmetic_s=0.0, floor_s=0.0, host_s=0.0)


def outlook_of(line: Candidate, batches: Sequence[int], largest: int, rate: Rate) -> Outlook:
    """A line whose peak is straight in the batch and just fits with its largest."""
    shown = batches if len(batches) < 20 else sorted({batches[0], *[2**n for n in range(1, 13)], largest})
    known = [batch for batch in shown if batch in batches and batch <= max(largest + 1, batches[0])]
    return Outlook(
        line=line.line(),
        batches=batches,
        largest=largest,
        rungs={
            batch: Rung(
                peak_bytes=round(0.98 * BUDGET_BYTES * batch / max(largest, 0.5)),
                step=step_of(line.at(batch).items_per_step / rate(batch)),
            )
            for batch in known
        },
    )


def outlooks_of(
    candidates: Iterable[Candidate], largest: int, rate: Callable[[Candidate], float]
) -> list[Outlook]:
    """The lines of some candidates with a few batches each; of all of them the same batch is the largest."""
    batches: dict[Candidate, list[int]] = {}
    for candidate in candidates:
        batches.setdefault(candidate.line(), []).append(candidate.batch_size)

    def of(line: Candidate) -> Rate:
        return lambda batch: rate(line.at(batch))

    return [outlook_of(line, tuple(sorted(each)), largest, of(line)) for line, each in batches.items()]
