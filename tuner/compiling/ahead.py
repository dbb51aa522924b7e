"""Kernels of candidates are compiled before they are launched: in several processes, without the GPU.

A worker compiles a kernel when it launches it for the first time, one after the other, 1 to 2 s each. What a
candidate launches is known without launching it (`launches.py`), and Triton keeps what it
compiles in a folder, where the worker finds it. Nothing depends on this: what is missing is compiled by the
worker, as ever.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from ..machine.cache_folder import compiler_caches
from ..machine.started import RecordingContext
from ..predict.lines import WORKLOADS, limits_of, line_under
from ..predict.rate.profiles import GpuProfile
from ..values.candidate import Candidate
from ..values.interrupt import interrupt_deferred
from .jobs import (
    CheckLaunches,
    Launches,
    TrainingLaunches,
    compile_form,
    find_launches,
    is_ready,
    prepare_compiler,
)
from .notes import Notes
from .specialization import Compiled, Specialization

_DEFINITION = "reference"  # it launches nothing of ours
_SLOW_S = {
    "bk_gate.gated.gate_backward": 18.8,
    "bk_gate.maps.gate_adjoint_maps": 6.2,
    "bk_gate.gated.gate_forward": 6.1,
    "ar_ssm_scan.decayed.gated_backward": 6.0,
    "bk_gate.maps.gate_maps": 5.3,
    "bk_scan.resolvent.resolvent_backward": 4.1,
    "rank_scan.recurrence.scan_blocks": 3.8,
    "bk_scan.resolvent.resolvent_forward": 3.2,
}
"""Kernels that take long to compile come first, so that none is left alone at the end: seconds of the slowest
form among those of nano and small in `fast`, with Triton 3.7 on two cores. All others take less."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Compilation:
    """What was done so far.

    compiled: forms of kernels, in so many seconds of all processes together; found: those that were in the
    cache. failures: a line for each that could not be compiled; they are left to the worker. is_done: whether
    nothing is left to do.
    """

    compiled: int
    found: int
    seconds: float
    failures: tuple[str, ...]
    is_done: bool


@dataclass(kw_only=True, slots=True)
class _Request:
    """The forms that something launches, and which of them are not done; None until they are known.

    rank: of the candidate that asked first.
    """

    rank: int
    forms: tuple[Specialization, ...] = ()
    missing: set[Specialization] | None = None


class _Job(NamedTuple):
    """What a process is to do; `take` gets its answer, or what went wrong."""

    function: Callable[..., Any]
    asked: Any
    take: Callable[[Future[Any]], None]


class KernelCompiler:
    """Compiles candidates' kernels for one card, beside whatever the driver does. Use as a context: it ends
    its processes, which are started when there is something to compile.

    processes: how many at once. log: where compilers' messages go. folder: where it is kept what was compiled
    for which candidate, None for the user's cache folder.
    """

    def __init__(
        self, profile: GpuProfile, *, processes: int, log: Path | None = None, folder: Path | None = None
    ) -> None:
        self._profile = profile
        self._architecture = int(profile.compute_capability.replace(".", ""))
        self._processes, self._log = processes, log
        self._environment = compiler_caches()
        self._notes = Notes(folder, architecture=self._architecture, environment=self._environment)
        self._context = RecordingContext()
        self._pool: ProcessPoolExecutor | None = None
        self._changed = threading.Condition()  # guards what follows: answers come on the pool's own thread
        self._is_open = True
        self._asked_for: set[Launches] = set()  # once each: what failed is left to the worker
        self._open: dict[Launches, _Request] = {}
        self._queue: list[tuple[int, float, int, _Job]] = []  # a heap: rank of the candidate, order in it
        self._ranks, self._pushed = itertools.count(), itertools.count()
        self._running = 0
        self._done: dict[Specialization, Compiled | None] = {}  # None: it failed
        self._begun: set[Specialization] = set()
        self._failures: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._is_open = False
        if self._pool is None:
            return
        with interrupt_deferred():
            self._context.kill_started()  # what is not there by now is left to the worker
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = None

    def compile_ahead(self, candidates: Sequence[Candidate]) -> None:
        """Begin to compile what these launch, the first first, and return; what is there is left as it is."""
        for candidate in candidates:
            rank = next(self._ranks)
            for asked in self._asked(candidate):
                if asked in self._asked_for:
                    continue
                self._asked_for.add(asked)
                if not self._notes.are_there(asked):
                    with self._changed:
                        self._open[asked] = _Request(rank=rank)
                        take = functools.partial(self._take_forms, asked)
                        self._push(rank, -math.inf, _Job(find_launches, asked, take))
        self._hand_out()

    def wait(self, candidates: Sequence[Candidate], timeout_s: float) -> bool:
        """Wait until nothing is left to be done for these; whether that came in time."""
        return self._wait([each for candidate in candidates for each in self._asked(candidate)], timeout_s)

    def wait_for_check(self, candidate: Candidate, timeout_s: float) -> bool:
        """Wait until the check of a candidate's version can begin, which comes first; as `wait`."""
        return self._wait(self._asked(candidate)[:1], timeout_s)

    def first_ready(self, candidates: Sequence[Candidate], timeout_s: float) -> Candidate | None:
        """Wait until nothing is left to be done for one of these, of which there is one at least: the first
        of them; None where that took longer."""
        asked = [(candidate, self._asked(candidate)) for candidate in candidates]

        def found() -> Candidate | None:
            return next((candidate for candidate, of_it in asked if self._are_done(of_it)), None)

        with self._changed:
            return self._changed.wait_for(found, timeout_s)

    def _wait(self, asked: Sequence[Launches], timeout_s: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._are_done(asked), timeout_s)

    def _are_done(self, asked: Sequence[Launches]) -> bool:
        return all(each not in self._open for each in asked)

    def report(self) -> Compilation:
        """What was done so far."""
        with self._changed:
            made = [each for each in self._done.values() if each is not None]
            return Compilation(
                compiled=sum(each.is_new for each in made),
                found=sum(not each.is_new for each in made),
                seconds=sum(each.seconds for each in made),
                failures=tuple(self._failures),
                is_done=not self._open,
            )

    def _asked(self, candidate: Candidate) -> list[Launches]:
        """What is launched for a candidate: first the check of its version, as in the worker."""
        if candidate.workload not in WORKLOADS or candidate.version == _DEFINITION:
            return []
        key = line_under(candidate, limits_of(self._profile))
        return [
            CheckLaunches(
                kernel_version=key.kernel_version,
                mixed_precision=key.mixed_precision,
                optimizer=candidate.has_own_optimizer,
                limits=key.limits,
            ),
            TrainingLaunches(key=key, batch_size=candidate.batch_size),
        ]

    def _push(self, rank: int, order: float, job: _Job) -> None:
        heapq.heappush(self._queue, (rank, order, next(self._pushed), job))

    def _hand_out(self) -> None:
        """Give processes that are free what comes next."""
        while True:
            with self._changed:
                if not self._queue or self._running >= self._processes or not self._is_open:
                    return
                *_, job = heapq.heappop(self._queue)
                self._running += 1
            try:
                future = self._started_pool().submit(job.function, job.asked, self._architecture)
            except (RuntimeError, OSError) as error:  # the pool is broken, closed, or cannot be made
                failed: Future[Any] = Future()
                failed.set_exception(error)
                self._take(job, failed)
            else:
                future.add_done_callback(functools.partial(self._take_and_go_on, job))

    def _take_and_go_on(self, job: _Job, future: Future[Any]) -> None:
        self._take(job, future)
        self._hand_out()

    def _take(self, job: _Job, future: Future[Any]) -> None:
        with self._changed:
            self._running -= 1
            if self._is_open:
                job.take(future)

    def _started_pool(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self._processes,
                self._context,
                initializer=prepare_compiler,
                initargs=(self._environment, self._log),
            )
            for _ in range(self._processes):  # all are started now, by the thread with which they end
                self._pool.submit(is_ready)
        return self._pool

    def _take_forms(self, asked: Launches, future: Future[list[Specialization]]) -> None:
        """What a request launches is known: compile what nobody has asked for yet."""
        error = future.exception()
        if error is not None:
            self._fail(f"{_describe(asked)}: {error}")
            del self._open[asked]
            self._changed.notify_all()
            return
        request = self._open[asked]
        request.forms = tuple(future.result())
        request.missing = {form for form in request.forms if form not in self._done}
        for form in request.forms:
            if form not in self._begun:
                self._begun.add(form)
                take = functools.partial(self._take_compiled, form)
                self._push(request.rank, -_SLOW_S.get(form.name, 0.0), _Job(compile_form, form, take))
        self._close_finished()

    def _take_compiled(self, form: Specialization, future: Future[Compiled]) -> None:
        error = future.exception()
        if error is not None:
            self._fail(str(error))
        self._done[form] = None if error is not None else future.result()
        for request in self._open.values():
            if request.missing is not None:
                request.missing.discard(form)
        self._close_finished()

    def _fail(self, line: str) -> None:
        if line not in self._failures:  # one reason may keep many from being compiled
            self._failures.append(line)

    def _close_finished(self) -> None:
        """Put down requests of which nothing is missing, and tell who waits."""
        for asked, request in list(self._open.items()):
            if request.missing is not None and not request.missing:
                made = [self._done[form] for form in request.forms]
                if all(each is not None for each in made):
                    self._notes.write(asked, [each.path for each in made if each is not None])
                del self._open[asked]
        self._changed.notify_all()


def _describe(asked: Launches) -> str:
    if isinstance(asked, CheckLaunches):
        return f"the check of {asked.kernel_version} in {asked.mixed_precision}"
    key = asked.key
    return f"{key.model} {asked.batch_size}×{key.n_seq} {key.kernel_version} {key.mixed_precision}"
