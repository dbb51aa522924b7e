"""BK scan, version 2: parallel over the tokens as well, one launch each way, two where rows are long."""

from __future__ import annotations

import triton
from torch import Tensor

from ..segments import WARP, Segmentation, chunked, segmentation
from .operator import TOKENS, define_bk_scan

_ROW_SEGMENTS = 256  # one chain a program: 8 warps of segments
_ROW_LENGTH, _ROW_CHUNKS = 16, 32  # tokens a segment of a chunk: a launch more costs about as many steps
_SEGMENTS = 16
_LENGTH, _CHUNKS = 128, 32  # 16 chunks of 512 chains at 32768 tokens: 256 programs
_WANTED_LANES = 1 << 16  # about 500 threads on each of 132 multiprocessors hide a step's latency


def configuration(batch: int, n_seq: int, chains: int) -> Segmentation:
    """One chain a row: short segments. Many chains: as many segments as it takes to fill a GPU, no more,
    because more than one makes the kernel read its input twice. Long rows in chunks."""
    long = long_rows(n_seq, chains)
    if long is not None:
        return long
    if chains == 1:
        return segmentation(n_seq, segments=_ROW_SEGMENTS, block=1, tokens=TOKENS)
    wanted = triton.next_power_of_2(-(-_WANTED_LANES // (batch * chains)))
    return segmentation(n_seq, segments=min(wanted, _SEGMENTS), block=WARP, tokens=TOKENS)


def long_rows(n_seq: int, chains: int) -> Segmentation | None:
    """The chunks of a row that is long enough for them."""
    if chains == 1:
        return chunked(
            n_seq, segments=_ROW_SEGMENTS, length=_ROW_LENGTH, most=_ROW_CHUNKS, block=1, tokens=TOKENS
        )
    return chunked(n_seq, segments=_SEGMENTS, length=_LENGTH, most=_CHUNKS, block=WARP, tokens=TOKENS)


_scan = define_bk_scan("v2", configuration, long_rows)


def bk_scan(
    onsite: Tensor, hopping: Tensor | None, energy_re: Tensor, energy_im: Tensor
) -> tuple[Tensor, Tensor]:
    """Causal resolvent of a chain, arguments and results as in `reference.bk_scan`; float32 only.

    Raises: UnsupportedVersionError for other dtypes and for a CPU without Triton's interpreter.
    """
    return _scan(onsite, hopping, energy_re, energy_im)
