"""Step time from a roofline by class of operations, corrected by what was measured.

A class takes the longer of its arithmetic at the card's rate and its traffic at the card's bandwidth; every
launch takes the GPU a moment and the host a longer one. Eager steps take the longer of the GPU's and the
host's time, captured steps the GPU's alone.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ..candidate import Precision
from .fit import Costs
from .profiles import GpuProfile

LimitedBy = Literal["memory traffic", "arithmetic", "launches"]

# What programs reach of a figure: of a measured one nearly all, of a data sheet's what the H200 reaches of
# its own (790 of 989 TFLOP/s, 4.3 of 4.8 TB/s), less for the shapes of a model.
_SHARE_OF_BANDWIDTH = {"measured": 0.9, "specification": 0.8, "estimate": 0.8}
_SHARE_OF_MATRIX = {"measured": 0.75, "specification": 0.6, "estimate": 0.6}
_VECTOR_SHARE = 0.3  # of the float32 rate: transcendental functions cost several operations
_KERNEL_FLOOR_S = 2e-6  # start and end of a kernel on the GPU
_HOST_PER_OPERATION = 1.0  # host time of an eager operation, in launches
_SERIAL_STEP_S = 40e-9  # one dependent complex step of a scan that walks a row
_WALKS_A_ROW = ("bk_scan_v1", "bk_gate_v1")
_MATRIX_CLASSES = ("gemm", "htt_cross_entropy")

_PRIOR_SIGMA = math.log(1.6) / 1.64  # before any measurement: off by no more than 1.6 in nine of ten
_LEAST_SIGMA = 0.03
_COVERAGE = 1.64  # 90 % of a normal distribution


@dataclass(frozen=True, kw_only=True, slots=True)
class StepEstimate:
    """Seconds of one step: of the GPU by cause, and of the host that launches."""

    traffic_s: float
    arithmetic_s: float
    floor_s: float
    host_s: float

    @property
    def gpu_s(self) -> float:
        return self.traffic_s + self.arithmetic_s + self.floor_s

    @property
    def step_s(self) -> float:
        return max(self.gpu_s, self.host_s)

    @property
    def limited_by(self) -> LimitedBy:
        if self.host_s > self.gpu_s or self.floor_s > max(self.traffic_s, self.arithmetic_s):
            return "launches"
        return "memory traffic" if self.traffic_s >= self.arithmetic_s else "arithmetic"


def estimate_step(
    costs: Costs, profile: GpuProfile, *, precision: Precision, n_seq: int, is_captured: bool
) -> StepEstimate:
    """The roofline of one step on a card."""
    rate = profile.matrix_32bit if precision == "none" else profile.matrix_16bit
    matrix_rate = rate.value * _SHARE_OF_MATRIX[rate.basis]
    bandwidth = profile.bandwidth.value * _SHARE_OF_BANDWIDTH[profile.bandwidth.basis]
    vector_rate = profile.matrix_32bit.value * _VECTOR_SHARE
    traffic_s = arithmetic_s = launches = 0.0
    for name, cost in costs.items():
        by_traffic = cost.moved_bytes / bandwidth
        by_work = cost.flops / (matrix_rate if name.startswith(_MATRIX_CLASSES) else vector_rate)
        if name.startswith(_WALKS_A_ROW):
            by_work = max(by_work, cost.launches / 2 * n_seq * _SERIAL_STEP_S)
        if by_traffic >= by_work:
            traffic_s += by_traffic
        else:
            arithmetic_s += by_work
        launches += cost.launches
    host_s = 0.0 if is_captured else launches * profile.launch_s.value * _HOST_PER_OPERATION
    return StepEstimate(
        traffic_s=traffic_s, arithmetic_s=arithmetic_s, floor_s=launches * _KERNEL_FLOOR_S, host_s=host_s
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredStep:
    """A measured step beside its estimate, with what may make the roofline wrong in the same way."""

    kernel_version: str
    limited_by: LimitedBy
    estimated_s: float
    measured_s: float

    @property
    def log_ratio(self) -> float:
        return math.log(self.measured_s / self.estimated_s)


@dataclass(frozen=True, kw_only=True, slots=True)
class Correction:
    """Log factors on estimated step times: one for all, then by kernel version, then by what limits.

    Each level is the median of what the level before left over, shrunk where there are few points.
    """

    overall: float = 0.0
    by_version: dict[str, float] = field(default_factory=dict)
    by_limit: dict[str, float] = field(default_factory=dict)
    sigma: float = _PRIOR_SIGMA

    def log_factor(self, kernel_version: str, limited_by: LimitedBy) -> float:
        return self.overall + self.by_version.get(kernel_version, 0.0) + self.by_limit.get(limited_by, 0.0)

    def interval(
        self, step_s: float, kernel_version: str, limited_by: LimitedBy
    ) -> tuple[float, float, float]:
        """(low, corrected, high) seconds of a step; the interval covers nine of ten."""
        corrected = step_s * math.exp(self.log_factor(kernel_version, limited_by))
        spread = math.exp(_COVERAGE * self.sigma)
        return corrected / spread, corrected, corrected * spread


def correct(points: Sequence[MeasuredStep]) -> Correction:
    """The correction that measured steps suggest; none suggest none."""
    if not points:
        return Correction()
    overall = statistics.median(point.log_ratio for point in points)
    left = [point.log_ratio - overall for point in points]
    by_version = _levels([point.kernel_version for point in points], left)
    left = [value - by_version[p.kernel_version] for p, value in zip(points, left, strict=True)]
    by_limit = _levels([point.limited_by for point in points], left)
    left = [value - by_limit[p.limited_by] for p, value in zip(points, left, strict=True)]
    spread = 1.4826 * statistics.median(abs(value) for value in left)
    # Few points fit themselves: trust the spread they leave by their number against the prior's
    weight = len(points) / (len(points) + 4)
    sigma = max(_LEAST_SIGMA, weight * spread + (1 - weight) * _PRIOR_SIGMA)
    return Correction(overall=overall, by_version=by_version, by_limit=by_limit, sigma=sigma)


def _levels(names: Iterable[str], values: Sequence[float]) -> dict[str, float]:
    groups: dict[str, list[float]] = {}
    for name, value in zip(names, values, strict=True):
        groups.setdefault(name, []).append(value)
    return {name: statistics.median(group) * len(group) / (len(group) + 1) for name, group in groups.items()}
