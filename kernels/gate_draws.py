"""What random inputs of a check are made of: its sizes, its leaves, and seeded numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class GateShape:
    """Sizes of one check; an operation uses those that concern it."""

    batch: int
    n_seq: int
    d_model: int
    n_heads: int
    rank: int = 32
    window: int = 64
    vocab_size: int = 300
    htt_rank: int = 8

    def __str__(self) -> str:
        return f"B={self.batch} N={self.n_seq} d={self.d_model} H={self.n_heads}"


ODD_SHAPES = (
    GateShape(batch=16, n_seq=1, d_model=24, n_heads=2),
    GateShape(batch=2, n_seq=37, d_model=40, n_heads=2),
    GateShape(batch=1, n_seq=130, d_model=48, n_heads=3),
)
"""One position, N no multiple of a block, several windows; no power of two in d, d1, d2 or D.

One position comes 16 times: alone it would have one error a draw, and the check would be of luck.
"""

DEVICE_SHAPES = (GateShape(batch=2, n_seq=130, d_model=512, n_heads=8, htt_rank=16, vocab_size=50257),)
"""What is checked once on a user's GPU: the kernels of the preset `small`, so that its candidates find them
compiled, at a length that is no multiple of a block. The float64 reference takes under 1 GiB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GateInputs:
    """Float64 leaves of one call, exactly representable in the types the call will have them in.

    compute: leaves in the compute dtype. wide: leaves in float32. arguments: from the cast leaves and the
    compute dtype to what the operation is called with.
    """

    compute: dict[str, Tensor]
    wide: dict[str, Tensor]
    arguments: Callable[[dict[str, Tensor], torch.dtype], tuple[Any, ...]]


class Draw:
    """Normal numbers rounded to the dtype they will be used in, drawn on the CPU: the same on all devices."""

    def __init__(self, seed: int, dtype: torch.dtype) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._dtype = dtype

    def compute(self, *shape: int, std: float = 1.0) -> Tensor:
        return (torch.randn(shape, generator=self._generator) * std).to(self._dtype).double()

    def wide(self, *shape: int, std: float = 1.0, mean: float = 0.0) -> Tensor:
        return (torch.randn(shape, generator=self._generator) * std + mean).double()

    def indices(self, *shape: int, below: int) -> Tensor:
        return torch.randint(below, shape, generator=self._generator)


def draw_cores(draw: Draw, s: GateShape, std: float) -> dict[str, Tensor]:
    """Cores and phase of a holographic tensor train."""
    v1, d1 = math.isqrt(s.vocab_size - 1) + 1, math.isqrt(s.d_model - 1) + 1
    return {
        "core1": draw.wide(v1, s.htt_rank, d1, std=std),
        "core2": draw.wide(-(-s.vocab_size // v1), s.htt_rank, -(-s.d_model // d1), std=std),
        "phase": draw.wide(s.htt_rank, std=0.5),
    }
