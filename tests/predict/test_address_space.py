"""Where new segments go: into free room from below, else right below all others in pieces of 32 MiB."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from phase8_tune.tuner.predict.address_space import FIRST_ROOM_BYTES, AddressSpace

MIB = 1 << 20


def _filled() -> tuple[AddressSpace, int]:
    """A process whose first room is used up, and where that began."""
    space = AddressSpace()
    return space, space.take(FIRST_ROOM_BYTES)


def test_the_first_room_is_filled_from_below():
    space = AddressSpace()
    first = space.take(20 * MIB)
    assert [space.take(2 * MIB), space.take(72 * MIB)] == [first + 20 * MIB, first + 22 * MIB]


def test_new_room_is_below_and_its_end_serves_what_fits():
    """As recorded: 72 MiB take 96, the next 72 lie below; 18 MiB then go into the lower one's end."""
    space, start = _filled()
    assert space.take(72 * MIB) == start - 96 * MIB
    assert space.take(72 * MIB) == start - 192 * MIB
    assert space.take(18 * MIB) == start - 120 * MIB
    assert space.take(18 * MIB) == start - 24 * MIB
    assert space.take(2 * MIB) == start - 102 * MIB


def test_what_is_given_back_joins_its_neighbours():
    space, start = _filled()
    upper, lower = space.take(32 * MIB), space.take(32 * MIB)
    space.give_back(upper, 32 * MIB)
    space.give_back(lower, 32 * MIB)
    assert space.take(64 * MIB) == lower == start - 64 * MIB


@given(st.lists(st.tuples(st.sampled_from([2, 18, 20, 32, 72, 240]), st.booleans()), max_size=60))
def test_segments_never_overlap(steps):
    space, start = _filled()
    live = {start: FIRST_ROOM_BYTES}
    for size_mib, gives_back in steps:
        if gives_back and live:
            address = sorted(live)[len(live) // 2]
            space.give_back(address, live.pop(address))
        address = space.take(size_mib * MIB)
        assert all(address + size_mib * MIB <= a or a + size <= address for a, size in live.items())
        live[address] = size_mib * MIB
