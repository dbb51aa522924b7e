"""What was found, as values that show themselves: as text, and in a notebook."""

from __future__ import annotations

from dataclasses import dataclass

from ..html.escaping import escape
from ..predict.fits import RECOMMEND
from ..predict.outlook import Prediction
from ..records.frontier import Point
from ..records.wording import rate_unit
from ..training.verification import Verification
from ..values.html_table import html_table
from ..values.sizes import format_budget, format_mb
from ..workloads.settings import TrainingSettings
from .verified import render_verified


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class RunAnswer:
    """The configuration of a run that answers a goal. As a text it is what `phase8-tune recommend` says.

    next_best: what would, were it not there; None where nothing else passes. why: a sentence each.
    settings: what trains it, None for a workload that has no settings files.
    """

    goal: str
    point: Point
    next_best: Point | None
    why: tuple[str, ...]
    settings: TrainingSettings | None
    text: str

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return _lines(self.text)


class ShownPrediction(Prediction):
    """A prediction that says in a few lines what it is; in a notebook with its memory line by line."""

    __slots__ = ()

    def __str__(self) -> str:
        rate, unit = self.tokens_per_s, rate_unit([self.candidate])
        verdict = f"{'fits' if self.fits else 'does not fit'} {RECOMMEND.condition}"
        return (
            f"{self.candidate.describe()} on {self.gpu}: predicted, not measured\n"
            f"peak {format_mb(self.peak_bytes)} MB, budget {format_budget(self.budget_bytes)}: {verdict}\n"
            f"{rate.expected:,.0f} {unit} (90 %: {rate.low:,.0f} to {rate.high:,.0f}), "
            f"limited by {self.limited_by}"
        )

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = [(line.name, format_mb(line.size_bytes), line.source) for line in self.ledger]
        rows.append(("peak of the process", format_mb(self.peak_bytes), "sum"))
        return _lines(str(self)) + html_table(("memory", "MB", "source"), rows, "lrl")


class ShownVerification(Verification):
    """What became of a check, as the table of `phase8-tune verify`."""

    __slots__ = ()

    def __str__(self) -> str:
        return render_verified([self]).rstrip("\n")

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return _lines(str(self))


def _lines(text: str) -> str:
    """Lines as they are; long ones are broken."""
    return f'<pre style="white-space:pre-wrap">{escape(text)}</pre>'
