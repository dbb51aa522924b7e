"""What the versions that expand the table share: its buffers, and the two gradient products of a chunk."""

from __future__ import annotations

import torch
from torch import Tensor

from ..products import accumulate, multiply, multiply_batched
from .plan import Buffer, HeadShape, hidden_splits, logits_chunk_tokens
from .rows import sum_parts
from .table import contraction_buffers


def table_buffer(shape: HeadShape, dtype: torch.dtype) -> Buffer:
    return Buffer(size=(shape.columns, shape.d_model), dtype=dtype)


def chunk_buffers(shape: HeadShape, dtype: torch.dtype) -> dict[str, Buffer]:
    """One chunk of logits, and the losses of all tokens."""
    size = logits_chunk_tokens(shape, dtype)
    return {
        "logits": Buffer(size=(size, shape.columns), dtype=dtype),
        "losses": Buffer(size=(shape.tokens,), dtype=torch.float32),
    }


def gradient_buffers(shape: HeadShape, dtype: torch.dtype) -> dict[str, Buffer]:
    """The float32 gradient of the table, parts of the hidden gradient of a chunk, parts of the cores'."""
    size = logits_chunk_tokens(shape, dtype)
    splits = max(hidden_splits(n, shape.d_model) * n for n in _chunk_lengths(shape.tokens, size))
    return {
        "table_gradient": Buffer(size=(shape.columns, shape.d_model), dtype=torch.float32),
        "hidden_parts": Buffer(size=(splits, shape.d_model), dtype=torch.float32),
        **contraction_buffers(shape),
    }


def hidden_gradient(
    g: Tensor,
    table: Tensor,
    parts: Tensor,
    out: Tensor,
    *,
    scale: float = 1.0,
    row_scale: Tensor | None = None,
) -> None:
    """out [n, d] = scale · row_scale [n] · (g [n, columns] @ table [columns, d]), summed in float32."""
    (n, columns), d = g.shape, table.shape[1]
    splits = hidden_splits(n, d)
    partial = parts[: splits * n].view(splits, n, d)
    multiply_batched(
        g.view(n, splits, columns // splits).transpose(0, 1),
        table.view(splits, columns // splits, d),
        partial,
    )
    sum_parts(partial, out, scale=scale, row_scale=row_scale)


def add_table_gradient(g: Tensor, h: Tensor, gradient: Tensor, *, first: bool) -> None:
    """gradient [columns, d] = or += g [n, columns]ᵀ @ h [n, d], in float32."""
    (multiply if first else accumulate)(g.t(), h, gradient)


def _chunk_lengths(tokens: int, size: int) -> list[int]:
    """The lengths that chunks of a batch have: the full one and the rest."""
    return [length for length in (size, tokens % size) if length]
