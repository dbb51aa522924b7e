"""The shape of a Phase 8 model: a frozen configuration, the names of sizes, and the exact parameter count.

Imports no torch, so that the tuner's driver can read it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Literal

Variant = Literal["phase8", "phase7"]
VOCAB_SIZE = 50257
"""Tokens of GPT-2's tokenizer: the vocabulary of a model whose own is not said."""


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
    vocab_size: int = VOCAB_SIZE
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

    @property
    def position_count(self) -> int:
        """Learned scalars of the position table, which alone grows with the sequence."""
        return self.n_seq * self.d_model

    def parameter_count(self) -> int:
        """Number of learned scalars, term by term. Source: docs/model.md, Parameter counts."""
        d, rank, hidden = self.d_model, self.ar_ssm_rank, self.state_dim
        (v1, v2), (d1, d2) = self.vocab_dims, self.embedding_dims
        embedding = self.htt_rank * (v1 * d1 + v2 * d2 + 1) + self.position_count
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

    def product_count(self) -> int:
        """Of those the scalars of `Phase8Model.product_weights`, which may be kept in bfloat16."""
        d, hidden = self.d_model, self.state_dim
        block = (3 * d + 2 * self.ar_ssm_rank + hidden) * d + d * d
        if self.low_rank_ffn:
            block += 10 * 64 * d
        head = 3 * d * d + 2 * hidden * d if self.variant == "phase8" else 0
        return self.n_layers * block + head


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
    "xxl": _Size(d_model=1920, n_layers=30, n_heads=30, htt_rank=60),
    "giant": _Size(d_model=2496, n_layers=39, n_heads=39, htt_rank=78),
}
PRESETS: tuple[str, ...] = tuple(_SIZES)
SIZE_KEYS: tuple[str, ...] = tuple(field.name for field in fields(_Size))
_NAME = re.compile(r"(\d{1,5})[xX×](\d{1,5})(?:h(\d{1,5}))?(?:r(\d{1,5}))?", re.ASCII)
_LARGEST = 99_999  # the bytes of such a model, and of all it takes to train it, are still counted in 64 bits
# The rule of the presets, but for the rank of nano, which is twice that.
_HEAD_DIM = 64
_CHANNELS_A_RANK = 32


def preset(
    name: str, *, n_seq: int, variant: Variant = "phase8", vocab_size: int = VOCAB_SIZE
) -> Phase8Config:
    """The configuration of a named size at a sequence length.

    name: one of `PRESETS`, or d_model x n_layers, for example 640x10: the preset of these two where there is
    one, else with heads of 64 channels and an embedding of rank d_model/32. Others are said with it, as in
    640x10h5r16.

    Raises: ValueError for a name that is none, or, naming the field, for a shape that cannot be built.
    """
    size = _size_of(name)
    return Phase8Config(**asdict(size), n_seq=n_seq, variant=variant, vocab_size=vocab_size)


def size_name(size: str | Mapping[str, object]) -> str:
    """The one name of a size: a preset's where it is one, else d_model x n_layers and what differs from rule.

    size: such a name in any spelling, or a mapping of `SIZE_KEYS`, of which d_model and n_layers are needed.

    Raises: ValueError as `preset`; or, naming the key, for a mapping that is no size.
    """
    found = _size_of(size) if isinstance(size, str) else _completed(size)
    Phase8Config(**asdict(found), n_seq=1)  # says what cannot be built
    return next((name for name, known in _SIZES.items() if known == found), None) or _written(found)


def is_size_name(name: str) -> bool:
    """Whether `preset` knows a name, and it is how that size is always called."""
    try:
        return size_name(name) == name
    except ValueError:
        return False


def size_name_of(config: Phase8Config) -> str | None:
    """The name from which `preset` makes a configuration; None for one that differs in more than its size."""
    try:
        name = size_name({key: getattr(config, key) for key in SIZE_KEYS})
    except ValueError:  # larger than any that has a name
        return None
    named = preset(name, n_seq=config.n_seq, variant=config.variant, vocab_size=config.vocab_size)
    is_same = replace(config, htt_dims=config.embedding_dims) == replace(named, htt_dims=named.embedding_dims)
    return name if is_same else None


def _size_of(name: str) -> _Size:
    if name in _SIZES:
        return _SIZES[name]
    found = _NAME.fullmatch(name)
    if found is None:
        raise ValueError(
            f"model: expected one of {', '.join(PRESETS)}, or d_model x n_layers such as 640x10, got {name!r}"
        )
    stated = zip(SIZE_KEYS, found.groups(), strict=True)
    return _completed({key: int(digits) for key, digits in stated if digits is not None})


def _completed(size: Mapping[str, object]) -> _Size:
    """The size with its heads and its rank where they are not said: a preset's, or by rule."""
    for key in size:
        if key not in SIZE_KEYS:
            raise ValueError(f"{key}: unknown key; expected one of {', '.join(SIZE_KEYS)}")
    for key in ("d_model", "n_layers"):
        if key not in size:
            raise ValueError(f"{key}: expected this key, but it is missing")
    values: dict[str, int] = {}
    for key, value in size.items():
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _LARGEST:
            raise ValueError(f"{key}: expected a whole number from 1 to {_LARGEST}, got {value!r}")
        values[key] = value
    if values.keys() == {"d_model", "n_layers"}:
        known = _preset_of(values["d_model"], values["n_layers"])
        if known is not None:
            return known
    for key, by_rule in _by_rule(values["d_model"]).items():
        if key not in values and by_rule is None:
            raise ValueError(
                f"d_model: expected a multiple of {_HEAD_DIM}, or n_heads and htt_rank beside it "
                f"(as in 600x10h10r20), got {values['d_model']}"
            )
        values.setdefault(key, by_rule or 0)
    return _Size(**values)


def _preset_of(d_model: int, n_layers: int) -> _Size | None:
    shape = d_model, n_layers
    return next((size for size in _SIZES.values() if (size.d_model, size.n_layers) == shape), None)


def _by_rule(d_model: int) -> dict[str, int | None]:
    """Heads and rank of a width; None where it has none of its own."""
    heads, no_heads = divmod(d_model, _HEAD_DIM)
    rank, no_rank = divmod(d_model, _CHANNELS_A_RANK)
    return {"n_heads": None if no_heads else heads, "htt_rank": None if no_rank else rank}


def _written(size: _Size) -> str:
    rule = _by_rule(size.d_model)
    heads = "" if size.n_heads == rule["n_heads"] else f"h{size.n_heads}"
    rank = "" if size.htt_rank == rule["htt_rank"] else f"r{size.htt_rank}"
    if not heads and not rank and _preset_of(size.d_model, size.n_layers) is not None:
        rank = f"r{size.htt_rank}"  # without it the name would be the preset's
    return f"{size.d_model}x{size.n_layers}{heads}{rank}"
