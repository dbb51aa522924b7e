"""Compiles the kernel of the embedding's core gradients for GPUs that need not be there.

Prints the shared memory of its blocks and the local memory of its threads. A program of its own: under the
interpreter, which the tests run in, Triton cannot compile.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from phase8_tune.kernels.device_limits import SHARED_MEMORY_BYTES
from phase8_tune.kernels.htt_embedding.gather import core_gradient_kernel
from phase8_tune.kernels.htt_embedding.operator import gradient_options
from phase8_tune.phase8.config import preset

_POINTERS = {"grad": "*bf16", "tokens": "*i64", "order": "*i64", "starts": "*i64", "core": "*fp32"} | {
    "cosines": "*fp32",
    "out": "*fp32",
}
_ALIGNED = {*_POINTERS, "STRIDE_B", "STRIDE_N", "D"}


def compiled(options: dict[str, Any], capability: tuple[int, int]) -> Any:
    """core_gradient_kernel for a compute capability."""
    constants = {"PART": 16, "ROW_BLOCK": 256} | options
    launch = {"num_warps": constants.pop("num_warps")}
    names = core_gradient_kernel.arg_names
    source = ASTSource(
        fn=core_gradient_kernel,
        signature={name: "constexpr" if name in constants else _POINTERS.get(name, "i32") for name in names},
        constexprs=constants,
        attrs={(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if name in _ALIGNED},
    )
    return triton.compile(
        source, target=GPUTarget("cuda", 10 * capability[0] + capability[1], 32), options=launch
    )


def stack_bytes(kernel: Any) -> int:
    """Local memory of a thread."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, "-res-usage", file.name]
        listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (found,) = re.findall(r"STACK:(\d+)", listing)
    return int(found)


if __name__ == "__main__":
    for capability in ((8, 6), (9, 0)):
        shared, stack = {}, {}
        for name in ("medium", "xl"):
            config = preset(name, n_seq=256)
            d1, d2 = config.embedding_dims
            for first, (p, q) in ((True, (d1, d2)), (False, (d2, d1))):
                options = gradient_options(config.htt_rank, p, q, d2, torch.bfloat16, first=first)
                kernel = compiled(options, capability)
                shared[f"{name}, core{2 - first}"] = kernel.metadata.shared
                stack[f"{name}, core{2 - first}"] = stack_bytes(kernel)
        limit = SHARED_MEMORY_BYTES[capability]
        print(json.dumps({"limit_bytes": limit, "shared_bytes": shared, "stack_bytes": stack}))
