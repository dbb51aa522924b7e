"""Every goal on two recorded runs, one measured and one planned: its file, its sentence, the page's table."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from phase8_tune.benchmarks.goal_tables import MEASURED, PLANNED, goal_table
from phase8_tune.tuner.cli import main
from phase8_tune.tuner.goals.goals import KEPT, Goal
from phase8_tune.tuner.goals.loss import BAND, Horizon, expected_losses
from phase8_tune.tuner.records.frontier import Point, to_points
from phase8_tune.tuner.records.journal import read_records
from phase8_tune.tuner.training.settings import load_settings

RUNS = pytest.mark.parametrize("recorded", [MEASURED, PLANNED], ids=lambda path: path.name)
PAGE = Path(__file__).parents[2] / "docs" / "goals.md"

pytestmark = pytest.mark.skipif(
    not MEASURED.exists(), reason="phase8_tune is installed from a wheel, without its evidence"
)


@RUNS
def test_the_page_has_the_table_of_the_command(recorded: Path) -> None:
    table = goal_table(recorded)
    assert re.findall(r"^\| ([a-z-]+) ", table, re.M) == list(Goal)
    assert table in PAGE.read_text(encoding="utf-8")


def sorted_by(points: list[Point], *keys: str) -> Point:
    """The first by what a sentence asks for in turn; a minus asks for the least."""
    figures = {
        "rate": lambda p: p.tokens_per_s,
        "memory": lambda p: p.peak_bytes,
        "size": lambda p: p.body_parameters,
        "sequence": lambda p: p.candidate.n_seq,
        "loss": Horizon().loss,
    }

    def order(point: Point) -> list[float]:
        return [-figures[key.lstrip("-")](point) * (-1 if key.startswith("-") else 1) for key in keys]

    return min(points, key=order)


def as_said(points: list[Point], goal: Goal) -> Point:
    """The answer, by the words of the goal's sentence alone."""
    if goal is Goal.THROUGHPUT:
        return sorted_by(points, "rate", "-memory", "size")
    if goal is Goal.MODEL_SIZE:
        return sorted_by(points, "size", "rate", "-memory")
    if goal is Goal.CONTEXT:
        return sorted_by(points, "sequence", "size", "rate", "-memory")
    if goal is Goal.MEMORY:
        return sorted_by(points, "-memory", "rate", "size")
    if goal is Goal.COMPUTE_OPTIMAL:
        return sorted_by(points, "-loss", "-memory")
    losses = expected_losses(points, Horizon())
    band = [item for item in losses if item.loss <= losses[0].loss * (1 + BAND)]
    model = min(band, key=lambda item: item.point.body_parameters).point.candidate.model
    of_model = [p for p in points if p.candidate.model == model]
    most = max(p.tokens_per_s for p in of_model)
    longest = max(p.candidate.n_seq for p in of_model if p.tokens_per_s >= KEPT * most)
    of_cell = [p for p in of_model if p.candidate.n_seq == longest]
    most = max(p.tokens_per_s for p in of_cell)
    return sorted_by([p for p in of_cell if p.tokens_per_s >= KEPT * most], "-memory", "rate")


@RUNS
def test_every_goal_gives_its_file_as_its_sentence_says(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "run"
    shutil.copytree(recorded, root)
    main(["recommend", str(root)])
    capsys.readouterr()
    points = [p for p in to_points(read_records(root / "records.jsonl")) if p.candidate.mode == "train"]
    for goal in Goal:
        settings = load_settings(root / "recommended" / f"goal-{goal}.yaml")
        source = settings.measured or settings.predicted
        assert source is not None
        assert source.digest == as_said(points, goal).record.digest
