"""Child process: compiles one small Triton kernel, runs it on the first visible card, and checks its sum."""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
from __future__ import annotations

import time

import torch
import triton
import triton.language as tl

from .answering import answer
from .answers import TritonAnswer

_ELEMENTS = 1000  # no multiple of the block: the mask is compiled and used, too
_BLOCK = 256


@triton.jit
def add_kernel(a_ptr, b_ptr, sum_ptr, n, BLOCK: tl.constexpr):
    # No other annotations: the compiler reads them, and refuses names that are not its own
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = offsets < n
    a = tl.load(a_ptr + offsets, mask=inside)
    b = tl.load(b_ptr + offsets, mask=inside)
    tl.store(sum_ptr + offsets, a + b, mask=inside)


def probe() -> TritonAnswer:
    """Raises: whatever Triton, its compiler or the driver raises."""
    a = torch.arange(_ELEMENTS, dtype=torch.float32, device="cuda")
    total = torch.full_like(a, float("nan"))
    torch.cuda.synchronize()
    started = time.perf_counter()
    add_kernel[(triton.cdiv(_ELEMENTS, _BLOCK),)](a, a, total, _ELEMENTS, BLOCK=_BLOCK)
    torch.cuda.synchronize()
    return TritonAnswer(
        triton=triton.__version__,
        first_call_s=time.perf_counter() - started,
        is_right=bool((total == 2 * a).all()),
    )


if __name__ == "__main__":
    answer(probe)
