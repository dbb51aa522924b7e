"""What a search knows before it measures: the outlooks of its lines, as they are predicted beside it.

The first measurement need not wait for the last prediction: whoever asks about a line waits until that line
is known, and no longer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Self

from ..predict.fits import LAUNCH
from ..predict.lines import is_predictable
from ..predict.outlook import Outlook
from ..predict.prediction import Predictor
from ..predict.rate.profiles import GpuProfile
from ..predict.store import PredictionStore
from ..predict.tracers import Tracers
from ..study.space import SearchSpace
from ..values.candidate import Candidate

_POLL_S = 0.2
"""How long a wait may keep a signal waiting."""


class Foresight:
    """The outlooks of a study's lines on a card, complete or still coming in.

    Lines of a workload that cannot be predicted have none, and are measured without. Safe to use from the
    search's thread while another one adds to it.
    """

    def __init__(self, lines: Iterable[Candidate]) -> None:
        self._awaited = frozenset(lines)
        self._known: dict[Candidate, Outlook] = {}
        self._given_up: set[Candidate] = set()
        self._changed = threading.Condition()
        self._problem: BaseException | None = None
        self._is_complete = False

    @classmethod
    def of(cls, outlooks: Iterable[Outlook]) -> Self:
        """A complete one."""
        found = cls(())
        for outlook in outlooks:
            found.add(outlook)
        found.complete()
        return found

    def add(self, outlook: Outlook) -> None:
        """Take in a line's outlook."""
        with self._changed:
            self._known[outlook.line] = outlook
            self._changed.notify_all()

    def give_up(self, line: Candidate) -> None:
        """Note that a line has no outlook, as it cannot be followed: it is measured without."""
        with self._changed:
            self._given_up.add(line)
            self._changed.notify_all()

    def complete(self, problem: BaseException | None = None) -> None:
        """Nothing more comes in; `problem`: why not, where that was not planned."""
        with self._changed:
            self._is_complete, self._problem = True, problem
            self._changed.notify_all()

    @property
    def known(self) -> Sequence[Outlook]:
        """The outlooks so far, in the order in which they came.

        Raises: what ended the predictions before their time.
        """
        with self._changed:
            self._check()
            return tuple(self._known.values())

    @property
    def is_complete(self) -> bool:
        return self._is_complete

    def outlook(self, line: Candidate) -> Outlook | None:
        """Of a line, waited for; None where it is not predicted.

        Raises: what ended the predictions before their time.
        """
        if line not in self._awaited and not self._is_complete:
            return self._known.get(line)
        self._wait(lambda: line in self._known or line in self._given_up)
        return self._known.get(line)

    def wait_for_more(self, than: int) -> None:
        """Wait until more outlooks are known than so many, or all are.

        Raises: what ended the predictions before their time.
        """
        self._wait(lambda: len(self._known) > than)

    def _wait(self, is_enough: Callable[[], bool]) -> None:
        with self._changed:
            while not is_enough() and not self._is_complete:
                self._changed.wait(_POLL_S)
            self._check()

    def _check(self) -> None:
        if self._problem is not None:
            raise self._problem


class LookingAhead:
    """Predicts a study's lines in a thread of its own. Use as a context: it ends its processes.

    tracers: who traces, beside what is measured; None: processes of this computer, one a core. on_progress:
    as in `PredictionStore.ask`, called in that thread. on_problem: has each reason once for which lines
    cannot be followed, in that thread too.
    """

    def __init__(
        self,
        space: SearchSpace,
        profile: GpuProfile,
        *,
        budget_bytes: int,
        reserve_bytes: int,
        tracers: Tracers | None = None,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
        on_problem: Callable[[str], None] = lambda problem: None,
    ) -> None:
        lines = [line for line in space.lines if is_predictable(line)]
        self.foresight = Foresight(lines)
        self._asked = [(line, space.batches(line)) for line in in_order(lines)]
        self._profile, self._budget_bytes, self._reserve_bytes = profile, budget_bytes, reserve_bytes
        self._store = PredictionStore(tracers=tracers)
        self._on_progress, self._on_problem = on_progress, on_problem
        self._problems: set[str] = set()
        self._is_left = False
        self._thread = threading.Thread(target=self._run, name="predictions", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_left = True  # nobody waits for an answer any more
        while self._thread.is_alive():  # it may just be starting processes
            self._store.abandon()
            self._thread.join(_POLL_S)

    def _run(self) -> None:
        predictor = Predictor(profile=self._profile, store=self._store, reserve_bytes=self._reserve_bytes)
        problem: BaseException | None = None
        try:
            with self._store:
                predictor.look_ahead(
                    self._asked,
                    self._budget_bytes,
                    LAUNCH,
                    self.foresight.add,
                    self._on_progress,
                    self._give_up,
                )
        except Exception as error:  # raised where the search asks: a thread has nobody to tell
            problem = error
        self.foresight.complete(None if self._is_left else problem)

    def _give_up(self, line: Candidate, problem: str) -> None:
        self.foresight.give_up(line)
        if problem not in self._problems:
            self._problems.add(problem)
            self._on_problem(f"{line.workload} {line.model}: {problem}")


def in_order(lines: Iterable[Candidate]) -> list[Candidate]:
    """The shortest sequence of every model first, then the next of every model.

    So the first cells to be known are of different models, and the fastest of them.
    """
    return sorted(lines, key=lambda line: line.length)
