"""The benchmark tables: for each mode, model and sequence length one table, with columns for what varies."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from tabulate import tabulate

from ...phase8.config import is_size_name, preset
from ..records.frontier import Point
from ..training.recommended import to_config
from ..values.candidate import DEFAULT_VOCAB_SIZE, Candidate
from ..values.outcome import Outcome
from ..values.record import Record
from ..values.sizes import format_mb
from .facts import MODE_TITLES, describe_rate, format_parameters, format_range, outcome_note

# What may vary within one model and sequence: heading, and the text of a candidate's value.
_COLUMNS: tuple[tuple[str, Callable[[Candidate], str]], ...] = (
    ("Variant", lambda c: c.variant),
    ("Vocabulary", lambda c: str(c.vocab_size)),
    ("Kernels", lambda c: c.kernel_version),
    ("Precision", lambda c: c.mixed_precision),
    ("Checkpointing", lambda c: "yes" if c.gradient_checkpointing else "no"),
)
BODY_PARAMETERS = "Without positions"
"""Heading of the parameters without the position table: what the frontier counts as a model's size."""
_USUAL = ("Vocabulary", str(DEFAULT_VOCAB_SIZE))  # goes without saying where all have it


def markdown_table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, align: str = "") -> str:
    """A Markdown table; `align` has a letter a column, r for numbers, and l for the rest."""
    letters = align.ljust(len(headers), "l")
    sides = ["right" if letter == "r" else "left" for letter in letters]
    return tabulate(list(rows), headers=headers, tablefmt="github", disable_numparse=True, colalign=sides)


def frontier_table(points: Sequence[Point]) -> tuple[list[str], list[list[str]], str]:
    """Headers, rows and alignment (a letter a column) of a frontier, for Markdown or for a terminal."""
    columns = varying_columns(p.record for p in points)
    modes = {p.candidate.mode for p in points}
    headers = ["Model", "Parameters", BODY_PARAMETERS, "Batch×sequence", *(name for name, _ in columns)]
    rows = [
        [
            p.candidate.model,
            format_parameters(p.parameters),
            format_parameters(p.body_parameters),
            f"{p.candidate.batch_size}×{p.candidate.n_seq}",
            *(value(p.candidate) for _, value in columns),
            *([p.candidate.mode] if len(modes) > 1 else []),
            describe_rate(p.record) or "-",
            format_mb(p.peak_bytes),
        ]
        for p in points
    ]
    headers += [*(["Mode"] if len(modes) > 1 else []), "Tokens/s", "Peak memory (MB)"]
    align = "lrrr" + "l" * (len(headers) - 6) + "rr"
    return headers, rows, align


def shared_settings(records: Sequence[Record], device_kind: str) -> str:
    """The settings that all records share, so that their table needs no column for them."""
    varying = {name for name, _ in varying_columns(records)}
    candidate = records[0].to_candidate()
    shared = [(name, value(candidate)) for name, value in _COLUMNS if name not in varying]
    said = [f"{name.lower()} {value}" for name, value in shared if (name, value) != _USUAL]
    return ", ".join([f"device: {device_kind}", *said])


def render_results(records: Sequence[Record], points: Sequence[Point], device_kind: str) -> str:
    """The results of settled records, a section for each mode."""
    best = _best_digests(points)
    parts = []
    for mode, title in MODE_TITLES.items():
        of_mode = [r for r in records if r.to_candidate().mode == mode]
        if of_mode:
            parts.append(f"## Results: {title}\n")
            parts.append(f"All rows: {shared_settings(of_mode, device_kind)}.\n")
            parts.extend(_render_models(of_mode, best))
    return "\n".join(parts)


def _render_models(records: Sequence[Record], best: frozenset[str]) -> Iterable[str]:
    columns = varying_columns(records)
    by_model = sorted(records, key=lambda r: model_order(r.to_candidate().model))
    for model, group in groupby(by_model, key=lambda r: r.to_candidate().model):
        of_model = sorted(group, key=lambda r: r.to_candidate().n_seq)
        counts = [format_parameters(n) for n in sorted(_parameter_counts(of_model))]
        heading = f"### {model}" + (f" ({format_range(counts)} parameters)" if counts else "")
        yield heading + "\n"
        for n_seq, rows in groupby(of_model, key=lambda r: r.to_candidate().n_seq):
            yield f"#### Sequence length {n_seq}\n"
            yield _render_table(list(rows), columns, best) + "\n"


def _render_table(
    records: list[Record], columns: Sequence[tuple[str, Callable[[Candidate], str]]], best: frozenset[str]
) -> str:
    headers = ["Batch size", *(name for name, _ in columns), "Tokens/s", "Peak memory (MB)", "Note"]
    records.sort(
        key=lambda r: (*(value(r.to_candidate()) for _, value in columns), r.to_candidate().batch_size)
    )
    rows = []
    for record in records:
        candidate, measurement = record.to_candidate(), record.measurement
        note = outcome_note(record)
        rate, peak = describe_rate(record) or "-", "-"
        # The peak of a trial that was refused memory says where it was refused, not what it needs.
        is_whole = (
            measurement.outcome in (Outcome.OK, Outcome.OVER_BUDGET) or measurement.predicted is not None
        )
        if measurement.peak_bytes is not None and is_whole:
            peak = format_mb(measurement.peak_bytes)
        if record.digest in best:
            note += " best throughput"
        if measurement.tainted:
            note += f" (disturbed: {', '.join(measurement.tainted)})"
        rows.append(
            [str(candidate.batch_size), *(value(candidate) for _, value in columns), rate, peak, note]
        )
    return markdown_table(headers, rows, align="r" + "l" * len(columns) + "rr")


def varying_columns(records: Iterable[Record]) -> list[tuple[str, Callable[[Candidate], str]]]:
    """The columns whose values differ among the records."""
    candidates = [r.to_candidate() for r in records]
    return [column for column in _COLUMNS if len({column[1](c) for c in candidates}) > 1]


@functools.cache
def model_order(model: str) -> tuple[float, str]:
    """Models by size, then what is none of ours, by name."""
    return (preset(model, n_seq=1).parameter_count() if is_size_name(model) else math.inf), model


def _best_digests(points: Sequence[Point]) -> frozenset[str]:
    """The fastest point of each mode, model, variant and vocabulary."""
    best: dict[tuple[str, ...], Point] = {}
    for point in points:
        key = point.candidate.mode, *point.candidate.model_words
        if key not in best or point.tokens_per_s > best[key].tokens_per_s:
            best[key] = point
    return frozenset(p.record.digest for p in best.values())


def _parameter_counts(records: Iterable[Record]) -> set[int]:
    """Parameter counts, computed where a trial was stopped before it could report its own."""
    counts = set()
    for record in records:
        candidate = record.to_candidate()
        if record.measurement.parameters is not None:
            counts.add(record.measurement.parameters)
        elif candidate.workload == "phase8" and is_size_name(candidate.model):
            counts.add(to_config(candidate).parameter_count())
    return counts
