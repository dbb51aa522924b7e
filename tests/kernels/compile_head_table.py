"""Compiles the kernels of the head's table for GPUs that need not be there; prints their shared memory.

A program of its own: under the interpreter, which the tests run in, Triton cannot compile.
"""

from __future__ import annotations

import json
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from phase8_tune.kernels.device_limits import SHARED_MEMORY_BYTES
from phase8_tune.kernels.htt_cross_entropy.plan import HeadShape
from phase8_tune.kernels.htt_cross_entropy.table import (
    contract_kernel,
    contraction_options,
    expand_kernel,
    expansion_options,
)

_SHAPES = ((1024, 32, 32, 32), (1536, 200, 64, 24))  # d, rank, d1, d2
_FLOATS = {"core", "core1", "core2", "phase", "gradient", "out"}
_TABLES = {torch.float32: "*fp32", torch.bfloat16: "*bf16"}


def shared_bytes(
    kernel: Any, options: dict[str, Any], dtype: torch.dtype, capability: tuple[int, int]
) -> int:
    """Shared memory of a block of `kernel`, compiled with these options for a compute capability."""
    launch = {name: options.pop(name) for name in ("num_warps", "num_stages")}

    def kind(name: str) -> str:
        if name in options:
            return "constexpr"
        if name == "table":
            return _TABLES[dtype]
        return "*fp32" if name in _FLOATS else "fp32" if name == "SCALE" else "i32"

    source = ASTSource(
        fn=kernel, signature={name: kind(name) for name in kernel.arg_names}, constexprs=options
    )
    target = GPUTarget("cuda", 10 * capability[0] + capability[1], 32)
    shared: int = triton.compile(source, target=target, options=launch).metadata.shared
    return shared


def report(shape: HeadShape, dtype: torch.dtype, capability: tuple[int, int]) -> dict[str, int]:
    """Bytes by kernel."""
    limit = SHARED_MEMORY_BYTES[capability]
    kernels = {
        "expand": (expand_kernel, expansion_options(shape, dtype, limit)),
        "contract, core1": (contract_kernel, contraction_options(shape, dtype, limit, first=True)),
        "contract, core2": (contract_kernel, contraction_options(shape, dtype, limit, first=False)),
    }
    return {
        name: shared_bytes(kernel, options, dtype, capability) for name, (kernel, options) in kernels.items()
    }


if __name__ == "__main__":
    for capability in ((8, 6), (9, 0)):
        for d_model, rank, d1, d2 in _SHAPES:
            shape = HeadShape(
                tokens=1, d_model=d_model, vocab_size=50257, v1=225, v2=224, rank=rank, d1=d1, d2=d2
            )
            for dtype in _TABLES:
                taken = report(shape, dtype, capability)
                limit = SHARED_MEMORY_BYTES[capability]
                print(json.dumps({"capability": capability, "limit_bytes": limit, "shared_bytes": taken}))
