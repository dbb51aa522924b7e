"""A training says once that the card's memory moves to the system's, and not at every other slowness."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from phase8_tune.tuner.training.spill import SpillWatch

CARD = 8 << 30
FULL, ROOMY = CARD, CARD // 2
USUAL = [1000.0, 1040.0, 980.0, 1010.0]


def told(rates: Iterable[float], *, used_bytes: int = FULL, watch: SpillWatch | None = None) -> list[str]:
    watch = watch or SpillWatch()
    lines = [watch.note(rate, used_bytes=used_bytes, capacity_bytes=CARD) for rate in rates]
    return [line for line in lines if line is not None]


def test_a_cliff_on_a_full_card_is_told_once_with_what_to_do() -> None:
    watch = SpillWatch()
    assert told([*USUAL, 90, 80], watch=watch) == []
    (line,) = told([70, 60, 50, 40], watch=watch)
    assert line.startswith("tokens/s fell to 70 from 1,005 while the card is full")
    assert "close other programs" in line
    assert "--vram" in line
    assert told([*USUAL, 50, 50, 50, 50], watch=watch) == []


@pytest.mark.parametrize(
    ("rates", "used_bytes"),
    [
        ([*USUAL, 90, 80, 70, 60], ROOMY),  # something else is slow
        ([*USUAL, 90, 1000, 80, 990, 70], FULL),  # a host that is busy now and then
        ([*USUAL, 700, 650, 600, 550], FULL),  # a card that gets warm
        ([90, 80, 70, 60], FULL),  # slow from the start: what was usual is not known
        ([*USUAL * 50, 600, 40, 30], FULL),
    ],
)
def test_other_slowness_is_not(rates: list[float], used_bytes: int) -> None:
    assert told(rates, used_bytes=used_bytes) == []


def test_a_card_that_has_room_again_begins_anew() -> None:
    watch = SpillWatch()
    told([*USUAL, 90, 80], watch=watch)
    assert told([70], used_bytes=ROOMY, watch=watch) == []
    assert told([60, 50], watch=watch) == []
    assert len(told([40], watch=watch)) == 1
