"""What one measurement found: the value that crosses from the measuring side to the searching side."""

from __future__ import annotations

import math
import statistics
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from .outcome import Outcome

PowerSource = Literal["ac", "battery"]


class Border(BaseModel):
    """Base of all values that cross a process or file border: strict, frozen, unknown keys refused."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class LedgerLine(Border):
    """One line of the memory budget: how many bytes, for what, and where the figure comes from."""

    name: str  # context | reserved | other | margin | process …
    size_bytes: int
    source: str  # for example "torch.cuda.max_memory_reserved", "nvml device used - baseline", "VmHWM"


DeviceKind = Literal["cuda", "cpu", "predicted"]


class DeviceInfo(Border):
    """Which device a number was measured on; of kind "predicted": which card it was predicted for."""

    kind: DeviceKind
    name: str  # "NVIDIA H200", or the processor's name
    total_bytes: int  # device memory; for a CPU the machine's memory
    uuid: str | None = None
    compute_capability: str | None = None  # "9.0"
    shared_memory_per_block_bytes: int | None = None


class Versions(Border):
    """The software a number was measured with."""

    phase8_tune: str
    python: str
    torch: str
    triton: str | None
    cuda: str | None
    driver: str | None
    os: str


class Telemetry(Border):
    """What was seen besides memory, by NVML and of the computer's power; None where nothing tells it."""

    energy_j: float | None = None  # over the timed samples
    sm_clock_mhz: int | None = None
    temperature_c: int | None = None
    throttle_reasons: tuple[str, ...] = ()
    samples_per_s: float | None = None  # the monitor's own rate
    power_source: PowerSource | None = None  # "battery" also where only a part of the trial ran on it


class KernelCheck(Border):
    """The correctness check of a kernel version at one precision, every operation against float64.

    `worst_ratio` is the largest error of an output or gradient over its budget: at most 1 where it passed;
    None where an error was not finite. optimizer: whether the step of an optimizer of our own was checked,
    too; written only where it was, as earlier versions know nothing of it.
    """

    workload: str
    kernel_version: str
    mixed_precision: str
    optimizer: bool = False
    passed: bool
    worst_ratio: float | None
    seconds: float

    @model_serializer(mode="wrap")
    def _as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = dump(self)
        return found if self.optimizer else {k: v for k, v in found.items() if k != "optimizer"}


class PredictedFigures(Border):
    """What stands in the place of samples where nothing was measured.

    Tokens a second with an interval that should hold nine of ten; peak_bytes_high: the peak with the
    prediction's margin, which the budget has to hold.
    """

    tokens_per_s_low: float
    tokens_per_s: float
    tokens_per_s_high: float
    limited_by: str
    peak_bytes_high: int


class Measurement(Border):
    """The result of measuring one candidate once, or of predicting it: then `predicted` is not None.

    `parameters` is the exact number of learned scalars; `body_parameters` without those of a position table,
    so that a longer sequence is no larger model. `samples_s` are the times of the timed iterations, each one,
    in order. `peak_bytes` is the whole peak of
    the process on the device (host memory on a CPU), the sum that the budget covers; None where the outcome
    left none. `memory_stats` are the allocator's own peaks. `tainted` names why samples are not trusted.
    `kernel_check` is set in the one measurement before which the kernel version was checked.
    """

    outcome: Outcome
    message: str = ""
    device: DeviceInfo | None = None
    versions: Versions | None = None
    parameters: int | None = None
    body_parameters: int | None = None
    samples_s: tuple[float, ...] = ()
    setup_s: float | None = None  # kernel check, compilation, autotuning, graph capture, first iteration
    wall_s: float = 0.0
    peak_bytes: int | None = None
    peak_source: str | None = None
    ledger: tuple[LedgerLine, ...] = ()
    memory_stats: dict[str, int] = {}
    telemetry: Telemetry | None = None
    tainted: tuple[str, ...] = ()
    final_loss: float | None = None
    predicted: PredictedFigures | None = None
    kernel_check: KernelCheck | None = None

    def step_time_mean_s(self) -> float:
        """Raises: ValueError where there are no samples."""
        if not self.samples_s:
            raise ValueError("no samples were taken")
        return statistics.fmean(self.samples_s)

    def tokens_per_s(self, tokens_per_step: int) -> tuple[float, float]:
        """Mean and sample standard deviation of tokens per second over the samples."""
        rates = [tokens_per_step / s for s in self.samples_s]
        if not rates or not all(math.isfinite(r) for r in rates):
            raise ValueError("no usable samples were taken")
        return statistics.fmean(rates), statistics.stdev(rates) if len(rates) > 1 else 0.0

    def energy_per_token_j(self, tokens_per_step: int) -> float | None:
        """Mean energy of a token over the samples, None where the GPU does not tell its energy."""
        if self.telemetry is None or self.telemetry.energy_j is None or not self.samples_s:
            return None
        return self.telemetry.energy_j / (tokens_per_step * len(self.samples_s))
