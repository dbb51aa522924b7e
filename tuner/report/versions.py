"""The kernel versions side by side, and those that a search left out because they lost, with the numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..html.facts import Section
from ..records.frontier import Point
from ..records.versions import lost_versions, side_by_side
from ..values.sizes import format_mb
from .facts import format_rate
from .tables import model_order

_HEADINGS = ("Model", "Sequence", "Kernels", "Batch", "Tokens/s", "Share of the best", "Peak memory (MB)")


def versions_section(points: Sequence[Point]) -> Section:
    """Of each model one cell in which several versions were measured, each at its best, the fastest first."""
    compared = sorted(
        side_by_side(points), key=lambda found: (found.cell[1] != "train", model_order(found.cell[2][0]))
    )
    rows = []
    for found in compared:
        _, mode, words, n_seq = found.cell
        model = " ".join(words) + ("" if mode == "train" else f", {mode}")
        for point in found.best:
            candidate = point.candidate
            rows.append(
                (
                    model,
                    str(n_seq),
                    candidate.kernel_version,
                    str(candidate.batch_size),
                    format_rate(point.tokens_per_s, point.tokens_per_s_std),
                    _percent(found.share(point)),
                    format_mb(point.peak_bytes),
                )
            )
    return Section(
        title="Kernel versions side by side",
        lines=tuple(_lost(points)),
        rows=(_HEADINGS, *rows) if rows else (),
        align="lrlrrrr",
    )


def _lost(points: Sequence[Point]) -> Iterator[str]:
    for version, shares in sorted(lost_versions(points).items()):
        ordered = sorted(shares.items(), key=lambda item: model_order(item[0]))
        told = ", ".join(f"{model} {_percent(share)}" for model, share in ordered)
        yield (
            f"`{version}` lost wherever it was measured, so a search tries it in no other cell; its best, "
            f"as a share of the best of the same model and sequence: {told}"
        )


def _percent(share: float) -> str:
    return f"{share:.1%}".replace("%", " %")
