"""A table for a terminal that keeps to its width: with fewer columns, and a word on which are left out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from tabulate import tabulate

from ..values.terminal import fill

SPREAD = " (…)"
"""After a column's heading, in `order`: what stands in parentheses there, a spread or an interval."""


def fit_table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    align: str,
    width: int | None,
    order: Sequence[str],
    shows_all: str,
) -> str:
    """The table, whole where it is no wider than `width` columns, or where that is None.

    align: a letter a column, r for numbers and l for the rest. order: headings of what may be left out, the
    first first. shows_all: the command that shows everything.
    """
    columns = {name: tuple(row[i] for row in rows) for i, name in enumerate(headers)}
    sides = dict(zip(headers, align, strict=True))
    table = _whole(columns, sides)
    left_out: list[str] = []
    for name in ("", *order):
        if width is None or _width(table) <= width:
            break
        heading = name.removesuffix(SPREAD)
        if heading in columns and heading != name:
            columns[heading] = tuple(re.sub(r" \(.*\)$", "", text) for text in columns[heading])
            left_out.append(f"the spread of {heading.lower()}")
        elif columns.pop(name, None) is not None:
            left_out.append(name.lower())
        table = _narrow(columns, sides)
    if not left_out:
        return table
    note = fill(f"Left out for want of width: {', '.join(left_out)}. All of it:", width)
    return f"{table}\n{note}\n  {shows_all}"


def _whole(columns: Mapping[str, Sequence[str]], sides: Mapping[str, str]) -> str:
    return tabulate(
        list(zip(*columns.values(), strict=True)),
        headers=list(columns),
        tablefmt="simple",
        disable_numparse=True,
        colalign=["right" if sides[name] == "r" else "left" for name in columns],
    )


def _narrow(columns: Mapping[str, Sequence[str]], sides: Mapping[str, str]) -> str:
    """The same with a line for each word of a heading, which `tabulate` makes two columns too wide."""
    headings = [re.split(r" |(?<=×)", name) for name in columns]
    height = max(map(len, headings), default=0)
    cells = [
        [*heading, *[""] * (height - len(heading)), *texts]
        for heading, texts in zip(headings, columns.values(), strict=True)
    ]
    widths = [max(map(len, column)) for column in cells]
    for column, width in zip(cells, widths, strict=True):
        column.insert(height, "-" * width)
    lines = (
        "  ".join(
            text.rjust(width) if sides[name] == "r" else text.ljust(width)
            for text, width, name in zip(row, widths, columns, strict=True)
        )
        for row in zip(*cells, strict=True)
    )
    return "\n".join(line.rstrip() for line in lines)


def _width(table: str) -> int:
    return max(map(len, table.split("\n")))
