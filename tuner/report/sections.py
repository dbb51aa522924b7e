"""The parts of a report in words, computed from the records of one run; Markdown and HTML show the same."""

from __future__ import annotations

from collections.abc import Iterator

from ..html.facts import Section
from ..machine.environment import Environment, triton_status
from ..records.cells import best_of_cells, describe_ties
from ..records.frontier import Point
from ..records.recommend import has_settings, recommendation_name
from ..records.results import Results
from ..records.wording import length_word, model_order, namer, rate_of, rate_unit, setting_axes
from ..values.shell_words import shell_path
from ..values.sizes import format_budget, format_mb
from ..workloads.spec import spec_of
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
from .savings import savings_findings
from .tables import frontier_table, shared_settings
from .variants import variant_sections
from .versions import versions_section
from .workloads import matched_section

ALL_PREDICTED = "Every figure in this report is predicted, none is measured."


def title(facts: RunFacts) -> str:
    """What the report is of."""
    what = "benchmark" if facts.plan is None else "plan"
    titles = " and ".join(spec_of(name).title for name in facts.workloads)
    return f"{titles} {what}: {facts.study_name} {describe_device(facts.device)}"


def commands(facts: RunFacts) -> tuple[str, ...]:
    """What was typed for the run, and what shows its frontier again."""
    return facts.command, f"phase8-tune frontier {shell_path(facts.run_root)}"


def sections_after_the_models(results: Results, facts: RunFacts) -> list[Section]:
    """All parts below what is recommended, in order, without those that have nothing to say."""
    found = [
        *_bests(results, facts),
        *([versions_section(results.points)] if facts.plan is None else []),
        *_findings(results, facts),
        *variant_sections(results.points),
        matched_section(results.points),
        method(results.settled, facts),
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
    ran = sorted({r.to_candidate().version for r in results.settled if r.fits} - {""})
    label = "Kernel versions that ran" if facts.plan is None else "Kernel versions predicted to fit"
    if ran or any(spec_of(name).version_axis for name in facts.workloads):
        rows.append((label, ", ".join(ran) or "none"))
    if facts.missing_versions:
        rows.append(("Kernel versions not installed", ", ".join(facts.missing_versions)))
    return Section(title="Environment", rows=tuple(rows))


def models(results: Results, facts: RunFacts) -> Section:
    """How many models train within the budget, and the fastest settings of each."""
    title = f"Recommended settings for {format_budget(facts.budget_bytes)} (device: {facts.device.kind})"
    chosen = results.recommended
    if not chosen:
        return Section(title=title)
    headers, rows, align = frontier_table(chosen)
    return Section(
        title=title,
        lines=(
            _headline(results, facts),
            "Of each model the fastest that fits is a settings file: `recommended/<model>.yaml`."
            if any(map(has_settings, chosen))
            else "Of each model the fastest that fits.",
        ),
        rows=(
            (*headers, "File"),
            *((*row, _file(point)) for row, point in zip(rows, chosen, strict=True)),
        ),
        align=f"{align}l",
    )


def _file(point: Point) -> str:
    return f"`recommended/{recommendation_name(point.candidate)}.yaml`" if has_settings(point) else "-"


def _headline(results: Results, facts: RunFacts) -> str:
    """Two sentences: the smallest and the largest model that train, and how long a context may be."""
    chosen = results.recommended
    small, large = chosen[0], chosen[-1]
    training = [point for point in results.points if point.candidate.mode == "train"]
    longest = max(training, key=lambda p: (p.candidate.length, p.parameters, p.tokens_per_s))
    name = namer(point.candidate for point in training)
    does = "trains" if facts.plan is None else "is predicted to train"
    sizes = f"**{name(small.candidate)}** {does} at {_rate(small)} {rate_of(small)}"
    if large is not small:
        sizes = (
            f"**{len(chosen)} models** fit, from **{name(small.candidate)}** at {_rate(small)} "
            f"{rate_of(small)} to **{name(large.candidate)}** "
            f"({format_parameters(large.parameters)} parameters) at {_rate(large)}"
        )
    said = f"Within {format_budget(facts.budget_bytes)} on {facts.device.name}, {sizes}."
    if word := length_word([longest.candidate]):
        said += (
            f" The longest {word} that fits is {longest.candidate.length:,}, with "
            f"{name(longest.candidate)} at {_rate(longest)} {rate_of(longest)}."
        )
    return said


def _bests(results: Results, facts: RunFacts) -> Iterator[Section]:
    """For each mode a table of the best throughput: a row a model, a column a length."""
    for mode, title in MODE_TITLES.items():
        best = best_of_cells(p for p in results.points if p.candidate.mode == mode)
        if not best:
            continue
        settled = [r for r in results.settled if r.to_candidate().mode == mode]
        candidates = [point.candidate for point in best.values()]
        lengths = sorted({candidate.length for candidate in candidates})
        # A batch that counts alone stands in the column of one item.
        alone = {candidate.length for candidate in candidates if candidate.spec.items_axis is None}
        heads = ["-" if length in alone else str(length) for length in lengths]
        name, word = namer(candidates), length_word(candidates)
        # Of a workload whose cells differ in more than their length the best of each length
        found: dict[tuple[str, int], Point] = {}
        for point in best.values():
            key = name(point.candidate), point.candidate.length
            if key not in found or point.tokens_per_s > found[key].tokens_per_s:
                found[key] = point
        orders = {name(c): (model_order(c.workload, c.model), c.model_words) for c in candidates}
        rows = [
            (model, *(_cell(found.get((model, length))) for length in lengths))
            for model in sorted(orders, key=lambda model: orders[model])
        ]
        yield Section(
            title=f"Best of each model{f' and {word}' if word else ''}: {title}",
            lines=(
                f"{rate_unit(candidates).capitalize()} of the fastest that fits, with its batch. All "
                f"that was recorded: {shared_settings(settled, facts.device.kind)}.",
            ),
            rows=(("Model", *(heads if word else ("Best",))), *rows),
            align="l" + "r" * len(lengths),
        )


def _findings(results: Results, facts: RunFacts) -> Iterator[Section]:
    points = results.points
    yield Section(title=f"Findings (device: {facts.device.kind})", lines=_found_in_all(results, facts))
    axes = setting_axes(point.candidate for point in points)
    effects = [line for axis in axes for line in comparison_findings(points, axis)]
    for title, lines in (
        ("Throughput", [*throughput_findings(points), *describe_ties(points)]),
        (f"Memory under {format_budget(facts.budget_bytes)}", memory_findings(results.settled, points)),
        ("Effect of each setting, all else equal", effects),
        *([("What a small state gains", savings)] if (savings := savings_findings(points)) else []),
        ("Correctness of the kernels", correctness_findings(results.records)),
    ):
        yield Section(title=title, lines=tuple(lines), level=3)


def _found_in_all(results: Results, facts: RunFacts) -> tuple[str, ...]:
    if not results.frontier:
        return ("Nothing fits.",)
    which = "measured" if facts.plan is None else "predicted"
    candidates = (point.candidate for point in results.frontier)
    return (
        f"The frontier holds {len(results.frontier):,} of {len(results.points):,} {which} configurations "
        f"that fit: no other of the same mode has at least the {rate_unit(candidates)}, at most the "
        "peak memory and at least as large a model, and is better in one of the three",
    )


def _cell(point: Point | None) -> str:
    return "" if point is None else f"{_rate(point)} ({point.candidate.batch_size})"


def _rate(point: Point) -> str:
    """Tokens per second, a predicted one to three figures and marked."""
    if point.record.measurement.predicted is not None:
        return f"~{format_rate(float(f'{point.tokens_per_s:.3g}'))}"
    return format_rate(point.tokens_per_s)
