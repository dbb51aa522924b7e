"""What is compiled ahead, in which order, and what is left alone; processes are threads here."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from phase8_tune.tuner.compiling import ahead as module
from phase8_tune.tuner.compiling.ahead import KernelCompiler
from phase8_tune.tuner.compiling.jobs import CheckLaunches, Launches
from phase8_tune.tuner.compiling.specialization import Compiled, Specialization
from phase8_tune.tuner.predict.rate.profiles import gpu_profile
from phase8_tune.tuner.predict.trace import launches
from phase8_tune.tuner.values.candidate import Candidate

PROFILE = gpu_profile("rtx-3060")
LONG_S = 60.0
"""For what comes at once, unless something is broken."""


def candidate(batch: int = 2, version: str = "fast") -> Candidate:
    return Candidate(
        model="nano",
        n_seq=256,
        batch_size=batch,
        kernel_version=version,
        gradient_checkpointing=False,
        mixed_precision="bf16",
    )


def form(name: str) -> Specialization:
    return Specialization(module="a.b", kernel=name, description="")


class Processes:
    """In place of processes: what is asked of them, in order, and what they answer.

    Every candidate launches `shared` and a kernel named after its batch, and a check the kernel `check`.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
        self.cache = cache
        self.asked: list[str] = []
        self.failing: dict[str, Exception] = {}
        self.go_on = threading.Event()
        self.go_on.set()
        monkeypatch.setattr(module, "ProcessPoolExecutor", self.pool)
        monkeypatch.setattr(module, "find_launches", self.find)
        monkeypatch.setattr(module, "compile_form", self.compile)

    def pool(self, processes: int, context: Any, **_: Any) -> ThreadPoolExecutor:
        go_on = self.go_on

        class Pool(ThreadPoolExecutor):
            def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
                go_on.set()
                super().shutdown(wait, cancel_futures=cancel_futures)

        return Pool(processes)

    def find(self, asked: Launches, architecture: int) -> list[Specialization]:
        name = "find check" if isinstance(asked, CheckLaunches) else f"find {asked.batch_size}"
        self.do(name)
        names = ("check",) if isinstance(asked, CheckLaunches) else ("shared", f"of {asked.batch_size}")
        return [form(name) for name in names]

    def compile(self, form: Specialization, architecture: int) -> Compiled:
        assert architecture == 86
        self.do(form.kernel)
        entry = self.cache / form.kernel
        is_new = not entry.exists()
        entry.touch()
        return Compiled(path=str(entry), is_new=is_new, seconds=1.0)

    def do(self, name: str) -> None:
        self.go_on.wait()
        self.asked.append(name)
        if name in self.failing:
            raise self.failing[name]


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Processes:
    cache = tmp_path / "triton"
    cache.mkdir()
    return Processes(monkeypatch, cache)


@pytest.fixture
def compiler(tmp_path: Path) -> Callable[[], KernelCompiler]:
    return lambda: KernelCompiler(PROFILE, processes=1, folder=tmp_path)


def test_what_candidates_share_is_compiled_once_and_the_first_first(processes, compiler):
    with compiler() as ahead:
        ahead.compile_ahead([candidate(2), candidate(4), candidate(2)])
        assert ahead.wait([candidate(2), candidate(4)], LONG_S)
        report = ahead.report()
    assert processes.asked == ["find check", "find 2", "check", "shared", "of 2", "find 4", "of 4"]
    assert (report.compiled, report.found, report.seconds, report.failures) == (4, 0, 4.0, ())
    assert report.is_done


def test_whoever_waits_for_one_of_several_has_the_first_that_is_ready(processes, compiler, monkeypatch):
    held, do = threading.Event(), processes.do

    def hold(name: str) -> None:
        if name == "find 4":
            held.wait()
        do(name)

    monkeypatch.setattr(processes, "do", hold)
    both = [candidate(4), candidate(2)]
    with compiler() as ahead:
        ahead.compile_ahead([candidate(2), candidate(4)])
        one = ahead.first_ready(both, LONG_S)
        none = ahead.first_ready(both[:1], 0.0)
        held.set()
        assert (one, none) == (candidate(2), None)
        assert ahead.wait(both, LONG_S)
        assert ahead.first_ready(both, 0.0) == candidate(4)
        assert ahead.first_ready([], 0.0) is None


def test_what_takes_long_comes_first(processes, compiler, monkeypatch):
    monkeypatch.setattr(module, "_SLOW_S", {"a.b.of 2": 9.0, "a.b.shared": 8.0, "a.b.of 4": 99.0})
    with compiler() as ahead:
        ahead.compile_ahead([candidate(2), candidate(4)])
        assert ahead.wait([candidate(2), candidate(4)], LONG_S)
    assert processes.asked == ["find check", "find 2", "of 2", "shared", "check", "find 4", "of 4"]


def test_kernels_that_take_long_are_kernels() -> None:
    assert module._SLOW_S.keys() <= launches._TRAFFIC_ALONE


def test_nothing_is_asked_while_all_entries_are_there(processes, compiler):
    with compiler() as ahead:
        ahead.compile_ahead([candidate(2)])
        assert ahead.wait([candidate(2)], LONG_S)
    processes.asked.clear()
    with compiler() as ahead:
        ahead.compile_ahead([candidate(2)])
        assert ahead.report().is_done
        assert ahead.wait([candidate(2)], 0.0)
        assert not ahead._context.started
    assert processes.asked == []
    (processes.cache / "of 2").unlink()
    with compiler() as ahead:
        ahead.compile_ahead([candidate(2)])
        assert ahead.wait([candidate(2)], LONG_S)
        report = ahead.report()
    assert processes.asked == ["find 2", "shared", "of 2"]
    assert (report.compiled, report.found) == (1, 1)


def test_other_settings_of_triton_are_other_entries(processes, compiler, monkeypatch):
    with compiler() as ahead:
        ahead.compile_ahead([candidate(2)])
        assert ahead.wait([candidate(2)], LONG_S)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(processes.cache / "another"))
    processes.asked.clear()
    with compiler() as ahead:
        ahead.compile_ahead([candidate(2)])
        assert ahead.wait([candidate(2)], LONG_S)
    assert "of 2" in processes.asked


@pytest.mark.parametrize(
    ("failing", "told", "later"),
    [
        ("shared", "it cannot be compiled", ["find 2", "shared", "of 2"]),
        ("find 2", "nano 2×256 fast bf16: it cannot be compiled", ["find 2", "shared", "of 2"]),
        ("find check", "the check of fast in bf16: it cannot be compiled", ["find check", "check"]),
    ],
)
def test_a_failure_is_told_and_tried_again_by_the_next_run(processes, compiler, failing, told, later):
    processes.failing[failing] = RuntimeError("it cannot be compiled")
    with compiler() as ahead:
        ahead.compile_ahead([candidate(2)])
        assert ahead.wait([candidate(2)], LONG_S)
        assert ahead.report().failures == (told,)
    processes.asked.clear()
    processes.failing.clear()
    with compiler() as ahead:
        ahead.compile_ahead([candidate(2)])
        assert ahead.wait([candidate(2)], LONG_S)
        assert ahead.report().failures == ()
    assert processes.asked == later


def prepare(environment: object, log: object) -> None:
    """Instead of what imports torch."""


def die(asked: object, architecture: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang(asked: object, architecture: int) -> None:
    threading.Event().wait()


def test_a_process_that_was_ended_leaves_all_to_the_worker(compiler, monkeypatch):
    monkeypatch.setattr(module, "prepare_compiler", prepare)
    monkeypatch.setattr(module, "find_launches", die)
    with compiler() as ahead:
        ahead.compile_ahead([candidate(2), candidate(4)])
        assert ahead.wait([candidate(2), candidate(4)], LONG_S)
        failures = ahead.report().failures
    assert len(failures) == 3
    assert all("terminated abruptly" in line for line in failures)
    assert multiprocessing.active_children() == []


def test_a_process_that_is_at_work_ends_with_the_driver(compiler, monkeypatch):
    monkeypatch.setattr(module, "prepare_compiler", prepare)
    monkeypatch.setattr(module, "find_launches", hang)
    with compiler() as ahead:
        ahead.compile_ahead([candidate(2)])
        assert not ahead.wait([candidate(2)], 0.0)
        assert len(multiprocessing.active_children()) == 1
    assert multiprocessing.active_children() == []


def test_the_reference_has_nothing_to_compile(processes, compiler):
    with compiler() as ahead:
        ahead.compile_ahead([candidate(version="reference")])
        assert ahead.report().is_done
    assert processes.asked == []


def test_answers_after_the_end_are_dropped(processes, compiler):
    processes.go_on.clear()  # until the pool is to end
    with compiler() as ahead:
        ahead.compile_ahead([candidate(2)])
        assert not ahead.wait([candidate(2)], 0.0)
    assert processes.asked in ([], ["find check"])
    assert not ahead.report().is_done


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the program beside this file found; Triton compiles there, while the suite interprets."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("compile_ahead.py"))],
        env=os.environ
        | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path_factory.mktemp("triton"))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_kernels_found_are_those_that_are_traced(compiled):
    assert len(compiled["traced"]) > 20
    assert compiled["recorded"] == compiled["traced"]


def test_the_check_of_an_optimizer_launches_each_form_of_its_kernel(compiled):
    """Weights and moments of two kinds each, of one number and of several."""
    assert compiled["optimizer"] == ["adamw.tiles.update_kernel"] * 8


def test_a_launch_finds_what_was_compiled_ahead(compiled):
    assert len(compiled["ahead"]) >= 2
    assert compiled["after"] == compiled["ahead"]


def test_finding_launches_loads_no_compiler_of_pytorch(compiled):
    assert not compiled["has_dynamo"]


def test_a_view_says_where_it_begins(compiled):
    """A row of a projection that does not begin at 16 bytes is another kernel for Triton."""
    assert compiled["alignment"] == {"whole": True, "second": False, "ninth": True}


def test_the_name_of_a_compiled_kernel_does_not_depend_on_the_order(compiled):
    one, other = compiled["keys"]
    assert len(one) > 60
    assert one == other
