# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc"
"""The expanded table E of the head: from the cores in the compute dtype, and its gradient back to the cores.

Bytes at small (V = 50257, d = 512): 52 MB written, 103 MB of float32 gradient read twice; 0.8 GFLOP each, a
few percent of one chunk's matrix products.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .plan import Buffer, HeadShape

_ROWS, _ENTRIES = 16, 128
_FACTOR_BLOCK = 64  # of d1 or d2 at once: 65 KB of shared memory in float32, whatever htt_dims
_PARTS = 8
"""Parts in which a core row's gradient is summed: 225 rows alone are too few programs to hide latency."""


@triton.jit
def expand_kernel(
    core1, core2, phase, table, V2, D, RANK: tl.constexpr, D1: tl.constexpr, D2: tl.constexpr,
    ROWS: tl.constexpr, ENTRIES: tl.constexpr,
):  # fmt: skip
    """table[i1·v2 + i2, a·d2 + b] = Σ_k cos φ_k · core1[i1, k, a] · core2[i2, k, b], one i1 a program."""
    i1 = tl.program_id(0).to(tl.int64)
    i2 = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    entry = tl.program_id(2) * ENTRIES + tl.arange(0, ENTRIES)
    a, b = entry // D2, entry % D2
    inside = entry < D
    mask = (i2 < V2)[:, None] & inside[None, :]
    total = tl.zeros([ROWS, ENTRIES], tl.float32)
    for k in range(RANK):
        cosine = tl.cos(tl.load(phase + k))
        left = tl.load(core1 + (i1 * RANK + k) * D1 + a, mask=inside, other=0.0) * cosine
        right = tl.load(core2 + (i2[:, None] * RANK + k) * D2 + b[None, :], mask=mask, other=0.0)
        total += left[None, :] * right
    row = i1 * V2 + i2
    tl.store(table + row[:, None] * D + entry[None, :], total.to(table.dtype.element_ty), mask=mask)


@triton.jit
def contract_kernel(
    gradient, core, phase, out, ROW_X, ROW_Y, Y, PER_PART, D, SCALE,
    RANK: tl.constexpr, P: tl.constexpr, STRIDE_P: tl.constexpr, Q: tl.constexpr, STRIDE_Q: tl.constexpr,
    WITH_PHASE: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    """out[part, x, k, p] = Σ_{y in part, q} gradient[row(x, y), p, q] · core[y, k, q], in float32.

    Rows of the table are x·ROW_X + y·ROW_Y, entries p·STRIDE_P + q·STRIDE_Q < D: x = i1, p = a gives the
    gradient of core1, x = i2, p = b that of core2.
    """
    x, part = tl.program_id(0), tl.program_id(1)
    p, k = tl.program_id(2) * BLOCK_P + tl.arange(0, BLOCK_P), tl.arange(0, BLOCK_R)
    weight = tl.zeros([BLOCK_R], tl.float32) + SCALE
    if WITH_PHASE:
        weight = tl.cos(tl.load(phase + k, mask=k < RANK, other=0.0)) * SCALE
    total = tl.zeros([BLOCK_P, BLOCK_R], tl.float32)
    Q_BLOCKS: tl.constexpr = (Q + BLOCK_Q - 1) // BLOCK_Q
    begin, end = part * PER_PART, tl.minimum(part * PER_PART + PER_PART, Y)
    for step in range(begin * Q_BLOCKS, end * Q_BLOCKS):
        y, q = step // Q_BLOCKS, step % Q_BLOCKS * BLOCK_Q + tl.arange(0, BLOCK_Q)
        row = (x * ROW_X + y * ROW_Y).to(tl.int64)
        entry = p[:, None] * STRIDE_P + q[None, :] * STRIDE_Q
        inside = (p < P)[:, None] & (q < Q)[None, :] & (entry < D)
        in_core = (q < Q)[:, None] & (k < RANK)[None, :]
        tile = tl.load(gradient + row * D + entry, mask=inside, other=0.0)
        factor = tl.load(core + (y * RANK + k[None, :]) * Q + q[:, None], mask=in_core, other=0.0)
        total = tl.dot(tile, factor, total, input_precision="ieee")
    row = (part * tl.num_programs(0) + x) * RANK + k
    stored = (p < P)[:, None] & (k < RANK)[None, :]
    tl.store(out + row[None, :] * P + p[:, None], total * weight[None, :], mask=stored)


def expand_table(core1: Tensor, core2: Tensor, phase: Tensor, shape: HeadShape, table: Tensor) -> None:
    """Write E into table [columns, d], in its dtype; rows beyond v1·v2 become zero."""
    grid = (shape.v1, triton.cdiv(shape.v2, _ROWS), triton.cdiv(shape.d_model, _ENTRIES))
    expand_kernel[grid](
        core1, core2, phase, table, shape.v2, shape.d_model, RANK=shape.rank, D1=shape.d1, D2=shape.d2,
        ROWS=_ROWS, ENTRIES=_ENTRIES, num_warps=4,
    )  # fmt: skip
    table[shape.v1 * shape.v2 :].zero_()


def contraction_buffers(shape: HeadShape) -> dict[str, Buffer]:
    """Parts of the cores' gradients, before they are summed."""
    return {
        "core1_parts": Buffer(size=(_PARTS, shape.v1, shape.rank, shape.d1), dtype=torch.float32),
        "core2_parts": Buffer(size=(_PARTS, shape.v2, shape.rank, shape.d2), dtype=torch.float32),
    }


def contract_table(
    gradient: Tensor,
    core1: Tensor,
    core2: Tensor,
    phase: Tensor,
    shape: HeadShape,
    parts: dict[str, Tensor],
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of core1, core2 and phase from scale · gradient, the table's [columns, d] in float32."""
    _contract(gradient, core2, phase, parts["core1_parts"], shape, scale, first=True)
    _contract(gradient, core1, phase, parts["core2_parts"], shape, scale, first=False)
    grad_core1, grad_phase = scaled_core_gradients(parts["core1_parts"].sum(0), core1, phase)
    return grad_core1, parts["core2_parts"].sum(0), grad_phase


def scaled_core_gradients(grad_scaled: Tensor, core1: Tensor, phase: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of core1 and phase from that of cos φ_k · core1[:, k]."""
    grad_phase = -torch.sin(phase) * (grad_scaled * core1).sum((0, 2))
    return grad_scaled * torch.cos(phase)[:, None], grad_phase


def _contract(
    gradient: Tensor, core: Tensor, phase: Tensor, out: Tensor, shape: HeadShape, scale: float, *, first: bool
) -> None:
    """The gradient of cos φ · core1 (first, through core2) or of core2 (through core1)."""
    x, y = (shape.v1, shape.v2) if first else (shape.v2, shape.v1)
    p, q = (shape.d1, shape.d2) if first else (shape.d2, shape.d1)
    block_p, block_q = min(block(p), _FACTOR_BLOCK), min(block(q), _FACTOR_BLOCK)
    contract_kernel[(x, _PARTS, triton.cdiv(p, block_p))](
        gradient, core, phase, out,
        shape.v2 if first else 1, 1 if first else shape.v2, y, triton.cdiv(y, _PARTS), shape.d_model, scale,
        RANK=shape.rank, P=p, STRIDE_P=shape.d2 if first else 1, Q=q, STRIDE_Q=1 if first else shape.d2,
        WITH_PHASE=not first, BLOCK_P=block_p, BLOCK_Q=block_q, BLOCK_R=block(shape.rank), num_warps=4,
    )  # fmt: skip


def block(n: int) -> int:
    """The power of two that holds n, at least what tl.dot takes."""
    return max(1 << (n - 1).bit_length(), 16)
