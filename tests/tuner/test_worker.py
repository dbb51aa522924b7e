"""The real worker on the CPU, with workloads that misbehave; and its end when the driver goes away."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from phase8_tune.tuner.measuring.worker_measurer import WorkerMeasurer
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.outcome import Outcome
from phase8_tune.tuner.values.timing import Timing

FAKES = Path(__file__).parents[1] / "fakes"
MIB = 1 << 20


def candidate(how: str, workload: str = "workloads:RUNS") -> Candidate:
    return Candidate(
        workload=workload,
        model=how,
        n_seq=8,
        batch_size=4,
        kernel_version="reference",
        gradient_checkpointing=False,
        mixed_precision="none",
    )


@pytest.fixture(scope="module")
def measurer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerMeasurer]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(FAKES))
        patch.setenv("OMP_NUM_THREADS", "1")
        with WorkerMeasurer(
            device="cpu",
            budget_bytes=4 << 30,
            reserve_bytes=0,
            log_dir=tmp_path_factory.mktemp("log"),
            timing=Timing(warmup=1, iterations=7),
        ) as made:
            yield made


def test_a_whole_measurement(measurer: WorkerMeasurer) -> None:
    found = measurer.measure(candidate("plain"))
    assert found.outcome is Outcome.OK
    assert 5 <= len(found.samples_s) <= 7
    assert found.parameters == found.body_parameters == 7  # it has no table of positions
    assert found.final_loss == 1 + 1 + len(found.samples_s)  # set-up, warm-up, samples: each counted once
    assert found.setup_s is not None
    assert found.device is not None
    assert found.device.kind == "cpu"
    assert found.versions is not None
    assert found.versions.torch
    assert found.peak_bytes == sum(line.size_bytes for line in found.ledger)


def test_peak_counts_what_lived_only_for_a_moment(measurer: WorkerMeasurer) -> None:
    small = measurer.measure(candidate("plain"))
    large = measurer.measure(candidate(f"allocates:{300 * MIB}"))
    again = measurer.measure(candidate("plain"))
    assert small.peak_bytes is not None
    assert large.peak_bytes is not None
    assert again.peak_bytes is not None
    # Linux adds up resident pages in batches, and a first attempt loads modules: some 50 KiB were seen.
    assert 299 * MIB <= large.peak_bytes - small.peak_bytes < 330 * MIB
    assert again.peak_bytes - small.peak_bytes < 30 * MIB  # the peak is each attempt's own


def test_prints_do_not_break_the_protocol(measurer: WorkerMeasurer) -> None:
    assert measurer.measure(candidate("prints")).outcome is Outcome.OK


@pytest.mark.parametrize(
    ("how", "outcome", "said"),
    [
        ("oom", Outcome.OOM, "Tried to allocate"),
        (f"allocates:{1 << 50}", Outcome.OOM, "allocate memory"),
        ("raises:AcceleratorError|CUDA error: an illegal memory access", Outcome.ILLEGAL_ACCESS, "illegal"),
        ("raises:ValueError|no such thing", Outcome.OWN_ERROR, "ValueError: no such thing"),
        ("nan", Outcome.ERROR, "nan"),
        ("exits", Outcome.ERROR, "exited with code 0"),
    ],
)
def test_a_failure_is_data(measurer: WorkerMeasurer, how: str, outcome: Outcome, said: str) -> None:
    found = measurer.measure(candidate(how))
    assert found.outcome is outcome
    assert said in found.message
    assert measurer.measure(candidate("plain")).outcome is Outcome.OK


def worker_pid(measurer: WorkerMeasurer) -> int | None:
    live = measurer._worker
    return None if live is None else live.process.pid


def test_only_a_refused_allocation_keeps_the_worker(measurer: WorkerMeasurer) -> None:
    measurer.measure(candidate("plain"))
    before = worker_pid(measurer)
    for _ in range(20):
        assert measurer.measure(candidate("oom")).outcome is Outcome.OOM
    assert worker_pid(measurer) == before
    measurer.measure(candidate("raises:RuntimeError|device-side assert triggered"))
    assert worker_pid(measurer) is None


def test_a_worker_that_keeps_memory_is_replaced(measurer: WorkerMeasurer) -> None:
    measurer.measure(candidate("plain"))
    assert worker_pid(measurer) is not None
    assert measurer.measure(candidate(f"leaks:{20 * MIB}")).outcome is Outcome.OK  # some 8 times over
    assert worker_pid(measurer) is None


@pytest.mark.parametrize(
    ("workload", "said"),
    [
        ("banana", "expected one of phase8"),
        ("no_such_module:RUNS", "PYTHONPATH"),
        ("workloads:NOTHING", "does not exist"),
        ("workloads:NOT_A_WORKLOAD", "prepare"),
    ],
)
def test_workload_that_is_none(measurer: WorkerMeasurer, workload: str, said: str) -> None:
    found = measurer.measure(candidate("plain", workload))
    assert found.outcome is Outcome.ERROR
    assert said in found.message


def test_the_phase8_model_is_measured(measurer: WorkerMeasurer) -> None:
    wanted = Candidate(
        model="nano",
        n_seq=16,
        batch_size=1,
        kernel_version="reference",
        gradient_checkpointing=True,
        mixed_precision="bf16",
    )
    found = measurer.measure(wanted)
    assert (found.outcome, found.message) == (Outcome.OK, "")
    assert found.parameters is not None
    assert found.parameters > 400_000


@pytest.fixture
def announced(tmp_path: Path) -> Path:
    fifo = tmp_path / "announce"
    os.mkfifo(fifo)
    return fifo


def ends(pid: int) -> bool:
    watched = os.pidfd_open(pid)
    try:
        return bool(select.select([watched], [], [], 60)[0])
    finally:
        os.close(watched)


def test_no_orphan_when_the_driver_is_killed(tmp_path: Path, announced: Path) -> None:
    environment = dict(os.environ, PYTHONPATH=str(FAKES), OMP_NUM_THREADS="1")
    driver = subprocess.Popen(
        [sys.executable, str(FAKES / "driver.py"), str(tmp_path), str(announced)], env=environment
    )
    pid = int(announced.read_text())  # waits until the worker is in the middle of an attempt
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    assert ends(pid)


def test_worker_ends_with_its_input_even_in_mid_trial(tmp_path: Path, announced: Path) -> None:
    from phase8_tune.tuner.measuring.protocol import MeasureRequest, StartRequest, encode
    from phase8_tune.tuner.measuring.worker_measurer import WORKER_COMMAND

    environment = dict(os.environ, PYTHONPATH=str(FAKES), OMP_NUM_THREADS="1")
    with (tmp_path / "worker.log").open("wb") as log:
        worker = subprocess.Popen(
            WORKER_COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
    assert worker.stdin is not None
    assert worker.stdout is not None
    request = MeasureRequest(
        id=1,
        candidate=candidate(f"hangs:{announced}").to_dict(),
        warmup=0,
        iterations=1,
        seed=0,
        budget_bytes=1 << 33,
        reserve_bytes=0,
    )
    worker.stdin.write(encode(StartRequest(device="cpu")) + encode(request))
    worker.stdin.flush()
    assert int(announced.read_text()) == worker.pid
    worker.stdin.close()
    worker.wait(timeout=60)
    worker.stdout.close()
