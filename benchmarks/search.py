"""What strategies of searching are worth, replayed against a space that was measured whole.

    phase8-tune --vram 8GB --study benchmarks/exhaustive.yaml --exhaustive
    python -m phase8_tune.benchmarks.search --record runs/exhaustive-8GB-cuda --output DIR
    python -m phase8_tune.benchmarks.search --replay DIR --output OTHER [--seeds 20] [--most 0.5]

--record turns a run into a table (DIR/results.json), with what is predicted of its lines; a table that is
there goes on with what is new, so that several runs of one card make one. --replay needs no GPU: strategies
ask for measurements, which the table answers, until a share of its points was measured. Prints a table and
one line of JSON; OTHER gets results, a report and a plot.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from ..tuner.predict.rate.calibration import known_profile
from ..tuner.records.journal import read_records
from ..tuner.records.run_directory import RunPaths
from .environment import environment
from .search_contestants import CONTESTANTS
from .search_replay import Step, Truth, replay
from .search_report import compared_after, exhaustive_report, plot, replay_report, summarize, table_of
from .search_table import Table, add_records, predicted, read_table, to_json

TABLE = "results.json"


def record(runs: Sequence[Path], folder: Path) -> Table:
    """Add runs to the table in a folder, and predict its lines.

    Raises: ValueError for runs that do not go together, or of a card without figures.
    """
    path = folder / TABLE
    table = read_table(path) if path.exists() else None
    for run in runs:
        table = add_records(table, read_records(RunPaths(root=run).journal))
    if table is None:
        raise ValueError("expected a run to record, got none")
    profile = known_profile(str(table.ran_on["gpu"]))
    if profile is None:
        raise ValueError(f"expected a card with known figures, got {table.ran_on['gpu']}")
    table = predicted(table, profile)
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(to_json(table), encoding="utf-8")
    _write_environment(folder, table)
    (folder / "report.md").write_text(exhaustive_report(Truth(table)), encoding="utf-8")
    return table


def replay_all(
    table: Table, names: Sequence[str], seeds: int, most_share: float, processes: int = 1
) -> dict[str, dict[str, Any]]:
    """What is to be said of strategies, by their names."""
    truth = Truth(table)
    most = max(round(most_share * len(truth.points)), compared_after(truth))
    found = {}
    with ProcessPoolExecutor(processes) as pool:
        for name in names:
            runs = list(pool.map(partial(_replayed, table, name, most), range(seeds)))
            found[name] = summarize(runs, compared_after(truth))
    return found


def _replayed(table: Table, name: str, most: int, seed: int) -> list[Step]:
    return replay(Truth(table), CONTESTANTS[name], seed, most)


def _write_environment(folder: Path, table: Table) -> None:
    """What measured, and what made this of it."""
    text = json.dumps({**environment(), **table.ran_on}, indent=1)
    (folder / "environment.json").write_text(f"{text}\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--record", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--replay", type=Path, metavar="DIR")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--most", type=float, default=0.5, help="share of the points, default 0.5")
    parser.add_argument("--processes", type=int, default=1)
    arguments = parser.parse_args()
    if (arguments.record is None) == (arguments.replay is None):
        parser.error("expected either --record or --replay")
    if arguments.record is not None:
        try:
            table = record(arguments.record, arguments.output)
        except ValueError as error:
            parser.error(str(error))
        print(json.dumps({"launched": len(table.entries), "fitted": len(table.feasible)}))
        return
    table = read_table(arguments.replay / TABLE)
    if not table.outlooks:
        parser.error(f"{arguments.replay}: expected predictions of its lines, got none; --record makes them")
    found = replay_all(table, list(CONTESTANTS), arguments.seeds, arguments.most, arguments.processes)
    print(table_of(found))
    short = {name: {k: v for k, v in each.items() if k != "curves"} for name, each in found.items()}
    print(json.dumps(short))
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "results.json").write_text(f"{json.dumps(found)}\n", encoding="utf-8")
    (arguments.output / "report.md").write_text(replay_report(Truth(table), found), encoding="utf-8")
    plot(arguments.output / "replay.png", found)
    _write_environment(arguments.output, table)


if __name__ == "__main__":
    main()
