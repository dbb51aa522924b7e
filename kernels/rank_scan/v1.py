"""Rank scan, version 1: one program a row, a matrix-vector product a token. Saved for backward: p and M."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .limits import rank_block, require_supported
from .recurrence import sequential


def rank_scan(w: Tensor, matrix: Tensor) -> Tensor:
    """p_t = M p_{t−1} + w_t, arguments and result as in `reference.rank_scan`; float32 only, R ≤ 64.

    Raises: UnsupportedVersionError for other dtypes and ranks, and for a CPU without Triton's interpreter.
    """
    require_supported("v1", w, matrix)
    p: Tensor = _forward(w, matrix)
    return p


@torch.library.custom_op(
    "phase8::rank_scan_v1", mutates_args=(), schema="(Tensor w, Tensor matrix) -> Tensor"
)
def _forward(w: Tensor, matrix: Tensor) -> Tensor:
    w, matrix = w.contiguous(), matrix.contiguous()
    p = torch.empty_like(w)
    batch, n_seq, rank = w.shape
    sequential[(batch,)](w, matrix, p, p, p, n_seq, rank, REVERSE=False, BLOCK=rank_block(rank))
    return p


@_forward.register_fake
def _(w: Tensor, matrix: Tensor) -> Tensor:
    return w.new_empty(w.shape)


@torch.library.custom_op(
    "phase8::rank_scan_v1_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor p, Tensor matrix) -> (Tensor, Tensor)",
)
def _backward(grad: Tensor, p: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of w, and of M by row [B, R, R]."""
    grad, matrix = grad.contiguous(), matrix.contiguous()
    batch, n_seq, rank = p.shape
    grad_w, grad_matrix = torch.empty_like(p), p.new_empty(batch, rank, rank)
    sequential[(batch,)](
        grad, matrix, grad_w, p, grad_matrix, n_seq, rank, REVERSE=True, BLOCK=rank_block(rank)
    )
    return grad_w, grad_matrix


@_backward.register_fake
def _(grad: Tensor, p: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
    return p.new_empty(p.shape), p.new_empty(p.shape[0], p.shape[2], p.shape[2])


def _setup_context(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(output, inputs[1])


def _differentiate(ctx: Any, grad: Tensor) -> Any:
    grad_w, by_row = _backward(grad, *ctx.saved_tensors)
    return grad_w, by_row.sum(0)


_forward.register_autograd(_differentiate, setup_context=_setup_context)
