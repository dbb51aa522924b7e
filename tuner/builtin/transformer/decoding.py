"""Continues texts with a transformer: keys and values of what was read are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ..drawing import room_after
from .model import Attention, Block, Transformer, rotate

_COMPUTE = {"bf16": torch.bfloat16, "fp16": torch.float16, "none": None}


class TransformerGenerator:
    """A `Generator`. mixed_precision: of the products, by autocast, as in training.

    Memory beside the model's: keys and values of n_seq positions, 2·kv_dim numbers a position and layer.
    """

    def __init__(self, model: Transformer, mixed_precision: str) -> None:
        self._model, self._dtype = model, _COMPUTE[mixed_precision]
        self._device = model.head.device

    def __call__(
        self, prompt: Tensor, draw: Callable[[Tensor], Tensor], *, max_tokens: int
    ) -> Iterator[Tensor]:
        n_seq = self._model.config.n_seq
        room = room_after(n_seq, prompt.shape[1])
        if max_tokens > room:
            raise ValueError(
                f"max_tokens: expected at most {room} after {prompt.shape[1]} of n_seq={n_seq} positions, "
                f"got {max_tokens}"
            )
        return self._continued(prompt.to(self._device), draw, max_tokens)

    def _continued(
        self, tokens: Tensor, draw: Callable[[Tensor], Tensor], max_tokens: int
    ) -> Iterator[Tensor]:
        kept: list[tuple[Tensor, Tensor] | None] = [None] * self._model.config.n_layers
        position = 0
        for _ in range(max_tokens):
            drawn = draw(self._read(tokens, position, kept))
            yield drawn
            position, tokens = position + tokens.shape[1], drawn[:, None]

    @torch.no_grad()
    def _read(self, tokens: Tensor, position: int, kept: list[tuple[Tensor, Tensor] | None]) -> Tensor:
        """Read tokens [B, N] from a position on, N = 1 or position 0 → logits [B, V] float32 after the
        last. kept: keys and values of each layer, added to."""
        model = self._model
        places = slice(position, position + tokens.shape[1])
        with torch.autocast(self._device.type, dtype=self._dtype, enabled=self._dtype is not None):
            x, rotary = model.tokens(tokens), None
            if model.positions is not None:
                x = x + model.positions.weight[places]
            else:
                rotary = model.cos[places], model.sin[places]
            for layer, block in enumerate(model.blocks):
                assert isinstance(block, Block)
                attended, kept[layer] = _attend(block.attention, block.norm1(x), rotary, kept[layer])
                x = x + attended
                x = x + block.ffn(block.norm2(x))
            logits = F.linear(model.norm(x[:, -1]), model.head)
        return logits[:, : model.config.vocab_size].float()


def _attend(
    attention: Attention,
    x: Tensor,
    rotary: tuple[Tensor, Tensor] | None,
    kept: tuple[Tensor, Tensor] | None,
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """What `Attention.forward` gives for the positions that are new, and the keys and values of all."""
    config = attention.config
    q, k, v = (
        part.unflatten(-1, (-1, config.head_dim)).transpose(1, 2)
        for part in attention.qkv(x).split([config.d_model, config.kv_dim, config.kv_dim], dim=-1)
    )
    if rotary is not None:
        q, k = rotate(q, *rotary), rotate(k, *rotary)
    if kept is not None:
        k, v = torch.cat((kept[0], k), dim=2), torch.cat((kept[1], v), dim=2)
    shared = config.n_heads // config.n_kv_heads
    heads = F.scaled_dot_product_attention(
        q,
        k.repeat_interleave(shared, dim=1),
        v.repeat_interleave(shared, dim=1),
        is_causal=kept is None,
    )
    out: Tensor = attention.out(heads.transpose(1, 2).flatten(-2))
    return out, (k, v)
