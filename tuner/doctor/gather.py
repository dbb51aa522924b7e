"""Finds out what the doctor judges: asks children, NVML and the machine, and lets the worker measure once."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from ... import __version__
from ...kernels.versions import KERNEL_VERSIONS
from ..machine.environment import host_memory_bytes, installed_version, os_name, processor_name, triton_status
from ..machine.gpus import find_gpu
from ..machine.nvml import Card, open_nvml
from ..machine.power import power_source
from ..measuring.worker_measurer import WorkerMeasurer
from ..values.candidate import Candidate
from ..values.errors import DeviceError
from ..values.measurement import DeviceInfo, Measurement, Versions
from ..values.timing import Timing
from . import machine
from .answers import SegmentsAnswer, TorchAnswer, TritonAnswer
from .children import TIMEOUT_S, Children, Reply
from .facts import Facts, Holder, KernelFacts, NvmlFacts, Probe

NO_GPU = "not asked: there is no GPU that torch can use"
SMALLEST_CANDIDATE = Candidate(
    model="nano",
    n_seq=64,
    batch_size=1,
    kernel_version="reference",  # needs nothing but torch: what it shows is the device, not a kernel
    gradient_checkpointing=False,
    mixed_precision="bf16",
)


def gather_facts(
    *,
    runs_dir: Path,
    gpu: str | None = None,
    children: Children | None = None,
    nvml_library: Any = None,
    worker_command: Sequence[str] | None = None,
    candidate: Candidate = SMALLEST_CANDIDATE,
) -> Facts:
    """Everything the doctor knows. With a GPU it takes some tens of seconds: four children import torch.

    `children`, `nvml_library`, `worker_command` and `candidate` stand in for the real ones in tests.
    Raises: UserInputError for a number or UUID that NVML does not know.
    """
    gpu_uuid = None if gpu is None else _uuid_of(gpu, nvml_library)
    if children is None:
        children = Children({} if gpu_uuid is None else {"CUDA_VISIBLE_DEVICES": gpu_uuid})
    torch = children.ask_torch()
    told = torch.answer
    card = None if told is None else told.device
    # Before anything of ours holds the card: this child has ended, the others have not begun.
    nvml = _nvml_facts(nvml_library, gpu_uuid if card is None else card.uuid)
    triton, segments = _triton(children, told), _segments(children, told)
    measured, trial_failure = None, ""
    if card is not None and told is not None and not told.failure:
        measured, trial_failure = measure_once(
            card, gpu_uuid=gpu_uuid, nvml_library=nvml_library, command=worker_command, candidate=candidate
        )
    fitted = None if told is None else told.fitted_shared_memory_bytes
    return Facts(
        device=card or DeviceInfo(kind="cpu", name=processor_name(), total_bytes=host_memory_bytes()),
        versions=_versions(told, nvml.driver),
        torch_failure=torch.failure,
        no_gpu_reason=torch.failure if told is None else told.reason,
        gpu_failure="" if told is None else told.failure,
        free_bytes=None if told is None else told.free_bytes,
        triton=triton,
        expandable_segments=segments,
        kernels=kernel_facts(card, triton, fitted),
        fitted_shared_memory_bytes=fitted,
        nvml=nvml,
        trial=measured,
        trial_failure=trial_failure,
        wsl=machine.wsl_facts(),
        in_container=machine.in_container(),
        visible_devices=os.environ.get("CUDA_VISIBLE_DEVICES"),
        power_source=power_source(),
        runs_folder=machine.runs_folder(runs_dir),
        out_of_range=machine.out_of_range(".".join(map(str, sys.version_info[:3]))),
    )


def measure_once(
    card: DeviceInfo,
    *,
    gpu_uuid: str | None,
    nvml_library: Any,
    command: Sequence[str] | None,
    candidate: Candidate,
) -> tuple[Measurement | None, str]:
    """One real measurement under the card's whole memory, or why no worker could be started for it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as log_dir:
        try:
            with WorkerMeasurer(
                device="cuda",
                budget_bytes=card.total_bytes,
                reserve_bytes=0,
                log_dir=Path(log_dir),
                timing=Timing(warmup=2, iterations=5, timeout_s=TIMEOUT_S),
                gpu_uuid=gpu_uuid,
                command=command,
                start_timeout_s=TIMEOUT_S,
                nvml_library=nvml_library,
            ) as measurer:
                return measurer.measure(candidate), ""
        except DeviceError as error:
            return None, str(error.__cause__ or error)


def kernel_facts(card: DeviceInfo | None, triton: Probe, fitted: int | None) -> tuple[KernelFacts, ...]:
    """Which kernel versions can run: the reference everywhere, the others where Triton works."""
    can_run: Literal["yes", "no", "uncertain"] = "yes"
    reason = ""
    if card is None:
        can_run, reason = "no", "needs an NVIDIA GPU"
    elif not triton.works:
        can_run, reason = "no", "needs Triton, which does not work here"
    else:
        limit = card.shared_memory_per_block_bytes
        if fitted is None or limit is None:
            can_run, reason = "uncertain", "the GPU's shared memory a block is not known"
        elif limit < fitted:
            can_run, reason = "uncertain", f"fitted to {fitted} bytes of shared memory a block, here {limit}"
    return tuple(
        KernelFacts(version=version, can_run="yes")
        if version == "reference"
        else KernelFacts(version=version, can_run=can_run, reason=reason)
        for version in KERNEL_VERSIONS
    )


def _triton(children: Children, told: TorchAnswer | None) -> Probe:
    if told is None or told.device is None:
        device = DeviceInfo(kind="cpu", name="", total_bytes=0)
        return Probe(said=triton_status(device, _versions(told, None)))
    if installed_version("triton") is None:
        return Probe(works=False, said=triton_status(told.device, _versions(told, None)))
    reply: Reply[TritonAnswer] = children.ask_triton()
    if reply.answer is None:
        return Probe(works=False, said=f"failed: {reply.failure}", errors=reply.errors)
    if not reply.answer.is_right:
        return Probe(works=False, said="failed: the kernel ran, and its sum is wrong", errors=reply.errors)
    return Probe(
        works=True, said=f"works: a kernel was compiled and run in {reply.answer.first_call_s:.1f} s"
    )


def _segments(children: Children, told: TorchAnswer | None) -> Probe:
    if told is None or told.device is None:
        return Probe(said=NO_GPU)
    reply: Reply[SegmentsAnswer] = children.ask_segments()
    if reply.answer is None:
        return Probe(works=False, said=f"failed: {reply.failure}", errors=reply.errors)
    if reply.answer.is_expandable:
        return Probe(works=True, said="supported")
    return Probe(
        works=False, said=f"not supported ({reply.answer.warning or 'torch made ordinary segments'})"
    )


def _uuid_of(gpu: str, library: Any) -> str:
    """The UUID of a GPU that the user names; what he typed where there is no NVML, which is a finding."""
    nvml = open_nvml(library).nvml
    return gpu if nvml is None else find_gpu(gpu, nvml).uuid


def _nvml_facts(library: Any, uuid: str | None) -> NvmlFacts:
    opened = open_nvml(library)
    if opened.nvml is None:
        return NvmlFacts(reason=opened.reason)
    cards = opened.nvml.cards()
    card = opened.nvml.find(uuid) if uuid is not None else next(iter(cards), None)
    memory = None if card is None else card.memory()
    return NvmlFacts(
        driver=opened.nvml.driver_version(),
        cards=tuple(f"{card.name() or 'GPU'} ({card.uuid})" for card in cards),
        total_bytes=None if memory is None else memory.total_bytes,
        used_bytes=None if memory is None else memory.used_bytes,
        holders=None if card is None else _holders(card),
        throttle_reasons=None if card is None else card.throttle_reasons(),
    )


def _holders(card: Card) -> tuple[Holder, ...] | None:
    compute, graphics = card.processes(), card.graphics_processes()
    if compute is None and graphics is None:
        return None
    held = dict(graphics or {}) | dict(compute or {})
    return tuple(
        Holder(pid=pid, name=machine.process_name(pid), used_bytes=used)
        for pid, used in sorted(held.items(), key=lambda item: -(item[1] or 0))
    )


def _versions(told: TorchAnswer | None, driver: str | None) -> Versions:
    return Versions(
        phase8_tune=__version__,
        python=sys.version.split()[0],
        torch=(told.torch if told is not None else installed_version("torch")) or "not installed",
        triton=installed_version("triton"),
        cuda=None if told is None else told.cuda,
        driver=driver,
        os=os_name(),
    )
