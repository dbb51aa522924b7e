"""The parameters' gradients of the epilogue, from the sums over tokens that its backward leaves."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
from __future__ import annotations

import triton
import triton.language as tl

COLUMNS = 128


@triton.jit
def parameters_kernel(
    sums, resolvent_scale, resolvent_weight, resolvent_bias, out,
    D: tl.constexpr, SUMS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The parameters' gradients from sums [SUMS·D + …], see `tiles.backward_kernel`.

    out [10·D + 1]: conv_weight (3), norm_weight, norm_bias, resolvent_scale, resolvent_bias, global_bias,
    resolvent_weight [D, 2], theta.
    """
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    mask = columns < D
    for tap in tl.static_range(3):
        conv = tl.load(sums + (5 + tap) * D + columns, mask=mask, other=0.0)
        tl.store(out + tap * D + columns, conv, mask=mask)
    by_one = tl.load(sums + columns, mask=mask, other=0.0)
    by_re = tl.load(sums + D + columns, mask=mask, other=0.0)
    by_im = tl.load(sums + 2 * D + columns, mask=mask, other=0.0)
    b_s = tl.load(resolvent_scale + columns, mask=mask, other=0.0)
    w_re = tl.load(resolvent_weight + 2 * columns, mask=mask, other=0.0)
    w_im = tl.load(resolvent_weight + 2 * columns + 1, mask=mask, other=0.0)
    b_g = tl.load(resolvent_bias + columns, mask=mask, other=0.0)
    tl.store(out + 3 * D + columns, tl.load(sums + 3 * D + columns, mask=mask, other=0.0), mask=mask)
    tl.store(out + 4 * D + columns, by_one, mask=mask)
    tl.store(out + 5 * D + columns, w_re * by_re + w_im * by_im + b_g * by_one, mask=mask)
    tl.store(out + 6 * D + columns, b_s * by_one, mask=mask)
    tl.store(out + 7 * D + columns, tl.load(sums + 4 * D + columns, mask=mask, other=0.0), mask=mask)
    tl.store(out + 8 * D + 2 * columns, b_s * by_re, mask=mask)
    tl.store(out + 8 * D + 2 * columns + 1, b_s * by_im, mask=mask)
    if tl.program_id(0) == 0:
        tl.store(out + 10 * D, tl.load(sums + SUMS * D))
