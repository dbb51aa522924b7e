"""Measuring over a Ray cluster: an actor a GPU, nodes that join and leave, and what is lost with them.

The pool is this module's own, over `ray.wait`: what an actor was doing when it was lost has no answer, and
the search has it measured again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import ray
from ray.exceptions import RayError, RayTaskError

from ..measuring.executor import Finished
from ..values.candidate import Candidate
from ..values.errors import DeviceError
from ..values.measurement import DeviceInfo, Versions
from .cluster_nodes import ClusterNodes, Node
from .measuring_actor import Answer, MeasuringActor, Order

FAILURES = 3
"""So often may GPUs of a node fail until it is set aside."""
_POLL_S = 0.5
_SLOW_S = 60.0
"""After so long it is said that a GPU of the cluster has not begun: another program may have it."""


class _Actor(MeasuringActor):
    """As Ray starts it: it alone knows the numbers of the GPU that it was given."""

    def __init__(self, order: Order) -> None:
        super().__init__(order, ray.get_runtime_context().get_accelerator_ids()["GPU"])


@dataclass(kw_only=True, slots=True, eq=False)
class _Gpu:
    """A GPU that the cluster has for us; `ref` is what its actor was asked last, None while it is free."""

    name: str
    node: Node
    actor: Any
    ref: Any
    asked_s: float
    is_ready: bool = False
    is_slow: bool = False
    candidate: Candidate | None = None


@dataclass(kw_only=True, slots=True)
class _Tally:
    """What is known of nodes: how often GPUs of each failed, and which are set aside."""

    failures: dict[str, int] = field(default_factory=dict)
    aside: set[str] = field(default_factory=set)


class RayExecutor:
    """An `Executor` of the GPUs of a cluster; a context manager that gives every one back.

    logs: the run's folder, for what the workers write. tell: has a line
    about what joins, leaves, fails or is refused.
    """

    def __init__(self, nodes: ClusterNodes, order: Order, *, logs: Path, tell: Callable[[str], None]) -> None:
        self._nodes, self._order, self._logs, self._tell = nodes, order, logs, tell
        self._actors = ray.remote(_Actor)
        self._gpus: dict[str, _Gpu] = {}
        self._tally = _Tally()
        self._arrived: deque[_Gpu] = deque()  # whose ref has an answer, or never will
        self._device: DeviceInfo | None = None
        self._versions: Versions | None = None
        self._begun = 0
        self._is_stopped = self._is_said_empty = False

    def __enter__(self) -> Self:
        self._look()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._is_stopped:
            self.stop()

    @property
    def device(self) -> DeviceInfo:
        while self._device is None:
            self.wait()
            self.take()
        return self._device

    @property
    def versions(self) -> Versions:
        while self._versions is None:
            self.wait()
            self.take()
        return self._versions

    @property
    def free(self) -> tuple[str, ...]:
        return tuple(gpu.name for gpu in self._gpus.values() if gpu.is_ready and gpu.ref is None)

    @property
    def working(self) -> tuple[str, ...]:
        return tuple(gpu.name for gpu in self._gpus.values() if gpu.is_ready)

    @property
    def running(self) -> Mapping[str, Candidate]:
        return {gpu.name: gpu.candidate for gpu in self._gpus.values() if gpu.candidate is not None}

    def hand_out(self, candidate: Candidate, device: str) -> None:
        gpu = self._gpus[device]
        gpu.candidate = candidate
        self._ask(gpu, gpu.actor.measure.remote(candidate.to_dict()))

    def wait(self) -> None:
        while not self._arrived:
            waiting = {gpu.ref: gpu for gpu in self._gpus.values() if gpu.ref is not None}
            if waiting:
                done, rest = ray.wait(list(waiting), num_returns=1, timeout=_POLL_S)
                if done and rest:  # whoever else has an answer by now
                    more, _ = ray.wait(rest, num_returns=len(rest), timeout=0)
                    done = [*done, *more]
                self._arrived.extend(waiting[ref] for ref in done)
            else:
                time.sleep(_POLL_S)
            if self._nodes.is_due:
                self._look()
            if not waiting:
                return  # nothing can come before a node has joined

    def take(self) -> Finished | None:
        if not self._arrived:
            return None  # no GPU is there; whoever waits may have a reason to stop
        gpu = self._arrived.popleft()
        if self._gpus.get(gpu.name) is not gpu:  # given up since: its candidate was told then
            return None
        if not gpu.node.is_alive and not ray.wait([gpu.ref], timeout=0)[0]:
            return self._lose(gpu, f"{gpu.node.name} has left", is_failure=False)
        try:
            answer: Answer = ray.get(gpu.ref)
        except RayTaskError as error:
            raise error.cause or error from None  # a bug: what it raised there has its traceback
        except RayError as error:
            lost = f"its process was lost: {type(error).__name__}"
            return self._lose(gpu, lost, is_failure=self._nodes.is_there(gpu.node))
        self._write_log(answer)
        if answer.failure is not None:
            return self._lose(gpu, answer.failure, is_failure=True)
        gpu.ref = None
        if not gpu.is_ready:
            self._admit(gpu, answer)
            return None
        candidate, gpu.candidate = gpu.candidate, None
        assert candidate is not None  # a GPU that is ready is asked for nothing else
        if gpu.node.id in self._tally.aside or not gpu.node.is_alive:
            del self._gpus[gpu.name]
            self._end(gpu)
        return Finished(device=gpu.name, candidate=candidate, measurement=answer.measurement)

    def stop(self) -> tuple[Finished, ...]:
        self._is_stopped = True
        if self._nodes.is_lost:  # nobody is there who could be asked to stop
            return ()
        running = {gpu.ref: gpu for gpu in self._gpus.values() if gpu.candidate is not None}
        done, _ = ray.wait(list(running), num_returns=len(running), timeout=0) if running else ([], [])
        finished = []
        for ref in done:
            try:
                answer: Answer = ray.get(ref)
            except RayError:
                continue
            self._write_log(answer)
            if answer.measurement is not None:
                gpu = running[ref]
                assert gpu.candidate is not None
                found = Finished(device=gpu.name, candidate=gpu.candidate, measurement=answer.measurement)
                finished.append(found)
        ends = [self._end(gpu) for gpu in self._gpus.values()]
        self._gpus.clear()
        if ends:
            ray.wait(ends, num_returns=len(ends), timeout=_SLOW_S)
        return tuple(finished)

    def _look(self) -> None:
        """Take in which nodes have come and gone."""
        for node in self._nodes.look():
            if not node.is_alive:
                self._leave(node)
            elif node.refusal is not None:
                self._tell(f"{node.name} is left alone: {node.refusal}")
            else:
                for number in range(node.gpus):
                    self._start(node, f"{node.name}/{number}")
        for gpu in self._gpus.values():
            if not gpu.is_ready and not gpu.is_slow and time.monotonic() - gpu.asked_s > _SLOW_S:
                gpu.is_slow = True
                self._tell(f"{gpu.name} has not begun yet: another program of the cluster may have it")
        if not self._gpus and not self._is_said_empty and self._begun:
            self._tell("no GPU of the cluster is left; going on when one joins, Ctrl-C ends the search")
        self._is_said_empty = not self._gpus

    def _start(self, node: Node, name: str) -> None:
        """A new actor on a GPU of a node, which begins at once."""
        self._begun += 1
        actor: Any = self._actors.options(
            num_cpus=0,
            num_gpus=1,
            max_restarts=0,
            label_selector=node.selector,
            name=f"phase8-tune {self._order.run} {name} {self._begun}",
        ).remote(self._order)
        self._gpus[name] = _Gpu(
            name=name, node=node, actor=actor, ref=actor.begin.remote(), asked_s=time.monotonic()
        )

    def _ask(self, gpu: _Gpu, ref: Any) -> None:
        gpu.ref, gpu.asked_s = ref, time.monotonic()

    def _admit(self, gpu: _Gpu, answer: Answer) -> None:
        """Take in a GPU whose worker is ready, where it is as the others are."""
        device, versions = answer.device, answer.versions
        assert device is not None
        assert versions is not None
        if self._device is None:
            self._device, self._versions = device.model_copy(update={"uuid": None}), versions
        assert self._versions is not None
        own, known = _in_words(device, versions), _in_words(self._device, self._versions)
        if own == known:
            gpu.is_ready = True
            return
        self._tell(f"{gpu.name} is left alone: {own} there, and a study is of one: {known}")
        del self._gpus[gpu.name]
        self._end(gpu)

    def _leave(self, node: Node) -> None:
        own = [gpu for gpu in self._gpus.values() if gpu.node is node]
        for gpu in own:
            if gpu.candidate is None:
                del self._gpus[gpu.name]
                self._end(gpu)  # one that was not placed yet would wait for ever
            elif gpu not in self._arrived:  # its answer may have come before its node left
                self._arrived.append(gpu)
        if own:
            self._tell(f"{node.name} has left; what was measured there is measured elsewhere")

    def _lose(self, gpu: _Gpu, reason: str, *, is_failure: bool) -> Finished | None:
        """Give up a GPU's actor, and start another where its node may still serve.

        Raises: DeviceError where all nodes are set aside.
        """
        del self._gpus[gpu.name]
        self._end(gpu)
        if is_failure:
            self._note_failure(gpu, reason)
        if gpu.candidate is None:
            return None
        return Finished(device=gpu.name, candidate=gpu.candidate, measurement=None)

    def _note_failure(self, gpu: _Gpu, reason: str) -> None:
        node, tally = gpu.node, self._tally
        if node.id in tally.aside:
            return
        tally.failures[node.id] = tally.failures.get(node.id, 0) + 1
        if tally.failures[node.id] < FAILURES:
            self._tell(f"{gpu.name} failed ({reason}); what was measured there is measured again")
            self._start(node, gpu.name)
            return
        tally.aside.add(node.id)
        for other in [each for each in self._gpus.values() if each.node is node]:
            if other.candidate is None:
                del self._gpus[other.name]
                self._end(other)
        if not self._gpus and not self._nodes.serving(tally.aside):
            raise DeviceError(f"all nodes of the cluster failed; the last: {node.name}: {reason}")
        self._tell(f"{node.name} is set aside, as it failed {FAILURES} times; the last: {reason}")

    def _end(self, gpu: _Gpu) -> Any:
        """Have an actor's process ended, and its worker with it; what is there once it has."""
        ray.kill(gpu.actor, no_restart=True)
        return gpu.actor.begin.remote() if gpu.ref is None else gpu.ref

    def _write_log(self, answer: Answer) -> None:
        if answer.log:
            self._logs.mkdir(parents=True, exist_ok=True)
            with (self._logs / f"worker-{answer.gpu}.log").open("ab") as log:
                log.write(answer.log)


def _in_words(device: DeviceInfo, versions: Versions) -> str:
    """What has to be the same on all GPUs of a study."""
    driver, triton = versions.driver or "not told", versions.triton or "none"
    return f"{device.name}, driver {driver}, torch {versions.torch}, triton {triton}"
