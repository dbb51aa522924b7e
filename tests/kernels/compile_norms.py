"""Compiles the norm kernels for GPUs that need not be there; prints the shared memory of their blocks.

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
from phase8_tune.kernels.layer_norm.tiles import backward_kernel, forward_kernel, row_tiles
from phase8_tune.kernels.mix_norm import parameters, tiles

_NAMES = {torch.float32: "*fp32", torch.bfloat16: "*bf16"}
_COMPUTE = {
    "x",
    "n",
    "grad_n",
    "grad_x",
    "local",
    "ranked",
    "residual",
    "y",
    "grad",
    "grad_local",
    "grad_total",
}
_INTEGERS = {"count", "n_seq"}


def shared_bytes(
    kernel: Any, dtype: torch.dtype, capability: tuple[int, int], options: dict[str, int], **constants: Any
) -> int:
    """Shared memory of a block of `kernel`, compiled with these constants for a compute capability."""

    def kind(name: str) -> str:
        if name in constants:
            return "constexpr"
        if name in _INTEGERS or name.endswith("_stride"):
            return "i32"
        return _NAMES[dtype] if name in _COMPUTE else "*fp32"

    source = ASTSource(
        fn=kernel, signature={name: kind(name) for name in kernel.arg_names}, constexprs=dict(constants)
    )
    target = GPUTarget("cuda", 10 * capability[0] + capability[1], 32)
    shared: int = triton.compile(source, target=target, options=options).metadata.shared
    return shared


def report(count: int, d: int, rank: int, dtype: torch.dtype, capability: tuple[int, int]) -> dict[str, int]:
    """Bytes by kernel, in the configurations chosen for `count` tokens of width d."""
    rows, tokens = row_tiles(count, d), tiles.token_tiles(count, d, rank, dtype)
    normal = {"D": d, "V_MAX": 5.0, "HAS_POTENTIAL": True, "ROWS": rows.rows, "WIDTH": rows.width}
    mix = {
        "D": d,
        "RANK": rank,
        "TOKENS": tokens.tokens,
        "COLUMNS": tokens.columns,
        "RANK_BLOCK": tokens.rank,
    }
    sums = {"SUMS": tiles.SUMS, "PAD": tiles.PAD}
    row_options = {"num_warps": rows.warps}
    mix_options = {"num_warps": tokens.warps, "num_stages": tokens.stages}
    chosen: dict[str, tuple[Any, dict[str, int], dict[str, Any]]] = {
        "layer_norm": (forward_kernel, row_options, {**normal, "EPS": 1e-5}),
        "layer_norm_backward": (backward_kernel, row_options, normal),
        "mix_norm": (tiles.forward_kernel, mix_options, {**mix, "EPS": 1e-5, "HAS_RESIDUAL": True}),
        "mix_norm_backward": (tiles.backward_kernel, mix_options, mix | sums),
        "mix_norm_conv_backward": (
            tiles.conv_backward_kernel,
            {"num_warps": 4},
            {"D": d, "TOKENS": 32, "COLUMNS": tokens.columns},
        ),
        "mix_norm_parameters": (
            parameters.parameters_kernel,
            {"num_warps": 4},
            {"D": d, **sums, "ROWS": parameters.ROWS, "COLUMNS": parameters.COLUMNS},
        ),
    }
    return {
        name: shared_bytes(kernel, dtype, capability, options, **constants)
        for name, (kernel, options, constants) in chosen.items()
    }


if __name__ == "__main__":
    for capability in ((8, 6), (8, 9), (9, 0)):
        for dtype, rank in ((torch.bfloat16, 32), (torch.float32, tiles.MAX_RANK)):
            taken = report(16_384, 1536, rank, dtype, capability)
            limit = SHARED_MEMORY_BYTES[capability]
            print(json.dumps({"capability": capability, "limit_bytes": limit, "shared_bytes": taken}))
