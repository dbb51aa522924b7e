"""The transformer language model in plain PyTorch: embedding, pre-norm blocks, tied head."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...values.candidate import Checkpointing
from .config import TransformerConfig
from .selective import keeping_products

_STD = 0.02  # of all weights at the start; Radford et al. 2019
_ROTARY_BASE = 10_000.0  # Su et al., RoFormer (2021), section 3.2.2


def rotary_table(n_seq: int, head_dim: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines [N, head_dim / 2] of the angle of every position and pair of channels, float32.

    Source: Su et al., RoFormer (2021), section 3.2.2.
    """
    rates = _ROTARY_BASE ** -(torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    angles = torch.outer(torch.arange(n_seq, dtype=torch.float32), rates)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [B, h, N, head_dim] with channel i and i + head_dim/2 turned by the angle of their position."""
    first, second = x.chunk(2, dim=-1)
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class Attention(nn.Module):
    """Causal attention; heads of keys and values may be shared by several heads of queries."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.qkv = nn.Linear(config.d_model, config.d_model + 2 * config.kv_dim, bias=config.biases)
        self.out = nn.Linear(config.d_model, config.d_model, bias=config.biases)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None) -> Tensor:
        """x [B, N, d] → [B, N, d]; rotary: cosines and sines [N, head_dim / 2]."""
        config = self.config
        batch, n, _ = x.shape
        widths = [config.d_model, config.kv_dim, config.kv_dim]
        q, k, v = (
            part.view(batch, n, -1, config.head_dim).transpose(1, 2)
            for part in self.qkv(x).split(widths, dim=-1)
        )
        if rotary is not None:
            q, k = rotate(q, *rotary), rotate(k, *rotary)
        shared = config.n_heads // config.n_kv_heads
        if shared > 1:
            # Repeated, not left to SDPA: of its backends only flash attention takes shared heads, and a card
            # or a precision without it would fall back to one that writes all of N × N.
            k, v = k.repeat_interleave(shared, dim=1), v.repeat_interleave(shared, dim=1)
        heads = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = self.out(heads.transpose(1, 2).reshape(batch, n, config.d_model))
        return out


class FeedForward(nn.Module):
    """Two products with GELU between them, or SwiGLU: the second half of `up` is passed by SiLU of the first.

    Source: Shazeer, GLU Variants Improve Transformer (2020).
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.is_gated = config.ffn == "swiglu"
        wide = config.ffn_dim * (2 if self.is_gated else 1)
        self.up = nn.Linear(config.d_model, wide, bias=config.biases)
        self.down = nn.Linear(config.ffn_dim, config.d_model, bias=config.biases)

    def forward(self, x: Tensor) -> Tensor:
        wide = self.up(x)
        if self.is_gated:
            gate, value = wide.chunk(2, dim=-1)
            wide = F.silu(gate) * value
        else:
            wide = F.gelu(wide, approximate="tanh")
        out: Tensor = self.down(wide)
        return out


def _norm(config: TransformerConfig) -> nn.Module:
    if config.norm == "rms":
        return nn.RMSNorm(config.d_model, eps=1e-5)
    return nn.LayerNorm(config.d_model, bias=config.biases)


class Block(nn.Module):
    """Attention and feed-forward part, each after its norm and beside a residual connection."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.norm1, self.attention = _norm(config), Attention(config)
        self.norm2, self.ffn = _norm(config), FeedForward(config)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None) -> Tensor:
        x = x + self.attention(self.norm1(x), rotary)
        out: Tensor = x + self.ffn(self.norm2(x))
        return out


class Transformer(nn.Module):
    """Tokens [B, N] → hidden states [B, N, d]; `head` is the weight that makes logits of them.

    gradient_checkpointing: "full": a block keeps only its input and is computed again in the backward pass;
    "selective": it keeps the products, too, and what attention returns.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, config: TransformerConfig, *, gradient_checkpointing: Checkpointing = "none") -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = gradient_checkpointing
        self.tokens = nn.Embedding(config.rows, config.d_model)
        is_learned = config.positions == "learned"
        self.positions = nn.Embedding(config.n_seq, config.d_model) if is_learned else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = _norm(config)
        if not is_learned:
            cos, sin = rotary_table(config.n_seq, config.head_dim)
            self.register_buffer("cos", cos, persistent=False)
            self.register_buffer("sin", sin, persistent=False)
        self._initialise()

    @property
    def head(self) -> Tensor:
        """The tied weight [rows, d]."""
        return self.tokens.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens [B, N] int64, N ≤ config.n_seq → hidden states [B, N, d] before the output head."""
        n = tokens.shape[1]
        if n > self.config.n_seq:
            raise ValueError(f"tokens: expected at most n_seq={self.config.n_seq} positions, got {n}")
        x, rotary = self.tokens(tokens), None
        if self.positions is not None:
            x = x + self.positions.weight[:n]
        else:
            rotary = self.cos[:n], self.sin[:n]
        for block in self.blocks:
            x = self._recomputed(block, x, rotary) if torch.is_grad_enabled() else block(x, rotary)
        hidden: Tensor = self.norm(x)
        return hidden

    def _recomputed(self, block: nn.Module, x: Tensor, rotary: tuple[Tensor, Tensor] | None) -> Tensor:
        """A block's output; what is not kept of it is computed again in the backward pass."""
        kind = self.gradient_checkpointing
        if kind == "none":
            out: Tensor = block(x, rotary)
            return out
        # No randomness in a block: its generator state need not be kept
        options: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}
        if kind == "selective":
            options["context_fn"] = keeping_products(self.config.ffn_dim)
        out = checkpoint(block, x, rotary, **options)
        return out

    @torch.no_grad()
    def _initialise(self) -> None:
        """As GPT-2: normal weights; those that write to the residual stream smaller by √(2·layers)."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=_STD)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for block in self.modules():
            if isinstance(block, Block):
                for linear in (block.attention.out, block.ffn.down):
                    nn.init.normal_(linear.weight, std=_STD / math.sqrt(2 * self.config.n_layers))
