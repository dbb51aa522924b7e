"""The faults that one driver survives: of NVML, of the worker, of its pipe, of its memory."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ..tests.fakes.nvml import MIB, FakeNvml
from ..tuner.measuring.worker_measurer import WorkerMeasurer
from ..tuner.values.outcome import Outcome
from ..tuner.values.timing import Timing
from .fault_harness import FAKES, TAINTED, Plan, Tally, run_case
from .fault_processes import marked

GIB = 1 << 30
FAKE_WORKER = (sys.executable, str(FAKES / "worker.py"))
FAKE, FAKE_CUDA = "fake", "fake, fake NVML"
BUDGET_BYTES = 4 * GIB
OOM, CRASH, COMPILE = Outcome.OOM, Outcome.ILLEGAL_ACCESS, Outcome.COMPILE_ERROR

# exception | its message, as PyTorch, Triton and the libraries have it: what it must be taken for
MESSAGES: dict[str, Outcome] = {
    "OutOfMemoryError|CUDA out of memory. Tried to allocate 20.00 MiB": OOM,
    "AcceleratorError|CUDA error: out of memory": OOM,
    "RuntimeError|CUDA driver error: out of memory": OOM,
    "RuntimeError|CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`": OOM,
    "RuntimeError|cuDNN error: CUDNN_STATUS_ALLOC_FAILED": OOM,
    "RuntimeError|NCCL error in: ncclUnhandledCudaError: Cuda failure 2 'out of memory'": OOM,
    "RuntimeError|out of resource: shared memory, Required: 147456, Hardware limit: 101376.": (
        Outcome.SHARED_MEMORY
    ),
    "AcceleratorError|CUDA error: device-side assert triggered": CRASH,
    "AcceleratorError|CUDA error: an illegal memory access was encountered": CRASH,
    "RuntimeError|PTXAS error: ptxas exited with code 255": COMPILE,
    "ValueError|anything else": Outcome.OWN_ERROR,  # of the fake workload, which is no room of ours
}
# What the fake worker does with its pipe: what it must be taken for.
PIPE: dict[str, Outcome] = {
    "garbage": Outcome.ERROR,
    "unknown_key": Outcome.ERROR,
    "wrong_id": Outcome.ERROR,
    "half_line": Outcome.TIMEOUT,
    "half_line_exit": Outcome.ERROR,
    "megabytes": Outcome.ERROR,
    "exit:0": Outcome.ERROR,
    "exit:3": Outcome.ERROR,
    "silence": Outcome.TIMEOUT,
    "signal:SIGKILL": Outcome.KILLED,
    "signal:SIGSEGV": CRASH,
}
_EVERYTHING = frozenset(
    {
        *("nvmlDeviceGetMemoryInfo", "nvmlDeviceGetComputeRunningProcesses"),
        *("nvmlDeviceGetGraphicsRunningProcesses", "nvmlDeviceGetTotalEnergyConsumption"),
        *("nvmlDeviceGetClockInfo", "nvmlDeviceGetTemperature", "nvmlDeviceGetCurrentClocksEventReasons"),
    }
)
_WORKER_PID = 31337  # as the host numbers a worker in a container


@dataclass(frozen=True, kw_only=True, slots=True)
class Bench:
    """Where the cases run. `worker`: what stands in the table; the seed decides the random moments."""

    folder: Path
    device: Literal["cuda", "cpu"]
    seed: int

    @property
    def worker(self) -> str:
        return f"real, {self.device}"

    def real(
        self, *, timeout_s: float = 60.0, budget_bytes: int = BUDGET_BYTES
    ) -> Callable[[Path], WorkerMeasurer]:
        """Makes the worker that a study has, on this device."""
        timing = Timing(warmup=1, iterations=5, timeout_s=timeout_s)
        return _making(device=self.device, timing=timing, budget_bytes=budget_bytes)


def _making(**settings: Any) -> Callable[[Path], WorkerMeasurer]:
    fixed: dict[str, Any] = {"budget_bytes": BUDGET_BYTES, "reserve_bytes": 0, "timing": Timing()}
    return lambda folder: WorkerMeasurer(log_dir=folder, **(fixed | settings))


def fake(timeout_s: float = 60.0) -> Callable[[Path], WorkerMeasurer]:
    return _making(device="cpu", command=FAKE_WORKER, timing=Timing(timeout_s=timeout_s))


def fake_cuda(library: FakeNvml) -> Callable[[Path], WorkerMeasurer]:
    return _making(device="cuda", command=(*FAKE_WORKER, "--device=cuda"), nvml_library=library)


def nvml_cases(bench: Bench, rows: int) -> Iterator[Tally]:
    """Every way in which NVML refuses, forgets or dies; `rows` trials under each."""
    libraries = {
        "NVML missing": FakeNvml(refused={"nvmlInit"}),
        "NVML: process memory None": FakeNvml(processes={_WORKER_PID: None}),
        "NVML: process memory 0": FakeNvml(processes={_WORKER_PID: 0}),
        "NVML: pids of the host": FakeNvml(processes={_WORKER_PID: 300 * MIB}),
        "NVML: every figure None": FakeNvml(absent=set(_EVERYTHING)),
        "NVML: NotSupported": FakeNvml(refused=set(_EVERYTHING)),
        "NVML: NoPermission": FakeNvml(refused=set(_EVERYTHING), refusal="Insufficient Permissions"),
        "NVML dies in mid-study": FakeNvml(dies_after=3 * rows // 2, refusal="GPU is lost"),
    }
    for index, (case, library) in enumerate(libraries.items()):
        yield run_case(
            case,
            bench.folder / f"nvml-{index}",
            [["progress"]] * rows,
            fake_cuda(library),
            worker=FAKE_CUDA,
            budget_bytes=BUDGET_BYTES,
            injected=rows,
            expected={"progress": Outcome.OK},
        )


def message_case(bench: Bench, messages: dict[str, Outcome]) -> Tally:
    """Each message raised by the workload in a real worker; the next attempt is good."""
    expected = {f"raises:{message}": outcome for message, outcome in messages.items()}
    plan: Plan = [[how, "plain"] for how in expected]
    return run_case(
        "exceptions of the list",
        bench.folder / "messages",
        plan,
        bench.real(),
        worker=bench.worker,
        budget_bytes=BUDGET_BYTES,
        expected=expected,
    )


def pipe_case(bench: Bench, faults: dict[str, Outcome]) -> Tally:
    """Garbage, half a line, megabytes, silence and ends on the worker's pipe; the next attempt is good."""
    return run_case(
        "pipe: garbage, half lines, megabytes, exits, silence",
        bench.folder / "pipe",
        [[how, "ok"] for how in faults],
        fake(timeout_s=1.0),
        worker=FAKE,
        budget_bytes=BUDGET_BYTES,
        expected=faults,
    )


def out_of_memory_case(bench: Bench, trials: int) -> Tally:
    """So many trials out of memory in a row: on a GPU really so, on a CPU as torch raises it."""
    how = f"allocates:{BUDGET_BYTES}" if bench.device == "cuda" else "oom"
    return run_case(
        "out of memory, in a row",
        bench.folder / "oom",
        [*([[how]] * trials), ["plain"]],
        bench.real(),
        worker=bench.worker,
        budget_bytes=BUDGET_BYTES,
        expected={how: OOM, "plain": Outcome.OK},
    )


def memory_case(bench: Bench) -> Tally:
    """Allocations within the budget and beyond it; on a GPU up to the cap and outside of torch, too.

    On a CPU there is no cap: the driver stops the worker.
    """
    budget = BUDGET_BYTES if bench.device == "cuda" else GIB
    within, beyond = f"allocates:{budget // 4}", f"allocates:{2 * budget}"
    expected = {within: Outcome.OK, beyond: Outcome.OVER_BUDGET}
    if bench.device == "cuda":
        expected |= {beyond: OOM, f"allocates:{budget}": OOM, "asserts": CRASH}
        expected |= {f"outside:{budget}": Outcome.OVER_BUDGET}
    return run_case(
        "allocations beyond the budget" + (", outside torch, asserts" if bench.device == "cuda" else ""),
        bench.folder / "memory",
        [[how, "plain"] for how in expected],
        bench.real(budget_bytes=budget),
        worker=bench.worker,
        budget_bytes=budget,
        injected=len(expected) - 1,
        expected=expected,
    )


def host_memory_case(bench: Bench, times: int) -> Tally:
    """A worker that takes far more of the computer's memory than the budget has."""
    how = f"grow:{400 * MIB}"
    making = _making(device="cpu", command=FAKE_WORKER, budget_bytes=64 * MIB)
    return run_case(
        "host memory far over the budget",
        bench.folder / "grow",
        [*([[how]] * times), ["ok"]],
        making,
        worker=FAKE,
        budget_bytes=64 * MIB,
        expected={how: Outcome.OVER_BUDGET},
    )


def hang_case(bench: Bench, times: int) -> Tally:
    """A workload that never comes back."""
    how = f"hangs:{os.devnull}"
    return run_case(
        "hangs",
        bench.folder / "hang",
        [*([[how]] * times), ["plain"]],
        bench.real(timeout_s=6.0),
        worker=bench.worker,
        budget_bytes=BUDGET_BYTES,
        expected={how: Outcome.TIMEOUT},
    )


def interference_case(bench: Bench, times: int) -> Tally:
    """Another process takes 2 GiB of the card in mid-trial and gives them back."""
    if bench.device == "cuda":
        how = f"neighbour:{2 * GIB}"
        plan: Plan = [[how, "plain"]] * times
        case = run_case(
            "2 GiB taken and given back in mid-trial",
            bench.folder / "neighbour",
            plan,
            bench.real(),
            worker=bench.worker,
            budget_bytes=BUDGET_BYTES,
        )
        # Where NVML does not tell whose memory it is, the measurement is tainted instead.
        seen = [o for o in case.outcomes if o.startswith(Outcome.INTERFERENCE) or o.endswith(TAINTED)]
        return case if seen else replace(case, unexpected=(*case.unexpected, "nothing noticed it"))
    library = FakeNvml()

    def visit(how: str) -> None:
        library.processes = dict.fromkeys(marked(), 500 * MIB)  # the worker, as NVML lists it
        library.visitor = (2 * GIB, library.calls + 2, library.calls + 4) if how == "slow:0.3" else None

    return run_case(
        "2 GiB taken and given back in mid-trial",
        bench.folder / "neighbour",
        [["slow:0.3", "progress"]] * times,
        fake_cuda(library),
        worker=FAKE_CUDA,
        budget_bytes=BUDGET_BYTES,
        injected=times,
        expected={"slow:0.3": Outcome.INTERFERENCE},
        before=visit,
    )
