# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc"
"""The expanded table E of the head: from the cores in the compute dtype, and its gradient back to the cores.

With p = (i1, a) and q = (i2, b) E is a product of two flat factors, E[p, q] = Σ_k L[p, k] · R[k, q], only
stored folded: at row i1·v2 + i2, entry a·d2 + b < d. So whatever the folding is, tiles of [p, q] have no
padding, and the addresses of a tile are a sum of one number a p and one a q.

Bytes at small (V = 50257, d = 512): 52 MB written; 103 MB of float32 gradient read once for both cores, whose
partial sums are 18 MB. 0.8 GFLOP forward, 1.6 backward, a few percent of one chunk's matrix products; on tensor
cores where the table is in 16 bits, as tf32x3, which keeps float32's precision within the last two bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from .plan import Buffer, HeadShape

_LARGEST_RANK_BLOCK = 64
_FACTOR_NUMBERS = 8192  # of one tile of R, which stays with a program: 32 KB, whatever the rank


@dataclass(frozen=True, kw_only=True, slots=True)
class TableTile:
    """Blocks of p, q and k; steps: blocks of p that one program takes, one after the other."""

    p: int
    q: int
    k: int
    steps: int
    num_warps: int


def expansion_tile(shape: HeadShape) -> TableTile:
    """Tiles of E in expand_kernel."""
    k = _rank_block(shape.rank)
    return TableTile(p=64, q=128, k=k, steps=8, num_warps=4)


def contraction_tile(shape: HeadShape) -> TableTile:
    """Tiles of the gradient in contract_kernel.

    A tile of p·q numbers adds p·k partial sums for core1: q is 8·k where R's tile stays small enough for it.
    The same on every device: sizes of scratch follow from it, and sums have one order.
    """
    k = _rank_block(shape.rank)
    q = min(8 * k, _FACTOR_NUMBERS // k)
    return TableTile(p=32, q=q, k=k, steps=12, num_warps=q // 32)


@triton.jit
def expand_kernel(
    core1, core2, phase, table, V1, V2, D,
    RANK: tl.constexpr, D1: tl.constexpr, D2: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_R: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    """table[i1·v2 + i2, a·d2 + b] = Σ_k core1[i1, k, a] · cos φ_k · core2[i2, k, b]: STEPS tiles below each other."""
    P, Q = V1 * D1, V2 * D2
    q = tl.program_id(0) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    b = q % D2
    column = q // D2 * D + b
    right = scaled_right(core2, phase, q, Q, 0, RANK, D2, BLOCK_R)
    begin = tl.program_id(1) * STEPS
    for block in range(begin, tl.minimum(begin + STEPS, tl.cdiv(P, BLOCK_P))):
        p = block * BLOCK_P + tl.arange(0, BLOCK_P)
        i1, a = p // D1, p % D1
        k = tl.arange(0, BLOCK_R)
        in_left = (p < P)[:, None] & (k < RANK)[None, :]
        left = tl.load(core1 + (i1 * RANK * D1 + a)[:, None] + (k * D1)[None, :], mask=in_left, other=0.0)
        tile = tl.dot(left, right, input_precision=PRECISION)
        for first in tl.static_range(BLOCK_R, RANK, BLOCK_R):
            k = first + tl.arange(0, BLOCK_R)
            in_left = (p < P)[:, None] & (k < RANK)[None, :]
            left = tl.load(core1 + (i1 * RANK * D1 + a)[:, None] + (k * D1)[None, :], mask=in_left, other=0.0)
            more = scaled_right(core2, phase, q, Q, first, RANK, D2, BLOCK_R)
            tile = tl.dot(left, more, tile, input_precision=PRECISION)
        first_i1 = block * BLOCK_P // D1
        row = (i1 - first_i1) * V2 * D + a * D2
        inside = (p < P)[:, None] & (q < Q)[None, :] & ((a * D2)[:, None] + b[None, :] < D)
        target = table + first_i1.to(tl.int64) * V2 * D + (row[:, None] + column[None, :])
        tl.store(target, tile.to(table.dtype.element_ty), mask=inside)


@triton.jit
def scaled_right(core2, phase, q, Q, FIRST, RANK: tl.constexpr, D2: tl.constexpr, BLOCK_R: tl.constexpr):
    """R [BLOCK_R, q]: cos φ_k · core2[i2, k, b] for k from FIRST."""
    k = FIRST + tl.arange(0, BLOCK_R)
    cosine = tl.cos(tl.load(phase + k, mask=k < RANK, other=0.0))
    mask = (k < RANK)[:, None] & (q < Q)[None, :]
    at = (k * D2)[:, None] + (q // D2 * RANK * D2 + q % D2)[None, :]
    return tl.load(core2 + at, mask=mask, other=0.0) * cosine[:, None]


@triton.jit
def contract_kernel(
    gradient, core1, core2, phase, out1, out2, V1, V2, D, SCALE,
    RANK: tl.constexpr, D1: tl.constexpr, D2: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_R: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    """Partial sums of both cores' gradients from one reading of SCALE · gradient, STEPS tiles below each other.

    out1[block of q, i1, k, a] = Σ_q gradient[p, q] · core2[i2, k, b], the gradient of cos φ · core1;
    out2[part of p, i2, k, b] = cos φ_k · Σ_p gradient[p, q] · core1[i1, k, a]; float32.
    """
    P, Q = V1 * D1, V2 * D2
    q = tl.program_id(0) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    k = tl.program_id(2) * BLOCK_R + tl.arange(0, BLOCK_R)
    b = q % D2
    column = q // D2 * D + b
    right_at = (q // D2 * RANK * D2 + b)[:, None] + (k * D2)[None, :]
    in_right = (q < Q)[:, None] & (k < RANK)[None, :]
    right = tl.load(core2 + right_at, mask=in_right, other=0.0)
    out1 += tl.program_id(0).to(tl.int64) * P * RANK
    out2 += tl.program_id(1).to(tl.int64) * Q * RANK
    total = tl.zeros([BLOCK_Q, BLOCK_R], tl.float32)
    begin = tl.program_id(1) * STEPS
    for block in range(begin, tl.minimum(begin + STEPS, tl.cdiv(P, BLOCK_P))):
        p = block * BLOCK_P + tl.arange(0, BLOCK_P)
        i1, a = p // D1, p % D1
        first_i1 = block * BLOCK_P // D1
        row = (i1 - first_i1) * V2 * D + a * D2
        inside = (p < P)[:, None] & (q < Q)[None, :] & ((a * D2)[:, None] + b[None, :] < D)
        source = gradient + first_i1.to(tl.int64) * V2 * D + (row[:, None] + column[None, :])
        tile = tl.load(source, mask=inside, other=0.0)
        left_at = (i1 * RANK * D1 + a)[:, None] + (k * D1)[None, :]
        in_left = (p < P)[:, None] & (k < RANK)[None, :]
        left = tl.load(core1 + left_at, mask=in_left, other=0.0)
        total = tl.dot(tl.trans(tile), left, total, input_precision=PRECISION)
        partial = tl.dot(tile, right, input_precision=PRECISION)
        tl.store(out1 + left_at, partial * SCALE, mask=in_left)
    weight = tl.cos(tl.load(phase + k, mask=k < RANK, other=0.0)) * SCALE
    tl.store(out2 + right_at, total * weight[None, :], mask=in_right)


def expand_table(core1: Tensor, core2: Tensor, phase: Tensor, shape: HeadShape, table: Tensor) -> None:
    """Write E into table [columns, d], in its dtype; rows beyond v1·v2 become zero."""
    tile = expansion_tile(shape)
    blocks_q, parts = _blocks(shape, tile)
    expand_kernel[(blocks_q, parts)](
        core1, core2, phase, table, shape.v1, shape.v2, shape.d_model, **_constants(shape, tile, table.dtype)
    )
    table[shape.v1 * shape.v2 :].zero_()


def contraction_buffers(shape: HeadShape) -> dict[str, Buffer]:
    """Parts of the cores' gradients, before they are summed."""
    blocks_q, parts = _blocks(shape, contraction_tile(shape))
    return {
        "core1_parts": Buffer(size=(blocks_q, shape.v1, shape.rank, shape.d1), dtype=torch.float32),
        "core2_parts": Buffer(size=(parts, shape.v2, shape.rank, shape.d2), dtype=torch.float32),
    }


def contract_table(
    gradient: Tensor,
    core1: Tensor,
    core2: Tensor,
    phase: Tensor,
    shape: HeadShape,
    scratch: dict[str, Tensor],
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of core1, core2 and phase from scale · gradient, the table's [columns, d] in float32.

    scratch: the table, whose dtype says how exact the gradient can be, and contraction_buffers.
    """
    tile, parts1, parts2 = contraction_tile(shape), scratch["core1_parts"], scratch["core2_parts"]
    contract_kernel[(len(parts1), len(parts2), triton.cdiv(shape.rank, tile.k))](
        gradient, core1, core2, phase, parts1, parts2, shape.v1, shape.v2, shape.d_model, scale,
        **_constants(shape, tile, scratch["table"].dtype),
    )  # fmt: skip
    grad_core1, grad_phase = scaled_core_gradients(parts1.sum(0), core1, phase)
    return grad_core1, parts2.sum(0), grad_phase


def scaled_core_gradients(grad_scaled: Tensor, core1: Tensor, phase: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of core1 and phase from that of cos φ_k · core1[:, k]."""
    grad_phase = -torch.sin(phase) * (grad_scaled * core1).sum((0, 2))
    return grad_scaled * torch.cos(phase)[:, None], grad_phase


def table_precision(dtype: torch.dtype) -> str:
    """How products of float32 factors are made for a table in dtype."""
    return "ieee" if dtype == torch.float32 else "tf32x3"


def _constants(shape: HeadShape, tile: TableTile, dtype: torch.dtype) -> dict[str, int | str]:
    """What both kernels are compiled for."""
    return {
        "RANK": shape.rank, "D1": shape.d1, "D2": shape.d2, "PRECISION": table_precision(dtype),
        "BLOCK_P": tile.p, "BLOCK_Q": tile.q, "BLOCK_R": tile.k, "STEPS": tile.steps,
        "num_warps": tile.num_warps, "num_stages": 2,
    }  # fmt: skip


def _blocks(shape: HeadShape, tile: TableTile) -> tuple[int, int]:
    """Blocks of q, and parts of p."""
    return triton.cdiv(shape.v2 * shape.d2, tile.q), triton.cdiv(shape.v1 * shape.d1, tile.p * tile.steps)


def _rank_block(rank: int) -> int:
    """Numbers of the rank that a tile has room for."""
    return min(block(rank), _LARGEST_RANK_BLOCK)


def block(n: int) -> int:
    """The power of two that holds n, at least what tl.dot takes."""
    return max(1 << (n - 1).bit_length(), 16)
