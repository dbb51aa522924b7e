"""BK scan, version 2: parallel over the tokens as well, one launch each way."""

from __future__ import annotations

import triton
from torch import Tensor

from ..segments import WARP, Segmentation, segmentation
from .operator import TOKENS, define_bk_scan

_MAX_ROW_SEGMENTS = 256  # one chain a program: 8 warps of segments
_MAX_SEGMENTS = 16
_WANTED_LANES = 1 << 16  # about 500 threads on each of 132 multiprocessors hide a step's latency


def configuration(batch: int, n_seq: int, chains: int) -> Segmentation:
    """One chain a row: short segments. Many chains: as many segments as it takes to fill a GPU, no more,
    because more than one makes the kernel read its input twice."""
    if chains == 1:
        return segmentation(n_seq, segments=_MAX_ROW_SEGMENTS, block=1, tokens=TOKENS)
    wanted = triton.next_power_of_2(-(-_WANTED_LANES // (batch * chains)))
    return segmentation(n_seq, segments=min(wanted, _MAX_SEGMENTS), block=WARP, tokens=TOKENS)


_scan = define_bk_scan("v2", configuration)


def bk_scan(
    onsite: Tensor, hopping: Tensor | None, energy_re: Tensor, energy_im: Tensor
) -> tuple[Tensor, Tensor]:
    """Causal resolvent of a chain, arguments and results as in `reference.bk_scan`; float32 only.

    Raises: UnsupportedVersionError for other dtypes and for a CPU without Triton's interpreter.
    """
    return _scan(onsite, hopping, energy_re, energy_im)
