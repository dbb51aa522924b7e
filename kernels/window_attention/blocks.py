"""Block configurations of the attention kernels: pure functions of shape, dtype and the shared memory limit.

Nothing here asks a device, so a configuration can be looked up for a GPU that is not present.
"""

from __future__ import annotations

from dataclasses import dataclass

PROLOGUE_ROWS = 32  # rows of q, and of k, a program of the prologue has
PROLOGUE_WARPS = 4
_SMALLEST = 16  # what a matrix product takes


@dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    """A program's rows (`block`), the rows of the other side it has at a time (`span`), its warps."""

    block: int
    span: int
    warps: int
    shared_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class BandedTile:
    """Rows of a program of `fast`, and of the other side at a time; its warps, and its threads' registers."""

    block: int
    warps: int
    registers: int | None
    shared_bytes: int

    def options(self) -> dict[str, int]:
        """What the kernels are compiled with."""
        limit = {} if self.registers is None else {"maxnreg": self.registers}
        sizes = {"BLOCK": self.block, "SPAN": self.block}
        return sizes | limit | {"num_warps": self.warps, "num_stages": 2}


def power_of_two(n: int) -> int:
    """The smallest power of two ≥ n that a matrix product takes."""
    return max(_SMALLEST, 1 << (n - 1).bit_length())


def loop_tile(dim: int, itemsize: int, *, backward: bool) -> Tile:
    """Configuration of v1, for any window: 64 rows against a loop over tiles of 32."""
    block = 64 if itemsize == 2 and not backward else 32
    span = 32 if power_of_two(dim) * itemsize <= 256 else 16  # float32 rows of 128 need the smaller
    return Tile(
        block=block,
        span=span,
        warps=4,
        shared_bytes=_loop_bytes(block, span, dim, itemsize, backward=backward),
    )


def banded_tile(dim: int, itemsize: int, *, backward: bool) -> BandedTile:
    """Configuration of `fast`, for any window: 16 rows against tiles of 16, in as few warps as hold the rows.

    A warp that holds rows of 128 bytes gets 168 registers a thread in the backward and 96 in the forward,
    where the compiler would take up to 255: then 12 and 20 of them share a multiprocessor.
    """
    row_bytes = power_of_two(dim) * itemsize
    warps = min(max(row_bytes // 128, 1), 4)
    registers = (168 if backward else 96) if row_bytes == 128 and itemsize == 2 else None
    shared = 5 * _SMALLEST * row_bytes + 1024
    return BandedTile(block=_SMALLEST, warps=warps, registers=registers, shared_bytes=shared)


def _loop_bytes(block: int, span: int, dim: int, itemsize: int, *, backward: bool) -> int:
    """Upper bound: q, k, v, in the backward dO, a left operand, and accumulators that change their layout."""
    width = power_of_two(dim)
    rows = 2 * (block + span) if backward else block + 2 * span
    accumulators = 2 * block * (span + width) * (4 if backward else itemsize)
    return rows * width * itemsize + accumulators + 1024
