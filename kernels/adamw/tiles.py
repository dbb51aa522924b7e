"""The Triton kernel of a step of AdamW: every number of a weight is read and written once.

8-bit codes are made and read with arithmetic, not from a table, and bfloat16 is read and written as the upper
half of a float32: integers are all that the interpreter needs to compute what a GPU does.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
from __future__ import annotations

import triton
import triton.language as tl

from . import codes

_BLOCK: tl.constexpr = tl.constexpr(codes.BLOCK)
_DECADES: tl.constexpr = tl.constexpr(codes.DECADES)
_LOWEST: tl.constexpr = tl.constexpr(codes.LOWEST)
_ZERO: tl.constexpr = tl.constexpr(codes.ZERO)
_WHOLE: tl.constexpr = tl.constexpr(8388608.0)  # 2²³: from here on floats are whole numbers
_WHOLE_BITS: tl.constexpr = tl.constexpr(0x4B000000)
_LOG2_10: tl.constexpr = tl.constexpr(3.321928094887362)


@triton.jit(do_not_specialize=["seed", "stream"])
def update_kernel(
    weight, gradient, first, second, first_peaks, second_peaks, number, rate, corrections, scale, skip,
    count, beta1, rest1, beta2, rest2, epsilon, weight_decay, seed, stream,
    IS_8BIT: tl.constexpr, IS_BF16: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    """BLOCKS · 256 numbers of a weight [count]. rest1, rest2: 1 − β, from float64."""
    block = tl.program_id(0).to(tl.int64) * BLOCKS + tl.arange(0, BLOCKS)
    place = block[:, None] * _BLOCK + tl.arange(0, _BLOCK)[None, :]
    inside = place < count
    block_inside = block * _BLOCK < count
    if tl.load(skip) == 0.0:
        w, grad = load_wide(weight, place, inside, IS_BF16), load_wide(gradient, place, inside, IS_BF16)
        m, v = tl.load(first + place, inside, 0), tl.load(second + place, inside, 0)
        if IS_8BIT:
            m_peak = tl.load(first_peaks + block, block_inside, 0.0)
            v_peak = tl.load(second_peaks + block, block_inside, 0.0)
            m_number, v_number = m.to(tl.int32) - _ZERO, v.to(tl.int32)
            m = share_of(tl.abs(m_number), 0) * tl.where(m_number < 0, -m_peak[:, None], m_peak[:, None])
            v = share_of(v_number + tl.minimum(v_number, 1), 1) * v_peak[:, None]
        grad *= tl.load(scale)
        m = m * beta1 + grad * rest1
        v = v * beta2 + grad * grad * rest2
        step_rate = tl.load(rate)
        size = step_rate * tl.load(corrections)
        root = tl.sqrt(v) * tl.load(corrections + 1)
        w = w * (1.0 - step_rate * weight_decay) - size * (m / (root + epsilon))
        if IS_BF16:
            bits = random_bits(seed, stream, tl.load(number).to(tl.int32), block)
            store_rounded(weight, place, inside, w, bits)
        else:
            tl.store(weight + place, w, inside)
        if IS_8BIT:
            m_peak, v_peak = tl.max(tl.where(inside, tl.abs(m), 0.0), 1), tl.max(tl.where(inside, v, 0.0), 1)
            tl.store(first_peaks + block, m_peak, block_inside)
            tl.store(second_peaks + block, v_peak, block_inside)
            m_share = m * (1.0 / tl.where(m_peak == 0.0, 1.0, m_peak))[:, None]
            v_share = v * (1.0 / tl.where(v_peak == 0.0, 1.0, v_peak))[:, None]
            q = code_of(tl.abs(m_share), 0)
            m_code = tl.where(m_share < 0.0, -tl.minimum(q, _ZERO), q) + _ZERO
            v_code = tl.where(v_share > 0.0, code_of(v_share, 1) - 1, 0)
            tl.store(first + place, m_code.to(tl.uint8), inside)
            tl.store(second + place, v_code.to(tl.uint8), inside)
        else:
            tl.store(first + place, m, inside)
            tl.store(second + place, v, inside)


@triton.jit
def load_wide(pointer, place, inside, IS_BF16: tl.constexpr):
    """Numbers in float32, of float32 or of bfloat16 that is seen as int16."""
    numbers = tl.load(pointer + place, inside, 0)
    if IS_BF16:
        numbers = (numbers.to(tl.int32) << 16).to(tl.float32, bitcast=True)
    return numbers


@triton.jit
def store_rounded(pointer, place, inside, numbers, bits):
    """float32 into bfloat16, seen as int16: up as likely as the number is far from the lower neighbour."""
    pattern = numbers.to(tl.int32, bitcast=True)
    is_nan = numbers != numbers
    pattern = tl.where(is_nan, pattern | 0x400000, pattern + bits)
    tl.store(pointer + place, (pattern >> 16).to(tl.int16), inside)


@triton.jit
def random_bits(seed, stream, step, block):
    """16 random bits for every number of some blocks, int32 [blocks, BLOCK]; eight of each call of Philox."""
    CALLS: tl.constexpr = _BLOCK // 8
    call = (block.to(tl.int32) * CALLS)[:, None] + tl.arange(0, CALLS)[None, :]
    r0, r1, r2, r3 = tl.philox(seed, call, step, stream, 0)
    low = tl.join(tl.join(r0 & 0xFFFF, r2 & 0xFFFF), tl.join(r1 & 0xFFFF, r3 & 0xFFFF))
    high = tl.join(tl.join(r0 >> 16, r2 >> 16), tl.join(r1 >> 16, r3 >> 16))
    return tl.reshape(tl.join(low, high), (block.shape[0], _BLOCK)).to(tl.int32)


@triton.jit
def share_of(q, SHIFT: tl.constexpr):
    """What q stands for, of its block's peak. SHIFT: 0 where codes have a sign, 1 where they have none."""
    bits = whole_float(q).to(tl.int32, bitcast=True)
    cell = ((bits & 0x7FFFFF) | 0x3F800000).to(tl.float32, bitcast=True)  # 1 + cell / cells
    half = (0x7E800000 - (bits & 0x7F800000)).to(tl.float32, bitcast=True)  # 1 / (2 · cells)
    decade = whole_float(bits >> 23) - (127 + SHIFT)
    share = tl.exp2((decade + _LOWEST) * _LOG2_10) * (0.9 * cell - 0.8 + 0.9 * half)
    return tl.minimum(share, 1.0)  # that of 1.0 is above it; the power is 0 where q is


@triton.jit
def code_of(x, SHIFT: tl.constexpr):
    """The q whose share is nearest to x ≥ 0. SHIFT: as in `share_of`; the borders are those of `codes.py`."""
    cells = tl.zeros_like(x) + 2.0**SHIFT
    cells_a_unit = tl.zeros_like(x) + 10.0**-_LOWEST * 2.0**SHIFT / 0.9
    for decade in tl.static_range(1, _DECADES):
        is_above = x >= 10.0 ** (_LOWEST + decade) * (0.1 + 0.18 / 2 ** (decade + SHIFT))
        cells = tl.where(is_above, 2.0 ** (decade + SHIFT), cells)
        cells_a_unit = tl.where(
            is_above, 10.0 ** (-_LOWEST - decade) * 2.0 ** (decade + SHIFT) / 0.9, cells_a_unit
        )
    # Added to 2²³ − 0.5 a float is rounded down to a whole number, which its lower bits are
    whole = tl.maximum(x * cells_a_unit - cells * (1.0 / 9.0) + (_WHOLE - 0.5), _WHOLE) + cells
    whole = tl.minimum(whole, 2.0 * cells + (_WHOLE - 1.0))
    whole = tl.where(
        x >= 1.0 - 0.225 / 2 ** (_DECADES - 1 + SHIFT), _WHOLE + 2.0 ** (_DECADES + SHIFT), whole
    )
    if SHIFT == 0:
        whole = tl.where(x < 0.275 * 10.0**_LOWEST, _WHOLE, whole)
    return whole.to(tl.int32, bitcast=True) - _WHOLE_BITS


@triton.jit
def whole_float(number):
    """0 ≤ number < 2²³ as a float32, by two operations of the kind that a GPU has most units for."""
    return (number | _WHOLE_BITS).to(tl.float32, bitcast=True) - _WHOLE
