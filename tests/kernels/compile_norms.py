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
    "grad_residual",
    "grad_x",
    "local",
    "projected",
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


def report(count: int, d: int, dtype: torch.dtype, capability: tuple[int, int]) -> dict[str, int]:
    """Bytes by kernel, in the configurations chosen for `count` tokens of width d."""
    rows = row_tiles(count, d)
    normal = {
        "D": d,
        "V_MAX": 5.0,
        "HAS_POTENTIAL": True,
        "ROWS": rows.rows,
        "WIDTH": rows.width,
    }
    row_options = {"num_warps": rows.warps}
    sums = {"SUMS": tiles.SUMS, "PAD": tiles.PAD}

    def mix(*, backward: bool) -> tuple[dict[str, int], dict[str, int]]:
        tile = tiles.row_tiles(count, d, backward=backward)
        return {"num_warps": tile.warps}, {"D": d, "ROWS": tile.rows, "WIDTH": tile.width}

    options, forward = mix(backward=False)
    backward_options, backward = mix(backward=True)
    chosen: dict[str, tuple[Any, dict[str, int], dict[str, Any]]] = {
        "layer_norm": (forward_kernel, row_options, {**normal, "EPS": 1e-5}),
        "layer_norm_backward": (backward_kernel, row_options, normal | {"HAS_RESIDUAL": True}),
        "mix_norm": (tiles.forward_kernel, options, {**forward, "EPS": 1e-5, "HAS_RESIDUAL": True}),
        "mix_norm_backward": (tiles.backward_kernel, backward_options, backward | sums),
        "mix_norm_conv_backward": (tiles.conv_backward_kernel, options, forward),
        "mix_norm_parameters": (
            parameters.parameters_kernel,
            {"num_warps": 4},
            {"D": d, "SUMS": tiles.SUMS, "COLUMNS": parameters.COLUMNS},
        ),
    }
    return {
        name: shared_bytes(kernel, dtype, capability, options, **constants)
        for name, (kernel, options, constants) in chosen.items()
    }


if __name__ == "__main__":
    for capability in ((8, 6), (8, 9), (9, 0)):
        for dtype in (torch.bfloat16, torch.float32):
            taken = report(16_384, 1536, dtype, capability)
            limit = SHARED_MEMORY_BYTES[capability]
            print(json.dumps({"capability": capability, "limit_bytes": limit, "shared_bytes": taken}))
