"""BK hyperbolic integration, version 1: element-wise PyTorch around the BK scan of version 1."""

from __future__ import annotations

from torch import Tensor

from ..bk_scan.v1 import bk_scan
from . import reference


def bk_gate(h: Tensor, abc: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """h ⊙ (1 + sigmoid(w·[Re G, Im G] + b)), arguments and result as in `reference.bk_gate`.

    h and abc in float32, float16 or bfloat16.
    Raises: UnsupportedVersionError for float64 and for a CPU without Triton's interpreter.
    """
    return reference.bk_gate(h, abc, weight, bias, scan=bk_scan)
