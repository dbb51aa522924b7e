"""Tables of configurations, with columns for what varies among them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence

from tabulate import tabulate

from ...phase8.config import is_size_name, preset
from ..records.frontier import Point
from ..values.candidate import DEFAULT_VOCAB_SIZE, Candidate
from ..values.record import Record
from ..values.sizes import format_mb
from .facts import describe_rate, format_parameters

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


def varying_columns(records: Iterable[Record]) -> list[tuple[str, Callable[[Candidate], str]]]:
    """The columns whose values differ among the records."""
    candidates = [r.to_candidate() for r in records]
    return [column for column in _COLUMNS if len({column[1](c) for c in candidates}) > 1]


@functools.cache
def model_order(model: str) -> tuple[float, str]:
    """Models by size, then what is none of ours, by name."""
    return (preset(model, n_seq=1).parameter_count() if is_size_name(model) else math.inf), model
