"""Matrix products of low-precision operands into float32 results.

On a GPU cuBLAS accumulates and writes float32 (`out_dtype`). Under the interpreter, on the CPU, PyTorch has
no such products: operands are widened, which is the same function.
"""

from __future__ import annotations

import torch
from torch import Tensor


def multiply(a: Tensor, b: Tensor, out: Tensor) -> None:
    """out = a @ b; a [n, k], b [k, m] in one dtype, out [n, m] float32."""
    if a.dtype == torch.float32:
        torch.mm(a, b, out=out)
    elif not a.is_cpu:
        torch.mm(a, b, out_dtype=torch.float32, out=out)
    else:
        torch.mm(a.float(), b.float(), out=out)


def accumulate(a: Tensor, b: Tensor, out: Tensor) -> None:
    """out += a @ b; a [n, k], b [k, m] in one dtype, out [n, m] float32."""
    if a.dtype == torch.float32:
        torch.addmm(out, a, b, out=out)
    elif not a.is_cpu:
        torch.addmm(out, a, b, out_dtype=torch.float32, out=out)
    else:
        torch.addmm(out, a.float(), b.float(), out=out)


def multiply_batched(a: Tensor, b: Tensor, out: Tensor) -> None:
    """out = a @ b; a [s, n, k], b [s, k, m] in one dtype, out [s, n, m] float32."""
    if a.dtype == torch.float32:
        torch.bmm(a, b, out=out)
    elif not a.is_cpu:
        torch.bmm(a, b, out_dtype=torch.float32, out=out)
    else:
        torch.bmm(a.float(), b.float(), out=out)


def accumulate_batched(a: Tensor, b: Tensor, out: Tensor) -> None:
    """out += a @ b; a [s, n, k], b [s, k, m] in one dtype, out [s, n, m] float32."""
    if a.dtype == torch.float32:
        torch.baddbmm(out, a, b, out=out)
    elif not a.is_cpu:
        torch.baddbmm(out, a, b, out_dtype=torch.float32, out=out)
    else:
        torch.baddbmm(out, a.float(), b.float(), out=out)
