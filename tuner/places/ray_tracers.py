"""Lines traced by the processors of a whole cluster: a Ray task a line."""

from __future__ import annotations

import functools
import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import replace

import ray
from ray.exceptions import RayError, RayTaskError

from ..machine.cache_folder import writable_cache_folder
from ..predict.jobs import Answers, LineJob, answer, prepare_process
from ..predict.tracers import TracerLostError
from ..values.errors import DeviceError

_CACHE = "predictions"


@functools.cache
def _prepared() -> None:
    """Once a process: it is used for one line after the other."""
    prepare_process()


def _answer_there(job: LineJob) -> Answers:
    """On a node: the line's file is one of its own cache, not of the driver's."""
    _prepared()
    return answer(replace(job, path=writable_cache_folder(_CACHE) / job.path.name))


class RayTracers:
    """`Tracers` that are tasks of the cluster; one that is lost with its node is done again on another.

    at_once: how many.
    """

    def __init__(self, at_once: int) -> None:
        self._task = ray.remote(num_cpus=1, scheduling_strategy="SPREAD")(_answer_there)
        self._at_once = at_once
        self._lock = threading.Lock()
        self._waiting: deque[tuple[LineJob, Future[Answers]]] = deque()
        self._begun: dict[Future[Answers], ray.ObjectRef[Answers]] = {}
        self._is_abandoned = False

    def submit(self, job: LineJob) -> Future[Answers]:
        found: Future[Answers] = Future()
        with self._lock:
            if self._is_abandoned:
                raise DeviceError("the predictions were given up")
            self._waiting.append((job, found))
            self._begin()
        return found

    def abandon(self) -> None:
        with self._lock:
            self._is_abandoned = True
            waiting, begun = list(self._waiting), dict(self._begun)
            self._waiting.clear()
            self._begun.clear()
        for ref in begun.values():
            ray.cancel(ref, force=True)
        for found in (*(found for _, found in waiting), *begun):
            if not found.done():
                found.set_exception(TracerLostError("given up"))

    def close(self) -> None:
        """Nothing is under way: whoever asks waits for every answer, or abandons them."""

    def _begin(self) -> None:
        while self._waiting and len(self._begun) < self._at_once:
            job, found = self._waiting.popleft()
            ref = self._task.remote(job)
            self._begun[found] = ref
            ref.future().add_done_callback(functools.partial(self._take, found))

    def _take(self, found: Future[Answers], done: Future[Answers]) -> None:
        with self._lock:
            if self._begun.pop(found, None) is None:
                return  # given up
            self._begin()
        error = done.exception()
        if error is None:
            found.set_result(done.result())
        elif isinstance(error, RayTaskError) and error.cause is not None:
            found.set_exception(error.cause)
        elif isinstance(error, RayError):
            found.set_exception(TracerLostError(" ".join(str(error).split())))
        else:
            found.set_exception(error)
