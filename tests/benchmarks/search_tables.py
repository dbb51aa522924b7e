"""Made-up tables for the tests of the replay: a formula for a card, and predictions that are off."""

from __future__ import annotations

import bisect
import random
from collections.abc import Sequence

from phase8_tune.benchmarks.search_table import Entry, Table
from phase8_tune.phase8.config import preset
from phase8_tune.tuner.measuring.testing import formula
from phase8_tune.tuner.predict.outlook import Outlook, Rung
from phase8_tune.tuner.predict.rate.throughput import StepEstimate
from phase8_tune.tuner.search.exhaustive import ladder
from phase8_tune.tuner.study.definition import parse_definition
from phase8_tune.tuner.study.space import SearchSpace
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.outcome import Outcome

BUDGET_BYTES = 4 * 2**30
STUDY = """\
name: made-up
axes:
  model: [nano, small]
  n_seq: {sequences}
  batch_size: {{min: 1, max: 16384}}
  kernel_version: {versions}
  gradient_checkpointing: [false, true]
  mixed_precision: [bf16]
"""
RAN_ON = {
    **{"gpu": "Example GPU", "driver": "1", "cuda": "13", "torch": "2", "triton": "3", "python": "3.11"},
    **{"gpu_memory_bytes": 2**33, "compute_capability": "9.0", "os": "Linux"},
}


def made_up(sequences: Sequence[int] = (256, 512), versions: Sequence[str] = ("v2", "fast")) -> Table:
    """Every line's ladder by the formula; step times are predicted within a fifth, one factor a line."""
    text = STUDY.format(sequences=list(sequences), versions=list(versions))
    space = SearchSpace(parse_definition(text, "made up"))
    entries: dict[Candidate, Entry] = {}
    outlooks = []
    for line in space.lines:
        batches = ladder(space.batches(line), _largest(line))
        entries |= {
            line.at(batch): _entry(line.at(batch), is_first=batch == batches[-1]) for batch in batches
        }
        outlooks.append(_outlook(line, batches))
    return Table(budget_bytes=BUDGET_BYTES, ran_on=RAN_ON, entries=entries, outlooks=tuple(outlooks))


def _largest(line: Candidate) -> int:
    return bisect.bisect_right(range(1, 16385), BUDGET_BYTES, key=lambda batch: formula(line.at(batch))[1])


def _entry(candidate: Candidate, *, is_first: bool) -> Entry:
    step_s, peak_bytes, parameters = formula(candidate)
    rate = candidate.items_per_step / step_s
    return Entry(
        outcome=Outcome.OK,
        tokens_per_s=rate,
        tokens_per_s_std=rate * 0.004,
        samples=6,
        peak_bytes=peak_bytes,
        parameters=parameters,
        body_parameters=parameters - preset(candidate.model, n_seq=candidate.n_seq).position_count,
        setup_s=15.0 if is_first else 1.0,
        seconds=(15.0 if is_first else 1.0) + 10 * step_s + 0.5,
    )


def _outlook(line: Candidate, batches: Sequence[int]) -> Outlook:
    factor = random.Random(line.digest()).uniform(0.8, 1.2)
    rungs = {}
    for batch in batches:
        step_s, peak_bytes, _ = formula(line.at(batch))
        step = StepEstimate(traffic_s=step_s * factor, arithmetic_s=0.0, floor_s=0.0, host_s=0.0)
        rungs[batch] = Rung(peak_bytes=peak_bytes, step=step)
    return Outlook(line=line, batches=tuple(batches), largest=batches[-1], rungs=rungs)
