"""Compiles the optimizer's kernel, in each of its forms, for a small card that need not be there.

Prints what each form takes. A program of its own: under the interpreter, which the tests run in, Triton
cannot compile.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from phase8_tune.kernels.adamw.fast import OPTIONS
from phase8_tune.kernels.adamw.tiles import update_kernel
from phase8_tune.kernels.device_limits import SHARED_MEMORY_BYTES

_CAPABILITY = (8, 6)
_STATE = ("first_peaks", "second_peaks", "number", "rate", "corrections", "scale", "skip")
_INTEGERS = ("count", "seed", "stream")


def compiled(*, is_8bit: bool, is_bf16: bool) -> Any:
    """update_kernel for a weight whose length is a multiple of 16."""
    number, moment = "*i16" if is_bf16 else "*fp32", "*u8" if is_8bit else "*fp32"
    types = {"weight": number, "gradient": number, "first": moment, "second": moment}
    types |= dict.fromkeys(_STATE, "*fp32") | dict.fromkeys(_INTEGERS, "i32")
    constants: dict[str, Any] = {"IS_8BIT": is_8bit, "IS_BF16": is_bf16, "BLOCKS": OPTIONS["BLOCKS"]}
    if not is_8bit:
        constants |= {"first_peaks": None, "second_peaks": None}
    names = update_kernel.arg_names
    source = ASTSource(
        fn=update_kernel,
        signature={name: "constexpr" if name in constants else types.get(name, "fp32") for name in names},
        constexprs=constants,
        attrs={
            (place,): [["tt.divisibility", 16]]
            for place, name in enumerate(names)
            if name in (*types,) and name not in (*constants, "seed", "stream")
        },
    )
    target = GPUTarget("cuda", 10 * _CAPABILITY[0] + _CAPABILITY[1], 32)
    return triton.compile(source, target=target, options={"num_warps": OPTIONS["num_warps"]})


def registers_and_stack(kernel: Any) -> tuple[int, int]:
    """Registers and bytes of local memory of a thread."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, "-res-usage", file.name]
        listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    ((registers, stack),) = re.findall(r"REG:(\d+) STACK:(\d+)", listing)
    return int(registers), int(stack)


if __name__ == "__main__":
    for is_8bit in (False, True):
        for is_bf16 in (False, True):
            kernel = compiled(is_8bit=is_8bit, is_bf16=is_bf16)
            registers, stack = registers_and_stack(kernel)
            line = {
                "limit_bytes": SHARED_MEMORY_BYTES[_CAPABILITY],
                "shared_bytes": {f"{is_8bit=} {is_bf16=}": kernel.metadata.shared},
                "registers": registers,
                "stack_bytes": stack,
            }
            print(json.dumps(line))
