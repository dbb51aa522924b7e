"""Tokens drawn from logits, and the loop that reads each and asks for the next."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from .decoder import Decoder


def sample(
    logits: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """One token of each row: logits [B, V], float32 or float64 → [B] int64.

    temperature: what logits are divided by; 0 takes the likeliest token. top_k: only the k likeliest, of
    equal ones at the border some. top_p: of these only the likeliest that together reach p, at least one.
    None cuts nothing. generator: on the logits' device; None for PyTorch's own. −∞ is never drawn.
    Raises: ValueError, naming what is out of its range.
    """
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature: expected a number from 0, got {temperature!r}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k: expected a whole number from 1, got {top_k!r}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p: expected a number above 0 and up to 1, got {top_p!r}")
    if temperature == 0:
        return logits.argmax(dim=-1)
    tokens: Tensor | None = None
    if top_k is not None and top_k < logits.shape[-1]:
        logits, tokens = logits.topk(top_k)  # in falling order
    # Less the largest first: what a tiny temperature divides is then 0 or below
    logits = (logits - logits.amax(dim=-1, keepdim=True)) / temperature
    probabilities = torch.softmax(logits, dim=-1)
    if top_p is not None and top_p < 1:
        if tokens is None:
            probabilities, tokens = probabilities.sort(dim=-1, descending=True)
        likelier = probabilities.cumsum(dim=-1) - probabilities
        probabilities = probabilities.masked_fill(likelier >= top_p, 0.0)
    drawn = torch.multinomial(probabilities, 1, generator=generator)
    return (drawn if tokens is None else tokens.gather(-1, drawn))[:, 0]


def generate(
    decoder: Decoder, prompt: Tensor, draw: Callable[[Tensor], Tensor], *, max_tokens: int
) -> Iterator[Tensor]:
    """Continue prompts token by token: prompt [B, N] int64 → max_tokens times tokens [B] int64.

    draw: logits [B, V] → tokens [B], `sample` with its choices. A token is read when the next is asked for;
    on a CUDA device the steps run as a CUDA graph.
    Raises: ValueError where prompt and continuation do not fit n_seq.
    """
    room = room_after(decoder.config.n_seq, prompt.shape[1])
    if max_tokens > room:
        raise ValueError(
            f"max_tokens: expected at most {room} after {prompt.shape[1]} of n_seq={decoder.config.n_seq} "
            f"positions, got {max_tokens}"
        )
    return _continued(decoder, prompt, draw, max_tokens)


def room_after(n_seq: int, count: int) -> int:
    """Tokens that can follow `count` positions; the last is drawn and not read, so one more than is free."""
    return n_seq - count + 1 if count <= n_seq else 0


def _continued(
    decoder: Decoder, prompt: Tensor, draw: Callable[[Tensor], Tensor], max_tokens: int
) -> Iterator[Tensor]:
    if max_tokens < 1:
        return
    logits, state = decoder.prefill(prompt.to(decoder.device))
    tokens = draw(logits)
    yield tokens
    captured = decoder.capture(state) if decoder.device.type == "cuda" and max_tokens > 1 else None
    for _ in range(max_tokens - 1):
        tokens = draw(decoder.step(tokens, state)[0] if captured is None else captured(tokens))
        yield tokens
