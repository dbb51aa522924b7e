"""Strategies replayed against a made-up table: what is looked up, what is refused, and how it is judged."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import pytest

from phase8_tune.benchmarks.search import replay_all
from phase8_tune.benchmarks.search_contestants import CONTESTANTS, DoublingThenBisection
from phase8_tune.benchmarks.search_replay import Simulation, Step, Truth, replay
from phase8_tune.benchmarks.search_report import (
    compared_after,
    exhaustive_report,
    plot,
    replay_report,
    summarize,
    table_of,
)
from phase8_tune.benchmarks.search_table import add_records, from_json, to_json
from phase8_tune.tests.tuner.report_records import make_candidate, make_record
from phase8_tune.tuner.records.cells import cell_of
from phase8_tune.tuner.records.knowledge import Knowledge
from phase8_tune.tuner.values.outcome import Outcome

from .search_tables import made_up

TABLE = made_up()
TRUTH = Truth(TABLE)
TENTH = compared_after(TRUTH)


def test_a_table_survives_its_file() -> None:
    again = from_json(to_json(TABLE))
    assert again.entries == TABLE.entries
    assert again.budget_bytes == TABLE.budget_bytes
    assert [o.largest for o in again.outlooks] == [o.largest for o in TABLE.outlooks]
    for mine, other in zip(again.outlooks, TABLE.outlooks, strict=True):
        batch = mine.batches[0]
        assert mine.forecast(batch).step.step_s == pytest.approx(other.forecast(batch).step.step_s, rel=1e-2)


def test_runs_are_merged_and_what_is_there_stays() -> None:
    one, two, three = (make_candidate(batch_size=2**n) for n in range(3))
    first = [make_record(one, tokens_per_s=100.0), make_record(two, outcome=Outcome.OOM, peak_bytes=None)]
    second = [make_record(one, tokens_per_s=999.0), make_record(three, tokens_per_s=50.0)]
    table = add_records(add_records(None, first), second)
    assert list(table.entries) == [one, two, three]
    assert table.entries[one].tokens_per_s == pytest.approx(100.0)
    assert table.entries[two].outcome is Outcome.OOM
    assert table.entries[two].tokens_per_s is None
    assert list(table.feasible) == [one, three]


def test_attempts_of_one_candidate_take_their_seconds_together_and_rejected_ones_none() -> None:
    candidate = make_candidate()
    crashed = make_record(candidate, outcome=Outcome.KILLED, peak_bytes=None, attempt=1)
    rejected = make_record(make_candidate(batch_size=64), outcome=Outcome.PREDICTED_OVER_BUDGET, attempt=0)
    table = add_records(None, [crashed, make_record(candidate, attempt=2), rejected])
    assert list(table.entries) == [candidate]
    assert table.entries[candidate].seconds == 6.0


def test_runs_of_another_budget_or_card_do_not_go_together() -> None:
    table = add_records(None, [make_record()])
    with pytest.raises(ValueError, match="one budget"):
        add_records(table, [make_record(budget_bytes=1)])
    other = make_record()
    device = other.measurement.device
    assert device is not None
    found = other.measurement.model_copy(update={"device": device.model_copy(update={"name": "Other"})})
    with pytest.raises(ValueError, match="one GPU"):
        add_records(table, [other.model_copy(update={"measurement": found})])


def test_what_is_not_in_the_table_is_an_error() -> None:
    simulation, line = Simulation(TABLE, 0), next(iter(TABLE.entries)).line()
    largest = TABLE.batches[line][-1]
    for absent in (line.at(3), line.at(largest + 1), dataclasses.replace(line, model="base").at(1)):
        with pytest.raises(KeyError, match="not in the table"):
            simulation.measure(absent, 0)
    ran_out = simulation.measure(line.at(largest * 2), 0).measurement
    assert ran_out.outcome is Outcome.OOM
    assert ran_out.wall_s == 1.0  # the median of what setting up costs there


@pytest.mark.parametrize("name", CONTESTANTS)
def test_every_strategy_is_replayed_and_repeats_itself_by_its_seed(name: str) -> None:
    steps = replay(TRUTH, CONTESTANTS[name], seed=1, most=12)
    assert len(steps) == 12
    assert steps == replay(TRUTH, CONTESTANTS[name], seed=1, most=12)
    if name != "phase8-tune":  # which begins with what is predicted
        assert steps != replay(TRUTH, CONTESTANTS[name], seed=2, most=12)
    for before, after in itertools.pairwise(steps):
        assert after.seconds > before.seconds
        assert after.volume >= before.volume
        assert after.ran_out >= before.ran_out


def test_a_grid_ends_with_all_powers_of_two_and_a_bisection_with_the_largest_of_every_line() -> None:
    grid = replay(TRUTH, CONTESTANTS["micro-batch grid"], seed=0, most=1000)
    powers = sum(candidate.batch_size & (candidate.batch_size - 1) == 0 for candidate in TABLE.entries)
    assert len(grid) - grid[-1].ran_out == powers
    bisection = replay(TRUTH, CONTESTANTS["doubling, then bisection"], seed=0, most=1000)
    assert bisection[-1].regret_worst < 0.01  # the formula's rates rise with the batch
    assert len(bisection) < len(TABLE.entries)


def test_doubling_goes_up_until_memory_runs_out_and_then_halves_what_is_between() -> None:
    simulation, knowledge = Simulation(TABLE, 0), Knowledge()
    strategy = DoublingThenBisection(simulation.space(), seed=0)
    found: list[int] = []
    line = None
    while (candidate := strategy.propose(knowledge, knowledge.is_available)) is not None:
        line = line or candidate.line()
        if candidate.line() != line:
            break
        found.append(candidate.batch_size)
        knowledge.add(simulation.measure(candidate, len(found)))
    assert line is not None
    batches = TABLE.batches[line]
    doubled = [batch for batch in batches if batch & (batch - 1) == 0]
    assert found[: len(doubled)] == doubled
    assert found[len(doubled)] > batches[-1]
    assert batches[-1] in found


def test_this_search_is_near_the_best_of_every_cell_after_a_tenth_and_runs_out_of_nothing() -> None:
    summaries = replay_all(TABLE, list(CONTESTANTS), seeds=2, most_share=0.1)
    own = summaries["phase8-tune"]
    assert own["regret_mean"] <= 0.005
    assert own["regret_worst"] <= 0.02
    assert own["ran_out"] == 0
    for name, other in summaries.items():
        assert name == "phase8-tune" or own["regret_mean"] < other["regret_mean"]


def test_a_summary_is_the_median_and_says_when_the_goal_was_reached() -> None:
    far = Step(seconds=1.0, volume=0.5, regret_mean=0.5, regret_worst=1.0, ran_out=0)
    near = Step(seconds=3.0, volume=1.0, regret_mean=0.0, regret_worst=0.0, ran_out=1)
    found = summarize([[far, near], [far, far, near], [far, far]], after=2)
    assert (found["measurements_to_goal"], found["seconds_to_goal"], found["seeds_at_goal"]) == (3.0, 3.0, 2)
    assert found["volume"] == 0.5
    assert found["curves"]["volume"] == [0.5, 0.5, 1.0]
    assert summarize([[far]], after=5)["seconds_to_goal"] is None


def test_the_pages_have_a_table_and_the_plot_is_drawn(tmp_path: Path) -> None:
    summaries = {name: summarize([replay(TRUTH, CONTESTANTS[name], 0, 3)], 3) for name in ("random", "TPE")}
    json.dumps(summaries, allow_nan=False)
    plot(tmp_path / "replay.png", summaries)
    assert (tmp_path / "replay.png").read_bytes().startswith(b"\x89PNG")
    assert table_of(summaries) in replay_report(TRUTH, summaries)
    page = exhaustive_report(TRUTH)
    assert page.count("\n| ") == 1 + len({cell_of(candidate) for candidate in TABLE.entries})
