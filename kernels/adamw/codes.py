"""The dynamic 8-bit code: what numbers of [−1, 1], shares of their block's peak, are kept as.

A magnitude lies in one of seven decades, 10⁻⁷ to 1, each divided into equal cells, twice as many as the
decade below has: 1 to 64 with a sign, 2 to 128 without. A code stands for the middle of its cell, and the
nearest code is taken. Zero and 1.0 have a code of their own. In ascending order:
- with a sign: code − 127 is ± q, q from 0 (zero) over 1 … 127 (cells) to 128 (1.0, without a negative);
- without: code 0 is zero, and q = code + 1 goes over 2 … 255 (cells) to 256 (1.0).
The exponent of q, in powers of two, says its decade, the rest of its bits the cell: no table is looked up.

One rule is ours: without a sign a number above zero never becomes zero. Where a second moment did, a first
moment of some share would be divided by epsilon alone as soon as the gradient is zero for a step.

Source: Dettmers et al., 8-bit Optimizers via Block-wise Quantization, 2022, section 1.3 and appendix.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 256
"""Numbers in a row that share a peak."""

DECADES = 7
LOWEST = 1.0 - DECADES  # the exponent of ten of the lowest decade's upper end
ZERO = 127  # the code of zero where there is a sign


def decode(codes: Tensor, peaks: Tensor, *, signed: bool) -> Tensor:
    """Numbers in the shape of their codes (uint8), float32."""
    shift = 0 if signed else 1
    number = codes.flatten().to(torch.int32)
    q = (number - ZERO).abs() if signed else number + (number > 0)
    mantissa, exponent = torch.frexp(q.float())
    exponent = exponent - 1  # frexp's mantissa is in [0.5, 1)
    cell = 2 * mantissa - 1 + torch.exp2(-1.0 - exponent)
    decade = exponent - shift
    share = torch.pow(10.0, LOWEST + decade) * (0.1 + 0.9 * cell)
    share = torch.where(decade == DECADES, 1.0, share)
    share = torch.where(q == 0, 0.0, share)
    if signed:
        share = torch.where(number < ZERO, -share, share)
    return (in_blocks(share) * peaks[:, None]).flatten()[: codes.numel()].view(codes.shape)


def encode(numbers: Tensor, *, signed: bool) -> tuple[Tensor, Tensor]:
    """Codes (uint8, in the shape of the numbers) and peaks (float32) of float32 numbers."""
    shift = 0 if signed else 1
    blocks = in_blocks(numbers.flatten())
    peaks = blocks.abs().amax(1)
    shares = torch.where(peaks[:, None] > 0, blocks / peaks[:, None], 0.0)
    x = shares.abs()
    decade = torch.zeros_like(x)
    for upper in range(1, DECADES):
        decade += x >= border(upper, shift)
    cells = torch.exp2(decade + shift)
    cell = ((x * torch.pow(10.0, -LOWEST - decade) - 0.1) * (cells / 0.9)).floor()
    q = cells + cell.clamp_min(0).minimum(cells - 1)
    q = torch.where(x >= TOPS[shift], float(2 ** (DECADES + shift)), q)
    if signed:
        q = torch.where(x < BOTTOMS[0], 0.0, q)
        codes = torch.where(shares < 0, ZERO - q.clamp_max(ZERO), ZERO + q)
    else:
        codes = torch.where(x > 0, q - 1, 0.0)
    return codes.to(torch.uint8).flatten()[: numbers.numel()].view(numbers.shape), peaks.float()


def border(decade: int, shift: int) -> float:
    """Half way between the last cell below a decade and its own first one."""
    return float(10.0 ** (LOWEST + decade) * (0.1 + 0.18 / 2 ** (decade + shift)))


def in_blocks(flat: Tensor) -> Tensor:
    """[n] → [⌈n / BLOCK⌉, BLOCK], zeros behind the end."""
    return torch.nn.functional.pad(flat, (0, -flat.numel() % BLOCK)).view(-1, BLOCK)


TOPS = tuple(1 - 0.225 / 2 ** (DECADES - 1 + shift) for shift in (0, 1))
"""From here on a share counts as 1.0; with a sign, and without."""
BOTTOMS = tuple(10.0**LOWEST * (0.05 + 0.225 / 2**shift) for shift in (0, 1))
"""Below it a share with a sign counts as zero: half of the lowest code's."""
