"""Where the driver puts new segments: of several free blocks of one size the allocator takes the lowest.

As the addresses of segments in allocation histories show (driver 580, H100): into free room that the process
has already, the lowest that is large enough, and else into new room right below the lowest so far, in pieces
of 32 MiB, whose ends are free room then. What room a process has at first depends on what it did before; it
is taken to be FIRST_ROOM_BYTES, which says most of the reserved bytes measured on an H200 and an H100 to the
byte. That all addresses rise, or that all fall, says fewer.
"""

from __future__ import annotations

from bisect import insort

FIRST_ROOM_BYTES = 2 << 30
_PIECE_BYTES = 32 << 20


class AddressSpace:
    """Addresses of one process's segments."""

    def __init__(self) -> None:
        self._lowest = 1 << 46
        self._room = [(self._lowest, self._lowest + FIRST_ROOM_BYTES)]

    def take(self, size_bytes: int) -> int:
        """The address of a new segment."""
        for index, (start, end) in enumerate(self._room):
            if end - start >= size_bytes:
                self._room[index : index + 1] = (
                    [(start + size_bytes, end)] if end - start > size_bytes else []
                )
                return start
        piece = -(-size_bytes // _PIECE_BYTES) * _PIECE_BYTES
        self._lowest -= piece
        if piece > size_bytes:
            self._room.insert(0, (self._lowest + size_bytes, self._lowest + piece))
        return self._lowest

    def give_back(self, address: int, size_bytes: int) -> None:
        """The segment at an address is no more: its room joins its free neighbours'."""
        insort(self._room, (address, address + size_bytes))
        joined = self._room[:1]
        for start, end in self._room[1:]:
            if joined[-1][1] == start:
                joined[-1] = (joined[-1][0], end)
            else:
                joined.append((start, end))
        self._room = joined
