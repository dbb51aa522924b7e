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
from ..records.cells import Cell, cell_of
from ..study.space import SearchSpace
from ..values.candidate import Candidate
from ..values.interrupt import POLL_S


class Foresight:
    """The outlooks of a study's lines on a card, complete or still coming in.

    Lines of a workload that cannot be predicted have none, and are measured without. Lines that save memory
    are predicted once they are asked for. Safe to use from the search's thread while another one adds to it.

    savings: those lines, of which nothing else may be asked before.
    """

    def __init__(self, lines: Iterable[Candidate], savings: Iterable[Candidate] = ()) -> None:
        self.savings = tuple(savings)
        self._put_off = dict.fromkeys(self.savings)
        self._awaited = set(lines) - self._put_off.keys()
        self._cells: dict[Cell, set[Candidate]] = {}  # of what is awaited from the start
        for line in self._awaited:
            self._cells.setdefault(cell_of(line), set()).add(line)
        self._asked: list[Candidate] = []  # since `take_asked`
        self._known: dict[Candidate, Outlook] = {}
        self._given_up: set[Candidate] = set()
        self._changed = threading.Condition()
        self._problem: BaseException | None = None
        self._is_complete = self._is_over = self._is_whole = False

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
        """Nothing more comes in, whatever is asked for; `problem`: why not, where that was not planned."""
        with self._changed:
            self._is_complete = self._is_over = self._is_whole = True
            self._problem = problem
            self._changed.notify_all()

    def ask(self, lines: Iterable[Candidate]) -> None:
        """Have lines that were put off predicted, too."""
        with self._changed:
            new = [line for line in lines if line in self._put_off]
            for line in new:
                del self._put_off[line]
            if new and not self._is_over:
                self._awaited.update(new)
                self._asked += new
                self._is_complete = False
            self._changed.notify_all()

    def take_asked(self, is_left: Callable[[], bool]) -> list[Candidate]:
        """For who predicts: all that was asked for until now is known. What is asked for next, waited for;
        nothing once `is_left`."""
        with self._changed:
            self._is_complete, self._is_whole = not self._asked, True
            self._changed.notify_all()
            while not self._asked and not is_left():
                self._changed.wait(POLL_S)
            asked, self._asked = self._asked, []
            return asked

    def is_put_off(self, line: Candidate) -> bool:
        """Whether a line is left for later: nothing of it is to be measured."""
        return line in self._put_off

    def is_known(self, cell: Cell) -> bool:
        """Whether all is known of the lines of a cell that were awaited from the start."""
        with self._changed:
            lines = self._cells.get(cell)
            if lines is None:
                return self._is_complete
            return all(line in self._known or line in self._given_up for line in lines)

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

    @property
    def is_whole(self) -> bool:
        """Whether all that was awaited from the start is known, whatever was asked for since."""
        return self._is_whole

    def outlook(self, line: Candidate) -> Outlook | None:
        """Of a line, waited for; None where it is not predicted.

        Raises: what ended the predictions before their time.
        """
        if line not in self._awaited:
            with self._changed:
                self._check()
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
                self._changed.wait(POLL_S)
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
        self.foresight = Foresight(lines, filter(is_predictable, space.savings))
        self._space = space
        self._first = [line for line in lines if not self.foresight.is_put_off(line)]
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
            self._thread.join(POLL_S)

    def _run(self) -> None:
        predictor = Predictor(profile=self._profile, store=self._store, reserve_bytes=self._reserve_bytes)
        problem: BaseException | None = None
        lines = self._first
        try:
            while lines:
                with self._store:  # between two looks ahead it has no processes
                    predictor.look_ahead(
                        [(line, self._space.batches(line)) for line in in_order(lines)],
                        self._budget_bytes,
                        LAUNCH,
                        self.foresight.add,
                        self._on_progress,
                        self._give_up,
                    )
                lines = self.foresight.take_asked(lambda: self._is_left) if self.foresight.savings else []
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
