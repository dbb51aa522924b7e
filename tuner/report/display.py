"""What a run tells while it goes on and when it ends. The plainest display tells nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from ..measuring.gauge import Gauge
from ..records.results import Results
from ..search.plan_summary import PlanSummary
from ..search.progress import SearchEvent, StopReason
from ..training.verification import Verification
from ..values.record import Record
from ..values.sizes import format_budget


@dataclass(frozen=True, kw_only=True, slots=True)
class Beginning:
    """What a run is about. device: `cuda`, `cpu`, or the title of the card that is planned for.

    earlier: the records that the run has already.
    """

    study: str
    budget_bytes: int
    device: str
    run_root: Path
    is_plan: bool
    earlier: Sequence[Record] = ()

    def describe(self) -> str:
        """In a line."""
        where = f"predicted for {self.device} (nothing is measured)"
        return (
            f"study {self.study}, budget {format_budget(self.budget_bytes)}, "
            f"{where if self.is_plan else f'device: {self.device}'}, run {self.run_root}"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """What became of a run. recommended: the files that were written; plan: where nothing was measured.

    reason: why the search ended, None where it failed, and of a plan. problem: what is wrong with the end.
    """

    results: Results
    run_root: Path
    recommended: Sequence[Path]
    reason: StopReason | None = None
    plan: PlanSummary | None = None
    problem: str | None = None


class Display:
    """Tells nothing: for who takes the results from Python. A context, which ends what is drawn meanwhile.

    The calls come in the order of the methods; `tell` may be called at any time and from any thread.
    """

    def tell(self, text: str) -> None:
        """A line for the user that is no result."""

    def begin(self, beginning: Beginning) -> None:
        """The run's folder is known; nothing is measured or predicted yet."""

    def watch(self, gauges: Mapping[str, Gauge]) -> None:
        """Devices by their names, as `SearchEvent.running` has them."""

    def show(self, event: SearchEvent) -> None:
        """How far the search is."""

    def show_predicted(self, done: int, total: int) -> None:
        """`done` of `total` parts of equal weight are predicted."""

    def close(self) -> None:
        """Take away what is drawn; may be called more than once."""

    def end(self, ending: Ending) -> None:
        """The results, whose files are written."""

    def show_verified(self, found: Sequence[Verification]) -> None:
        """Whether what was recommended holds, of a run that ended well."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
