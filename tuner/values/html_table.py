"""A table as a notebook shows it; whatever a cell holds is shown as text."""

from __future__ import annotations

import html
from collections.abc import Sequence


def html_table(headers: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> str:
    """A table in HTML. align: a letter a column, `r` for right."""
    sides = ["right" if letter == "r" else "left" for letter in align]

    def line(tag: str, cells: Sequence[str]) -> str:
        marked = zip(sides, cells, strict=True)
        inner = "".join(
            f'<{tag} style="text-align:{side}">{html.escape(cell)}</{tag}>' for side, cell in marked
        )
        return f"<tr>{inner}</tr>"

    body = "".join(line("td", row) for row in rows)
    return f"<table><thead>{line('th', headers)}</thead><tbody>{body}</tbody></table>"
