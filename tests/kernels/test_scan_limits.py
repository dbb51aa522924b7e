from __future__ import annotations

from collections.abc import Callable
from typing import Any

Compiled = Callable[[str], list[dict[str, Any]]]


def test_scan_kernels_fit_the_shared_memory_of_every_known_gpu(compiled: Compiled) -> None:
    """The largest tiles that the configurations choose, compiled for sm_86, sm_89 and sm_90."""
    assert [len(line["shared_bytes"]) for line in compiled("compile_scans.py")] == [20, 11, 11]
