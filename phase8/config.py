"""The shape of a Phase 8 model: a frozen configuration, the presets, and the exact parameter count.

Imports no torch, so that the tuner's driver can read it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Variant = Literal["phase8", "phase7"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Phase8Config:
    """All that determines the function a Phase 8 model computes.

    `htt_dims` (d1, d2) is how a row of the embedding is folded; None means the balanced pair.
    `variant` "phase7" leaves out the head side (BK hyperbolic integration and AR-SSM fusion).

    Raises: ValueError, naming the field, for a shape that cannot be built.
    """

    d_model: int
    n_layers: int
    n_heads: int
    n_seq: int
    htt_rank: int
    ar_ssm_rank: int = 32
    window: int = 64
    vocab_size: int = 50257
    htt_dims: tuple[int, int] | None = None
    low_rank_ffn: bool = False
    variant: Variant = "phase8"

    def __post_init__(self) -> None:
        positive = (
            "d_model",
            "n_layers",
            "n_heads",
            "n_seq",
            "htt_rank",
            "ar_ssm_rank",
            "window",
            "vocab_size",
        )
        for name in positive:
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name}: expected a positive whole number, got {value!r}")
        if self.d_model % 4 or self.d_model % self.n_heads:
            raise ValueError(
                f"d_model: expected a multiple of 4 and of n_heads={self.n_heads}, got {self.d_model}"
            )
        if self.variant not in ("phase8", "phase7"):
            raise ValueError(f"variant: expected 'phase8' or 'phase7', got {self.variant!r}")
        if self.htt_dims is not None:
            if len(self.htt_dims) != 2 or min(self.htt_dims) < 1:
                raise ValueError(f"htt_dims: expected two positive whole numbers, got {self.htt_dims!r}")
            if self.htt_dims[0] * self.htt_dims[1] < self.d_model:
                raise ValueError(
                    f"htt_dims: their product must reach d_model={self.d_model}, got {self.htt_dims!r}"
                )

    @property
    def head_dim(self) -> int:
        return self.d_model // self.n_heads

    @property
    def state_dim(self) -> int:
        """Hidden size of the gate and of the AR-SSM fusion's state, d/4."""
        return self.d_model // 4

    @property
    def vocab_dims(self) -> tuple[int, int]:
        """(v1, v2): rows and columns the vocabulary is folded into; token t = i1·v2 + i2."""
        v1 = math.isqrt(self.vocab_size - 1) + 1
        return v1, -(-self.vocab_size // v1)

    @property
    def embedding_dims(self) -> tuple[int, int]:
        """(d1, d2) with d1·d2 ≥ d_model."""
        if self.htt_dims is not None:
            return self.htt_dims
        d1 = math.isqrt(self.d_model - 1) + 1
        return d1, -(-self.d_model // d1)

    def parameter_count(self) -> int:
        """Number of learned scalars, term by term. Source: docs/model.md, Parameter counts."""
        d, rank, hidden = self.d_model, self.ar_ssm_rank, self.state_dim
        (v1, v2), (d1, d2) = self.vocab_dims, self.embedding_dims
        embedding = self.htt_rank * (v1 * d1 + v2 * d2 + 1) + self.n_seq * d
        norm = 2 * d
        bk_core = d + 1 + 2  # w_v, b_v, γ, ε
        attention = 4 * d * d + 3  # q, k, v, o; log_c, beta, attention_bias
        gate = hidden * d + hidden + rank * hidden + rank
        global_path = gate + 2 * rank * d + d * rank + d + 3 * d
        mix = 1 + norm + d + 2 * d + d  # θ, LayerNorm, b_s, W_g, b_g
        block = norm + bk_core + attention + global_path + mix
        if self.low_rank_ffn:
            block += 64 * d + (64 * 4 * d + 4 * d) + 64 * 4 * d + (64 * d + d)
        head = norm
        if self.variant == "phase8":
            integration = 3 * (d * d + d) + 3
            rank_weight = (32 + 32) + (32 + 1) + 3
            fusion = rank_weight + (hidden * d + hidden) + 2 * hidden * rank + (d * hidden + d) + d
            head += integration + fusion
        return embedding + self.n_layers * block + head


@dataclass(frozen=True, kw_only=True, slots=True)
class _Size:
    d_model: int
    n_layers: int
    n_heads: int
    htt_rank: int


_SIZES = {
    "nano": _Size(d_model=128, n_layers=4, n_heads=2, htt_rank=8),
    "small": _Size(d_model=512, n_layers=8, n_heads=8, htt_rank=16),
    "base": _Size(d_model=768, n_layers=12, n_heads=12, htt_rank=24),
    "medium": _Size(d_model=1024, n_layers=16, n_heads=16, htt_rank=32),
    "large": _Size(d_model=1280, n_layers=20, n_heads=20, htt_rank=40),
    "xl": _Size(d_model=1536, n_layers=24, n_heads=24, htt_rank=48),
}
PRESETS: tuple[str, ...] = tuple(_SIZES)


def preset(name: str, *, n_seq: int, variant: Variant = "phase8") -> Phase8Config:
    """The configuration of a named size at a sequence length.

    Raises: ValueError for a name that is not one of `PRESETS`.
    """
    if name not in _SIZES:
        raise ValueError(f"model: expected one of {', '.join(PRESETS)}, got {name!r}")
    size = _SIZES[name]
    return Phase8Config(
        d_model=size.d_model,
        n_layers=size.n_layers,
        n_heads=size.n_heads,
        htt_rank=size.htt_rank,
        n_seq=n_seq,
        variant=variant,
    )
