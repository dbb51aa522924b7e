# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
"""The block's master weights in the compute dtype, all in one launch, where PyTorch has one for each.

A step of small has twelve such casts a block, of a few microseconds each whatever their size.
"""

from __future__ import annotations

import itertools

import torch
import triton
import triton.language as tl

from .tensors import Parameters

_BLOCK = 2048  # numbers a program; where each weight begins in the buffer is a multiple of it
_NAMES = ("in_weight", "out_weight", "gate_weight", "gate_logit_bias", "global_weight", "global_bias")


def in_dtype(p: Parameters, dtype: torch.dtype) -> Parameters:
    """The parameters, with what enters a product or is added to one in `dtype`."""
    weights = {name: getattr(p, name) for name in _NAMES if getattr(p, name).dtype != dtype}
    if not weights:
        return p
    ends = list(itertools.accumulate(triton.cdiv(weight.numel(), _BLOCK) for weight in weights.values()))
    out = torch.empty(ends[-1] * _BLOCK, dtype=dtype, device=p.in_weight.device)
    sources = [weight.contiguous() for weight in weights.values()]
    sources += sources[-1:] * (len(_NAMES) - len(sources))
    limits = [*ends, *ends[-1:] * (len(_NAMES) - len(ends))]
    counts = [source.numel() for source in sources]
    cast_kernel[(ends[-1],)](*sources, out, *limits, *counts, BLOCK=_BLOCK, num_warps=4)
    starts = [0, *ends[:-1]]
    views = {
        name: out[_BLOCK * start :][: weight.numel()].view(weight.shape)
        for (name, weight), start in zip(weights.items(), starts, strict=True)
    }
    return p._replace(**views)


@triton.jit
def cast_kernel(
    x0, x1, x2, x3, x4, x5, out, end0, end1, end2, end3, end4, end5,
    count0, count1, count2, count3, count4, count5, BLOCK: tl.constexpr,
):  # fmt: skip
    """out, in blocks of BLOCK numbers: those of x0 before block end0, then those of x1 before end1, …"""
    block = tl.program_id(0)
    target = out + block.to(tl.int64) * BLOCK
    if block < end0:
        cast_block(x0, target, block, count0, BLOCK)
    elif block < end1:
        cast_block(x1, target, block - end0, count1, BLOCK)
    elif block < end2:
        cast_block(x2, target, block - end1, count2, BLOCK)
    elif block < end3:
        cast_block(x3, target, block - end2, count3, BLOCK)
    elif block < end4:
        cast_block(x4, target, block - end3, count4, BLOCK)
    elif block < end5:
        cast_block(x5, target, block - end4, count5, BLOCK)


@triton.jit
def cast_block(x, target, block, count, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    at = block.to(tl.int64) * BLOCK + i
    values = tl.load(x + at, mask=at < count, other=0.0)
    tl.store(target + i, values.to(target.dtype.element_ty), mask=at < count)
