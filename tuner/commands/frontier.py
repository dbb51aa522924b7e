"""The frontier of a run that is on disk, drawn again without a GPU."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ..records.frontier import Point, find_frontier, to_points
from ..records.journal import read_records
from ..records.run_directory import RunPaths, read_run_info
from ..report.terminal import render_frontier
from ..report.trials_csv import render_csv
from ..values.errors import NothingFitsError, UserInputError


@dataclass(frozen=True, kw_only=True, slots=True)
class FrontierFilter:
    """Which configurations compete for the frontier; an empty collection lets all of them."""

    models: Collection[str] = ()
    n_seqs: Collection[int] = ()
    kernel_versions: Collection[str] = ()

    def select(self, points: list[Point]) -> list[Point]:
        """The points that pass.

        Raises: UserInputError for a value that no measured configuration has.
        """
        for option, attribute, wanted in (
            ("--model", "model", self.models),
            ("--seq", "n_seq", self.n_seqs),
            ("--version", "kernel_version", self.kernel_versions),
        ):
            present = {getattr(p.candidate, attribute) for p in points}
            for value in wanted:
                if value not in present:
                    known = ", ".join(str(v) for v in sorted(present))
                    raise UserInputError(
                        f"{option}: expected one of those that fit here ({known}), got {value}"
                    )
            points = [p for p in points if not wanted or getattr(p.candidate, attribute) in wanted]
        return points


def show_frontier(run: str, runs_dir: Path, chosen: FrontierFilter, *, as_csv: bool) -> None:
    """Print the frontier of a run, named by its folder or by its name in `runs_dir`.

    Raises: UserInputError where there is no such run; NothingFitsError where nothing in it fits.
    """
    root = Path(run) if os.path.isdir(run) else runs_dir / run  # False for a folder that may not be entered
    read_run_info(root)
    points = to_points(read_records(RunPaths(root=root).journal))
    if not points:
        raise NothingFitsError(f"{root}: nothing that was measured in this run fits its budget")
    front = find_frontier(chosen.select(points))
    sys.stdout.write(render_csv([p.record for p in front]) if as_csv else render_frontier(front))
