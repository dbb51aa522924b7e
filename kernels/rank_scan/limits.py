"""What the rank scan's kernels take: the width of their tiles, and a refusal of the rest."""

from __future__ import annotations

import triton
from torch import Tensor

from ..device_limits import require_triton_device
from ..segments import require_float32
from ..versions import UnsupportedVersionError

_SMALLEST_DOT = 16  # tl.dot's smallest side
_MAX_RANK = 64  # a program holds M and its running product in registers


def require_supported(version: str, w: Tensor, matrix: Tensor) -> None:
    """Refuse what the kernels do not compute.

    Raises: UnsupportedVersionError for a device without Triton, for other dtypes than float32, and for ranks
    above 64.
    """
    require_triton_device(w, f"rank_scan {version}")
    require_float32("rank_scan", version, w=w, matrix=matrix)
    if w.shape[-1] > _MAX_RANK:
        raise UnsupportedVersionError(
            f"rank_scan {version}: expected a rank of at most {_MAX_RANK}, got {w.shape[-1]}; "
            "version 'reference' takes any"
        )


def rank_block(rank: int) -> int:
    """Side of the tile that holds a rank: a power of two, at least 16."""
    return max(int(triton.next_power_of_2(rank)), _SMALLEST_DOT)
