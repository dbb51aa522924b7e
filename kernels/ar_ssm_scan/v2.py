"""AR-SSM scan, version 2: segments of a row in parallel, gates in PyTorch."""

from __future__ import annotations

from torch import Tensor

from .operator import define_ar_ssm_scan

_scan = define_ar_ssm_scan("v2")


def ar_ssm_scan(gate_logits: Tensor, u: Tensor, v: Tensor, decay: Tensor) -> Tensor:
    """(a ⊙ v) ⊙ s, arguments and result as in `reference.ar_ssm_scan`; no gradient for decay.

    Raises: UnsupportedVersionError for float64, for mixed dtypes, for a decay that requires a gradient,
    and for a CPU without Triton's interpreter.
    """
    return _scan(gate_logits, u, v, decay)
