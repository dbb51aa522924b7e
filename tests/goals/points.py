"""Points as a run leaves them, for the tests of goals."""

from __future__ import annotations

from functools import cache

from hypothesis import strategies as st

from phase8_tune.tests.tuner.report_records import make_candidate, make_record
from phase8_tune.tuner.records.frontier import Point, to_points

MIB = 2**20
# Sizes of 0.5, 11 and 82 million parameters: one on either side of what the law was fitted to.
_MODELS = ("nano", "small", "medium")


@cache
def make_point(
    model: str = "small",
    n_seq: int = 512,
    batch_size: int = 4,
    *,
    tokens_per_s: float = 1000.0,
    peak_mib: int = 1000,
    checkpointing: bool = False,
) -> Point:
    """A measured training point."""
    candidate = make_candidate(
        model=model, n_seq=n_seq, batch_size=batch_size, gradient_checkpointing=checkpointing
    )
    [point] = to_points([make_record(candidate, tokens_per_s=tokens_per_s, peak_bytes=peak_mib * MIB)])
    return point


@st.composite
def point_lists(draw: st.DrawFn) -> list[Point]:
    """At least one point; few distinct figures, so that ties and dominated points are common."""
    shapes = st.tuples(
        st.sampled_from(_MODELS),
        st.sampled_from([256, 512, 1024]),
        st.integers(1, 4),
        st.booleans(),
    )
    drawn = draw(st.lists(shapes, min_size=1, max_size=10, unique=True))
    return [
        make_point(
            model,
            n_seq,
            batch,
            checkpointing=checkpointing,
            tokens_per_s=float(draw(st.sampled_from([100, 960, 1000, 1040]))),
            peak_mib=draw(st.integers(1, 4)) * 1000,
        )
        for model, n_seq, batch, checkpointing in drawn
    ]
