"""The largest batch of a ladder is found, whatever the bytes do, with few questions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from phase8_tune.tuner.predict.climb import largest_fitting, rounded, rounder, rungs


@given(
    fixed=st.integers(0, 10_000),
    each=st.integers(1, 500),
    cap=st.integers(1, 400_000),
    spread=st.floats(1.0, 1.4),
    batches=st.one_of(
        st.builds(lambda low, count: range(low, low + count), st.integers(1, 20), st.integers(1, 3000)),
        st.lists(st.integers(1, 5000), min_size=1, max_size=12, unique=True).map(lambda b: tuple(sorted(b))),
    ),
)
def test_it_is_the_largest(
    fixed: int, each: int, cap: int, spread: float, batches: range | tuple[int, ...]
) -> None:
    asked: list[int] = []

    def live(batch: int) -> int:
        return fixed + each * batch

    def fits(batch: int) -> bool:
        asked.append(batch)
        return live(batch) * spread <= cap

    place = largest_fitting(batches, cap, live, fits)
    expected = [place for place, batch in enumerate(batches) if live(batch) * spread <= cap]
    assert place == (expected[-1] if expected else -1)
    assert len(asked) <= 34
    found = list(rungs(batches, place))
    assert found == sorted(set(found))
    assert set(found) <= set(batches)
    assert place < 0 or batches[place] in found


@given(st.integers(1, 100_000))
def test_a_rounder_batch_is_hardly_smaller(batch: int) -> None:
    assert batch * 31 / 32 <= rounded(batch) <= batch
    assert rounded(rounded(batch)) == rounded(batch)
    assert batch < 64 or rounded(batch) % 2 == 0


@given(st.integers(1, 20_000), st.integers(1, 40))
def test_rounder_ones_come_in_falling_order(largest: int, low: int) -> None:
    found = list(rounder(range(low, 20_001), largest))
    assert found == sorted(set(found), reverse=True)
    assert all(low <= batch <= max(largest, low) for batch in found)
    assert (largest < low) == (not found)
