"""Rank scan, version 2: parallel over blocks of 256 tokens and over 16 segments within a block.

One launch each way up to 256 tokens; beyond, the ends of the blocks are scanned as the tokens are, in two
launches more for each power of 256. Saved for backward: p and M.
"""

from __future__ import annotations

import math
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


def scratch_numbers(batch: int, n_seq: int, rank: int) -> int:
    """Numbers of scratch: of every level of blocks their ends, what enters them, and the power of M."""
    total = 0
    while (ends := block_count(n_seq) - 1) > 0:
        total += 2 * batch * ends * rank + rank * rank
        n_seq = ends
    return total


def _scratch(w: Tensor) -> Tensor:
    return w.new_empty(scratch_numbers(*w.shape))


def _launch(
    w: Tensor, matrix: Tensor, scratch: Tensor, scanned: tuple[Tensor, ...], *, reverse: bool
) -> None:
    """Scan w into the first of `scanned`; the others are read and written with reverse."""
    batch, n_seq, rank = w.shape
    blocks = block_count(n_seq)
    chosen = options(rank, reverse=reverse)
    entering = w
    if blocks > 1:
        shape = (batch, blocks - 1, rank)
        sizes = [math.prod(shape), math.prod(shape), rank * rank]
        ends, entering, power, rest = torch.split(scratch, [*sizes, scratch.numel() - sum(sizes)])
        block_ends[(blocks - 1, batch)](w, matrix, ends, power, n_seq, rank, **chosen)
        ends, entering, power = ends.view(shape), entering.view(shape), power.view(rank, rank)
        _launch(ends, power, rest, (entering, entering, entering), reverse=False)
    scan_blocks[(blocks, batch)](w, matrix, entering, *scanned, n_seq, rank, **chosen)


@torch.library.custom_op(
    "phase8::rank_scan_v2", mutates_args=(), schema="(Tensor w, Tensor matrix) -> (Tensor, Tensor)"
)
def _forward(w: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """p, and the scratch of the kernels."""
    p, scratch = w.new_empty(w.shape), _scratch(w)
    _launch(w.contiguous(), matrix.contiguous(), scratch, (p, p, p), reverse=False)
    return p, scratch


@_forward.register_fake
def _(w: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
    return w.new_empty(w.shape), _scratch(w)


@torch.library.custom_op(
    "phase8::rank_scan_v2_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor p, Tensor matrix) -> (Tensor, Tensor, Tensor)",
)
def _backward(grad: Tensor, p: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of w, and of M by block [B, blocks, R, R]; the scratch of the kernels."""
    batch, n_seq, rank = p.shape
    grad_w, scratch = p.new_empty(p.shape), _scratch(p)
    grad_matrix = p.new_empty(batch, block_count(n_seq), rank, rank)
    _launch(grad.contiguous(), matrix.contiguous(), scratch, (grad_w, p, grad_matrix), reverse=True)
    return grad_w, grad_matrix, scratch


@_backward.register_fake
def _(grad: Tensor, p: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    batch, n_seq, rank = p.shape
    grad_matrix = p.new_empty(batch, block_count(n_seq), rank, rank)
    return p.new_empty(p.shape), grad_matrix, _scratch(p)


def _setup_context(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(output[0], inputs[1])


def _differentiate(ctx: Any, grad: Tensor, _: Tensor) -> Any:
    grad_w, by_block, _ = _backward(grad, *ctx.saved_tensors)
    return grad_w, by_block.flatten(0, 1).sum(0)


_forward.register_autograd(_differentiate, setup_context=_setup_context)
