"""Models of several workloads side by side: each with that of another whose size is nearest."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..html.facts import Section
from ..records.frontier import Point
from ..records.recommend import recommend
from ..records.wording import rate_of
from ..values.candidate import DEFAULT_WORKLOAD
from ..values.sizes import format_mb
from .facts import describe_rate, format_parameters


def matched_section(points: Sequence[Point]) -> Section:
    """Of every model of one workload the nearest of each other that counts the same, each at its fastest.

    Nearest in parameters without the position table. Empty where there is no other workload.
    """
    fastest = recommend(points)
    # Phase 8 is what others are held against, where it is there.
    names = {point.candidate.workload for point in fastest}
    own = min(names, key=lambda name: (name != DEFAULT_WORKLOAD, name), default="")
    models = [point for point in fastest if point.candidate.workload == own]
    others = sorted({p.candidate.workload for p in fastest if rate_of(p) == rate_of(models[0])} - {own})
    if not others:
        return Section(title="")
    rows = []
    for point in models:
        rows.append(_row(point, ""))
        for other in others:
            rivals = [rival for rival in fastest if rival.candidate.workload == other]
            nearest = _nearest(rivals, point.body_parameters)
            rows.append(_row(nearest, f"{nearest.body_parameters / point.body_parameters:.2f}×"))
    return Section(
        title="Workloads matched by parameters",
        lines=(
            "Each model at its fastest that fits, below it the model of another workload that is nearest in "
            "parameters without positions. What a model learns in the same time these figures do not say.",
        ),
        rows=(("Workload", "Model", "Without positions", "Of it", "Rate", "Peak memory (MB)"), *rows),
        align="llrrrr",
    )


def _nearest(points: Sequence[Point], parameters: int) -> Point:
    return min(points, key=lambda point: abs(math.log(point.body_parameters / parameters)))


def _row(point: Point, share: str) -> tuple[str, ...]:
    candidate = point.candidate
    return (
        candidate.spec.title,
        " ".join(candidate.model_words),
        format_parameters(point.body_parameters),
        share,
        f"{describe_rate(point.record)} {rate_of(point)}",
        format_mb(point.peak_bytes),
    )
