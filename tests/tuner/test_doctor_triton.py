"""The doctor's kernel is one that Triton's compiler takes, for GPUs that need not be there."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_COMPILE = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from phase8_tune.tuner.doctor.triton_probe import add_kernel

kinds = {"a_ptr": "*fp32", "b_ptr": "*fp32", "sum_ptr": "*fp32", "n": "i32", "BLOCK": "constexpr"}
source = ASTSource(fn=add_kernel, signature=kinds, constexprs={"BLOCK": 256})
compiled = triton.compile(source, target=GPUTarget("cuda", int(sys.argv[1]), 32))
print(len(compiled.asm["cubin"]))
"""


@pytest.mark.parametrize("capability", [86, 89, 90])
def test_the_probe_compiles(capability: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _COMPILE, str(capability)],
        env=os.environ | {"TRITON_INTERPRET": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0
