"""Names of compiled kernels that are the same in every process, so that one finds what another compiled.

Triton names a compiled kernel after its source and the sources and constants of what it calls. Of a function
that it has not gone through before it takes the source, but not the constants (`_update_hash` of
triton/runtime/jit.py, 3.6 and 3.7, merges them before it goes through the function): the name depends on what
was launched earlier, and a process that launches in another order compiles the kernel once more.
"""

from __future__ import annotations

import sys
from typing import Any


def settle_cache_keys() -> None:
    """Have Triton go through all kernels that are loaded by now, what a function calls before the function.

    To be called before the first launch. Takes 0.2 s for the kernels of all versions together.
    """
    if "triton.runtime.jit" not in sys.modules:  # the reference has no kernels
        return
    from triton.runtime.jit import JITFunction

    package = __name__.rpartition(".")[0]
    for name, module in list(sys.modules.items()):
        if name.startswith(f"{package}."):
            for value in list(vars(module).values()):
                if isinstance(value, JITFunction):
                    _settle(value, JITFunction)


def _settle(function: Any, kind: type) -> None:
    if function.hash is not None:
        return
    for name in function.fn.__code__.co_names:
        called = function.__globals__.get(name)
        if isinstance(called, kind) and called is not function:
            _settle(called, kind)
    _ = function.cache_key  # made when it is asked for first, and kept
