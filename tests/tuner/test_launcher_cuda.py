"""The driver's side of measuring on a GPU, with a fake NVML: what it sees from outside the worker."""

from __future__ import annotations

from pathlib import Path

from phase8_tune.tuner.measuring.worker_measurer import WorkerMeasurer
from phase8_tune.tuner.values.outcome import Outcome
from phase8_tune.tuner.values.timing import Timing

from ..fakes.nvml import MIB, FakeNvml
from .test_launcher import FAKE_WORKER, candidate


def cuda_measurer(log_dir: Path, library: FakeNvml, budget_bytes: int = 8 << 30) -> WorkerMeasurer:
    return WorkerMeasurer(
        device="cuda",
        budget_bytes=budget_bytes,
        reserve_bytes=64 * MIB,
        log_dir=log_dir,
        timing=Timing(),
        command=(*FAKE_WORKER, "--device=cuda"),
        nvml_library=library,
    )


def test_cuda_trial_is_watched_from_outside(tmp_path: Path) -> None:
    with cuda_measurer(tmp_path, FakeNvml()) as fake:
        found = fake.measure(candidate("progress"))
    assert found.outcome is Outcome.OK
    assert found.peak_bytes == 500 * MIB  # torch's counters: the fake card's use did not move
    assert [line.name for line in found.ledger] == ["context", "reserved", "other", "margin"]
    assert found.telemetry is not None
    assert found.telemetry.sm_clock_mhz == 1500


def test_cuda_trial_without_nvml(tmp_path: Path) -> None:
    with cuda_measurer(tmp_path, FakeNvml(refused={"nvmlInit"})) as fake:
        found = fake.measure(candidate("ok"))
    assert found.outcome is Outcome.OK
    assert (
        found.telemetry is None or found.telemetry.energy_j is None
    )  # a laptop still tells its power source
    assert found.peak_source == "torch reserved peak + context"


def test_cuda_trial_over_the_budget(tmp_path: Path) -> None:
    with cuda_measurer(tmp_path, FakeNvml(), budget_bytes=450 * MIB) as fake:
        found = fake.measure(candidate("ok"))
    assert found.outcome is Outcome.OVER_BUDGET
    assert str(450 * MIB) in found.message


def test_throttled_samples_are_taken_again_and_marked(tmp_path: Path) -> None:
    with cuda_measurer(tmp_path, FakeNvml(reasons=0x40)) as fake:
        found = fake.measure(candidate("progress"))
        again = fake.measure(candidate("progress"))
    assert found.tainted == ("throttled: hw_thermal_slowdown",)
    assert again.outcome is Outcome.OK
    assert getattr(found.telemetry, "throttle_reasons", ()) == ("hw_thermal_slowdown",)


def test_growth_of_the_card_after_the_first_trial_replaces_the_worker(tmp_path: Path) -> None:
    library = FakeNvml(grows_by=100 * MIB)
    with cuda_measurer(tmp_path, library) as fake:
        library.grow_once()
        first = fake.measure(candidate("ok"))  # cuBLAS and kernels are loaded for good
        second = fake.measure(candidate("ok"))
        library.grow_once()
        third = fake.measure(candidate("ok"))  # whose memory is this?
        fourth = fake.measure(candidate("ok"))
    assert first.parameters == second.parameters == third.parameters
    assert third.parameters != fourth.parameters
    assert [line.size_bytes for line in first.ledger][:2] == [100 * MIB, 400 * MIB]
