"""BK scan, version 1: every chain walked from its first token to its last."""

from __future__ import annotations

import triton
from torch import Tensor

from ..segments import Segmentation, segmentation
from .operator import TOKENS, define_bk_scan

_MAX_BLOCK = 128


def configuration(batch: int, n_seq: int, chains: int) -> Segmentation:
    """One segment, so sequential over the tokens, for `chains` chains a row."""
    block = min(triton.next_power_of_2(chains), _MAX_BLOCK)
    return segmentation(n_seq, segments=1, block=block, tokens=TOKENS)


_scan = define_bk_scan("v1", configuration, lambda n_seq, chains: None)


def bk_scan(
    onsite: Tensor, hopping: Tensor | None, energy_re: Tensor, energy_im: Tensor
) -> tuple[Tensor, Tensor]:
    """Causal resolvent of a chain, arguments and results as in `reference.bk_scan`; float32 only.

    Raises: UnsupportedVersionError for other dtypes and for a CPU without Triton's interpreter.
    """
    return _scan(onsite, hopping, energy_re, energy_im)
