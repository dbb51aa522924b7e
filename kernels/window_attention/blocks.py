"""Block configurations of the attention kernels: pure functions of shape, dtype and the shared memory limit.

Nothing here asks a device, so a configuration can be looked up for a GPU that is not present.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..versions import UnsupportedVersionError

_SMALLEST = 16  # what tl.dot takes
_LARGEST_TILE = 64 * 128  # entries of a float32 score tile that a program's registers hold


@dataclass(frozen=True, kw_only=True, slots=True)
class OneShotBlocks:
    """A program's block of rows, the span of rows of the other side that it sees, and its warps."""

    block: int
    span: int
    forward_warps: int
    backward_warps: int
    shared_bytes: int


def power_of_two(n: int) -> int:
    """The smallest power of two ≥ n, and at least what a matrix product takes."""
    return max(_SMALLEST, 1 << (n - 1).bit_length())


def one_shot_block(window: int) -> tuple[int, int]:
    """(block, span) of v2, whatever the device; a block of 0 where a tile would not fit the registers."""
    span = power_of_two(window + _SMALLEST - 1)
    room = min(64, span - window + 1, _LARGEST_TILE // span)
    return (1 << (room.bit_length() - 1) if room >= _SMALLEST else 0), span


def one_shot_blocks(window: int, dim: int, itemsize: int, shared_limit_bytes: int) -> OneShotBlocks:
    """Configuration of v2: the span is the smallest power of two with room for a block and its window.

    Raises: UnsupportedVersionError for windows whose span fits neither registers nor shared memory.
    """
    block, span = one_shot_block(window)
    shared = _one_shot_bytes(block, span, power_of_two(dim), itemsize)
    if block < _SMALLEST or shared > shared_limit_bytes:
        raise UnsupportedVersionError(
            f"window_attention version 'v2': a window of {window} with {dim} features of {itemsize} bytes "
            f"does not fit a block's registers and {shared_limit_bytes} bytes of shared memory; "
            "versions 'v1' and 'fast' take it"
        )
    warps = 8 if block * span >= _LARGEST_TILE else 4
    return OneShotBlocks(block=block, span=span, forward_warps=4, backward_warps=warps, shared_bytes=shared)


def _one_shot_bytes(block: int, span: int, dim: int, itemsize: int) -> int:
    return (block + 2 * span) * dim * itemsize
