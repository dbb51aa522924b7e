"""Finds and compiles kernels without a GPU and without the interpreter; prints what it found as JSON."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from triton import knobs
from triton.runtime.jit import JITFunction

from phase8_tune.kernels import cache_keys
from phase8_tune.phase8.config import Phase8Config
from phase8_tune.phase8.training import TrainingOptions
from phase8_tune.tuner.builtin.phase8.launches import training_launches
from phase8_tune.tuner.builtin.phase8.tracing import trace_training
from phase8_tune.tuner.compiling.dynamo import leave_dynamo_out
from phase8_tune.tuner.compiling.launches import _optimizer_launches, _stand_in
from phase8_tune.tuner.compiling.target import compile_specialization
from phase8_tune.tuner.predict.trace.limits import Limits

LIMITS = Limits(shared_memory_bytes=101_376, multiprocessors=48, threads_per_multiprocessor=1536)
CONFIG = Phase8Config(d_model=64, n_layers=3, n_heads=2, n_seq=80, htt_rank=4, vocab_size=1000)
ARCHITECTURE = 86
QUICK = ("window_attention.prologue.row_kernel", "htt_cross_entropy.rows.scale_kernel")
CACHE = Path(os.environ["TRITON_CACHE_DIR"])


def options(version: str) -> TrainingOptions:
    """With the optimizer that has a kernel of its own."""
    return TrainingOptions(kernel_version=version, optimizer_state="8bit")


def recorded(version: str) -> list[Any]:
    return training_launches(
        CONFIG, options(version), batch_size=2, mode="train", limits=LIMITS, architecture=ARCHITECTURE
    )


def traced(version: str) -> list[str]:
    """The kernels of a traced step and of a traced evaluation."""
    names = set()
    for mode in ("train", "forward"):
        trace = trace_training(CONFIG, options(version), batch_size=2, limits=LIMITS, mode=mode)
        names |= {name.partition(":")[2].removesuffix(" epilogue") for name, _ in trace.costs if ":" in name}
    return sorted(names)


def entries() -> list[str]:
    return sorted(path.name for path in CACHE.iterdir()) if CACHE.exists() else []


def launched(names: tuple[str, ...]) -> None:
    """The launches of these kernels, compiled by Triton as it does for a launch: from their arguments."""
    launch = JITFunction.run

    def run(kernel: Any, *args: Any, **kwargs: Any) -> Any:
        is_named = f"{kernel.fn.__module__}.{kernel.fn.__name__}".endswith(names)
        knobs.runtime.jit_cache_hook = None if is_named else lambda **_: True
        return launch(kernel, *args, **kwargs)

    JITFunction.run = run
    try:
        recorded("fast")
    finally:
        JITFunction.run = launch


def keys(order: int) -> dict[str, str]:
    """What Triton names the loaded kernels after, as in a process that loads them in another order."""
    functions = [
        value
        for name, module in sorted(sys.modules.items())[::order]
        if name.startswith(cache_keys.__name__.rpartition(".")[0])
        for value in list(vars(module).values())[::order]
        if isinstance(value, JITFunction)
    ]
    for function in functions:
        function.hash, function.used_global_vals = None, {}
    for function in functions:
        cache_keys._settle(function, JITFunction)
    return {f"{f.fn.__module__}.{f.fn.__name__}": f.cache_key for f in functions}


def alignment() -> dict[str, bool]:
    whole = torch.empty(32, dtype=torch.bfloat16, device="meta")
    views = {"whole": whole, "second": whole[1:], "ninth": whole[8:]}
    return {name: _stand_in(view).data_ptr() % 16 == 0 for name, view in views.items()}


def main() -> None:
    leave_dynamo_out()
    forms = recorded("fast")
    for form in forms:
        if form.name in QUICK:
            compile_specialization(form, ARCHITECTURE)
    ahead = entries()
    launched(QUICK)
    has_dynamo = "torch._dynamo" in sys.modules
    found = {
        "recorded": sorted({form.name for form in forms}),
        "traced": traced("fast"),
        "optimizer": [form.name for form in _optimizer_launches(LIMITS, ARCHITECTURE)],
        "ahead": ahead,
        "after": entries(),
        "alignment": alignment(),
        "has_dynamo": has_dynamo,
        "keys": [keys(1), keys(-1)],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
