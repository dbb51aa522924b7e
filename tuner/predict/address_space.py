"""Where the driver puts new segments: of several free blocks of one size the allocator takes the lowest.

The driver reserves pieces of address space, in units of 32 MiB, and places segments in them: in the lowest
piece with room enough, there in the smallest hole that is large enough, and else at the start of a new piece.
A piece without a segment is given back to the operating system, which puts a new one as high as it can, below
what the process has mapped; asked for 32 MiB more than the piece, to align it. A process has some room from
the start: where the context's local memory was before it grew.

As the addresses of segments in the allocation histories of 13 new processes show (driver 580, H100 under
Linux: studies/results). What the driver takes for itself meanwhile (modules of kernels: 64 MiB at the first
product, 2 MiB now and then) is left out.
"""

from __future__ import annotations

from bisect import bisect_right, insort

_UNIT_BYTES = 32 << 20
_MIB = 1 << 20
_ROOM_END = 1 << 46
_FIRST_ROOM = ((-486, -76), (-76, -74), (0, 28))
"""From _ROOM_END, in MiB."""
_FIRST_GAP_END = -1032
"""Likewise: below it nothing is mapped."""

Interval = tuple[int, int]
"""Start and end of an address range."""


class _Piece:
    """A reserved range: `holes` are what no segment takes, in ascending order."""

    __slots__ = ("end", "holes", "largest", "start")

    def __init__(self, start: int, end: int, holes: list[Interval]) -> None:
        self.start, self.end = start, end
        self.holes = holes
        self._measure()

    def take(self, size_bytes: int) -> int:
        """The start of the smallest hole that is large enough; there is one."""
        _, index = min(
            (end - start, index) for index, (start, end) in enumerate(self.holes) if end - start >= size_bytes
        )
        start, end = self.holes[index]
        self.holes[index : index + 1] = [(start + size_bytes, end)] if end - start > size_bytes else []
        self._measure()
        return start

    def give_back(self, start: int, end: int) -> None:
        insort(self.holes, (start, end))
        self.holes = _joined(self.holes)
        self._measure()

    def _measure(self) -> None:
        self.largest = max((end - start for start, end in self.holes), default=0)


class AddressSpace:
    """Addresses of one process's segments."""

    def __init__(self) -> None:
        room = [(_ROOM_END + start * _MIB, _ROOM_END + end * _MIB) for start, end in _FIRST_ROOM]
        self._first = _Piece(room[0][0], room[-1][1], room)
        self._pieces = [self._first]
        self._starts = [self._first.start]
        self._gaps: list[Interval] = [(0, _ROOM_END + _FIRST_GAP_END * _MIB)]

    def take(self, size_bytes: int) -> int:
        """The address of a new segment."""
        for piece in self._pieces:
            if piece.largest >= size_bytes:
                return piece.take(size_bytes)
        length = -(-size_bytes // _UNIT_BYTES) * _UNIT_BYTES
        index = next(i for i in reversed(range(len(self._gaps))) if _length(self._gaps[i]) > length)
        start, end = self._gaps[index]
        self._gaps[index] = (start, end - length)
        address = end - length
        piece = _Piece(address, end, [(address + size_bytes, end)] if length > size_bytes else [])
        place = bisect_right(self._starts, address)
        self._pieces.insert(place, piece)
        self._starts.insert(place, address)
        return address

    def give_back(self, address: int, size_bytes: int) -> None:
        """The segment at an address is no more."""
        place = bisect_right(self._starts, address) - 1
        piece = self._pieces[place]
        piece.give_back(address, address + size_bytes)
        if piece.largest == piece.end - piece.start and piece is not self._first:
            del self._pieces[place], self._starts[place]
            insort(self._gaps, (piece.start, piece.end))
            self._gaps = _joined(self._gaps)


def _length(interval: Interval) -> int:
    return interval[1] - interval[0]


def _joined(intervals: list[Interval]) -> list[Interval]:
    """The same ranges with neighbours joined."""
    joined = intervals[:1]
    for start, end in intervals[1:]:
        if joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined
