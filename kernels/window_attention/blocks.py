"""Block configurations of the attention kernels: pure functions of shape, dtype and the shared memory limit.

Nothing here asks a device, so a configuration can be looked up for a GPU that is not present.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..versions import UnsupportedVersionError

PROLOGUE_ROWS = 32  # rows of q, and of k, a program of the prologue has
PROLOGUE_WARPS = 4
_SMALLEST = 16  # what a matrix product takes
CARRIED_TILES = 3  # key blocks that a block of queries sees in `fast`


@dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    """A program's rows (`block`), the rows of the other side it has at a time (`span`), its warps."""

    block: int
    span: int
    warps: int
    shared_bytes: int


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


def one_shot_tile(window: int, dim: int, itemsize: int, shared_limit_bytes: int, *, backward: bool) -> Tile:
    """Configuration of v2: the span is the smallest power of two with room for a block and its window.

    A thread holds 64 entries of a forward tile and 16 of a backward one, half of that in float32: with more,
    ptxas keeps hundreds of registers in local memory. 4 warps for 64 queries: 8 would repeat the rows.
    Raises: UnsupportedVersionError for windows whose span fits neither registers nor shared memory.
    """
    span = power_of_two(window + _SMALLEST - 1)
    entries = (64 * 64 if backward else 64 * 128) // (itemsize // 2)
    warps = 8 if backward or itemsize > 2 else 4
    room = max(_SMALLEST, min(64, span - window + 1, entries // span))
    block = 1 << (room.bit_length() - 1)
    shared = _one_shot_bytes(block, span, dim, itemsize, backward=backward)
    if span > 512 or shared > shared_limit_bytes:
        raise UnsupportedVersionError(
            f"window_attention version 'v2': a window of {window} with {dim} features of {itemsize} bytes "
            f"does not fit a block's registers and {shared_limit_bytes} bytes of shared memory; "
            "version 'v1' takes it"
        )
    return Tile(block=block, span=span, warps=warps, shared_bytes=shared)


def carried_tile(window: int, dim: int, itemsize: int, *, backward: bool) -> Tile | None:
    """Configuration of `fast`: the smallest block whose queries see no more than three key blocks.

    With 32 for a window of 64, a query's tiles have 96 entries, a quarter less than two tiles of 64.
    None for windows above 65: with blocks of 64 the backward keeps 6 KB a thread in local memory, and v1's
    loops do less.
    """
    block = power_of_two(-(-(window - 1) // (CARRIED_TILES - 1)))
    if block > 32:
        return None
    warps = block // 16 * (2 if backward else 1)
    shared = (4 * block * power_of_two(dim) + 2 * block * block) * itemsize
    return Tile(block=block, span=block, warps=warps, shared_bytes=shared)


def carried_chunk(batch: int, heads: int, blocks: int) -> int:
    """Key blocks a program of `fast`'s backward walks over: all of a sequence where that fills a GPU.

    A shorter chunk repeats three tiles at its start, and yet pays while programs are few: at 512 streams of
    8 blocks (B=64, N=256, H=8) an H200 takes 278 µs with chunks of 8, 201 with 4, 244 with 2.
    """
    chunks = -(-1024 // (batch * heads))
    return max(1, -(-blocks // chunks))


def _one_shot_bytes(block: int, span: int, dim: int, itemsize: int, *, backward: bool) -> int:
    """What products read from shared memory: q, k, v, a left operand; in the backward dO and another."""
    rows = 2 * (block + span) if backward else block + 2 * span
    return (rows * power_of_two(dim) + (2 if backward else 1) * block * span) * itemsize


def _loop_bytes(block: int, span: int, dim: int, itemsize: int, *, backward: bool) -> int:
    """Upper bound: q, k, v, in the backward dO, a left operand, and accumulators that change their layout."""
    width = power_of_two(dim)
    rows = 2 * (block + span) if backward else block + 2 * span
    accumulators = 2 * block * (span + width) * (4 if backward else itemsize)
    return rows * width * itemsize + accumulators + 1024
