"""Where the time of a captured step goes: every kernel's device time beside what its bytes and FLOP allow.

    python -m phase8_tune.benchmarks.step_profile --output DIR [--cases small-368x256 …] [--vram-gib 0]

Each case trains `fast` in bfloat16; a step is timed without a profiler, then some replays are recorded by
torch's. What a kernel reads, writes and computes comes from the same step on the meta device, launch by
launch: which kernel a time belongs to follows from the order of the launches, not from its name. Kernels are
compiled ahead, on all cores. Prints the report; writes results.json and report.md (after every case) and
environment.json into DIR.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from ..phase8.config import preset
from ..phase8.training import Trainer, TrainingOptions
from ..tuner.compiling.ahead import KernelCompiler
from ..tuner.compiling.dynamo import leave_dynamo_out
from ..tuner.compiling.launches import META, recording
from ..tuner.predict.lines import limits_of
from ..tuner.predict.rate.calibration import known_profile
from ..tuner.predict.rate.profiles import GpuProfile
from ..tuner.predict.trace.cost_classes import is_matrix_kernel
from ..tuner.predict.trace.launches import kernel_name, launch_costs
from ..tuner.predict.trace.operations import Operation, flops, tensor_bytes, tensors_of
from ..tuner.training.card import HeldCard
from ..tuner.values.candidate import Candidate
from .environment import environment
from .step_profile_report import report
from .step_profile_rows import Kernel, Work, idle_s, one_step, rows_of
from .timing import ceilings, summarise, time_calls
from .transformer import VOCAB_SIZE

CASES: dict[str, tuple[str, int, int]] = {
    f"{model}-{batch}x{n_seq}": (model, batch, n_seq)
    for model, batch, n_seq in (
        ("small", 368, 256),
        ("medium", 44, 512),
        ("small", 64, 1024),
        ("small", 16, 4096),
        ("small", 4, 16384),
        ("small", 1, 32768),
        ("small", 1, 131072),
    )
}
_REPLAYS = 3
_UPDATE_BYTES = 40.0
"""A parameter's: clipping reads its gradient, then reads and writes it; AdamW reads weight, gradient and two
moments, and writes all but the gradient."""
_COMPILING_S = 120.0
_OPTIONS = TrainingOptions(kernel_version="fast", mixed_precision="bf16")


def works_of(model: str, batch: int, n_seq: int, card: GpuProfile) -> list[Work]:
    """What a training step does, in its order: launches of ours, and between them what PyTorch does; last
    clipping and the optimizer, as one."""
    works: list[Work] = []

    def launched(kernel: Any, given: Mapping[str, Any], grid: tuple[int, ...]) -> None:
        label, operations, moved = launch_costs(kernel, [], given, None)[0]
        works.append(Work(kernel_name(kernel), operations, moved, is_matrix=is_matrix_kernel(label)))

    def done(operation: Operation, arguments: Sequence[Any], result: Any) -> None:
        if operation.is_view or operation.is_allocation:
            return
        moved = float(tensor_bytes(tensors_of([arguments, result])))
        works.append(Work(None, flops(operation, arguments), moved, is_matrix=operation.is_gemm))

    config = preset(model, n_seq=n_seq)
    architecture = int(card.compute_capability.replace(".", ""))
    with recording(limits_of(card), architecture, launched, done):
        trainer = Trainer(config, _OPTIONS, device=META)
        works.clear()
        trainer.accumulate(torch.zeros(batch, n_seq + 1, dtype=torch.int64, device=META), 1)
    works.append(Work(None, 0.0, _UPDATE_BYTES * config.parameter_count(), is_matrix=False))
    return works


def measured(model: str, batch: int, n_seq: int, works: list[Work]) -> dict[str, Any]:
    """Seconds of a step by the clock and by kernel, on the present card."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    trainer = Trainer(preset(model, n_seq=n_seq), _OPTIONS, device=torch.device("cuda"))
    tokens = torch.randint(0, VOCAB_SIZE, (batch, n_seq + 1), device="cuda")
    timing = summarise(time_calls(lambda: trainer.step(tokens), warmup=trainer.setup_calls, iterations=10))
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        for _ in range(_REPLAYS):
            trainer.step(tokens)
        torch.cuda.synchronize()
    kernels = [
        Kernel(event.name, event.time_range.start / 1e6, event.time_range.end / 1e6)
        for event in found.events() or []
        if event.device_type.name == "CUDA"
    ]
    steps = one_step(kernels, _REPLAYS)
    return {
        "tokens": batch * n_seq,
        "step_s": timing.median_s,
        "step_low_s": timing.low_s,
        "step_high_s": timing.high_s,
        "peak_reserved_bytes": torch.cuda.max_memory_reserved(),
        "kernels_a_step": len(steps[0]),
        "idle_s": sum(map(idle_s, steps)) / len(steps),
        "rows": rows_of(steps, works),
    }


def _compile_ahead(card: GpuProfile, cases: list[str]) -> float:
    """Have all kernels in Triton's cache; the seconds it took."""
    started = time.monotonic()
    candidates = [
        Candidate(
            model=model,
            batch_size=batch,
            n_seq=n_seq,
            kernel_version="fast",
            mixed_precision="bf16",
            gradient_checkpointing="none",
        )
        for model, batch, n_seq in map(CASES.__getitem__, cases)
    ]
    with KernelCompiler(card, processes=os.cpu_count() or 1) as compiler:
        compiler.compile_ahead(candidates)
        compiler.wait(candidates, _COMPILING_S)
    return time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--vram-gib", type=float, default=0.0, help="0: all of the card")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("step_profile: expected a CUDA GPU, got none")
    leave_dynamo_out()
    properties = torch.cuda.get_device_properties(0)
    card = known_profile(properties.name, properties.total_memory)
    if card is None:
        raise SystemExit(
            f"step_profile: expected a card that `phase8-tune gpus` names, got {properties.name}"
        )
    arguments.output.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {
        "compiling_s": _compile_ahead(card, arguments.cases),
        "ceilings": ceilings(),
        "cases": {},
    }
    if arguments.vram_gib:
        HeldCard(int(arguments.vram_gib * 2**30))
    (arguments.output / "environment.json").write_text(
        json.dumps(environment(), indent=1) + "\n", encoding="utf-8"
    )
    for name in arguments.cases:
        works = works_of(*CASES[name], card)
        results["cases"][name] = measured(*CASES[name], works)
        (arguments.output / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        (arguments.output / "report.md").write_text(report(results), encoding="utf-8")
    print(report(results))


if __name__ == "__main__":
    main()
