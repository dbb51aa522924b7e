"""Step time from a roofline by class of operations, corrected by what was measured.

A class takes the longer of its arithmetic at the card's rate and its traffic at the card's bandwidth, times
what its kernels take over that; matrix products are balanced one by one. Every launch takes the GPU a moment
and the host a longer one. Captured steps take the GPU's time alone, eager ones about the longer of the GPU's
and the host's.

The factors describe these kernels and PyTorch's, the profile describes the card and its host. They are fitted
to random configurations on H100s: those of the GPU to 116 (studies/results, 2026-11-26-h100-prediction and
2026-11-26-h100-prediction-blind), starting from kernels timed one by one (2026-11-26-h100-kernels), those of
the host to the steps that wait for it among 171 (2026-11-26-h100-host-time and
2026-11-26-h100-prediction-new-processes).
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from ....kernels.versions import CAPTURED_VERSIONS
from ...values.candidate import Precision
from ..fit.line import Costs
from ..trace.cost_classes import (
    BALANCES,
    CALLS,
    RECORDED,
    UNRECORDED,
    gemm_class,
    is_launch,
    is_matrix_kernel,
    is_narrow_product,
)
from ..trace.events import Cost
from .profiles import GpuProfile

LimitedBy = Literal["memory traffic", "arithmetic", "launches"]
Name = TypeVar("Name", str, tuple[str, str])

# What measuring reaches of a data sheet's figure: of the H200's 4.3 of 4.8 TB/s, 790 of 989 TFLOP/s
_OF_BANDWIDTH = {"measured": 1.0, "specification": 0.9, "estimate": 0.9}
_OF_MATRIX = {"measured": 1.0, "specification": 0.8, "estimate": 0.8}
_VECTOR_SHARE = 0.42  # of the float32 rate: transcendental functions cost several operations
# Time over the roofline: of products, of PyTorch's other operations in eager and captured steps, of kernels,
# of matrix products in kernels too narrow for a library's
_PRODUCTS, _EAGER, _CAPTURED, _KERNELS, _NARROW_PRODUCTS = 1.1, 1.5, 2.2, 1.3, 3.0
_KERNEL_FLOOR_S = 3e-6  # start and end of a kernel on the GPU
# Host time in the profile's launches: of an operation, of a Triton launch; beside those, of recording an
# operation (with the Python that calls it), of calling one without autograd (fitted to the forward rows of
# 2026-11-24-h200-seed-table-reference), of calling a custom one (Python around it)
_HOST_OF_OPERATION, _HOST_OF_KERNEL = 1.0, 4.6
_HOST_BESIDE = {RECORDED: 2.6, UNRECORDED: 0.4, CALLS: 27.0}
_OVERLAP = 6  # exponent of the mean of host and GPU: the shorter hides but for its ends
_SERIAL_STEP_S = 40e-9  # one dependent complex step of a scan that walks a row
_WALKS_A_ROW = "bk_scan_v1"

SPREAD = 1.6
"""Nine of ten steps on a card where nothing was measured take no more than so many times what is estimated,
and no less than that part of it."""
# So many points weigh as much as what is expected: hosts differ from their profiles, versions hardly
_SHRINK_SIDES, _SHRINK_LIMITS, _SHRINK_VERSIONS = 1, 4, 5


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
        whole: float = (self.gpu_s**_OVERLAP + self.host_s**_OVERLAP) ** (1 / _OVERLAP)
        return whole

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
    matrix_rate = rate.value * _OF_MATRIX[rate.basis]
    bandwidth = profile.bandwidth.value * _OF_BANDWIDTH[profile.bandwidth.basis]
    vector_rate = profile.matrix_32bit.value * _VECTOR_SHARE
    traffic_s = arithmetic_s = launches = host_launches = 0.0
    for name, cost in costs.items():
        host_launches += cost.launches * _host_of(name)
        if name in _HOST_BESIDE:
            continue
        launches += cost.launches
        if name.startswith("gemm"):
            continue
        by_traffic = cost.moved_bytes / bandwidth
        by_work = cost.flops / (matrix_rate if is_matrix_kernel(name) else vector_rate)
        if name.startswith(_WALKS_A_ROW):
            by_work = max(by_work, cost.launches / 2 * n_seq * _SERIAL_STEP_S)
        by_traffic *= _KERNELS if is_launch(name) else _CAPTURED if is_captured else _EAGER
        if is_narrow_product(name):
            by_work *= _NARROW_PRODUCTS
        if by_traffic >= by_work:
            traffic_s += by_traffic
        else:
            arithmetic_s += by_work
    products_s = _balanced_flops(costs, matrix_rate / bandwidth) / matrix_rate * _PRODUCTS
    of_work = costs.get("gemm", Cost()).flops / matrix_rate * _PRODUCTS
    arithmetic_s += of_work
    traffic_s += max(products_s - of_work, 0.0)
    host_s = 0.0 if is_captured else host_launches * profile.launch_s.value
    return StepEstimate(
        traffic_s=traffic_s, arithmetic_s=arithmetic_s, floor_s=launches * _KERNEL_FLOOR_S, host_s=host_s
    )


def _balanced_flops(costs: Costs, balance: float) -> float:
    """FLOP of all products on a card of this balance, each its own or as many as its bytes take the time of.

    Between two balances of the trace the logarithm decides; beyond them the nearer one serves.
    """
    points = [(known, costs.get(gemm_class(known), Cost()).flops) for known in BALANCES]
    for (low, at_low), (high, at_high) in itertools.pairwise(points):
        if balance <= high:
            share = min(max(math.log(balance / low) / math.log(high / low), 0.0), 1.0)
            return at_low + share * (at_high - at_low)
    return points[-1][1]


def _host_of(name: str) -> float:
    """Host time of one launch of a class, in launches of the profile."""
    return _HOST_BESIDE.get(name, _HOST_OF_KERNEL if is_launch(name) else _HOST_OF_OPERATION)


def _side(kernel_version: str, limited_by: LimitedBy) -> Literal["host", "GPU"]:
    """Whose time a step takes. The launches that a captured step waits for are the GPU's."""
    return "host" if limited_by == "launches" and kernel_version not in CAPTURED_VERSIONS else "GPU"


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

    @property
    def side(self) -> str:
        return _side(self.kernel_version, self.limited_by)


@dataclass(frozen=True, kw_only=True, slots=True)
class Correction:
    """Log factors on estimated step times: by whose time it is (how fast the host is says nothing of the
    GPU), then by what limits there, then by kernel version.

    Each level is the median of what the level before left over, shrunk where there are few points.
    """

    by_side: dict[str, float] = field(default_factory=dict)
    by_limit: dict[tuple[str, str], float] = field(default_factory=dict)
    by_version: dict[str, float] = field(default_factory=dict)

    def log_factor(self, kernel_version: str, limited_by: LimitedBy) -> float:
        side = _side(kernel_version, limited_by)
        return (
            self.by_side.get(side, 0.0)
            + self.by_limit.get((side, limited_by), 0.0)
            + self.by_version.get(kernel_version, 0.0)
        )


def correct(points: Sequence[MeasuredStep]) -> Correction:
    """The correction that measured steps suggest; none suggest none."""
    left = [point.log_ratio for point in points]
    by_side, left = _level([p.side for p in points], left, _SHRINK_SIDES)
    by_limit, left = _level([(p.side, p.limited_by) for p in points], left, _SHRINK_LIMITS)
    by_version, _ = _level([p.kernel_version for p in points], left, _SHRINK_VERSIONS)
    return Correction(by_side=by_side, by_limit=by_limit, by_version=by_version)


def _level(
    names: Sequence[Name], values: Sequence[float], shrink: int
) -> tuple[dict[Name, float], list[float]]:
    """The shrunk median of every name's values, and what each value leaves over."""
    factors = {
        name: statistics.median(group) * len(group) / (len(group) + shrink)
        for name, group in _grouped(names, values).items()
    }
    return factors, [value - factors[name] for name, value in zip(names, values, strict=True)]


def _grouped(names: Sequence[Name], values: Sequence[float]) -> dict[Name, list[float]]:
    groups: dict[Name, list[float]] = {}
    for name, value in zip(names, values, strict=True):
        groups.setdefault(name, []).append(value)
    return groups
