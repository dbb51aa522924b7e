"""Fixtures of the kernel tests: the device, and one thread."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from triton.language import core
from triton.runtime import interpreter


@pytest.fixture(scope="session", autouse=True)
def single_thread() -> Iterator[None]:
    """The shapes are tiny: a second thread costs more than it saves."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", autouse=True)
def interpreter_looks_up_once() -> Iterator[None]:
    """Triton's interpreter lists the builtins, and the numpy dtype of each dtype, once and not at every call.

    Every call of a device function lists all members of three namespaces again, to replace the builtins that
    its kernel's launch has replaced already: 28 of the 90 s that a profiled block takes. A Triton whose
    interpreter has not these functions runs as it is: what is asserted does not depend on it.
    """
    if not {"_patch_builtin", "_patch_attr", "_get_np_dtype"} <= vars(interpreter).keys():
        yield
        return
    builtins: dict[Any, list[tuple[str, Any]]] = {}

    def patch_builtin(namespace: Any, builder: Any, scope: Any) -> None:
        if namespace not in builtins:
            members = inspect.getmembers(namespace)
            builtins[namespace] = [(name, member) for name, member in members if core.is_builtin(member)]
        for name, member in builtins[namespace]:
            if getattr(namespace, name) is member:  # not replaced yet
                interpreter._patch_attr(namespace, name, member, builder, scope)

    of_dtype = interpreter._get_np_dtype
    found: dict[str, Any] = {}

    def get_np_dtype(dtype: Any) -> Any:
        if dtype.name not in found:
            found[dtype.name] = of_dtype(dtype)
        return found[dtype.name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interpreter, "_patch_builtin", patch_builtin)
        patch.setattr(interpreter, "_get_np_dtype", get_np_dtype)
        yield


@pytest.fixture
def device() -> torch.device:
    """The GPU where there is one, else the CPU under Triton's interpreter (set in tests/conftest.py)."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture
def compiled() -> Callable[[str], list[dict[str, Any]]]:
    """Runs a program of this folder that compiles kernels for GPUs that need not be there.

    It prints one JSON line a configuration; every kernel's blocks must fit the shared memory of its GPU.
    """

    def run(program: str) -> list[dict[str, Any]]:
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name(program))],
            env=os.environ | {"TRITON_INTERPRET": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        lines: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
        for line in lines:
            for kernel, taken_bytes in line["shared_bytes"].items():
                assert taken_bytes <= line["limit_bytes"], (kernel, line)
        return lines

    return run
