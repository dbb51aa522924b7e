"""Where new segments go: into the lowest piece with room, there into the tightest hole, else a new piece."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from phase8_tune.tuner.predict.replay.address_space import AddressSpace

MIB = 1 << 20
FIRST_ROOM_MIB = (2, 410, 28)


def _started() -> tuple[AddressSpace, int]:
    """A process whose first room is full, and the start of its one piece, which is full too."""
    space = AddressSpace()
    for size_mib in FIRST_ROOM_MIB:
        space.take(size_mib * MIB)
    return space, space.take(32 * MIB)


def test_what_the_process_has_is_filled_first():
    """As recorded: 2 MiB have a place of their own; then the context's local memory grows and leaves room."""
    space = AddressSpace()
    first = space.take(2 * MIB)
    assert space.take(20 * MIB) == first - 410 * MIB
    assert space.take(72 * MIB) == first - 390 * MIB
    assert space.take(480 * MIB) < first - 410 * MIB
    assert space.take(318 * MIB) == first - 318 * MIB
    assert space.take(20 * MIB) == first + 76 * MIB


def test_new_pieces_are_below_and_their_ends_serve_what_fits():
    """As recorded: 72 MiB take 96, the next 72 lie below; 18 MiB then go into the lower one's end."""
    space, start = _started()
    assert space.take(72 * MIB) == start - 96 * MIB
    assert space.take(72 * MIB) == start - 192 * MIB
    assert space.take(18 * MIB) == start - 120 * MIB
    assert space.take(18 * MIB) == start - 24 * MIB
    assert space.take(2 * MIB) == start - 102 * MIB


def test_within_a_piece_the_tightest_hole():
    """As recorded: 240 MiB and 2 behind them, the 240 given back; 2 MiB go behind the other 2."""
    space, start = _started()
    piece = space.take(240 * MIB)
    assert piece == start - 256 * MIB
    assert space.take(2 * MIB) == piece + 240 * MIB
    space.give_back(piece, 240 * MIB)
    assert space.take(120 * MIB) == piece
    assert space.take(2 * MIB) == piece + 242 * MIB
    assert space.take(120 * MIB) == piece + 120 * MIB


def test_pieces_without_a_segment_go_back_and_join():
    """As recorded: of two that lay side by side the upper end is taken again. Room for no more than the piece
    is too little, as the driver asks for more to align it."""
    space, start = _started()
    upper, lower = space.take(248 * MIB), space.take(240 * MIB)
    assert (upper, lower) == (start - 256 * MIB, start - 512 * MIB)
    below = space.take(32 * MIB)
    space.give_back(upper, 248 * MIB)
    space.give_back(lower, 240 * MIB)
    assert [space.take(120 * MIB) for _ in range(4)] == [
        start - 128 * MIB, start - 256 * MIB, start - 384 * MIB, below - 128 * MIB,
    ]  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from([2, 18, 20, 32, 72, 240]), st.booleans()), max_size=60))
def test_segments_never_overlap(steps):
    space, start = _started()
    live = {start: 32 * MIB}
    for size_mib, gives_back in steps:
        if gives_back and live:
            address = sorted(live)[len(live) // 2]
            space.give_back(address, live.pop(address))
        address = space.take(size_mib * MIB)
        assert all(address + size_mib * MIB <= a or a + size <= address for a, size in live.items())
        live[address] = size_mib * MIB
