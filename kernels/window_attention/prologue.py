"""The prologue of `fast`: radial factors of all rows of q and k, once a step, for forward and backward.

Inside a tile kernel a row's factors would be computed by every thread that shares the row, and again for
every tile: a third of the work of a 32×32 tile. Stored, they are 40 bytes a token and head.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from .blocks import PROLOGUE_ROWS, PROLOGUE_WARPS, power_of_two
from .geometry import MAX_RADIUS, radial_factors, radial_slopes
from .operation import row_blocks, sizes, strides
from .tiles import load_rows

_FACTORS = 5  # numbers a row: ρ, e^s, F, d log F/dρ, d log F/d√c


def factor_count(q: Tensor) -> int:
    """Numbers of float32 that the prologue writes: [2 (q, k), 5, B, H, N]."""
    return 2 * _FACTORS * (q.numel() // q.shape[3])


def write_factors(q: Tensor, k: Tensor, curvature: Tensor, factors: Tensor) -> None:
    """Fill `factors` [factor_count(q)] from q and k [B, N, H, D]."""
    dim = q.shape[3]
    row_kernel[(row_blocks(q, PROLOGUE_ROWS),)](
        q, k, curvature, factors, *strides(q, k), *sizes(q),
        D=dim, BLOCK_D=power_of_two(dim), BLOCK=PROLOGUE_ROWS, num_warps=PROLOGUE_WARPS,
    )  # fmt: skip


@triton.jit
def row_kernel(
    q_ptr, k_ptr, curvature_ptr, factors_ptr,
    q_batch, q_row, q_head, k_batch, k_row, k_head,
    N, H,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    blocks = tl.cdiv(N, BLOCK)
    stream = tl.program_id(0) // blocks  # batch · H + head
    batch, head = (stream // H).to(tl.int64), stream % H
    rows = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    size = (tl.num_programs(0) // blocks).to(tl.int64) * N
    sqrt_c = tl.sqrt_rn(tl.load(curvature_ptr))
    q = load_rows(q_ptr + batch * q_batch + head * q_head, rows, q_row, N, D, BLOCK_D)
    k = load_rows(k_ptr + batch * k_batch + head * k_head, rows, k_row, N, D, BLOCK_D)
    pointer = factors_ptr + stream.to(tl.int64) * N
    _store_factors(pointer, size, rows, N, q, sqrt_c)
    _store_factors(pointer + 5 * size, size, rows, N, k, sqrt_c)


@triton.jit
def _store_factors(pointer, size, rows, N, x, sqrt_c):
    PRECISE: tl.constexpr = x.dtype == tl.float32
    factors = radial_factors(x.to(tl.float32), sqrt_c, PRECISE)
    by_rho, by_sqrt_c = radial_slopes(factors, sqrt_c, PRECISE)
    mask = rows < N
    tl.store(pointer + rows, factors[0], mask=mask)
    tl.store(pointer + size + rows, factors[2], mask=mask)
    tl.store(pointer + 2 * size + rows, factors[4], mask=mask)
    tl.store(pointer + 3 * size + rows, by_rho, mask=mask)
    tl.store(pointer + 4 * size + rows, by_sqrt_c, mask=mask)


@triton.jit
def load_factors(pointer, size, rows, N, sqrt_c):
    """What `radial_factors` returns of these rows; ones beyond N. pointer: one side and stream's factors."""
    mask = rows < N
    rho = tl.load(pointer + rows, mask=mask, other=1.0)
    up = tl.load(pointer + size + rows, mask=mask, other=1.0)
    factor = tl.load(pointer + 2 * size + rows, mask=mask, other=1.0)
    return rho, tl.minimum(sqrt_c * rho, MAX_RADIUS), up, 0.5 / up, factor


@triton.jit
def load_slopes(pointer, size, rows, N):
    """What `radial_slopes` returns of these rows; ones beyond N."""
    mask = rows < N
    by_rho = tl.load(pointer + 3 * size + rows, mask=mask, other=1.0)
    return by_rho, tl.load(pointer + 4 * size + rows, mask=mask, other=1.0)
