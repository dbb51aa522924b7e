"""Where the time of the driver of a search goes, by parts."""

from __future__ import annotations

import contextlib
import functools
import gc
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from optuna.samplers import TPESampler

from ..tuner.measuring.pool import LocalExecutor
from ..tuner.records.database import StudyStore
from ..tuner.records.journal import Journal
from ..tuner.records.knowledge import Knowledge
from ..tuner.search.guided import GuidedSearch
from ..tuner.search.proposals import SamplerChoice
from ..tuner.search.skips import PredictedMemoryRule
from ..tuner.search.strategy import DisqualifiedVersionRule, LargerBatchRule, RowOrder

SAMPLER, DEVICE, COLLECTOR, REST = "sampler", "device", "collector", "rest"
APART = (SAMPLER, DEVICE, COLLECTOR)
"""What is not the driver's own. Python's collector of garbage looks through all that there is, which takes
0.14 s, once in some thousand candidates: it would say something of one of them by chance."""

_OF_THE_SAMPLER = (
    "before_trial",
    "infer_relative_search_space",
    "sample_relative",
    "sample_independent",
    "after_trial",
)
PARTS: dict[str, Sequence[tuple[type, Sequence[str]]]] = {
    SAMPLER: [(TPESampler, _OF_THE_SAMPLER)],
    DEVICE: [(LocalExecutor, ("wait",))],
    "ask": [(StudyStore, ("ask",))],
    "open": [(StudyStore, ("trial_of", "show_running"))],
    "tell": [(StudyStore, ("tell",))],
    "journal": [(Journal, ("append",))],
    "knowledge": [(Knowledge, ("add", "begin"))],
    "propose": [(RowOrder, ("propose",)), (SamplerChoice, ("propose",)), (GuidedSearch, ("propose",))],
    "filters": [
        (LargerBatchRule, ("reject",)),
        (DisqualifiedVersionRule, ("reject",)),
        (PredictedMemoryRule, ("reject",)),
    ],
}
"""Whose time it is: methods by the names of the parts. What is in none of them is the rest."""

Spent = tuple[float, float, int]
"""Seconds on the clock, seconds of the driver's thread on a processor, and calls."""
NOTHING: Spent = (0.0, 0.0, 0)


@dataclass
class Meter:
    """Where the time of one thread goes: to each part without the parts that it calls itself."""

    spent: dict[str, Spent] = field(default_factory=dict)
    _open: list[str] = field(default_factory=lambda: [REST])
    _thread: int = field(default_factory=threading.get_ident)
    _since: tuple[float, float] = field(default_factory=lambda: (time.perf_counter(), time.thread_time()))

    def settle(self, *, calls: int = 0) -> dict[str, Spent]:
        """What every part has had until now; `calls` more of the one whose time it is."""
        now, part = (time.perf_counter(), time.thread_time()), self._open[-1]
        wall_s, cpu_s, called = self.spent.get(part, NOTHING)
        self.spent[part] = wall_s + now[0] - self._since[0], cpu_s + now[1] - self._since[1], called + calls
        self._since = now
        return dict(self.spent)

    def watched(self, part: str, method: Callable[..., Any]) -> Callable[..., Any]:
        """A method whose time is a part's."""

        @functools.wraps(method)
        def watched_method(*args: Any, **kwargs: Any) -> Any:
            self.settle()
            self._open.append(part)
            try:
                return method(*args, **kwargs)
            finally:
                self.settle(calls=1)
                self._open.pop()

        return watched_method

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """All parts, for as long as the block lasts."""
        with contextlib.ExitStack() as patches:
            for part, owners in PARTS.items():
                for owner, names in owners:
                    for name in names:
                        method = self.watched(part, getattr(owner, name))
                        patches.enter_context(mock.patch.object(owner, name, method))
            gc.callbacks.append(self._note_collection)
            patches.callback(gc.callbacks.remove, self._note_collection)
            yield

    def _note_collection(self, phase: str, info: dict[str, int]) -> None:
        if threading.get_ident() != self._thread:
            return
        self.settle(calls=phase == "stop")
        if phase == "start":
            self._open.append(COLLECTOR)
        else:
            self._open.pop()
