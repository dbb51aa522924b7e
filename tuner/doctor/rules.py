"""From facts to findings: pure rules, each problem one line that says what is wrong and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from ..machine.nvml import SLOWDOWNS
from ..values.outcome import Outcome
from ..values.sizes import MIB, format_mb
from .facts import Facts, Finding, Kind

RESULTS_BYTES = 1 << 30  # a long study's journal, database and logs, with room
# A desktop takes this much; below, the budget need not be thought about.
TAKEN_BYTES = 1 << 30
TAKEN_FRACTION = 1 / 16
_CPU = "until then phase8-tune predicts; --device cpu measures on the CPU"
_TRITON_CAUSES = (
    (r"Failed to find C compiler|gcc.*not found", "install a C compiler (Debian, Ubuntu: apt install gcc)"),
    (r"Python\.h", "install Python's headers (Debian, Ubuntu: apt install python3-dev)"),
    (
        r"libcuda\.so|cannot find -l:?libcuda|-lcuda",
        "make the driver's libcuda.so.1 known to the linker (under WSL it lies in /usr/lib/wsl/lib)",
    ),
    (r"ptxas|PTXAS|unsupported PTX|PTX was compiled", "update the NVIDIA driver"),
    (r"No module named|ImportError", "install again with `make`; torch and Triton must fit each other"),
)


def judge(facts: Facts) -> tuple[Finding, ...]:
    """All findings, the gravest first."""
    rules = (_torch, _card, _trial, _triton, _shared_memory, _nvml, _source, _taken, _wsl, _segments)
    found = [finding for rule in (*rules, _power, _disk, _ranges) for finding in rule(facts)]
    order = ("error", "warning", "note")
    return tuple(sorted(found, key=lambda finding: order.index(finding.severity)))


def _finding(kind: Kind, severity: Literal["error", "warning", "note"], what: str, todo: str) -> Finding:
    """Both in one line each: what a child or a driver said may have several."""
    return Finding(kind=kind, severity=severity, what=" ".join(what.split()), todo=" ".join(todo.split()))


def _torch(facts: Facts) -> Iterator[Finding]:
    if facts.torch_failure:
        yield _finding(
            Kind.TORCH_FAILED,
            "error",
            f"PyTorch does not start: {facts.torch_failure}",
            "install again with `make clean` and `make tune`",
        )
    elif facts.versions.cuda is None:
        yield _finding(
            Kind.TORCH_WITHOUT_CUDA,
            "error",
            f"PyTorch {facts.versions.torch} is a build without CUDA"
            + (f", and there is {', '.join(facts.nvml.cards)}" if facts.nvml.cards else ""),
            f"with an NVIDIA GPU, install PyTorch's CUDA build; {_CPU}",
        )


def _card(facts: Facts) -> Iterator[Finding]:
    if facts.gpu_failure:
        yield _finding(
            Kind.GPU_UNUSABLE,
            "error",
            f"a small product on {facts.device.name} failed: {facts.gpu_failure}",
            "close other programs on the GPU; then update the driver; a build of PyTorch supports only some "
            "compute capabilities",
        )
    if facts.device.kind == "cuda" or facts.torch_failure or facts.versions.cuda is None:
        return  # the latter two are PyTorch's, told above
    cards = ", ".join(facts.nvml.cards)
    if cards:
        hidden = facts.visible_devices is not None
        todo = (
            f"unset CUDA_VISIBLE_DEVICES, which is {facts.visible_devices!r}, or name a card in it"
            if hidden
            else "update the NVIDIA driver: it must be at least as new as PyTorch's CUDA "
            f"({facts.versions.cuda})"
        )
        what = f"there is {cards}, but PyTorch cannot use it: {facts.no_gpu_reason}"
        yield _finding(Kind.GPU_HIDDEN if hidden else Kind.NO_GPU, "error", what, f"{todo}; {_CPU}")
        return
    yield _finding(
        Kind.NO_GPU,
        "error",
        f"no usable NVIDIA GPU: {facts.no_gpu_reason}",
        f"{_where_to_look(facts)}; {_CPU}",
    )


def _where_to_look(facts: Facts) -> str:
    if facts.wsl.is_wsl and not facts.wsl.has_gpu_device:
        return "run `wsl --update` in Windows and use WSL 2: /dev/dxg is missing"
    if facts.wsl.is_wsl and not facts.wsl.has_driver_library:
        return "install the NVIDIA driver in Windows, none in WSL: /usr/lib/wsl/lib/libcuda.so.1 is missing"
    if facts.in_container:
        return "start the container with its GPU (Docker: --gpus all)"
    return "with an NVIDIA GPU, install its driver until `nvidia-smi` lists it"


def _trial(facts: Facts) -> Iterator[Finding]:
    if facts.trial_failure:
        yield _finding(
            Kind.TRIAL_FAILED,
            "error",
            f"the worker does not start on the GPU: {facts.trial_failure}",
            "close other programs on the GPU, then run this again",
        )
    if facts.trial is None:
        return
    outcome = facts.trial.outcome
    if outcome is Outcome.INTERFERENCE:
        yield _finding(
            Kind.TRIAL_DISTURBED,
            "warning",
            f"a first measurement was disturbed: {facts.trial.message}",
            "close other programs on the GPU while a study runs",
        )
    elif outcome is not Outcome.OK:
        yield _finding(
            Kind.TRIAL_FAILED,
            "error",
            f"a first measurement of the smallest model ended with {outcome}: {facts.trial.message}",
            outcome.advice
            if outcome is not Outcome.ERROR
            else "close other programs on the GPU, update its driver, then run this again",
        )


def _triton(facts: Facts) -> Iterator[Finding]:
    if facts.device.kind != "cuda" or facts.triton.works:
        return
    todo = "until then only kernel version reference can run: name it alone in a study's kernel_version"
    if facts.versions.triton is None:
        yield _finding(
            Kind.TRITON_MISSING, "warning", "Triton is not installed", f"install again with `make`; {todo}"
        )
        return
    said = f"{facts.triton.said}\n{facts.triton.errors}"
    cause = next((do for pattern, do in _TRITON_CAUSES if re.search(pattern, said, re.I)), None)
    yield _finding(
        Kind.TRITON_FAILED,
        "warning",
        f"Triton {facts.versions.triton}: {facts.triton.said}",
        f"{cause or '`phase8-tune doctor --json` shows all that it printed'}; {todo}",
    )


def _shared_memory(facts: Facts) -> Iterator[Finding]:
    limit, fitted = facts.device.shared_memory_per_block_bytes, facts.fitted_shared_memory_bytes
    if limit is not None and fitted is not None and limit < fitted:
        yield _finding(
            Kind.SHARED_MEMORY_SMALL,
            "warning",
            f"{facts.device.name} has {limit} bytes of shared memory a block, the kernels are fitted to "
            f"{fitted}",
            "nothing: candidates whose kernels do not fit end as shared_memory, the others are measured",
        )


def _nvml(facts: Facts) -> Iterator[Finding]:
    if facts.nvml.reason and facts.device.kind == "cuda":
        yield _finding(
            Kind.NVML_MISSING,
            "warning",
            f"NVML cannot be used: {facts.nvml.reason}",
            "in a container, give it NVIDIA_DRIVER_CAPABILITIES=compute,utility; else install nvidia-ml-py "
            "and the driver again",
        )


def _source(facts: Facts) -> Iterator[Finding]:
    source = facts.memory_source
    if source is None or "nvml process used" in source:
        return
    if "nvml device used" in source:
        where = "under WSL" if facts.wsl.is_wsl else "in containers"
        yield _finding(
            Kind.MEMORY_OF_WHOLE_CARD,
            "note",
            f"NVML tells the memory of the whole card, not of a process (normal {where}): source {source}",
            "do not start or close other programs on the GPU while a study runs",
        )
        return
    yield _finding(
        Kind.MEMORY_SOURCE_WEAK,
        "warning",
        f"the card's memory is not seen from outside the worker: source {source}",
        "make NVML work; until then memory that libraries take for a moment is missed",
    )


def _taken(facts: Facts) -> Iterator[Finding]:
    total, used = facts.nvml.total_bytes, facts.nvml.used_bytes
    if facts.device.kind != "cuda" or total is None or used is None:
        return
    if used <= min(TAKEN_BYTES, total * TAKEN_FRACTION):
        return
    holders = facts.nvml.holders or ()
    who = ", ".join(
        f"{holder.name or 'process'} {holder.pid}"
        + (f": {format_mb(holder.used_bytes)} MB" if holder.used_bytes is not None else "")
        for holder in holders[:5]
    )
    yield _finding(
        Kind.MEMORY_TAKEN,
        "warning",
        f"{format_mb(used)} MB of {format_mb(total)} MB are in use already "
        f"({who or 'NVML tells no processes'})",
        f"close these programs, or keep --vram at {max(0, total - used) // MIB}MB or less",
    )


def _wsl(facts: Facts) -> Iterator[Finding]:
    if facts.wsl.is_wsl and facts.device.kind == "cuda":
        yield _finding(
            Kind.WSL_SPILL,
            "note",
            "under WSL the driver may move what does not fit to system memory, which is slow; whether it "
            "does cannot be asked from here",
            "keep --vram below what Windows leaves free; in the NVIDIA Control Panel set 'CUDA - Sysmem "
            "Fallback Policy' to 'Prefer No Sysmem Fallback'",
        )


def _segments(facts: Facts) -> Iterator[Finding]:
    if facts.expandable_segments.works is False:
        yield _finding(
            Kind.SEGMENTS_UNSUPPORTED,
            "note",
            f"PyTorch's expandable segments: {facts.expandable_segments.said}",
            "nothing: phase8-tune does not need them",
        )


def _power(facts: Facts) -> Iterator[Finding]:
    if facts.power_source == "battery" and facts.device.kind == "cuda":
        yield _finding(
            Kind.ON_BATTERY,
            "warning",
            "the computer runs on its battery, which slows the GPU",
            "plug it in before measuring",
        )
    told = facts.trial.telemetry if facts.trial is not None else None
    seen = set(facts.nvml.throttle_reasons or ()) | set(told.throttle_reasons if told is not None else ())
    if facts.device.kind == "cuda" and seen & SLOWDOWNS:
        yield _finding(
            Kind.THROTTLED,
            "warning",
            f"the GPU slows itself down: {', '.join(sorted(seen & SLOWDOWNS))}",
            "let it cool, free its air inlets, use its own power supply; what is measured while it is slowed "
            "is measured again once",
        )


def _disk(facts: Facts) -> Iterator[Finding]:
    folder = facts.runs_folder
    if not folder.is_writable:
        yield _finding(
            Kind.RUNS_FOLDER_UNWRITABLE,
            "warning",
            f"the runs folder {folder.path} cannot be written",
            "name another with --runs-dir, or run in another folder",
        )
    elif folder.free_bytes is not None and folder.free_bytes < RESULTS_BYTES:
        yield _finding(
            Kind.DISK_FULL,
            "warning",
            f"only {format_mb(folder.free_bytes)} MB are free where the runs folder {folder.path} lies",
            "free some, or name another folder with --runs-dir; a full disk stops a study",
        )


def _ranges(facts: Facts) -> Iterator[Finding]:
    for miss in facts.out_of_range:
        yield _finding(
            Kind.VERSION_OUT_OF_RANGE,
            "warning",
            f"{miss.name}: expected {miss.expected or 'any version'}, "
            f"got {miss.installed or 'none installed'}",
            "install again with `make clean` and `make tune`, which install a set that was tried together",
        )
