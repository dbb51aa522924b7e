"""The correctness check before a version's first timing, as the driver asks for it and remembers it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from phase8_tune.tuner.measuring import kernel_verdicts
from phase8_tune.tuner.measuring.kernel_verdicts import KeptChecks, Verdicts
from phase8_tune.tuner.measuring.worker_measurer import WorkerMeasurer
from phase8_tune.tuner.records.journal import Journal, read_records
from phase8_tune.tuner.report.findings import correctness_findings
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.measurement import DeviceInfo, KernelCheck, Measurement, Versions
from phase8_tune.tuner.values.outcome import Outcome
from phase8_tune.tuner.values.record import Record
from phase8_tune.tuner.values.timing import Timing

from ..fakes.nvml import FakeNvml
from .test_kernel_check import FAKE_WORKER, candidate

CARD = DeviceInfo(kind="cuda", name="NVIDIA Test", total_bytes=8 << 30, uuid="GPU-1")
SOFTWARE = Versions(
    phase8_tune="0.1.0", python="3.12", torch="2.11", triton="3.6", cuda="13.0", driver="580", os="Linux"
)
PASSED = KernelCheck(
    workload="phase8",
    kernel_version="fast",
    mixed_precision="bf16",
    passed=True,
    worst_ratio=0.5,
    seconds=2.0,
)


def cuda_measurer(
    log_dir: Path, earlier: Sequence[Record] = (), *, timeout_s: float = 60.0, device: str = "cuda"
) -> WorkerMeasurer:
    return WorkerMeasurer(
        device="cuda",
        budget_bytes=8 << 30,
        reserve_bytes=0,
        log_dir=log_dir,
        timing=Timing(timeout_s=timeout_s),
        command=(*FAKE_WORKER, f"--device={device}"),
        nvml_library=FakeNvml(),
        earlier=earlier,
    )


def test_a_version_is_checked_once_a_precision(tmp_path: Path) -> None:
    with cuda_measurer(tmp_path) as fake:
        first = fake.measure(candidate())
        second = fake.measure(candidate(batch_size=2))
        fp16 = fake.measure(candidate(mixed_precision="fp16"))
        v1 = fake.measure(candidate(kernel_version="v1"))
        crashed = fake.measure(candidate(model="signal:SIGKILL"))
        after = fake.measure(candidate(batch_size=4))
    assert [m.outcome for m in (first, second, fp16, v1, after)] == [Outcome.OK] * 5
    assert crashed.outcome is Outcome.KILLED
    checked = [m.kernel_check for m in (first, second, fp16, v1, crashed, after)]
    assert [None if c is None else (c.kernel_version, c.mixed_precision) for c in checked] == [
        ("fast", "bf16"),
        None,
        ("fast", "fp16"),
        ("v1", "bf16"),
        None,  # nor does a worker that was replaced check again
        None,
    ]


def test_the_check_is_part_of_the_set_up(tmp_path: Path) -> None:
    with cuda_measurer(tmp_path) as fake:
        found = fake.measure(candidate(model="setup:1.5"))
        again = fake.measure(candidate(model="setup:1.5"))
    assert (found.setup_s, again.setup_s) == (1.5 + 2.0, 1.5)


def test_the_worker_that_checked_does_not_measure(tmp_path: Path) -> None:
    with cuda_measurer(tmp_path) as fake:
        started = fake.measure(candidate(kernel_version="reference")).parameters  # the fake tells its pid
        first, second = fake.measure(candidate()), fake.measure(candidate())
    assert first.parameters == second.parameters != started
    assert started is not None
    with pytest.raises(ProcessLookupError):
        os.kill(started, 0)


@pytest.mark.parametrize(
    ("how", "outcome", "said"),
    [
        ("wrong", Outcome.WRONG_RESULT, "bk_gate, gradient of h: error 0.3, budget 0.01"),
        ("illegal_access", Outcome.ILLEGAL_ACCESS, "in the correctness check of fast: illegal_access"),
        ("oom", Outcome.ERROR, "in the correctness check of fast: oom"),  # not of the candidate itself
        ("dies", Outcome.KILLED, "in the correctness check of fast: the worker was ended by SIGKILL"),
        ("measures", Outcome.ERROR, "got 'result'"),
    ],
)
def test_a_version_that_does_not_pass_is_not_measured(
    tmp_path: Path, how: str, outcome: Outcome, said: str
) -> None:
    with cuda_measurer(tmp_path) as fake:
        found = fake.measure(candidate(variant=f"check:{how}"))
        assert found.outcome is outcome
        assert said in found.message
        assert found.samples_s == ()
        assert (found.kernel_check is not None) == (how == "wrong")
        assert found.device is not None
        passed = fake.measure(candidate()).kernel_check  # still owed: nothing passed before
    assert passed is not None


def test_a_check_that_hangs_is_stopped(tmp_path: Path) -> None:
    with cuda_measurer(tmp_path, timeout_s=0.3) as fake:
        found = fake.measure(candidate(variant="check:hangs"))
    assert found.outcome is Outcome.TIMEOUT
    assert "in the correctness check of fast: no answer within 0.3 s" in found.message


def test_the_check_belongs_to_a_tainted_measurements_second_try(tmp_path: Path) -> None:
    with cuda_measurer(tmp_path) as fake:
        found = fake.measure(candidate(model="tainted"))
    assert found.tainted
    assert found.kernel_check is not None


def test_reference_and_workloads_without_a_check_are_measured_at_once(tmp_path: Path) -> None:
    with cuda_measurer(tmp_path) as fake:
        first = fake.measure(candidate(kernel_version="reference", variant="check:wrong"))
        second = fake.measure(candidate(variant="check:none"))
    assert (first.outcome, second.outcome) == (Outcome.OK, Outcome.OK)
    assert first.kernel_check is second.kernel_check is None
    assert first.parameters == second.parameters


def test_on_a_cpu_nothing_is_checked(tmp_path: Path) -> None:
    made = WorkerMeasurer(
        device="cpu",
        budget_bytes=1 << 30,
        reserve_bytes=0,
        log_dir=tmp_path,
        timing=Timing(),
        command=FAKE_WORKER,
    )
    with made as fake:
        assert fake.measure(candidate(variant="check:wrong")).outcome is Outcome.OK


def record_of(measured: Candidate, measurement: Measurement, number: int = 0) -> Record:
    return Record(
        digest=measured.digest(),
        candidate=measured.to_dict(),
        trial_number=number,
        attempt=1,
        started_at="2026-01-01T00:00:00+00:00",
        budget_bytes=8 << 30,
        measurement=measurement,
    )


def test_a_resumed_study_does_not_check_again(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    with cuda_measurer(tmp_path) as fake, Journal(path) as journal:
        journal.append(record_of(candidate(), fake.measure(candidate())))
        journal.append(record_of(candidate(batch_size=2), fake.measure(candidate(batch_size=2)), 1))
    records = read_records(path)
    with cuda_measurer(tmp_path, records) as fake:
        found = fake.measure(candidate(batch_size=4))
        other = fake.measure(candidate(batch_size=4, mixed_precision="fp16"))
    assert (found.outcome, found.kernel_check) == (Outcome.OK, None)
    assert other.kernel_check is not None


def test_a_check_counts_for_its_gpu_only_and_a_failed_one_for_none() -> None:
    def check(*, passed: bool) -> KernelCheck:
        return KernelCheck(
            workload="phase8",
            kernel_version="fast",
            mixed_precision="bf16",
            passed=passed,
            worst_ratio=0.5,
            seconds=1.0,
        )

    def gpu(uuid: str) -> DeviceInfo:
        return DeviceInfo(kind="cuda", name="a card", total_bytes=1, uuid=uuid)

    def verdicts(*, passed: bool) -> Verdicts:
        found = Measurement(outcome=Outcome.OK, device=gpu("GPU-1"), kernel_check=check(passed=passed))
        return Verdicts([record_of(candidate(), found)])

    assert not verdicts(passed=True).are_owed(candidate(), gpu("GPU-1"))
    assert verdicts(passed=True).are_owed(candidate(), gpu("GPU-2"))
    assert verdicts(passed=False).are_owed(candidate(), gpu("GPU-1"))


def test_the_report_tells_what_was_checked_and_what_failed_with_its_numbers(tmp_path: Path) -> None:
    wrong, right = candidate(variant="check:wrong"), candidate(kernel_version="v1")
    with cuda_measurer(tmp_path) as fake:
        records = [record_of(c, fake.measure(c)) for c in (wrong, right)]
    assert correctness_findings(records) == [
        "**fast kernels, precision bf16**: wrong results on this device, so no figure of this version was "
        "taken from then on (bk_gate, gradient of h: error 0.3, budget 0.01)",
        "Checked against float64, and right: v1 kernels, precision bf16 (largest error 0.50 of its budget)",
    ]
    assert correctness_findings([record_of(right, Measurement(outcome=Outcome.OK))]) == []


def test_a_check_that_was_passed_holds_in_other_studies_on_this_card(tmp_path: Path) -> None:
    kept, check, asked = KeptChecks(tmp_path), PASSED, candidate(kernel_version="fast")
    assert kept.read(asked, CARD, SOFTWARE) is None
    kept.write(check, asked, CARD, SOFTWARE)
    assert kept.read(asked, CARD, SOFTWARE) == check
    for card, software, other in (
        (CARD.model_copy(update={"uuid": "GPU-other"}), SOFTWARE, asked),
        (CARD, SOFTWARE.model_copy(update={"driver": "1.2"}), asked),
        (CARD, SOFTWARE.model_copy(update={"triton": "9.9"}), asked),
        (CARD, SOFTWARE, candidate(kernel_version="v1")),
        (CARD, SOFTWARE, asked.changed(mixed_precision="fp16")),
    ):
        assert kept.read(other, card, software) is None
    for path in tmp_path.glob("*.json"):
        path.write_text(check.model_copy(update={"passed": False}).model_dump_json())
        assert kept.read(asked, CARD, SOFTWARE) is None
        path.write_text("{")
        assert kept.read(asked, CARD, SOFTWARE) is None


def test_with_edited_kernels_a_check_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, asked = KeptChecks(tmp_path), candidate(kernel_version="fast")
    kept.write(PASSED, asked, CARD, SOFTWARE)
    monkeypatch.setattr(kernel_verdicts, "sources_digest", lambda rooms: "edited")
    assert kept.read(asked, CARD, SOFTWARE) is None


def test_a_kept_check_costs_no_worker_and_no_time(tmp_path: Path) -> None:
    with cuda_measurer(tmp_path) as fake:
        first = fake.measure(candidate(model="setup:1.5"))
    with cuda_measurer(tmp_path) as fake:  # another study
        started = fake.measure(candidate(kernel_version="reference")).parameters
        second = fake.measure(candidate(model="setup:1.5"))
    assert first.kernel_check is not None
    assert second.kernel_check is not None
    assert second.kernel_check.passed
    assert (first.setup_s, second.setup_s) == (3.5, 1.5)
    assert second.parameters == started
