"""How the figures of a report came about, in a sentence each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..html.facts import Section
from ..records.wording import rate_unit
from ..search.plan_summary import PlanSummary
from ..values.record import Record
from ..values.sizes import format_duration
from ..values.timing import MINIMUM_SAMPLES
from .facts import RunFacts


def method(settled: Sequence[Record], facts: RunFacts) -> Section:
    """How figures were measured, or predicted."""
    if facts.plan is not None:
        return _planning_method(facts, facts.plan)
    timing, unit = facts.timing, "tokens/s"
    if settled:
        unit = rate_unit(record.to_candidate() for record in settled)
    lines = [
        f"Warm-up: {timing.warmup} iterations, not counted",
        f"Measured: up to {timing.iterations} iterations, each timed on its own"
        + (f", at least {MINIMUM_SAMPLES}" if timing.iterations > MINIMUM_SAMPLES else ""),
        f"Statistics: mean and sample standard deviation of the {unit} of the iterations",
        "Compilation and other set-up come before the warm-up and are not in the times",
        f"Each candidate had at most {format_duration(timing.timeout_s)}",
        "Peak memory is the whole peak of the measuring process on the device; 1 MB = 2^20 bytes, "
        "1 GB = 2^30 bytes",
    ]
    if facts.device.kind == "cuda":
        lines.insert(2, "Synchronised with the GPU around every timed iteration")
    samples = sorted(len(r.measurement.samples_s) for r in settled if r.fits)
    if samples:
        taken = str(samples[0]) if samples[0] == samples[-1] else f"{samples[0]} to {samples[-1]}"
        lines.append(f"Samples taken for each successful candidate: {taken}")
    if facts.skips is not None:
        lines.append(facts.skips.sentence())
    told = [r.measurement.telemetry for r in settled if r.fits and r.measurement.telemetry is not None]
    on_battery = sum(telemetry.power_source == "battery" for telemetry in told)
    if on_battery:
        lines.append(f"On battery, which slows a computer: {on_battery} of {len(samples)}")
    sources = Counter(r.measurement.peak_source for r in settled if r.fits and r.measurement.peak_source)
    lines.extend(
        f"Source of peak memory: {name} ({n} of {len(samples)})" for name, n in sources.most_common()
    )
    return Section(title="How it was measured", lines=tuple(lines))


def _planning_method(facts: RunFacts, plan: PlanSummary) -> Section:
    lines = [
        f"Nothing was run on a GPU: the real training step was followed on tensors without data, and its "
        f"allocations were replayed through a simulation of PyTorch's allocator, for {facts.device.name}",
        f"{plan.configurations:,} configurations, all of the study, were decided; {plan.fit:,} fit. Recorded "
        "are the frontier, the fastest of each model and sequence with what one setting changes in it, and "
        "where nothing fits the one that takes least",
        f"A configuration fits if its predicted peak and {plan.margin:.0%} more are within the budget; the "
        "peak is that of the whole process, with the context and the libraries. 1 MB = 2^20 bytes, "
        "1 GB = 2^30 bytes",
        "Tokens/s: a roofline of the card's figures; as long as nothing is measured there, the interval "
        "that should hold nine of ten is wide",
        "`phase8-tune predict` shows the memory of any one configuration line by line",
    ]
    return Section(title="How it was predicted", lines=tuple(lines))
