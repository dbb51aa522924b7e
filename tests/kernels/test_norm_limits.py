from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def test_norm_kernels_fit_the_shared_memory_of_every_known_gpu() -> None:
    """The widest model, bfloat16 and float32, on sm_86, sm_89 and sm_90."""
    script = Path(__file__).with_name("compile_norms.py")
    done = subprocess.run(
        [sys.executable, str(script)],
        env=os.environ | {"TRITON_INTERPRET": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 6
    for line in lines:
        assert len(line["shared_bytes"]) == 6
        for kernel, taken_bytes in line["shared_bytes"].items():
            assert taken_bytes <= line["limit_bytes"], (kernel, line)
