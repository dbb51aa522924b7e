"""Findings: sentences computed from the records, each true of the data, none where it is silent."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations

from ..records.frontier import Point
from ..values.candidate import Candidate
from ..values.outcome import Outcome
from ..values.record import Record
from ..values.sizes import format_mb
from .facts import describe_rate, format_rate
from .tables import model_order

_AXIS_NAMES = {
    "kernel_version": "Kernels",
    "mixed_precision": "Precision",
    "gradient_checkpointing": "Checkpointing",
    "variant": "Variant",
}
# Comparisons are told as what the second value does to the first, the plain one.
_PLAIN_FIRST = ("none", "off", "phase7", "reference")


def throughput_findings(points: Sequence[Point]) -> list[str]:
    """The best throughput of each mode and model, and its growth with the batch."""
    lines = []
    for (mode, model), group in _by_mode_and_model(points):
        best = max(group, key=lambda p: p.tokens_per_s)
        lines.append(
            f"**{model}, {mode}**: best throughput {describe_rate(best.record)} "
            f"tokens/s ({_settings(best.candidate)})"
        )
        longest = max(group, key=lambda p: (p.candidate.n_seq, p.tokens_per_s))
        if longest.candidate.n_seq > best.candidate.n_seq:
            lines.append(
                f"**{model}, {mode}**: at the longest sequence that fits, {longest.candidate.n_seq}: "
                f"{format_rate(longest.tokens_per_s)} tokens/s ({_settings(longest.candidate)})"
            )
        scaling = _batch_scaling(group)
        if scaling is not None:
            lines.append(f"**{model}, {mode}**: {scaling}")
    return lines


def comparison_findings(points: Sequence[Point], axis: str) -> list[str]:
    """Each two values of an axis, compared only at configurations that are equal in all else."""
    by_rest: dict[tuple[object, ...], dict[str, Point]] = defaultdict(dict)
    for point in points:
        rest = tuple(value for key, value in point.candidate.to_dict().items() if key != axis)
        by_rest[rest][_value(point.candidate, axis)] = point
    present = {_value(p.candidate, axis) for p in points}
    values = sorted(
        present, key=lambda v: (_PLAIN_FIRST.index(v) if v in _PLAIN_FIRST else len(_PLAIN_FIRST), v)
    )
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
                f"{_AXIS_NAMES[axis]}, {mode}: `{second}` has {_ratios(faster)} the tokens/s "
                f"of `{first}` and {_ratios(memory)} its peak memory ({spread})"
            )
    return lines


def memory_findings(records: Sequence[Record], points: Sequence[Point]) -> list[str]:
    """The range of peaks, the largest model and sequence that fit, and what did not fit."""
    lines = []
    for (mode, model), group in _by_mode_and_model(points):
        peaks = sorted(p.peak_bytes for p in group)
        longest = max(p.candidate.n_seq for p in group)
        largest = max(
            (p.candidate for p in group if p.candidate.n_seq == longest), key=lambda c: c.batch_size
        )
        lines.append(
            f"**{model}, {mode}**: {_count(len(group), 'configuration')} within the budget, peak memory "
            f"{format_mb(peaks[0])} to {format_mb(peaks[-1])} MB; longest sequence {longest} "
            f"(largest batch there {largest.batch_size})"
        )
    for mode in ("train", "forward"):
        fitting = [p for p in points if p.candidate.mode == mode]
        if fitting:
            largest_model = max(fitting, key=lambda p: (p.body_parameters, p.tokens_per_s))
            lines.append(
                f"Largest model that fits, {mode}: {' '.join(largest_model.candidate.model_words)} "
                f"with {largest_model.parameters:,} parameters, {largest_model.body_parameters:,} without "
                f"the position table ({_settings(largest_model.candidate)})"
            )
    lines.extend(_misfits(records, points))
    return lines


def _misfits(records: Sequence[Record], points: Sequence[Point]) -> Iterator[str]:
    """For each cell, the batches of which a configuration ran out of memory.

    A plan records only some of those, so it tells where nothing at all fits.
    """
    cells: dict[tuple[str, str, str, int], set[int]] = defaultdict(set)
    for record in records:
        candidate = record.to_candidate()
        if record.measurement.outcome.is_memory:
            cells[_cell(candidate)].add(candidate.batch_size)
    fitting = {_cell(point.candidate) for point in points}
    for cell in sorted(cells, key=lambda key: (key[0] != "train", model_order(key[1]), key[2:])):
        mode, _, name, n_seq = cell
        batches = sorted(cells[cell])
        if any(record.measurement.predicted is not None for record in records):
            if cell not in fitting:
                yield f"**{name}, {mode}**: nothing fits at sequence {n_seq}"
            continue
        rest = "" if cell in fitting else "; nothing measured at this sequence length fits"
        yield (
            f"**{name}, {mode}**: did not fit at sequence {n_seq}: batch "
            f"{', '.join(str(b) for b in batches)}{rest}"
        )


def correctness_findings(records: Iterable[Record]) -> list[str]:
    """What the check of the kernel versions against float64 found: those that failed with their numbers."""
    failed, passed = [], []
    for record in records:
        check = record.measurement.kernel_check
        if check is None:
            continue
        name = f"{check.kernel_version} kernels, precision {check.mixed_precision}"
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
    for point in points:
        candidate = point.candidate
        groups[candidate.mode, " ".join(candidate.model_words)].append(point)
    return sorted(
        groups.items(), key=lambda g: (g[0][0] != "train", model_order(g[1][0].candidate.model), g[0][1])
    )


def _cell(candidate: Candidate) -> tuple[str, str, str, int]:
    return candidate.mode, candidate.model, " ".join(candidate.model_words), candidate.n_seq


def _batch_scaling(points: Sequence[Point]) -> str | None:
    """How tokens/s grow with the batch, over the widest range of batches with all else equal."""
    lines: dict[Candidate, list[Point]] = defaultdict(list)
    for point in points:
        lines[replace(point.candidate, batch_size=1)].append(point)
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
    return (
        f"from batch {small.candidate.batch_size} to {large.candidate.batch_size} at sequence "
        f"{small.candidate.n_seq}, {large.tokens_per_s / small.tokens_per_s:.2f}× the tokens/s and "
        f"{large.peak_bytes / small.peak_bytes:.2f}× the peak memory for "
        f"{large.candidate.batch_size / small.candidate.batch_size:g}× the batch"
    )


def _settings(candidate: Candidate) -> str:
    checkpointing = ", checkpointing" if candidate.gradient_checkpointing else ""
    return (
        f"batch {candidate.batch_size}, sequence {candidate.n_seq}, {candidate.kernel_version} kernels, "
        f"precision {candidate.mixed_precision}{checkpointing}"
    )


def _value(candidate: Candidate, axis: str) -> str:
    value = getattr(candidate, axis)
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def _ratios(ordered: Sequence[float]) -> str:
    middle = statistics.median(ordered)
    return f"{middle:.2f}×" if len(ordered) == 1 else f"{middle:.2f}× ({ordered[0]:.2f}–{ordered[-1]:.2f})"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
