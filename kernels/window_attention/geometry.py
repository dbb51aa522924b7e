"""Device functions of the attention kernels: radial factors of rows, distances of pairs, derivatives.

Rows and columns play the same part in the distance, so one set of functions serves a program that owns
queries (score tiles [queries, keys]) and one that owns keys (score tiles [keys, queries]).

PRECISE marks float32 inputs: square roots, logarithm and exponential are then correctly rounded or nearly so,
and logits are in natural units. For 16-bit inputs the hardware's approximations (relative error 2⁻²², a
thousandth of the inputs' own rounding) do, and logits are in units of log 2.
"""

# ruff: noqa: SIM300  (an upper-case name is a constant of the compilation, not the literal side)
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
from __future__ import annotations

import triton
import triton.language as tl

from ..device_limits import interpreting
from . import reference

MAX_RADIUS = tl.constexpr(reference.MAX_RADIUS)
_FLOOR = tl.constexpr(reference.GRADIENT_FLOOR)
_TINY = tl.constexpr(1e-30)  # as in reference.radius
LN2 = tl.constexpr(0.6931471805599453)
_LOG2E = tl.constexpr(1.4426950408889634)

if interpreting():  # it has no libdevice

    @triton.jit
    def _fast_log2(x):
        return tl.log2(x)

else:
    from triton.language.extra import libdevice

    @triton.jit
    def _fast_log2(x):
        # tl.log2 is the correctly rounded one: four times the instructions
        return libdevice.fast_log2f(x)


@triton.jit
def _accurate_exp(x):
    """exp(x) to about one unit in the last place, 0 below −104: x = n·ln 2 + r and the series of exp(r)."""
    x = tl.maximum(x, -120.0)
    n = tl.floor(x * _LOG2E + 0.5)
    r = x - n * 0.693145751953125  # ln 2 in two parts; the first has few digits, so n times it is exact
    r = r - n * 1.4286068202862268e-06
    series = 1.0 / 5040
    series = series * r + 1.0 / 720
    series = series * r + 1.0 / 120
    series = series * r + 1.0 / 24
    series = series * r + 1.0 / 6
    series = series * r + 0.5
    series = series * r + 1.0
    series = series * r + 1.0
    return series * tl.exp2(n)


@triton.jit
def _exp(x, PRECISE: tl.constexpr):
    return _accurate_exp(x) if PRECISE else tl.exp(x)


@triton.jit
def power(x, PRECISE: tl.constexpr):
    """The weight of a logit difference x ≤ 0 in units of logits."""
    return _accurate_exp(x) if PRECISE else tl.exp2(x)


@triton.jit
def logarithm(x, PRECISE: tl.constexpr):
    """The inverse of `power`."""
    return tl.log(x) if PRECISE else _fast_log2(x)


@triton.jit
def radial_factors(x, sqrt_c, PRECISE: tl.constexpr):
    """Of rows x [R, D] float32: (ρ, s, e^s, e^−s/2, F), each [R], as in reference.radial_factor."""
    rho = tl.sqrt_rn(tl.maximum(tl.sum(x * x, axis=1), _TINY))
    s = tl.minimum(sqrt_c * rho, MAX_RADIUS)
    up = _exp(s, PRECISE)
    angle = 2 * s
    a2 = angle * angle
    # sinh(a)/a below 1, where e^a − e^−a loses digits; the next term is 2.5e-8
    series = 1 + a2 / 6 * (1 + a2 / 20 * (1 + a2 / 42 * (1 + a2 / 72)))
    grown = _exp(angle, PRECISE)
    factor = tl.where(angle < 1, 2 * sqrt_c * series, 0.5 * (grown - 1 / grown) / rho)
    return rho, s, up, 0.5 / up, factor


@triton.jit
def pair_distance(dot, row, column, PRECISE: tl.constexpr):
    """Distances of rows from columns, from their dot products and their radial factors.

    Returns tiles: log(1 + δ + √δ√(δ+2)) in units of logits, the derivative of its natural value by δ,
    sinh and cosh of s_row − s_column, the product of the F, and ρσ − dot before its clamp.
    """
    rho, s, up, down, factor = row
    sigma, t, up_t, down_t, factor_t = column
    gap = rho[:, None] * sigma[None, :] - dot
    x = s[:, None] - t[None, :]
    x2 = x * x
    grown = up[:, None] * down_t[None, :]  # e^x/2
    shrunk = down[:, None] * up_t[None, :]  # e^−x/2
    series = x * (1 + x2 * (1.0 / 6 + x2 * (1.0 / 120 + x2 * (1.0 / 5040))))
    sinh = tl.where(x2 < 0.25, series, grown - shrunk)
    factors = factor[:, None] * factor_t[None, :]
    delta = factors * tl.maximum(gap, 0.0) + (2 * sinh * sinh + _FLOOR)
    # √δ and √(δ+2) apart: δ² overflows; δ/(√δ√(δ+2)) does not
    if PRECISE:
        root = tl.sqrt_rn(delta) * tl.sqrt_rn(delta + 2)
        slope = 1 / root
        y = delta + root
        u = 1 + y
        log = tl.log(u) + (y - (u - 1)) / u  # log1p: what rounding took from u, put back
    else:
        slope = tl.rsqrt(delta) * tl.rsqrt(delta + 2)
        log = _fast_log2(1 + (delta + (delta * slope) * (delta + 2)))
    return log, slope, sinh, grown + shrunk, factors, gap


@triton.jit
def pair_gradients(d_logit, pairs, DTYPE: tl.constexpr):
    """From dL/dlogit, up to the factor −β√D/√c: X = dL/ds_row/4, Y = G·gap and G = dL/dgap, gap = ρσ − dot.

    G is float32, rounded to what the matrix product that uses it works on, so that the sums over G, which
    cancel against that product where q ≈ k, see the same numbers: bfloat16; for float16 TF32, as G has the
    range of F². X and Y, which cancel against each other where curvature matters little, are not rounded.
    """
    _log, slope, sinh, cosh, factors, gap = pairs
    by_delta = d_logit * slope
    by_gap = tl.where(gap >= 0, by_delta * factors, 0.0)
    by_factor = by_gap * gap
    if DTYPE != tl.float32:
        # By hand: the conversion to one bfloat16 runs on the unit of the square roots
        drop: tl.constexpr = 16 if DTYPE == tl.bfloat16 else 13
        bits = by_gap.to(tl.uint32, bitcast=True) + (1 << (drop - 1))
        by_gap = (bits >> drop << drop).to(tl.float32, bitcast=True)
    return by_delta * sinh * cosh, by_factor, by_gap


@triton.jit
def operand(x, DTYPE: tl.constexpr):
    """Of G, or of rows, the operand of `weighted_rows`; both without a further rounding."""
    return x.to(tl.bfloat16) if DTYPE == tl.bfloat16 else x.to(tl.float32)


@triton.jit
def weighted_rows(by_gap, x, DTYPE: tl.constexpr):
    """G @ x of two operands: bfloat16, TF32 for float16, float32."""
    precision: tl.constexpr = "ieee" if DTYPE == tl.float32 else "tf32"
    return tl.dot(by_gap, x, input_precision=precision)


@triton.jit
def radial_slopes(factors, sqrt_c, PRECISE: tl.constexpr):
    """Of rows: (d log F/dρ, d log F/d√c), each [R]; past the clamp F = sinh(40)/ρ."""
    rho, s, _up, _down, factor = factors
    inside = sqrt_c * rho <= MAX_RADIUS
    angle = 2 * s
    a2 = angle * angle
    # below 1 from the series of (sinh(a)/a)' = (a·cosh a − sinh a)/a², which cancels
    series = 1 + a2 / 6 * (1 + a2 / 20 * (1 + a2 / 42 * (1 + a2 / 72)))
    slope_series = angle / 3 * (1 + a2 / 10 * (1 + a2 / 28 * (1 + a2 / 54 * (1 + a2 / 88))))
    grown = _exp(angle, PRECISE)
    by_sqrt_c = (grown + 1 / grown) / factor  # 2·cosh(a)/F
    by_rho = tl.where(angle < 1, 2 * sqrt_c * slope_series / series, (sqrt_c * by_sqrt_c - 1) / rho)
    return tl.where(inside, by_rho, -1 / rho), tl.where(inside, by_sqrt_c, 0.0)


@triton.jit
def inside_clamp(rho, sqrt_c):
    """1 where s follows √c·ρ, 0 where it is clamped."""
    return tl.where(sqrt_c * rho <= MAX_RADIUS, 1.0, 0.0)


@triton.jit
def row_gradient(x, weighted, radial, rho):
    """dL/dx of rows x [R, D] float32, up to the factor −β√D/√c: radial·x/ρ − weighted.

    radial [R] = 4√c·Σ_j X·inside + (log F)'·Σ_j Y + Σ_j G·ρ_j; weighted [R, D] = Σ_j G·x_j.
    """
    direction = tl.where(rho > 1.0000001e-15, 1 / rho, 0.0)  # the clamp of reference.radius has no gradient
    return (radial * direction)[:, None] * x - weighted
