"""A text that comes in pieces ends before its first stop text, wherever the pieces are cut."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from phase8_tune.tuner.commands.generate import StopTexts


def told(stops: Sequence[str], pieces: Sequence[str]) -> tuple[str, bool]:
    """What a reader sees of a text in pieces, and whether a stop text ended it."""
    text, seen = StopTexts(stops), ""
    for piece in pieces:
        seen += text.feed(piece)
        if text.is_done:
            break
    return seen + text.finish(), text.is_done


STOPS = st.lists(st.text("ab", min_size=1, max_size=4), max_size=3)


@given(STOPS, st.text("ab", max_size=20), st.lists(st.integers(0, 20), max_size=6))
def test_where_the_pieces_are_cut_does_not_matter(stops: list[str], text: str, cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(text)]
    pieces = [text[start:end] for start, end in itertools.pairwise(places)]
    assert told(stops, pieces) == told(stops, list(text)) == told(stops, [text])


@given(STOPS, st.text("ab", max_size=20))
def test_what_is_told_is_what_stands_before_the_first_stop(stops: list[str], text: str) -> None:
    seen, is_done = told(stops, list(text))
    assert text.startswith(seen)
    assert is_done == any(stop in text for stop in stops)
    if not is_done:
        assert seen == text
    else:
        assert any(text.startswith(stop, len(seen)) for stop in stops)
        assert not any(stop in seen for stop in stops)


@given(STOPS, st.text("ab", max_size=20))
def test_what_cannot_begin_a_stop_is_told_at_once(stops: list[str], text: str) -> None:
    stream, seen = StopTexts(stops), ""
    for count, character in enumerate(text, start=1):
        seen += stream.feed(character)
        if stream.is_done:
            break
        held = text[len(seen) : count]
        assert any(stop.startswith(held) and stop != held for stop in stops) or not held
