"""What `phase8-tune doctor` reports: the facts, the findings, and the one object that `--json` prints."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from ..values.measurement import Border, DeviceInfo, Measurement, PowerSource, Versions


class Kind(StrEnum):
    """The closed list of findings."""

    TORCH_FAILED = "torch_failed"
    TORCH_WITHOUT_CUDA = "torch_without_cuda"
    NO_GPU = "no_gpu"
    GPU_HIDDEN = "gpu_hidden"
    GPU_UNUSABLE = "gpu_unusable"
    TRIAL_FAILED = "trial_failed"
    TRIAL_DISTURBED = "trial_disturbed"
    TRITON_MISSING = "triton_missing"
    TRITON_FAILED = "triton_failed"
    SHARED_MEMORY_SMALL = "shared_memory_small"
    NVML_MISSING = "nvml_missing"
    MEMORY_SOURCE_WEAK = "memory_source_weak"
    MEMORY_OF_WHOLE_CARD = "memory_of_whole_card"
    MEMORY_TAKEN = "memory_taken"
    WSL_SPILL = "wsl_spill"
    SEGMENTS_UNSUPPORTED = "segments_unsupported"
    ON_BATTERY = "on_battery"
    THROTTLED = "throttled"
    DISK_FULL = "disk_full"
    RUNS_FOLDER_UNWRITABLE = "runs_folder_unwritable"
    VERSION_OUT_OF_RANGE = "version_out_of_range"


class Finding(Border):
    """One problem: what is wrong, and what to do. An "error" keeps training from running on the GPU; a
    "warning" costs speed, precision or kernel versions; a "note" is normal here and good to know."""

    kind: Kind
    severity: Literal["error", "warning", "note"]
    what: str
    todo: str


class Holder(Border):
    """A process that has memory of the card; `name` and `used_bytes` are None where they cannot be told."""

    pid: int
    name: str | None
    used_bytes: int | None


class NvmlFacts(Border):
    """NVIDIA's management library. `holders` is None where it does not tell processes."""

    reason: str = Field(default="", description="why NVML is not available; empty where it is")
    driver: str | None = None
    cards: tuple[str, ...] = Field(default=(), description="all cards, hidden from CUDA or not")
    total_bytes: int | None = None
    used_bytes: int | None = Field(default=None, description="of the chosen card, before anything was run")
    holders: tuple[Holder, ...] | None = None
    throttle_reasons: tuple[str, ...] | None = Field(default=None, description="while idle")


class Probe(Border):
    """What a child process was asked: `works` is None where it was not, because there is no GPU."""

    works: bool | None = None
    said: str
    errors: str = Field(default="", description="the end of the child's standard error where it failed")


class KernelFacts(Border):
    """Whether a kernel version can run here: no, yes, or uncertain (some kernels may not fit)."""

    version: str
    can_run: Literal["yes", "no", "uncertain"]
    reason: str = ""


class WslFacts(Border):
    """The Windows Subsystem for Linux, and what of the GPU's driver Windows hands through."""

    is_wsl: bool
    has_gpu_device: bool = Field(description="/dev/dxg exists")
    has_driver_library: bool = Field(description="/usr/lib/wsl/lib/libcuda.so.1 exists")


class RunsFolder(Border):
    """Where results go; for a folder that does not exist yet, the nearest one above that does."""

    path: str
    free_bytes: int | None
    is_writable: bool


class RangeMiss(Border):
    """A distribution whose installed version is not what phase8-tune asks for; None: not installed."""

    name: str
    installed: str | None
    expected: str


class Facts(Border):
    """All that was found out, before it is judged. Absence is None with a reason beside it."""

    device: DeviceInfo
    versions: Versions
    torch_failure: str = Field(description="why the child that imported torch did not answer")
    no_gpu_reason: str = Field(description="why torch has no card; empty where it has one")
    gpu_failure: str = Field(description="why a small product on the card failed; empty where it ran")
    free_bytes: int | None = Field(description="free on the card by cudaMemGetInfo")
    triton: Probe
    expandable_segments: Probe
    kernels: tuple[KernelFacts, ...]
    fitted_shared_memory_bytes: int | None = Field(description="a block, what our kernels are fitted to")
    nvml: NvmlFacts
    trial: Measurement | None = Field(description="one real measurement of `nano` by the worker, on a GPU")
    trial_failure: str = Field(description="why no worker could be started for it")
    wsl: WslFacts
    in_container: bool
    visible_devices: str | None = Field(description="CUDA_VISIBLE_DEVICES")
    power_source: PowerSource | None = Field(description="None where there is no supply listed")
    runs_folder: RunsFolder
    out_of_range: tuple[RangeMiss, ...]

    @property
    def memory_source(self) -> str | None:
        """Which source of the ladder the monitor used in the trial, None where none was run."""
        return None if self.trial is None else self.trial.peak_source


class Diagnosis(Border):
    """The object of `--json`."""

    format_version: Literal[1] = 1
    training_on_gpu: bool = Field(description="training on the GPU will work; the exit code is then 0")
    exit_code: Literal[0, 4]
    measuring_on: Literal["cuda", "cpu"] | None = Field(
        description="cpu: only --device cpu measures; null where PyTorch does not start"
    )
    memory_source: str | None = Field(description="the peak memory's source, as every record names it")
    environment: dict[str, str] = Field(description="the table for people, label by label")
    facts: Facts
    findings: tuple[Finding, ...]
