"""The parts of a report in words, computed from the records of one run; Markdown and HTML show the same."""

from __future__ import annotations

from collections.abc import Iterator

from ..html.facts import Section
from ..machine.environment import Environment, triton_status
from ..records.cells import best_of_cells, describe_ties
from ..records.frontier import Point
from ..records.recommend import recommendation_name
from ..records.results import Results
from ..values.shell_words import shell_path
from ..values.sizes import format_budget, format_mb
from .facts import (
    MODE_TITLES,
    RunFacts,
    describe_device,
    describe_gpus,
    format_parameters,
    format_range,
    format_rate,
)
from .findings import (
    comparison_findings,
    correctness_findings,
    memory_findings,
    outcome_lines,
    throughput_findings,
)
from .method import method
from .tables import frontier_table, model_order, shared_settings
from .versions import versions_section

ALL_PREDICTED = "Every figure in this report is predicted, none is measured."


def title(facts: RunFacts) -> str:
    """What the report is of."""
    what = "benchmark" if facts.plan is None else "plan"
    return f"Phase 8 {what}: {facts.study_name} {describe_device(facts.device)}"


def commands(facts: RunFacts) -> tuple[str, ...]:
    """What was typed for the run, and what shows its frontier again."""
    return facts.command, f"phase8-tune frontier {shell_path(facts.run_root)}"


def sections_after_the_answer(results: Results, facts: RunFacts) -> list[Section]:
    """All parts below environment and answer, in order, without those that have nothing to say."""
    found = [
        *_bests(results, facts),
        *([versions_section(results.points)] if facts.plan is None else []),
        *_findings(results, facts),
        method(results.settled, facts),
        Section(
            title="Comparison: phase7 and phase8", lines=tuple(comparison_findings(results.points, "variant"))
        ),
        Section(title="Outcomes", lines=tuple(outcome_lines(results.settled))),
    ]
    return [section for section in found if section.lines or section.rows]


def environment(results: Results, facts: RunFacts) -> Section:
    """What it was measured on and with."""
    noted = sorted((started, r.started_at) for r in results.records if (started := r.started()))
    times = [text for _, text in noted]
    known = Environment(
        device=facts.device,
        versions=facts.versions,
        triton_status=triton_status(facts.device, facts.versions),
        measured_at=format_range(times) if times else "nothing is recorded",
    )
    rows = [("Property", "Value"), *known.rows()]
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
    return Section(title="Environment", rows=tuple(rows))


def answer(results: Results, facts: RunFacts) -> Section:
    """What a reader came for: how many models train within the budget, and the fastest settings of each."""
    title = f"Recommended settings for {format_budget(facts.budget_bytes)} (device: {facts.device.kind})"
    chosen = results.recommended
    if not chosen:
        which = "that was measured" if facts.plan is None else "of the study"
        return Section(title=title, lines=(f"No training configuration {which} fits the budget.",))
    headers, rows, align = frontier_table(chosen)
    return Section(
        title=title,
        lines=(
            _headline(results, facts),
            "Of each model the fastest that fits is a settings file: `recommended/<model>.yaml`.",
        ),
        rows=(
            (*headers, "File"),
            *(
                (*row, f"`recommended/{recommendation_name(point.candidate)}.yaml`")
                for row, point in zip(rows, chosen, strict=True)
            ),
        ),
        align=align,
    )


def _headline(results: Results, facts: RunFacts) -> str:
    """Two sentences: the smallest and the largest model that train, and how long a context may be."""
    chosen = results.recommended
    small, large = chosen[0], chosen[-1]
    training = [point for point in results.points if point.candidate.mode == "train"]
    longest = max(training, key=lambda p: (p.candidate.n_seq, p.parameters, p.tokens_per_s))
    does = "trains" if facts.plan is None else "is predicted to train"
    sizes = f"**{_name(small)}** {does} at {_rate(small)} tokens/s"
    if large is not small:
        sizes = (
            f"**{len(chosen)} models** fit, from **{_name(small)}** at {_rate(small)} tokens/s to "
            f"**{_name(large)}** ({format_parameters(large.parameters)} parameters) at {_rate(large)}"
        )
    return (
        f"Within {format_budget(facts.budget_bytes)} on {facts.device.name}, {sizes}. The longest sequence "
        f"that fits is {longest.candidate.n_seq:,}, with {_name(longest)} at {_rate(longest)} tokens/s."
    )


def _bests(results: Results, facts: RunFacts) -> Iterator[Section]:
    """For each mode a table of the best throughput: a row a model, a column a sequence."""
    for mode, title in MODE_TITLES.items():
        best = best_of_cells(p for p in results.points if p.candidate.mode == mode)
        if not best:
            continue
        settled = [r for r in results.settled if r.to_candidate().mode == mode]
        sequences = sorted({point.candidate.n_seq for point in best.values()})
        workloads = {workload for workload, _, _, _ in best}
        models = sorted({cell[:3] for cell in best}, key=lambda m: (m[0], model_order(m[2][0]), m[2]))
        rows = [
            (
                " ".join(((model[0],) if len(workloads) > 1 else ()) + model[2]),
                *(_cell(best.get((*model, sequence))) for sequence in sequences),
            )
            for model in models
        ]
        yield Section(
            title=f"Best of each model and sequence: {title}",
            lines=(
                f"Tokens/s of the fastest that fits, with its batch. All that was recorded: "
                f"{shared_settings(settled, facts.device.kind)}.",
            ),
            rows=(("Model", *(str(sequence) for sequence in sequences)), *rows),
            align="l" + "r" * len(sequences),
        )


def _findings(results: Results, facts: RunFacts) -> Iterator[Section]:
    points = results.points
    yield Section(title=f"Findings (device: {facts.device.kind})", lines=_found_in_all(results, facts))
    effects = [
        line
        for axis in ("kernel_version", "mixed_precision", "gradient_checkpointing")
        for line in comparison_findings(points, axis)
    ]
    for title, lines in (
        ("Throughput", [*throughput_findings(points), *describe_ties(points)]),
        (f"Memory under {format_budget(facts.budget_bytes)}", memory_findings(results.settled, points)),
        ("Effect of each setting, all else equal", effects),
        ("Correctness of the kernels", correctness_findings(results.records)),
    ):
        yield Section(title=title, lines=tuple(lines), level=3)


def _found_in_all(results: Results, facts: RunFacts) -> tuple[str, ...]:
    if not results.frontier:
        return ("Nothing fits.",)
    which = "measured" if facts.plan is None else "predicted"
    return (
        f"The frontier holds {len(results.frontier):,} of {len(results.points):,} {which} configurations "
        "that fit: no other of the same mode has at least the tokens/s, at most the peak memory and at least "
        "as large a model, and is better in one of the three",
    )


def _cell(point: Point | None) -> str:
    return "" if point is None else f"{_rate(point)} ({point.candidate.batch_size})"


def _rate(point: Point) -> str:
    """Tokens per second, a predicted one to three figures and marked."""
    if point.record.measurement.predicted is not None:
        return f"~{format_rate(float(f'{point.tokens_per_s:.3g}'))}"
    return format_rate(point.tokens_per_s)


def _name(point: Point) -> str:
    return " ".join(point.candidate.model_words)
