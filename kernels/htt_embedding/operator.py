"""The embedding as a custom op: one definition for both versions, which sum core gradients differently.

Saved for backward: tokens, cores and phase, which are there anyway.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import triton
from torch import Tensor

from ..device_limits import require_triton_device
from ..versions import UnsupportedVersionError
from .gather import core_gradient_kernel, gather_kernel, position_gradient_kernel, sum_parts_kernel

_BLOCK = 1024  # entries of d a program of the element-wise kernels takes
_ENTRIES_PER_WARP = 256  # of a token: 8 a thread, a 16-byte store in 16 bits
_FACTOR_BLOCK = 64  # of d1 or d2 a gradient program sums over at once: bounds its shared memory
_RESULT_BLOCK = 32  # of d2 or d1 its result has
_TILE = 1024  # numbers of the gradient a gradient program holds at once, of one or several tokens: an H200
# takes 214 µs a core at 81920 tokens of 512, sorting included, with 4096 in two warps 256, in four 375
_SUMS_AT_ONCE = 32  # parts of a row that a program adds side by side, _SUM_BLOCK numbers of each
_SUM_BLOCK = 128
Embedding = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, torch.dtype], Tensor]


def backward_scratch_bytes(
    tokens: int, core1_size: tuple[int, int, int], core2_size: tuple[int, int, int], part: int
) -> int:
    """Bytes the backward op allocates at its largest beside its outputs.

    For one core: keys, their sorted form, positions and tokens in that order; where rows begin; the parts.
    """
    sorting = tokens * (4 + 4 + 8 + 8)
    return sorting + max(
        8 * (2 * rows + 1) + 4 * _n_parts(tokens, rows, part) * rank * size
        for rows, rank, size in (core1_size, core2_size)
    )


def define_htt_embedding(version: str, part: int) -> Embedding:
    """Register phase8::htt_embedding_<version> and its backward, and return the public function over them.

    part: tokens a program of the core gradients takes.
    """

    @torch.library.custom_op(
        f"phase8::htt_embedding_{version}",
        mutates_args=(),
        schema="(Tensor tokens, Tensor core1, Tensor core2, Tensor phase, Tensor positions, ScalarType dtype)"
        " -> Tensor",
    )
    def forward(
        tokens: Tensor, core1: Tensor, core2: Tensor, phase: Tensor, positions: Tensor, dtype: torch.dtype
    ) -> Tensor:
        require_triton_device(tokens, f"htt_embedding {version}")
        (v1, rank, d1), (v2, _, d2) = core1.shape, core2.shape
        (batch, n_seq), d = tokens.shape, positions.shape[1]
        out = torch.empty((batch, n_seq, d), dtype=dtype, device=tokens.device)
        block = min(triton.next_power_of_2(d), _BLOCK)
        gather_kernel[(batch * n_seq, triton.cdiv(d, block))](
            tokens, core1.contiguous(), core2.contiguous(), torch.cos(phase), positions.contiguous(), out,
            *tokens.stride(), d, n_seq, v1 * v2, v2, d,
            RANK=rank, D1=d1, D2=d2, BLOCK=block, num_warps=max(block // _ENTRIES_PER_WARP, 1),
        )  # fmt: skip
        return out

    @forward.register_fake
    def _(
        tokens: Tensor, core1: Tensor, core2: Tensor, phase: Tensor, positions: Tensor, dtype: torch.dtype
    ) -> Tensor:
        return positions.new_empty((*tokens.shape, positions.shape[1]), dtype=dtype)

    @torch.library.custom_op(
        f"phase8::htt_embedding_{version}_backward",
        mutates_args=(),
        schema="(Tensor grad, Tensor tokens, Tensor core1, Tensor core2, Tensor phase, SymInt n_positions)"
        " -> (Tensor, Tensor, Tensor, Tensor)",
    )
    def backward(
        grad: Tensor, tokens: Tensor, core1: Tensor, core2: Tensor, phase: Tensor, n_positions: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Gradients of core1, core2, phase and positions, in float32."""
        grad = grad if grad.stride(2) == 1 else grad.contiguous()
        core1, core2, phase = core1.contiguous(), core2.contiguous(), phase.contiguous()
        positions = _position_gradient(grad, n_positions)
        scaled = _core_gradient(grad, tokens, core1, core2, phase, part, first=True)
        grad_core2 = _core_gradient(grad, tokens, core1, core2, phase, part, first=False)
        grad_phase = -torch.sin(phase) * (scaled * core1).sum((0, 2))
        return scaled * torch.cos(phase)[:, None], grad_core2, grad_phase, positions

    @backward.register_fake
    def _(grad: Tensor, tokens: Tensor, core1: Tensor, core2: Tensor, phase: Tensor, n_positions: int) -> Any:
        cores = (core1.new_empty(core1.shape), core2.new_empty(core2.shape), phase.new_empty(phase.shape))
        return *cores, core1.new_empty(n_positions, grad.shape[2])

    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:4])
        ctx.n_positions = inputs[4].shape[0]

    def differentiate(ctx: Any, grad: Tensor) -> Any:
        return None, *backward(grad, *ctx.saved_tensors, ctx.n_positions), None

    forward.register_autograd(differentiate, setup_context=setup_context)

    def htt_embedding(
        tokens: Tensor, core1: Tensor, core2: Tensor, phase: Tensor, positions: Tensor, dtype: torch.dtype
    ) -> Tensor:
        _check(tokens, core1, core2, phase, positions)
        out: Tensor = forward(tokens, core1, core2, phase, positions, dtype)
        return out

    return htt_embedding


def _check(tokens: Tensor, core1: Tensor, core2: Tensor, phase: Tensor, positions: Tensor) -> None:
    dtypes = [x.dtype for x in (core1, core2, phase, positions)]
    if any(dtype != torch.float32 for dtype in dtypes):
        raise UnsupportedVersionError(
            f"htt_embedding: expected float32 weights, got {dtypes}; version 'reference' takes others"
        )
    (_, rank, d1), (_, rank2, d2), (n_positions, d) = core1.shape, core2.shape, positions.shape
    if rank2 != rank or phase.shape != (rank,) or d1 * d2 < d or tokens.shape[1] > n_positions:
        raise ValueError(
            "htt_embedding: expected core1 [v1, r, d1], core2 [v2, r, d2], phase [r], positions [≥ N, d] "
            f"with d1·d2 ≥ d, got {list(core1.shape)}, {list(core2.shape)}, {list(phase.shape)}, "
            f"{list(positions.shape)} for tokens {list(tokens.shape)}"
        )


def _position_gradient(grad: Tensor, n_positions: int) -> Tensor:
    batch, n_seq, d = grad.shape
    out = torch.empty((n_positions, d), dtype=torch.float32, device=grad.device)
    block = min(triton.next_power_of_2(d), _BLOCK)
    position_gradient_kernel[(n_positions, triton.cdiv(d, block))](
        grad, out, batch, n_seq, grad.stride(0), grad.stride(1), d, BLOCK=block, num_warps=4
    )
    return out


def _core_gradient(
    grad: Tensor, tokens: Tensor, core1: Tensor, core2: Tensor, phase: Tensor, part: int, *, first: bool
) -> Tensor:
    """Gradient of cos φ · core1 (first) or of core2: tokens sorted by core row, each row summed in order."""
    own, other = (core1, core2) if first else (core2, core1)
    (rows, rank, p), q, d2 = own.shape, other.shape[2], core2.shape[2]
    flat = tokens.reshape(-1)
    v2 = core2.shape[0]
    # The order of equal keys matters for the last bits of a sum: a stable sort fixes it
    keys, order = torch.sort((flat // v2 if first else flat % v2).to(torch.int32), stable=True)
    starts = torch.searchsorted(keys, torch.arange(rows + 1, dtype=torch.int32, device=keys.device))
    out = torch.empty_like(own)
    programs = _n_parts(flat.numel(), rows, part)
    sums = torch.empty((programs, rank, p), dtype=torch.float32, device=own.device)
    row_block = triton.next_power_of_2(rows)
    options = gradient_options(rank, p, q, d2, grad.dtype, first=first)
    core_gradient_kernel[(programs, triton.cdiv(p, options["BLOCK_P"]))](
        grad, flat[order], order, starts, other, torch.cos(phase), sums,
        grad.stride(0), grad.stride(1), tokens.shape[1], rows, v2, grad.shape[2],
        PART=part, ROW_BLOCK=row_block, **options,
    )  # fmt: skip
    block = min(triton.next_power_of_2(rank * p), _SUM_BLOCK)
    sum_parts_kernel[(rows, triton.cdiv(rank * p, block))](
        sums, starts, out, rank * p, PART=part, ROW_BLOCK=row_block, AT_ONCE=_SUMS_AT_ONCE, BLOCK=block,
        num_warps=4,
    )  # fmt: skip
    return out


def gradient_options(
    rank: int, p: int, q: int, d2: int, dtype: torch.dtype, *, first: bool
) -> dict[str, int | bool | str]:
    """What core_gradient_kernel is compiled for: a core [rows, rank, p] through the other, [rows, rank, q].

    One warp, and four where a token alone is more than _TILE numbers: in fewer, tiles of the largest models
    leave the registers for local memory, 8 KB a thread, for which the driver holds 2 GB on an H200.
    """
    block_p, block_q = (
        min(max(triton.next_power_of_2(n), 16), most) for n, most in ((p, _RESULT_BLOCK), (q, _FACTOR_BLOCK))
    )
    n_tokens = max(_TILE // (block_p * block_q), 1)
    return {
        "RANK": rank, "P": p, "STRIDE_P": d2 if first else 1, "Q": q, "STRIDE_Q": 1 if first else d2,
        "FIRST": first, "TOKENS": n_tokens, "BLOCK_P": block_p, "BLOCK_Q": block_q,
        "BLOCK_R": max(triton.next_power_of_2(rank), 16),
        # 16-bit gradients are exact in TF32, of which three products then make a float32 one
        "PRECISION": "ieee" if dtype == torch.float32 else "tf32x3",
        "num_warps": 4 if block_p * block_q > _TILE else 1,
    }  # fmt: skip


def _n_parts(tokens: int, rows: int, part: int) -> int:
    """The most parts there can be: every row's last part may be short."""
    return tokens // part + min(rows, tokens)
