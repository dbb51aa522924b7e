"""Whether recommended files hold, as a table and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ..training.verification import Verification
from ..values.shell_words import shell_path
from ..values.sizes import format_mb
from ..values.terminal import fill
from .fitted_table import fit_table


def render_verified(found: Sequence[Verification], *, width: int | None = None) -> str:
    """A table, and a line for each thing that did not hold or differs from the file's machine.

    width: columns of the terminal; None: no limit.
    """
    rows = [
        (
            one.path.stem,
            f"{one.tokens_per_s:,.0f}",
            f"{one.promised_tokens_per_s[0]:,.0f}–{one.promised_tokens_per_s[1]:,.0f}",
            format_mb(one.peak_bytes),
            format_mb(one.promised_peak_bytes),
            format_mb(one.budget_bytes),
            "holds" if one.held else "does not hold",
        )
        for one in found
    ]
    headers = ("file", "tokens/s", "promised", "peak (MB)", "promised (MB)", "budget (MB)", "promise")
    table = fit_table(
        headers,
        rows,
        align="lrrrrrl",
        width=width,
        order=("budget (MB)", "promised (MB)", "promised"),
        shows_all=f"phase8-tune verify {' '.join(shell_path(one.path) for one in found)} --json",
    )
    lines = []
    for one in found:
        lines += [f"{one.path}: {problem}" for problem in one.problems]
        lines += [f"{one.path}: differs: {difference}" for difference in one.differences]
    return "\n".join([table, *(fill(line, width) for line in lines)]) + "\n"


def verified_to_dict(one: Verification) -> dict[str, Any]:
    """One as JSON has it."""
    return asdict(one) | {"path": str(one.path), "held": one.held}
