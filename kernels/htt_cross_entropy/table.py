# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc"
"""The expanded table E of the head: from the cores in the compute dtype, and its gradient back to the cores.

With p = (i1, a) and q = (i2, b) E is a product of two flat factors, E[p, q] = Σ_k L[p, k] · R[k, q], only
stored folded: at row i1·v2 + i2, entry a·d2 + b < d. So tiles of [p, q] have no padding whatever the folding
is, and the address of a number is the sum of an offset of p and one of q.

Bytes at small (V = 50257, d = 512): 52 MB written; 103 MB of float32 gradient read twice, by loops that load
ahead: reading it once for both cores takes 255 registers a thread and loads nothing ahead. 0.8 GFLOP forward,
1.6 backward; where the table is in 16 bits they run on tensor cores as tf32x3: float32 but for its last bits.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..device_limits import shared_memory_limit
from .plan import Buffer, HeadShape

# Blocks of p, q, and at most of the rank; blocks of p a program
_EXPAND_P, _EXPAND_Q, _EXPAND_RANK, _EXPAND_STEPS = 64, 128, 32, 8
_CONTRACT_X, _CONTRACT_Y, _CONTRACT_RANK = 128, 32, 64
_HIGH_RANK = 32  # above it the threads of 4 warps hold more of a tile than they have registers
_HOPPER_BYTES = 200_000
"""Shared memory of a block, from which on 4 warps are taken at every rank. On sm_86 they spill up to 400
bytes a thread at d = 1536, rank 48, and 8 warps up to 32; on sm_90 4 spill 72, and are what was measured."""
_PROGRAMS = 528
"""Programs that read the gradient, at most: four for each multiprocessor of an H200. The same on every
device: parts, and with them the order of sums and the size of scratch, follow from it."""


@triton.jit
def expand_kernel(
    core1, core2, phase, table, V1, V2, D,
    RANK: tl.constexpr, D1: tl.constexpr, D2: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_R: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    """table[i1·v2 + i2, a·d2 + b] = Σ_k core1[i1, k, a] · cos φ_k · core2[i2, k, b].

    A program writes STEPS tiles [p, q], one p after the other: where one block holds the rank, R stays.
    """
    P, Q = V1 * D1, V2 * D2
    q = tl.program_id(0) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    b = q % D2
    column = q // D2 * D + b
    if RANK <= BLOCK_R:
        right = scaled_right(core2, phase, q, Q, 0, RANK, D2, BLOCK_R)
    begin = tl.program_id(1) * STEPS
    for block in range(begin, tl.minimum(begin + STEPS, tl.cdiv(P, BLOCK_P))):
        p = block * BLOCK_P + tl.arange(0, BLOCK_P)
        i1, a = p // D1, p % D1
        left_at = core1 + (i1 * RANK * D1 + a)[:, None]
        if RANK <= BLOCK_R:
            k = tl.arange(0, BLOCK_R)
            left = tl.load(
                left_at + (k * D1)[None, :], mask=(p < P)[:, None] & (k < RANK)[None, :], other=0.0
            )
            tile = tl.dot(left, right, input_precision=PRECISION)
        else:
            tile = tl.zeros([BLOCK_P, BLOCK_Q], tl.float32)
            for first in tl.range(0, RANK, BLOCK_R, num_stages=1):
                k = first + tl.arange(0, BLOCK_R)
                in_left = (p < P)[:, None] & (k < RANK)[None, :]
                left = tl.load(left_at + (k * D1)[None, :], mask=in_left, other=0.0)
                factor = scaled_right(core2, phase, q, Q, first, RANK, D2, BLOCK_R)
                tile = tl.dot(left, factor, tile, input_precision=PRECISION)
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
    gradient, core, phase, out, X_ROWS, Y_ROWS, V2, D, STEPS, SCALE,
    RANK: tl.constexpr, D1: tl.constexpr, D2: tl.constexpr, FIRST: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_X: tl.constexpr, BLOCK_Y: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    """out[part of y, row of x, k, entry of x] = SCALE · Σ_{y in part} gradient[x, y] · core[y, k] in float32.

    FIRST: x = (i1, a), y = (i2, b), the gradient of cos φ · core1 through core2. Else x and y change places
    and the sum is times cos φ_k: the gradient of core2 through core1. A part is STEPS blocks of y.
    """
    X_SIZE: tl.constexpr = D1 if FIRST else D2
    Y_SIZE: tl.constexpr = D2 if FIRST else D1
    x = tl.program_id(0) * BLOCK_X + tl.arange(0, BLOCK_X)
    k = tl.program_id(2) * BLOCK_R + tl.arange(0, BLOCK_R)
    in_x = x < X_ROWS * X_SIZE
    # Offsets from the first row of the block: as small as numbers of 32 bits
    x_first = tl.program_id(0) * BLOCK_X // X_SIZE
    x_offset = table_offset(x // X_SIZE - x_first, x % X_SIZE, V2, D, D2, FIRST)
    x_entry = table_offset(0, x % X_SIZE, V2, D, D2, FIRST)
    source = gradient + table_offset(x_first.to(tl.int64), 0, V2, D, D2, FIRST)
    total = tl.zeros([BLOCK_R, BLOCK_X], tl.float32)
    begin = tl.program_id(1) * STEPS
    for block in range(begin, tl.minimum(begin + STEPS, tl.cdiv(Y_ROWS * Y_SIZE, BLOCK_Y))):
        y = block * BLOCK_Y + tl.arange(0, BLOCK_Y)
        in_y = y < Y_ROWS * Y_SIZE
        y_first = block * BLOCK_Y // Y_SIZE
        y_offset = table_offset(y // Y_SIZE - y_first, y % Y_SIZE, V2, D, D2, not FIRST)
        y_entry = table_offset(0, y % Y_SIZE, V2, D, D2, not FIRST)
        start = source + table_offset(y_first.to(tl.int64), 0, V2, D, D2, not FIRST)
        # Neighbouring threads read neighbouring b
        if FIRST:
            inside = in_x[:, None] & in_y[None, :] & (x_entry[:, None] + y_entry[None, :] < D)
            tile = tl.load(start + (x_offset[:, None] + y_offset[None, :]), mask=inside, other=0.0)
            tile = tl.trans(tile)
        else:
            inside = in_y[:, None] & in_x[None, :] & (y_entry[:, None] + x_entry[None, :] < D)
            tile = tl.load(start + (y_offset[:, None] + x_offset[None, :]), mask=inside, other=0.0)
        at = (k * Y_SIZE)[:, None] + (y // Y_SIZE * RANK * Y_SIZE + y % Y_SIZE)[None, :]
        factor = tl.load(core + at, mask=(k < RANK)[:, None] & in_y[None, :], other=0.0)
        total = tl.dot(factor, tile, total, input_precision=PRECISION)
    weight = tl.zeros([BLOCK_R], tl.float32) + SCALE
    if not FIRST:
        weight *= tl.cos(tl.load(phase + k, mask=k < RANK, other=0.0))
    out += tl.program_id(1).to(tl.int64) * X_ROWS * RANK * X_SIZE
    at = (k * X_SIZE)[:, None] + (x // X_SIZE * RANK * X_SIZE + x % X_SIZE)[None, :]
    tl.store(out + at, total * weight[:, None], mask=(k < RANK)[:, None] & in_x[None, :])


@triton.jit
def table_offset(row, entry, V2, D, D2: tl.constexpr, FIRST: tl.constexpr):
    """What (i1, a), with FIRST, or (i2, b) adds to an offset in the table."""
    if FIRST:
        return row * V2 * D + entry * D2
    return row * D + entry


def expand_table(core1: Tensor, core2: Tensor, phase: Tensor, shape: HeadShape, table: Tensor) -> None:
    """Write E into table [columns, d], in its dtype; rows beyond v1·v2 become zero."""
    blocks_p = triton.cdiv(shape.v1 * shape.d1, _EXPAND_P)
    grid = (triton.cdiv(shape.v2 * shape.d2, _EXPAND_Q), triton.cdiv(blocks_p, _EXPAND_STEPS))
    expand_kernel[grid](
        core1, core2, phase, table, shape.v1, shape.v2, shape.d_model,
        **expansion_options(shape, table.dtype, shared_memory_limit(table.device)),
    )  # fmt: skip
    table[shape.v1 * shape.v2 :].zero_()


def contraction_buffers(shape: HeadShape) -> dict[str, Buffer]:
    """Parts of the cores' gradients, before they are summed."""
    p, q = shape.v1 * shape.d1, shape.v2 * shape.d2
    size1, size2 = (shape.v1, shape.rank, shape.d1), (shape.v2, shape.rank, shape.d2)
    return {
        "core1_parts": Buffer(size=(_parts(p, q)[0], *size1), dtype=torch.float32),
        "core2_parts": Buffer(size=(_parts(q, p)[0], *size2), dtype=torch.float32),
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

    scratch: contraction_buffers, and the table, whose dtype bounds how exact its gradient is.
    """
    parts1, parts2 = scratch["core1_parts"], scratch["core2_parts"]
    dtype = scratch["table"].dtype
    _contract(gradient, core2, phase, parts1, shape, scale, dtype, first=True)
    _contract(gradient, core1, phase, parts2, shape, scale, dtype, first=False)
    grad_core1, grad_phase = scaled_core_gradients(parts1.sum(0), core1, phase)
    return grad_core1, parts2.sum(0), grad_phase


def scaled_core_gradients(grad_scaled: Tensor, core1: Tensor, phase: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of core1 and phase from that of cos φ_k · core1[:, k]."""
    grad_phase = -torch.sin(phase) * (grad_scaled * core1).sum((0, 2))
    return grad_scaled * torch.cos(phase)[:, None], grad_phase


def expansion_options(shape: HeadShape, dtype: torch.dtype, limit_bytes: int) -> dict[str, Any]:
    """What expand_kernel is compiled for; dtype: that of the table; limit_bytes: shared memory of a block."""
    tile = {"BLOCK_P": _EXPAND_P, "BLOCK_Q": _EXPAND_Q, "STEPS": _EXPAND_STEPS, "num_stages": 2}
    return _options(shape, dtype, _EXPAND_RANK, limit_bytes) | tile


def contraction_options(
    shape: HeadShape, dtype: torch.dtype, limit_bytes: int, *, first: bool
) -> dict[str, Any]:
    """What contract_kernel is compiled for, as `expansion_options`."""
    tile = {"BLOCK_X": _CONTRACT_X, "BLOCK_Y": _CONTRACT_Y, "FIRST": first, "num_stages": 3}
    return _options(shape, dtype, _CONTRACT_RANK, limit_bytes) | tile


def _options(
    shape: HeadShape, dtype: torch.dtype, largest_rank_block: int, limit_bytes: int
) -> dict[str, Any]:
    """What both kernels are compiled for."""
    precision = "ieee" if dtype == torch.float32 else "tf32x3"
    rank_block = min(block(shape.rank), largest_rank_block)
    sizes = {"RANK": shape.rank, "D1": shape.d1, "D2": shape.d2, "BLOCK_R": rank_block}
    warps = 8 if shape.rank > _HIGH_RANK and limit_bytes < _HOPPER_BYTES else 4
    return sizes | {"PRECISION": precision, "num_warps": warps}


def _contract(
    gradient: Tensor,
    core: Tensor,
    phase: Tensor,
    out: Tensor,
    shape: HeadShape,
    scale: float,
    dtype: torch.dtype,
    *,
    first: bool,
) -> None:
    """Parts of the gradient of cos φ · core1 (first, through core2) or of core2 (through core1)."""
    x_rows, y_rows = (shape.v1, shape.v2) if first else (shape.v2, shape.v1)
    x_size, y_size = (shape.d1, shape.d2) if first else (shape.d2, shape.d1)
    parts, steps = _parts(x_rows * x_size, y_rows * y_size)
    options = contraction_options(shape, dtype, shared_memory_limit(gradient.device), first=first)
    grid = (triton.cdiv(x_rows * x_size, _CONTRACT_X), parts, triton.cdiv(shape.rank, options["BLOCK_R"]))
    contract_kernel[grid](
        gradient, core, phase, out, x_rows, y_rows, shape.v2, shape.d_model, steps, scale, **options
    )


def _parts(x: int, y: int) -> tuple[int, int]:
    """Parts in which y numbers are summed for x results, and blocks of y a part."""
    blocks = triton.cdiv(y, _CONTRACT_Y)
    steps = triton.cdiv(blocks, max(_PROGRAMS // triton.cdiv(x, _CONTRACT_X), 1))
    return triton.cdiv(blocks, steps), steps


def block(n: int) -> int:
    """The power of two that holds n, at least what tl.dot takes."""
    return max(1 << (n - 1).bit_length(), 16)
