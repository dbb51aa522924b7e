"""Rank scan, version 2: parallel over blocks of 256 tokens and over 16 segments within a block.

One launch each way up to 256 tokens, two for longer sequences. Saved for backward: p and M.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .limits import rank_block, require_supported
from .recurrence import block_ends, scan_blocks

_LOG_SEGMENTS = 4  # tl.dot's smallest side: 16 segments are the rows of a product
_LOG_LENGTH = 4
_TOKENS = 1 << (_LOG_SEGMENTS + _LOG_LENGTH)  # of a block, which is one program
_RANK_PER_WARP = 4  # 8 warps at rank 32: two results of a product a thread


def rank_scan(w: Tensor, matrix: Tensor) -> Tensor:
    """p_t = M p_{t−1} + w_t, arguments and result as in `reference.rank_scan`; float32 only, R ≤ 64.

    Raises: UnsupportedVersionError for other dtypes and ranks, and for a CPU without Triton's interpreter.
    """
    require_supported("v2", w, matrix)
    p: Tensor = _forward(w, matrix)[0]
    return p


def block_count(n_seq: int) -> int:
    """Blocks of a row, one program each."""
    return (n_seq + _TOKENS - 1) // _TOKENS


def options(rank: int, *, reverse: bool) -> dict[str, int]:
    """Constants and warps of both kernels at a rank."""
    block = rank_block(rank)
    return {
        "REVERSE": reverse,
        "LOG_SEGMENTS": _LOG_SEGMENTS,
        "LOG_LENGTH": _LOG_LENGTH,
        "BLOCK": block,
        "num_warps": block // _RANK_PER_WARP,
    }


def _ends_shape(w: Tensor) -> tuple[int, int, int]:
    """Scratch: the state after every block but the last of a row."""
    return w.shape[0], block_count(w.shape[1]) - 1, w.shape[2]


def _launch(w: Tensor, matrix: Tensor, ends: Tensor, scanned: tuple[Tensor, ...], reverse: bool) -> None:
    w, matrix = w.contiguous(), matrix.contiguous()
    batch, n_seq, rank = w.shape
    blocks = block_count(n_seq)
    chosen = options(rank, reverse=reverse)
    if blocks > 1:
        block_ends[(blocks - 1, batch)](w, matrix, ends, n_seq, rank, **chosen)
    scan_blocks[(blocks, batch)](w, matrix, ends, *scanned, n_seq, rank, **chosen)


@torch.library.custom_op(
    "phase8::rank_scan_v2", mutates_args=(), schema="(Tensor w, Tensor matrix) -> (Tensor, Tensor)"
)
def _forward(w: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """p, and the scratch of the kernels: the ends of the blocks."""
    p, ends = w.new_empty(w.shape), w.new_empty(_ends_shape(w))
    _launch(w, matrix, ends, (p, p, p), reverse=False)
    return p, ends


@_forward.register_fake
def _(w: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
    return w.new_empty(w.shape), w.new_empty(_ends_shape(w))


@torch.library.custom_op(
    "phase8::rank_scan_v2_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor p, Tensor matrix) -> (Tensor, Tensor, Tensor)",
)
def _backward(grad: Tensor, p: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of w, and of M by block [B, blocks, R, R]; the ends of the blocks."""
    batch, n_seq, rank = p.shape
    grad_w, ends = p.new_empty(p.shape), p.new_empty(_ends_shape(p))
    grad_matrix = p.new_empty(batch, block_count(n_seq), rank, rank)
    _launch(grad, matrix, ends, (grad_w, p, grad_matrix), reverse=True)
    return grad_w, grad_matrix, ends


@_backward.register_fake
def _(grad: Tensor, p: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    batch, n_seq, rank = p.shape
    grad_matrix = p.new_empty(batch, block_count(n_seq), rank, rank)
    return p.new_empty(p.shape), grad_matrix, p.new_empty(_ends_shape(p))


def _setup_context(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(output[0], inputs[1])


def _differentiate(ctx: Any, grad: Tensor, _: Tensor) -> Any:
    grad_w, by_block, _ends = _backward(grad, *ctx.saved_tensors)
    return grad_w, by_block.flatten(0, 1).sum(0)


_forward.register_autograd(_differentiate, setup_context=_setup_context)
