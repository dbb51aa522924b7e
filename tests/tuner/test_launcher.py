"""The driver's side of measuring, against a worker that misbehaves in every way it can."""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from phase8_tune.tuner.measuring import worker_process
from phase8_tune.tuner.measuring.measurer import StoppedError
from phase8_tune.tuner.measuring.protocol import Reply
from phase8_tune.tuner.measuring.worker_measurer import WorkerMeasurer
from phase8_tune.tuner.measuring.worker_session import LiveWorker
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.errors import DeviceError, UserInputError
from phase8_tune.tuner.values.outcome import Outcome
from phase8_tune.tuner.values.timing import Timing

from ..fakes.nvml import MIB
from .processes import child_pids, is_gone

FAKE_WORKER = (sys.executable, str(Path(__file__).parents[1] / "fakes" / "worker.py"))


def candidate(how: str, variant: str = "phase8") -> Candidate:
    return Candidate(
        model=how,
        variant=variant,
        n_seq=8,
        batch_size=1,
        kernel_version="reference",
        gradient_checkpointing=False,
        mixed_precision="none",
    )


def measurer(log_dir: Path, *, timeout_s: float = 60.0, start: str = "ok") -> WorkerMeasurer:
    return WorkerMeasurer(
        device="cpu",
        budget_bytes=100,
        reserve_bytes=0,
        log_dir=log_dir,
        timing=Timing(timeout_s=timeout_s),
        command=(*FAKE_WORKER, f"--start={start}"),
        start_timeout_s=0.3 if start == "hang" else 60.0,
    )


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[WorkerMeasurer]:
    with measurer(tmp_path) as made:
        yield made


def test_worker_is_kept_between_candidates(fake: WorkerMeasurer) -> None:
    first, second = fake.measure(candidate("ok")), fake.measure(candidate("progress"))
    assert (first.outcome, second.outcome) == (Outcome.OK, Outcome.OK)
    assert first.parameters == second.parameters  # the fake tells its pid here
    assert first.device == fake.device
    assert first.versions == fake.versions


def test_ledger_of_an_attempt_on_a_cpu(fake: WorkerMeasurer) -> None:
    found = fake.measure(candidate("ok"))
    assert found.peak_bytes == 30
    assert [(line.name, line.size_bytes) for line in found.ledger] == [
        ("process", 10),
        ("trial", 20),
        ("margin", 0),
    ]


def test_worker_that_asks_for_it_is_replaced(fake: WorkerMeasurer) -> None:
    first, second = fake.measure(candidate("replace")), fake.measure(candidate("ok"))
    assert first.outcome is Outcome.OK
    assert first.parameters != second.parameters


FAULTS = [
    ("garbage", Outcome.ERROR, "broke the protocol"),
    ("unknown_key", Outcome.ERROR, "surprise"),
    ("wrong_id", Outcome.ERROR, "instead of"),
    ("ready_again", Outcome.ERROR, "'ready'"),
    ("half_line_exit", Outcome.ERROR, "code 0"),
    ("megabytes", Outcome.ERROR, "at most"),
    ("exit:0", Outcome.ERROR, "code 0"),
    ("exit:3", Outcome.ERROR, "code 3"),
    ("signal:SIGKILL", Outcome.KILLED, "SIGKILL; its last line: the last words"),
    ("signal:SIGTERM", Outcome.KILLED, "SIGTERM"),
    ("signal:SIGSEGV", Outcome.ILLEGAL_ACCESS, "SIGSEGV"),
    ("signal:SIGABRT", Outcome.ERROR, "SIGABRT"),
]


@pytest.mark.parametrize(("how", "outcome", "said"), FAULTS)
def test_a_fault_costs_one_attempt(fake: WorkerMeasurer, how: str, outcome: Outcome, said: str) -> None:
    before = fake.measure(candidate("ok"))
    failed = fake.measure(candidate(how))
    assert failed.outcome is outcome
    assert said in failed.message
    assert failed.device is not None
    after = fake.measure(candidate("ok"))
    assert after.outcome is Outcome.OK
    assert after.parameters != before.parameters
    assert before.parameters is not None
    assert is_gone(before.parameters)


@pytest.mark.parametrize("how", ["silence", "half_line"])
def test_no_answer_in_time(tmp_path: Path, how: str) -> None:
    with measurer(tmp_path, timeout_s=0.2) as fake:
        assert fake.measure(candidate(how)).outcome is Outcome.TIMEOUT


def test_last_words_decide_where_the_status_does_not(fake: WorkerMeasurer) -> None:
    found = fake.measure(candidate("exit:1", variant="torch.OutOfMemoryError: CUDA out of memory."))
    assert found.outcome is Outcome.OOM
    assert "CUDA out of memory" in found.message


def test_closed_pipe_of_a_living_worker(fake: WorkerMeasurer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_process, "EXIT_GRACE_S", 0.1)
    found = fake.measure(candidate("closed_pipe"))
    assert (found.outcome, "closed its pipe" in found.message) == (Outcome.ERROR, True)
    assert fake.measure(candidate("ok")).outcome is Outcome.OK


@pytest.mark.parametrize("how", ["die_idle", "chatter_idle"])
def test_a_worker_lost_while_idle_costs_nothing(fake: WorkerMeasurer, how: str) -> None:
    first = fake.measure(candidate(how))
    assert first.parameters is not None
    if how == "die_idle":
        assert is_gone(first.parameters)
    second = fake.measure(candidate("ok"))
    assert (first.outcome, second.outcome) == (Outcome.OK, Outcome.OK)
    assert first.parameters != second.parameters


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sent=st.integers(min_value=0, max_value=400))
def test_killed_at_any_byte_of_its_answer(fake: WorkerMeasurer, sent: int) -> None:
    assert fake.measure(candidate(f"killed_after:{sent}")).outcome is Outcome.KILLED
    assert fake.measure(candidate("ok")).outcome is Outcome.OK


def test_a_hundred_attempts_out_of_memory_in_a_row(fake: WorkerMeasurer) -> None:
    found = [fake.measure(candidate("oom")) for _ in range(100)]
    assert {measurement.outcome for measurement in found} == {Outcome.OOM}
    assert len({measurement.parameters for measurement in found}) == 1  # one worker did them all


def test_everything_the_worker_started_dies_with_it(fake: WorkerMeasurer, tmp_path: Path) -> None:
    found = fake.measure(candidate(f"leave_child:{tmp_path / 'pid'}"))
    assert found.outcome is Outcome.ERROR
    assert is_gone(int((tmp_path / "pid").read_text()))


def test_worker_far_over_the_budget_is_stopped(fake: WorkerMeasurer) -> None:
    found = fake.measure(candidate(f"grow:{400 * MIB}"))
    assert found.outcome is Outcome.OVER_BUDGET
    assert found.peak_bytes is not None
    assert found.peak_bytes > 256 * MIB
    assert "watchdog" in str(found.peak_source)


def test_tainted_samples_are_taken_again_once(fake: WorkerMeasurer) -> None:
    found = fake.measure(candidate("tainted"))
    assert found.parameters == 2  # the fake tells the request's number here
    assert found.tainted


@pytest.mark.parametrize("start", ["hang", "garbage", "failed", "exit", "result"])
def test_worker_that_does_not_start(tmp_path: Path, start: str) -> None:
    with measurer(tmp_path, start=start) as fake, pytest.raises(DeviceError, match="3 times in a row"):
        fake.measure(candidate("ok"))


def test_a_failed_start_is_repeated_and_costs_no_candidate(tmp_path: Path) -> None:
    with measurer(tmp_path, start=f"second:{tmp_path / 'tried'}") as fake:
        assert fake.measure(candidate("ok")).outcome is Outcome.OK
    assert (tmp_path / "tried").exists()


def test_command_that_does_not_exist(tmp_path: Path) -> None:
    made = WorkerMeasurer(
        device="cpu",
        budget_bytes=100,
        reserve_bytes=0,
        log_dir=tmp_path,
        timing=Timing(),
        command=(str(tmp_path / "nothing"),),
    )
    with pytest.raises(DeviceError, match=r"cannot be started.*worker\.log"):
        made.measure(candidate("ok"))
    with pytest.raises(DeviceError, match=r"worker\.log"):
        _ = made.device


def test_interrupt_leaves_no_worker(fake: WorkerMeasurer, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = fake.measure(candidate("ok")).parameters
    assert pid is not None

    def interrupt(self: WorkerMeasurer, pid: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(WorkerMeasurer, "_guard_host_memory", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fake.measure(candidate("silence"))
    assert is_gone(pid)


@pytest.mark.parametrize(("start", "wait"), [("hang", 1), ("ok", 2)], ids=["starting", "measuring"])
def test_stopped_from_another_thread_it_leaves_no_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str, wait: int
) -> None:
    waits, is_waiting, real = itertools.count(1), threading.Event(), LiveWorker._await_reply
    before = child_pids()

    def await_reply(self: LiveWorker, deadline_s: float, on_silence: Callable[[int], None]) -> Reply | None:
        if next(waits) == wait:
            is_waiting.set()
        return real(self, deadline_s, on_silence)

    monkeypatch.setattr(LiveWorker, "_await_reply", await_reply)
    with measurer(tmp_path, start=start) as fake, ThreadPoolExecutor(max_workers=1) as thread:
        fake._start_timeout_s = 60.0
        measuring = thread.submit(fake.measure, candidate("silence"))
        assert is_waiting.wait(60)
        workers = set(child_pids()).difference(before)
        fake.stop()
        with pytest.raises(StoppedError):
            measuring.result(60)
        assert workers
        assert all(is_gone(pid) for pid in workers)
        with pytest.raises(StoppedError):
            thread.submit(fake.measure, candidate("ok")).result(60)


def test_close_twice(tmp_path: Path) -> None:
    made = measurer(tmp_path)
    pid = made.measure(candidate("ok")).parameters
    assert pid is not None
    made.close()
    made.close()
    assert is_gone(pid)


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserInputError, match="expected a log that can be written"):
        measurer(tmp_path / "file" / "run")


def test_standard_error_is_appended_to_the_log(tmp_path: Path) -> None:
    (tmp_path / "worker.log").write_text("what was there\n")
    with measurer(tmp_path) as fake:
        fake.measure(candidate("signal:SIGKILL"))
    assert (tmp_path / "worker.log").read_text() == "what was there\nthe last words\n"
