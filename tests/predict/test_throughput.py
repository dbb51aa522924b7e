"""The roofline's arithmetic, and its correction by measurements."""

from __future__ import annotations

import math
import random
import statistics

import pytest

from phase8_tune.tuner.predict.rate.profiles import gpu_profile
from phase8_tune.tuner.predict.rate.throughput import (
    Correction,
    MeasuredStep,
    correct,
    estimate_step,
)
from phase8_tune.tuner.predict.trace.cost_classes import CALLS, RECORDED, gemm_costs
from phase8_tune.tuner.predict.trace.events import Cost

PROFILE = gpu_profile("h200")
PRODUCTS = {
    "gemm": Cost(flops=1e13, moved_bytes=1e9, launches=10),
    **{name: Cost(flops=balanced) for name, balanced in gemm_costs(1e13, 1e9)},
}
COSTS = {**PRODUCTS, "memory": Cost(moved_bytes=1e12, launches=90)}
ATTENTION = "block_fast_backward:window_attention.banded.query_kernel"
EXPONENTIALS = "htt_cross_entropy_fast:htt_cross_entropy.exponentials.exponentials_kernel"


def _estimate(costs, **options):
    return estimate_step(
        costs, PROFILE, **{"precision": "bf16", "n_seq": 256, "is_captured": False, **options}
    )


def test_a_class_takes_the_longer_of_arithmetic_and_traffic():
    step = _estimate(COSTS)
    assert step.arithmetic_s > 1e13 / PROFILE.matrix_16bit.value
    assert step.traffic_s > 1e12 / PROFILE.bandwidth.value
    assert step.gpu_s == pytest.approx(step.arithmetic_s + step.traffic_s + step.floor_s)
    assert step.limited_by == "memory traffic"


def test_float32_products_run_at_the_float32_rate():
    fast, slow = (_estimate(PRODUCTS, precision=p) for p in ("bf16", "none"))
    assert slow.arithmetic_s > 5 * fast.arithmetic_s
    assert fast.limited_by == slow.limited_by == "arithmetic"


def test_a_product_waits_for_its_bytes_or_its_arithmetic():
    """Two products: one all bytes, one all arithmetic. A sum over both would hide either behind the other."""
    work, moved = 1e13, 1e11
    narrow, square = gemm_costs(0.0, moved), gemm_costs(work, 0.0)
    costs = {"gemm": Cost(flops=work, moved_bytes=moved, launches=2)} | {
        name: Cost(flops=one + other) for (name, one), (_, other) in zip(narrow, square, strict=True)
    }
    step = _estimate(costs)
    alone = work / PROFILE.matrix_16bit.value, moved / PROFILE.bandwidth.value
    over_roofline = step.arithmetic_s / alone[0]
    assert 1 <= over_roofline < 1.5
    assert step.arithmetic_s + step.traffic_s == pytest.approx(over_roofline * sum(alone), rel=0.05)


@pytest.mark.parametrize("name", ["rtx-3060", "rtx-3080-laptop", "h100"])
def test_cards_between_and_beyond_the_balances(name: str) -> None:
    """A product that waits for its bytes costs about bytes over bandwidth, whatever the card's balance."""
    profile = gpu_profile(name)
    costs = {"gemm": Cost(moved_bytes=1e11)} | {n: Cost(flops=f) for n, f in gemm_costs(0.0, 1e11)}
    step = estimate_step(costs, profile, precision="bf16", n_seq=256, is_captured=True)
    assert 0.9 < step.traffic_s * profile.bandwidth.value / 1e11 < 1.5


def test_arithmetic_of_kernels_runs_on_vector_or_matrix_units():
    attention, product = (_estimate({name: Cost(flops=1e13)}) for name in (ATTENTION, EXPONENTIALS))
    assert attention.arithmetic_s > 10 * product.arithmetic_s
    slow = _estimate({"htt_cross_entropy_v2:htt_cross_entropy.factors.left_product_kernel": Cost(flops=1e13)})
    assert product.arithmetic_s < slow.arithmetic_s < attention.arithmetic_s


def test_a_kernel_takes_the_longer_of_arithmetic_and_traffic():
    by_traffic = _estimate({ATTENTION: Cost(flops=1.0, moved_bytes=1e10)})
    both = _estimate({ATTENTION: Cost(flops=1e13, moved_bytes=1e10)})
    assert by_traffic.arithmetic_s == 0 < by_traffic.traffic_s
    assert both.traffic_s == 0 < both.arithmetic_s


def test_a_captured_step_does_not_wait_for_the_host():
    costs = {"memory": Cost(moved_bytes=1e6, launches=1000)}
    eager, captured = _estimate(costs), _estimate(costs, is_captured=True)
    assert eager.step_s == pytest.approx(eager.host_s, rel=0.01)
    assert captured.host_s == 0.0
    assert captured.step_s < 0.5 * eager.step_s
    assert eager.limited_by == "launches"


def test_what_autograd_records_costs_the_host_more():
    costs = {"memory": Cost(launches=100)}
    plain, recorded = _estimate(costs), _estimate(costs | {RECORDED: Cost(launches=100)})
    assert recorded.host_s > 3 * plain.host_s
    assert recorded.gpu_s == plain.gpu_s


def test_custom_operations_cost_the_host_more():
    calls, kernels, torchs = (_estimate({name: Cost(launches=100)}) for name in (CALLS, ATTENTION, "memory"))
    assert calls.host_s > 5 * kernels.host_s > 5 * torchs.host_s
    assert calls.gpu_s == 0 < kernels.gpu_s


def test_host_and_gpu_overlap():
    alike = _estimate({"memory": Cost(moved_bytes=1e9, launches=50)})
    assert max(alike.gpu_s, alike.host_s) < alike.step_s < alike.gpu_s + alike.host_s


def _points(count: int, noise: float) -> list[MeasuredStep]:
    """Steps that take 1.5 times their estimate, of version v1 three times."""
    chance = random.Random(0)
    points = []
    for index in range(count):
        version = ("v1", "fast")[index % 2]
        estimated = 10 ** chance.uniform(-3, 0)
        factor = {"v1": 3.0, "fast": 1.5}[version] * math.exp(chance.gauss(0, noise))
        points.append(
            MeasuredStep(
                kernel_version=version,
                limited_by="arithmetic",
                estimated_s=estimated,
                measured_s=estimated * factor,
            )
        )
    return points


def test_no_measurements_no_correction():
    assert correct([]) == Correction()


def test_ten_measurements_halve_the_error():
    points = _points(60, noise=0.03)
    correction = correct(points[:10])

    def error(point: MeasuredStep, corrected: bool) -> float:
        factor = correction.log_factor(point.kernel_version, point.limited_by) if corrected else 0.0
        return abs(point.log_ratio - factor)

    before = statistics.median(error(p, False) for p in points[10:])
    after = statistics.median(error(p, True) for p in points[10:])
    assert after < 0.5 * before


def test_a_slow_host_says_nothing_of_the_gpu():
    points = [
        MeasuredStep(kernel_version="reference", limited_by="launches", estimated_s=0.1, measured_s=0.2)
        for _ in range(10)
    ]
    correction = correct(points)
    assert correction.log_factor("reference", "launches") > 0.9 * math.log(2)
    assert correction.log_factor("fast", "launches") == 0.0  # a captured step's launches are the GPU's
    assert abs(correction.log_factor("v2", "memory traffic")) == 0.0


def test_one_outlier_moves_little():
    points = _points(11, noise=0.01)
    spoiled = [*points[:-1], MeasuredStep(
        kernel_version="v1", limited_by="arithmetic", estimated_s=1.0, measured_s=100.0
    )]  # fmt: skip
    clean, moved = (correct(p).log_factor("v1", "arithmetic") for p in (points, spoiled))
    assert abs(clean - moved) < 0.2
