"""The shape of a transformer: a frozen configuration, the two families, exact counts of parameters and FLOP.

Imports no torch, so that the tuner's driver can read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ....phase8.config import VOCAB_SIZE, preset

Family = Literal["gpt2", "llama"]
Norm = Literal["layer", "rms"]
Positions = Literal["learned", "rotary"]
FeedForward = Literal["gelu", "swiglu"]
FAMILIES: tuple[Family, ...] = ("gpt2", "llama")
_MULTIPLE = 64
"""Rows of the embedding and channels of SwiGLU are multiples of it: products stay on the aligned path."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformerConfig:
    """All that determines the function a transformer computes; it is pre-norm, its output head is tied.

    n_kv_heads: heads of keys and values, each shared by n_heads / n_kv_heads heads of queries. ffn_dim:
    channels between the two products of the feed-forward part. biases: in products and LayerNorm.

    Raises: ValueError, naming the field, for a shape that cannot be built.
    """

    d_model: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    n_seq: int
    ffn_dim: int
    vocab_size: int = VOCAB_SIZE
    norm: Norm = "rms"
    positions: Positions = "rotary"
    ffn: FeedForward = "swiglu"
    biases: bool = False

    def __post_init__(self) -> None:
        for name in ("d_model", "n_layers", "n_heads", "n_kv_heads", "n_seq", "ffn_dim", "vocab_size"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name}: expected a positive whole number, got {value!r}")
        if self.d_model % self.n_heads:
            raise ValueError(f"d_model: expected a multiple of n_heads={self.n_heads}, got {self.d_model}")
        if self.n_heads % self.n_kv_heads:
            raise ValueError(
                f"n_kv_heads: expected a divisor of n_heads={self.n_heads}, got {self.n_kv_heads}"
            )
        for name, known in (
            ("norm", ("layer", "rms")),
            ("positions", ("learned", "rotary")),
            ("ffn", ("gelu", "swiglu")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: expected {' or '.join(known)}, got {getattr(self, name)!r}")
        if self.positions == "rotary" and self.head_dim % 2:
            raise ValueError(f"n_heads: rotary positions need an even head, got {self.head_dim} channels")

    @property
    def head_dim(self) -> int:
        return self.d_model // self.n_heads

    @property
    def kv_dim(self) -> int:
        """Channels of the keys, and as many of the values."""
        return self.n_kv_heads * self.head_dim

    @property
    def rows(self) -> int:
        """Rows of the embedding: the vocabulary, and what rounds it up to a multiple of 64."""
        return _rounded_up(self.vocab_size)

    @property
    def embedding_count(self) -> int:
        """Learned scalars of the embedding, which is the output head too."""
        return self.rows * self.d_model

    @property
    def position_count(self) -> int:
        """Learned scalars of the position table, which alone grows with the sequence."""
        return self.n_seq * self.d_model if self.positions == "learned" else 0

    def parameter_count(self) -> int:
        """Number of learned scalars."""
        return self.embedding_count + self.position_count + self.body_parameter_count()

    def body_parameter_count(self) -> int:
        """Learned scalars without those of the embedding and of the position table."""
        norm = self.d_model * (2 if self.norm == "layer" and self.biases else 1)
        biases = 0
        if self.biases:
            into_attention = self.d_model + 2 * self.kv_dim
            biases = into_attention + self.d_model + self._into_ffn + self.d_model
        return self.n_layers * (self._block_products + biases + 2 * norm) + norm

    def body_flop_per_token(self) -> int:
        """Arithmetic of one token's forward pass in the blocks, without embedding and head.

        Two a weight of a matrix product, and those of attention over the (N + 1)/2 positions that a token
        sees on average; training takes three times that. Norms and activations are not counted.
        Source: Kaplan et al., Scaling Laws for Neural Language Models (2020), section 2.1.
        """
        attention = 2 * self.d_model * (self.n_seq + 1)  # two products of 2·d over (N + 1)/2 positions
        return self.n_layers * (2 * self._block_products + attention)

    @property
    def _into_ffn(self) -> int:
        return self.ffn_dim * (2 if self.ffn == "swiglu" else 1)

    @property
    def _block_products(self) -> int:
        """Weights of a block's matrix products."""
        attention = self.d_model * (self.d_model + 2 * self.kv_dim) + self.d_model * self.d_model
        return attention + self.d_model * self._into_ffn + self.ffn_dim * self.d_model


def transformer_config(
    name: str,
    *,
    n_seq: int,
    vocab_size: int = VOCAB_SIZE,
    family: Family = "llama",
    queries_per_kv: int = 1,
) -> TransformerConfig:
    """The transformer of a named size: width, depth and heads are those of Phase 8 of the same name.

    family: "gpt2" has LayerNorm, learned positions, GELU and biases (Radford et al. 2019); "llama" RMSNorm,
    rotary positions, SwiGLU and no biases (Touvron et al. 2023). queries_per_kv: heads of queries that share
    a head of keys and values (Ainslie et al. 2023).

    Raises: ValueError for a name that is none, or, naming the field, for a shape that cannot be built.
    """
    size = preset(name, n_seq=n_seq, vocab_size=vocab_size)
    return config_of_family(
        family,
        d_model=size.d_model,
        n_layers=size.n_layers,
        n_heads=size.n_heads,
        n_seq=n_seq,
        vocab_size=vocab_size,
        queries_per_kv=queries_per_kv,
    )


def config_of_family(
    family: Family,
    *,
    d_model: int,
    n_layers: int,
    n_heads: int,
    n_seq: int,
    vocab_size: int,
    queries_per_kv: int,
) -> TransformerConfig:
    """As `transformer_config`, of a size that need not have a name.

    Raises: ValueError, naming the field.
    """
    if queries_per_kv < 1 or n_heads % queries_per_kv:
        raise ValueError(f"queries_per_kv: expected a divisor of the {n_heads} heads, got {queries_per_kv}")
    if family not in FAMILIES:
        raise ValueError(f"family: expected {' or '.join(FAMILIES)}, got {family!r}")
    is_gpt2 = family == "gpt2"
    return TransformerConfig(
        d_model=d_model,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=n_heads // queries_per_kv,
        n_seq=n_seq,
        vocab_size=vocab_size,
        norm="layer" if is_gpt2 else "rms",
        positions="learned" if is_gpt2 else "rotary",
        ffn="gelu" if is_gpt2 else "swiglu",
        # Two thirds of GPT-2's, as SwiGLU has three matrices where GELU has two
        ffn_dim=4 * d_model if is_gpt2 else _rounded_up(-(-8 * d_model // 3)),
        biases=is_gpt2,
    )


def _rounded_up(count: int) -> int:
    return -(-count // _MULTIPLE) * _MULTIPLE
