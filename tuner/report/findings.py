"""Findings: sentences computed from the records, each true of the data, none where it is silent."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations

from ..records.cells import Cell, cell_of
from ..records.frontier import Point
from ..records.wording import length_word, model_order, namer, rate_of, rate_unit, settings_of
from ..values.axes import Axis
from ..values.candidate import Candidate
from ..values.outcome import Outcome
from ..values.record import Record
from ..values.sizes import format_mb
from .facts import describe_rate


def throughput_findings(points: Sequence[Point]) -> list[str]:
    """The best throughput of each mode and model, and its growth with the batch."""
    lines = []
    for (mode, model), group in _by_mode_and_model(points):
        best = max(group, key=lambda p: p.tokens_per_s)
        lines.append(
            f"**{model}, {mode}**: best throughput {describe_rate(best.record)} "
            f"{rate_of(best)} ({settings_of(best.candidate)})"
        )
        longest = max(group, key=lambda p: (p.candidate.length, p.tokens_per_s))
        if longest.candidate.length > best.candidate.length:
            lines.append(
                f"**{model}, {mode}**: at the longest {length_word([longest.candidate])} that fits, "
                f"{longest.candidate.length}: {describe_rate(longest.record)} {rate_of(longest)} "
                f"({settings_of(longest.candidate)})"
            )
        scaling = _batch_scaling(group)
        if scaling is not None:
            lines.append(f"**{model}, {mode}**: {scaling}")
    return lines


def comparison_findings(points: Sequence[Point], axis: Axis) -> list[str]:
    """Each two values of an axis, compared only at configurations that are equal in all else.

    They are told as what the second value does to the first, the plain one.
    """
    points = [point for point in points if axis.name in point.candidate.axes]
    by_rest: dict[tuple[object, ...], dict[str, Point]] = defaultdict(dict)
    for point in points:
        rest = tuple(value for key, value in point.candidate.to_dict().items() if key != axis.name)
        by_rest[rest][_value(point.candidate, axis)] = point
    present = {
        (point.candidate.axes[axis.name] != axis.plain, _value(point.candidate, axis)) for point in points
    }
    values = [value for _, value in sorted(present)]
    unit = rate_unit(point.candidate for point in points)
    lines = []
    for first, second in combinations(values, 2):
        for mode in ("train", "forward"):
            pairs = [
                (group[first], group[second])
                for group in by_rest.values()
                if first in group and second in group and group[first].candidate.mode == mode
            ]
            if not pairs:
                continue
            faster = sorted(b.tokens_per_s / a.tokens_per_s for a, b in pairs)
            memory = sorted(b.peak_bytes / a.peak_bytes for a, b in pairs)
            spread = "one equal pair" if len(pairs) == 1 else f"median and range of {len(pairs)} equal pairs"
            lines.append(
                f"{axis.heading}, {mode}: `{second}` has {_ratios(faster)} the {unit} "
                f"of `{first}` and {_ratios(memory)} its peak memory ({spread})"
            )
    return lines


def memory_findings(records: Sequence[Record], points: Sequence[Point]) -> list[str]:
    """The range of peaks, the largest model and sequence that fit, and what did not fit."""
    lines = []
    for (mode, model), group in _by_mode_and_model(points):
        peaks = sorted(p.peak_bytes for p in group)
        longest = max(p.candidate.length for p in group)
        largest = max(
            (p.candidate for p in group if p.candidate.length == longest), key=lambda c: c.batch_size
        )
        word = length_word([largest])
        lines.append(
            f"**{model}, {mode}**: {_count(len(group), 'configuration')} within the budget, peak memory "
            f"{format_mb(peaks[0])} to {format_mb(peaks[-1])} MB; "
            + (f"longest {word} {longest} (largest batch there {largest.batch_size})" if word else "")
            + ("" if word else f"largest batch {largest.batch_size}")
        )
    name = namer(point.candidate for point in points)
    for mode in ("train", "forward"):
        fitting = [p for p in points if p.candidate.mode == mode]
        if fitting:
            largest_model = max(fitting, key=lambda p: (p.body_parameters, p.tokens_per_s))
            lines.append(
                f"Largest model that fits, {mode}: {name(largest_model.candidate)} "
                f"with {largest_model.parameters:,} parameters, {largest_model.body_parameters:,} without "
                f"the position table ({settings_of(largest_model.candidate)})"
            )
    lines.extend(_misfits(records, points))
    return lines


def _misfits(records: Sequence[Record], points: Sequence[Point]) -> Iterator[str]:
    """For each cell, the batches of which a configuration ran out of memory.

    A plan records only some of those, so it tells where nothing at all fits.
    """
    cells: dict[Cell, list[Candidate]] = defaultdict(list)
    candidates = [record.to_candidate() for record in records]
    for record, candidate in zip(records, candidates, strict=True):
        if record.measurement.outcome.is_memory:
            cells[cell_of(candidate)].append(candidate)
    fitting = {cell_of(point.candidate) for point in points}
    name_of = namer(candidates)
    is_plan = any(record.measurement.predicted is not None for record in records)
    for cell in sorted(cells, key=_cell_order):
        one = cells[cell][0]
        where = "".join(
            f" at {axis.say_in_sentence(one.axes[axis.name])}" for axis in one.spec.axes if axis.is_cell_key
        )
        who = f"**{name_of(one)}, {cell.mode}**"
        if is_plan:
            if cell not in fitting:
                yield f"{who}: nothing fits{where}"
            continue
        batches = sorted({candidate.batch_size for candidate in cells[cell]})
        there = f" at this {length_word([one])} length" if where else ""
        rest = "" if cell in fitting else f"; nothing measured{there} fits"
        yield f"{who}: did not fit{where}: batch {', '.join(str(b) for b in batches)}{rest}"


def correctness_findings(records: Iterable[Record]) -> list[str]:
    """What the check of the kernel versions against float64 found: those that failed with their numbers."""
    failed, passed = [], []
    for record in records:
        check = record.measurement.kernel_check
        if check is None:
            continue
        precision = f", precision {check.mixed_precision}" if check.mixed_precision else ""
        name = f"{check.kernel_version} kernels{precision}"
        if check.passed and check.worst_ratio is not None:
            passed.append(f"{name} (largest error {check.worst_ratio:.2f} of its budget)")
        else:
            failed.append(
                f"**{name}**: wrong results on this device, so no figure of this version was taken from then "
                f"on ({record.measurement.message})"
            )
    if passed:
        failed.append(f"Checked against float64, and right: {', '.join(passed)}")
    return failed


def outcome_lines(records: Iterable[Record]) -> list[str]:
    """How many candidates ended in which outcome, with what a user can do about it."""
    counts: dict[Outcome, int] = defaultdict(int)
    for record in records:
        counts[record.measurement.outcome] += 1
    present = [outcome for outcome in Outcome if counts[outcome]]
    return [f"`{o}`: {counts[o]}" + ("" if o is Outcome.OK else f"; {o.advice}") for o in present]


def _by_mode_and_model(points: Sequence[Point]) -> list[tuple[tuple[str, str], list[Point]]]:
    groups: dict[tuple[str, str], list[Point]] = defaultdict(list)
    name = namer(point.candidate for point in points)
    for point in points:
        groups[point.candidate.mode, name(point.candidate)].append(point)
    return sorted(groups.items(), key=lambda g: (g[0][0] != "train", _order(g[1][0].candidate), g[0][1]))


def _order(candidate: Candidate) -> tuple[str, float, str]:
    return model_order(candidate.workload, candidate.model)


def _cell_order(cell: Cell) -> tuple[object, ...]:
    order = model_order(cell.workload, cell.model[0])
    return cell.mode != "train", order, " ".join(cell.model), cell.keys


def _batch_scaling(points: Sequence[Point]) -> str | None:
    """How the rate grows with the batch, over the widest range of batches with all else equal."""
    lines: dict[Candidate, list[Point]] = defaultdict(list)
    for point in points:
        lines[point.candidate.line()].append(point)
    widest = max(
        lines.values(),
        key=lambda g: (
            max(p.candidate.batch_size for p in g) / min(p.candidate.batch_size for p in g),
            len(g),
        ),
    )
    small = min(widest, key=lambda p: p.candidate.batch_size)
    large = max(widest, key=lambda p: p.candidate.batch_size)
    if small.candidate.batch_size == large.candidate.batch_size:
        return None
    word = length_word([small.candidate])
    at_length = f" at {word} {small.candidate.length}" if word else ""
    return (
        f"from batch {small.candidate.batch_size} to {large.candidate.batch_size}{at_length}, "
        f"{large.tokens_per_s / small.tokens_per_s:.2f}× the {rate_of(small)} and "
        f"{large.peak_bytes / small.peak_bytes:.2f}× the peak memory for "
        f"{large.candidate.batch_size / small.candidate.batch_size:g}× the batch"
    )


def _value(candidate: Candidate, axis: Axis) -> str:
    value = candidate.axes[axis.name]
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def _ratios(ordered: Sequence[float]) -> str:
    middle = statistics.median(ordered)
    return f"{middle:.2f}×" if len(ordered) == 1 else f"{middle:.2f}× ({ordered[0]:.2f}–{ordered[-1]:.2f})"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
