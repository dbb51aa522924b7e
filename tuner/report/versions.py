"""The kernel versions side by side, and those that a search left out because they lost, with the numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..html.facts import Section
from ..records.frontier import Point
from ..records.versions import lost_versions, side_by_side
from ..records.wording import length_word, model_order, namer, rate_unit
from ..values.sizes import format_mb
from .facts import format_rate


def versions_section(points: Sequence[Point]) -> Section:
    """Of each model one cell in which several versions were measured, each at its best, the fastest first."""
    compared = sorted(
        side_by_side(points),
        key=lambda found: (found.cell.mode != "train", model_order(found.cell.workload, found.cell.model[0])),
    )
    candidates = [point.candidate for found in compared for point in found.best]
    name, length = namer(candidates), length_word(candidates)
    headings = (
        *("Model", length.capitalize() or "Items", "Kernels", "Batch"),
        *(rate_unit(candidates).capitalize(), "Share of the best", "Peak memory (MB)"),
    )
    rows = []
    for found in compared:
        for point in found.best:
            candidate = point.candidate
            rows.append(
                (
                    name(candidate) + ("" if candidate.mode == "train" else f", {candidate.mode}"),
                    str(candidate.length),
                    candidate.version,
                    str(candidate.batch_size),
                    format_rate(point.tokens_per_s, point.tokens_per_s_std),
                    _percent(found.share(point)),
                    format_mb(point.peak_bytes),
                )
            )
    return Section(
        title="Kernel versions side by side",
        lines=tuple(_lost(points)),
        rows=(headings, *rows) if rows else (),
        align="lrlrrrr",
    )


def _lost(points: Sequence[Point]) -> Iterator[str]:
    workloads = {point.candidate.version: point.candidate.workload for point in points}
    for version, shares in sorted(lost_versions(points).items()):
        models = sorted(shares, key=lambda model: model_order(workloads[version], model))
        told = ", ".join(f"{model} {_percent(shares[model])}" for model in models)
        yield (
            f"`{version}` lost wherever it was measured, so a search tries it in no other cell; its best, "
            f"as a share of the best of the same model and sequence: {told}"
        )


def _percent(share: float) -> str:
    return f"{share:.1%}".replace("%", " %")
