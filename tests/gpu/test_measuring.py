"""Measuring on a real GPU: the cap, the ledger, the failures that only a GPU has, repeatability."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from phase8_tune.tuner.machine.devices import device_total_bytes, resolve_device
from phase8_tune.tuner.measuring.worker_measurer import WorkerMeasurer
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.measurement import Measurement
from phase8_tune.tuner.values.outcome import Outcome
from phase8_tune.tuner.values.record import Record
from phase8_tune.tuner.values.timing import Timing

from ..fakes.nvml import FakeNvml

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
    pytest.mark.xdist_group("measuring"),
]

FAKES = Path(__file__).parents[1] / "fakes"
GIB = 1 << 30
BUDGET_BYTES = 4 * GIB
Make = Callable[..., WorkerMeasurer]


def candidate(how: str) -> Candidate:
    return Candidate(
        workload="workloads:RUNS",
        model=how,
        n_seq=8,
        batch_size=4,
        kernel_version="reference",
        gradient_checkpointing=False,
        mixed_precision="none",
    )


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    made: list[WorkerMeasurer] = []

    def start(**changes: object) -> WorkerMeasurer:
        made.append(
            WorkerMeasurer(
                device="cuda",
                budget_bytes=BUDGET_BYTES,
                reserve_bytes=0,
                log_dir=tmp_path_factory.mktemp("log"),
                timing=Timing(),
                **changes,  # type: ignore[arg-type]
            )
        )
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(FAKES), prepend=":")
        yield start
        for measurer in made:
            measurer.close()


@pytest.fixture(scope="module")
def measurer(make: Make) -> WorkerMeasurer:
    return make()


def parts(found: Measurement) -> dict[str, int]:
    return {line.name: line.size_bytes for line in found.ledger}


def test_device_is_told_without_torch_in_the_driver(measurer: WorkerMeasurer) -> None:
    assert resolve_device("auto") == "cuda"
    assert measurer.device.name == torch.cuda.get_device_name(0)
    assert measurer.device.total_bytes == device_total_bytes("cuda")
    assert measurer.versions.driver


def test_peak_is_the_whole_and_within_the_budget(measurer: WorkerMeasurer) -> None:
    found = measurer.measure(candidate(f"allocates:{GIB}"))
    assert (found.outcome, found.message) == (Outcome.OK, "")
    assert found.peak_bytes is not None
    assert GIB < found.peak_bytes <= BUDGET_BYTES
    ledger = parts(found)
    assert found.peak_bytes == ledger["context"] + ledger["reserved"] + ledger["other"]
    assert 50 << 20 < ledger["context"] < 2 * GIB
    assert ledger["reserved"] >= GIB
    assert found.telemetry is not None
    assert found.telemetry.samples_per_s is not None
    assert found.memory_stats["num_ooms"] == 0


def test_cap_holds_and_the_worker_goes_on(measurer: WorkerMeasurer) -> None:
    for _ in range(20):
        assert measurer.measure(candidate(f"allocates:{BUDGET_BYTES}")).outcome is Outcome.OOM
    live = measurer._worker
    assert live is not None
    assert measurer.measure(candidate("plain")).outcome is Outcome.OK
    assert measurer._worker is live


def test_almost_the_whole_budget_can_be_used(measurer: WorkerMeasurer) -> None:
    found = measurer.measure(candidate(f"allocates:{BUDGET_BYTES - GIB}"))
    assert found.outcome is Outcome.OK
    assert found.peak_bytes is not None
    assert found.peak_bytes <= BUDGET_BYTES


def test_memory_outside_of_torch_counts(measurer: WorkerMeasurer) -> None:
    found = measurer.measure(candidate(f"outside:{BUDGET_BYTES}"))
    assert found.outcome is Outcome.OVER_BUDGET
    assert parts(found)["other"] >= BUDGET_BYTES
    # It never gave that memory back: whatever the measurer thinks of it, the next trial must not inherit it.
    following = measurer.measure(candidate("plain"))
    assert following.outcome is Outcome.OK


def test_device_side_assert_costs_one_trial(measurer: WorkerMeasurer) -> None:
    found = measurer.measure(candidate("asserts"))
    assert found.outcome is Outcome.ILLEGAL_ACCESS
    assert measurer.measure(candidate("plain")).outcome is Outcome.OK


def test_a_worker_that_keeps_memory_is_replaced(measurer: WorkerMeasurer) -> None:
    assert measurer.measure(candidate("leaks:1000000")).outcome is Outcome.OK
    assert measurer._worker is None


def test_another_program_on_the_card_is_noticed(measurer: WorkerMeasurer) -> None:
    found = measurer.measure(candidate(f"neighbour:{2 * GIB}"))
    assert found.outcome is Outcome.INTERFERENCE or found.tainted


def test_without_nvml_the_peak_is_nearly_the_same(make: Make, measurer: WorkerMeasurer) -> None:
    blind = make(nvml_library=FakeNvml(refused={"nvmlInit"})).measure(candidate(f"allocates:{GIB}"))
    seeing = measurer.measure(candidate(f"allocates:{GIB}"))
    assert blind.peak_source is not None
    assert "nvml" not in blind.peak_source
    assert blind.peak_bytes is not None
    assert blind.peak_bytes == pytest.approx(seeing.peak_bytes, rel=0.02)


def test_context_is_measured_without_nvml_too(measurer: WorkerMeasurer) -> None:
    code = (
        "import torch; torch.cuda.synchronize();"
        "from phase8_tune.tuner.worker.cuda_accounting import _context_by_probe; print(*_context_by_probe())"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    taken, _, source = done.stdout.partition(" ")
    context = parts(measurer.measure(candidate("plain")))["context"]
    assert "second bare context" in source
    assert int(taken) == pytest.approx(context, rel=0.1)


def test_fresh_processes_agree_on_the_peak_of_the_model(make: Make) -> None:
    # Of its time nothing is asked: the reference kernels' step is Python launching kernels, and as steady as
    # the host's processor.
    wanted = Candidate(
        model="nano",
        n_seq=256,
        batch_size=4,
        kernel_version="reference",
        gradient_checkpointing=False,
        mixed_precision="bf16",
    )
    first, second = make().measure(wanted), make().measure(wanted)
    assert (first.outcome, first.message, second.outcome) == (Outcome.OK, "", Outcome.OK)
    assert first.peak_bytes == pytest.approx(second.peak_bytes, rel=0.005)


def test_a_version_is_checked_before_its_first_timing_and_that_leaves_no_trace(make: Make) -> None:
    wanted = Candidate(
        model="nano",
        n_seq=256,
        batch_size=4,
        kernel_version="fast",
        gradient_checkpointing=False,
        mixed_precision="bf16",
    )
    checking = make()
    checked = checking.measure(wanted)
    assert (checked.outcome, checked.message) == (Outcome.OK, "")
    check = checked.kernel_check
    assert check is not None
    assert check.passed
    assert check.worst_ratio is not None
    assert 0 < check.worst_ratio <= 1
    assert checked.setup_s is not None
    assert checked.setup_s > check.seconds
    again = checking.measure(wanted)
    assert (again.outcome, again.kernel_check) == (Outcome.OK, None)
    record = Record(
        digest=wanted.digest(),
        candidate=wanted.identity(),
        trial_number=0,
        attempt=1,
        started_at="",
        budget_bytes=BUDGET_BYTES,
        measurement=checked,
    )
    unchecked = make(earlier=[record]).measure(wanted)
    assert (unchecked.outcome, unchecked.kernel_check) == (Outcome.OK, None)
    # The check is no part of the candidate's memory: a process that never checked has the same peak.
    assert checked.peak_bytes == pytest.approx(unchecked.peak_bytes, rel=0.005)


def test_fresh_processes_agree_on_what_the_gpu_takes(make: Make) -> None:
    wanted = candidate("matmul:8192")
    first, second = make().measure(wanted), make().measure(wanted)
    assert (first.outcome, first.message, second.outcome) == (Outcome.OK, "", Outcome.OK)
    assert first.peak_bytes == pytest.approx(second.peak_bytes, rel=0.005)
    assert first.step_time_mean_s() == pytest.approx(second.step_time_mean_s(), rel=0.03)
