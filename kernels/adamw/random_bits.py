"""Random numbers that follow from what they are for: seed, weight, step and element, and from nothing else.

Philox 4×32 with 10 rounds, as Triton has it: a training that goes on draws what it would have drawn.
Source: Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, 2011.
"""

from __future__ import annotations

import torch
from torch import Tensor

WORD = 0xFFFFFFFF
_ROUNDS = 10
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEYS = (0x9E3779B9, 0xBB67AE85)
PER_CALL = 8  # 16-bit numbers


def philox(counter: tuple[Tensor, ...], seed: int) -> tuple[Tensor, ...]:
    """Four words of four; tensors of int64 that hold 32 bits without a sign, 64 bits of seed."""
    c0, c1, c2, c3 = counter
    k0, k1 = seed & WORD, seed >> 32 & WORD
    for _ in range(_ROUNDS):
        by_c0, by_c2 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]  # wrap around: all 64 bits are there
        c0, c2 = (by_c2 >> 32 & WORD) ^ c1 ^ k0, (by_c0 >> 32 & WORD) ^ c3 ^ k1
        c1, c3 = by_c2 & WORD, by_c0 & WORD
        k0, k1 = k0 + _KEYS[0] & WORD, k1 + _KEYS[1] & WORD
    return c0, c1, c2, c3


def random_16_bits(count: int, *, seed: int, stream: int, step: Tensor) -> Tensor:
    """Numbers of [0, 2¹⁶), int32 [count]: those of elements 0 … count − 1 of weight `stream` in a step.

    A call of Philox has eight: the lower and the upper half of each word.
    """
    call = torch.arange(-(-count // PER_CALL), device=step.device)
    counter = (call, torch.zeros_like(call) + step.long(), torch.full_like(call, stream), call * 0)
    words = torch.stack(philox(counter, seed), 1)
    return torch.stack([words & 0xFFFF, words >> 16], 2).flatten()[:count].int()


def rounded_to_bfloat16(numbers: Tensor, bits: Tensor) -> Tensor:
    """float32 numbers to one of their two neighbours in bfloat16, each as likely as the number is near it.

    bits: random numbers of [0, 2¹⁶), int32. What bfloat16 holds stays; so do infinity and NaN.
    """
    pattern = numbers.view(torch.int32)
    moved = (pattern + bits) & ~0xFFFF
    return torch.where(numbers.isnan(), pattern | 0x400000, moved).view(torch.float32).to(torch.bfloat16)
