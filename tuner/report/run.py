"""A run as it lies on the disk, as a value that shows itself: as text, and in a notebook."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from ..html.escaping import escape
from ..records.cells import best_of_cells
from ..records.frontier import Point
from ..records.journal import read_records
from ..records.results import Results
from ..records.run_directory import RunPaths, read_run_info
from ..values.html_table import html_table
from ..values.measurement import DeviceInfo, Versions
from ..values.sizes import format_budget
from .picture import frontier_svg
from .tables import frontier_table
from .terminal import render_frontier


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """What the figures of a run are from; of the last record that says it, None where none does.

    device: of kind "predicted" it is the card that was planned for.
    """

    device: DeviceInfo | None
    versions: Versions | None


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Run:
    """A run as it lies on the disk. As a text and in a notebook it is the fastest of each model and sequence.

    points: what fits, each a configuration with tokens/s, peak bytes and parameters; frontier: those that no
    other beats; recommended: the fastest of each model that can be trained.
    """

    path: Path
    study: str
    budget_bytes: int
    environment: Environment
    results: Results

    @property
    def points(self) -> tuple[Point, ...]:
        return self.results.points

    @property
    def frontier(self) -> tuple[Point, ...]:
        return self.results.frontier

    @property
    def recommended(self) -> tuple[Point, ...]:
        return self.results.recommended

    def __str__(self) -> str:
        if not self.frontier:
            return (
                f"{self.study}: nothing that was measured in this run fits {format_budget(self.budget_bytes)}"
            )
        return render_frontier(self.frontier, self.path, is_short=True).rstrip("\n")

    __repr__ = __str__  # of thousands of records it would be a megabyte

    def _repr_html_(self) -> str:
        """The same for a notebook, below the picture of the run; every text of the run is escaped."""
        head = escape(str(self).partition("\n\n")[0]).replace("\n", "<br>")
        if not self.frontier:
            return f"<p>{head}</p>"
        headers, rows, align = frontier_table(list(best_of_cells(self.frontier).values()))
        return f"<p>{head}</p>{self._picture()}{html_table(headers, rows, align)}"

    def _picture(self) -> str:
        if self.environment.device is None:
            return ""
        drawn = frontier_svg(self.results, self.study, self.budget_bytes, self.environment.device)
        # As an image of its own: its ids meet no other's on the page, and nothing in it can be a script.
        data = base64.b64encode(drawn).decode("ascii")
        return f'<img alt="Peak memory against throughput" src="data:image/svg+xml;base64,{data}">'


def read_run(root: Path) -> Run:
    """The run in a folder.

    Raises: UserInputError where the folder holds no run, or one of a later version.
    """
    info = read_run_info(root)
    results = Results.of(read_records(RunPaths(root=root).journal))
    found = [record.measurement for record in reversed(results.records)]
    return Run(
        path=root,
        study=info.study,
        budget_bytes=info.budget_bytes,
        environment=Environment(
            device=next((m.device for m in found if m.device is not None), None),
            versions=next((m.versions for m in found if m.versions is not None), None),
        ),
        results=results,
    )
