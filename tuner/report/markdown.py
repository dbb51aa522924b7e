"""report.md: the seed's sections, every sentence and figure computed from the records of one run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from ..machine.environment import Environment, triton_status
from ..records.frontier import Point
from ..records.recommend import recommendation_name
from ..records.results import Results
from ..search.plan_summary import PlanSummary
from ..training.recommended import to_settings, to_yaml
from ..values.record import Record
from ..values.shell_words import shell_path
from ..values.sizes import format_budget, format_duration, format_mb
from ..values.timing import MINIMUM_SAMPLES
from .facts import RunFacts, describe_device, describe_gpus, format_range
from .findings import (
    comparison_findings,
    correctness_findings,
    memory_findings,
    outcome_lines,
    throughput_findings,
)
from .tables import frontier_table, markdown_table, render_results


def render_report(results: Results, facts: RunFacts) -> str:
    """The whole report of a run. A pure function: the same results and facts give the same text."""
    title = "benchmark" if facts.plan is None else "plan"
    sections = [
        f"# Phase 8 {title}: {facts.study_name} {describe_device(facts.device)}\n",
        "" if facts.plan is None else "Every figure in this report is predicted, none is measured.\n",
        _environment(results, facts),
        render_results(results.settled, results.points, facts.device.kind),
        _findings(results, facts),
        _frontiers(results.frontier, facts),
        _method(results.settled, facts),
        _comparison(results.points),
        _recommendations(results.recommended, facts),
        _outcomes(results.settled),
        _reproduction(facts),
    ]
    return "\n".join(section for section in sections if section)


def _environment(results: Results, facts: RunFacts) -> str:
    noted = sorted((started, r.started_at) for r in results.records if (started := r.started()))
    times = [text for _, text in noted]
    environment = Environment(
        device=facts.device,
        versions=facts.versions,
        triton_status=triton_status(facts.device, facts.versions),
        measured_at=format_range(times) if times else "nothing is recorded",
    )
    rows = [("Property", "Value"), *environment.rows()]
    gpus = describe_gpus(results.settled)
    if gpus is not None:
        rows.append(("Measured on", gpus))
    rows.append(("Budget", f"{format_mb(facts.budget_bytes)} MB"))
    if facts.reserve_bytes:
        rows.append(("Of that kept free for others", f"{format_mb(facts.reserve_bytes)} MB"))
    ran = sorted({r.to_candidate().kernel_version for r in results.settled if r.fits})
    label = "Kernel versions that ran" if facts.plan is None else "Kernel versions predicted to fit"
    rows.append((label, ", ".join(ran) or "none"))
    if facts.missing_versions:
        rows.append(("Kernel versions not installed", ", ".join(facts.missing_versions)))
    return f"## Environment\n\n{markdown_table(rows[0], rows[1:])}\n"


def _findings(results: Results, facts: RunFacts) -> str:
    points = results.points
    parts = [f"## Findings (device: {facts.device.kind})\n"]
    if points:
        parts.append(_section("### Throughput", throughput_findings(points)))
    parts.append(
        _section(
            f"### Memory under {format_budget(facts.budget_bytes)}", memory_findings(results.settled, points)
        )
    )
    effects = [
        line
        for axis in ("kernel_version", "mixed_precision", "gradient_checkpointing")
        for line in comparison_findings(points, axis)
    ]
    parts.append(_section("### Effect of each setting, all else equal", effects))
    parts.append(_section("### Correctness of the kernels", correctness_findings(results.records)))
    return "\n".join(part for part in parts if part)


def _frontiers(front: Sequence[Point], facts: RunFacts) -> str:
    if not front:
        return ""
    headers, rows, align = frontier_table(front)
    return (
        f"## Frontier (device: {facts.device.kind})\n\n"
        f"No other {'measured' if facts.plan is None else 'predicted'} configuration of the same mode has at "
        "least the tokens/s, at most the peak memory and at least the parameters of one of these, and is "
        "better in one of the three.\n\n"
        f"{markdown_table(headers, rows, align=align)}\n"
    )


def _method(settled: Sequence[Record], facts: RunFacts) -> str:
    if facts.plan is not None:
        return _planning_method(facts, facts.plan)
    timing = facts.timing
    lines = [
        f"Warm-up: {timing.warmup} iterations, not counted",
        f"Measured: up to {timing.iterations} iterations, each timed on its own"
        + (f", at least {MINIMUM_SAMPLES}" if timing.iterations > MINIMUM_SAMPLES else ""),
        "Statistics: mean and sample standard deviation of the tokens/s of the iterations",
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
    return _section("## How it was measured", lines)


def _planning_method(facts: RunFacts, plan: PlanSummary) -> str:
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
    return _section("## How it was predicted", lines)


def _comparison(points: Sequence[Point]) -> str:
    return _section("## Comparison: phase7 and phase8", comparison_findings(points, "variant"))


def _recommendations(chosen: Sequence[Point], facts: RunFacts) -> str:
    parts = [
        f"## Recommended settings for {format_budget(facts.budget_bytes)} (device: {facts.device.kind})\n"
    ]
    if not chosen:
        which = "that was measured" if facts.plan is None else "of the study"
        parts.append(f"No training configuration {which} fits the budget.\n")
    for point in chosen:
        name = recommendation_name(point.candidate)
        # The report quotes the settings; the file itself goes on with where they come from.
        text = re.split(r"^(?:measured|predicted):\n", to_yaml(to_settings(point)), flags=re.MULTILINE)[0]
        text = text.rstrip()
        parts.append(f"### {name} (`recommended/{name}.yaml`)\n\n```yaml\n{text}\n```\n")
    return "\n".join(parts)


def _outcomes(settled: Sequence[Record]) -> str:
    return _section("## Outcomes", outcome_lines(settled))


def _reproduction(facts: RunFacts) -> str:
    again = f"phase8-tune frontier {shell_path(facts.run_root)}"
    return f"## Reproduce\n\n```bash\n{facts.command}\n{again}\n```\n"


def _section(title: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    return f"{title}\n\n" + "".join(f"- {line}\n" for line in lines)
