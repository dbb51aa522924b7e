"""Two runs compared: what counts as a change, what fits in one of them, and what the command says of it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phase8_tune.tests.exit_codes import exit_code
from phase8_tune.tuner.cli import main
from phase8_tune.tuner.records.compare import Comparison, Pair, compare_runs, rate_interval
from phase8_tune.tuner.records.frontier import Point, to_points
from phase8_tune.tuner.records.journal import Journal, read_records
from phase8_tune.tuner.records.run_directory import RunInfo, RunPaths, read_run_info
from phase8_tune.tuner.report.comparison import render_comparison
from phase8_tune.tuner.report.comparison_tables import ComparedRun
from phase8_tune.tuner.values.measurement import PredictedFigures
from phase8_tune.tuner.values.outcome import Outcome
from phase8_tune.tuner.values.record import Record

from .report_records import BUDGET_BYTES, GPU, make_candidate, make_record

MIB = 2**20
few = settings(max_examples=40)  # records take their time to make


def with_samples(record: Record, *shares: float) -> Record:
    """The record with samples that are these shares of its step's time."""
    step_s = record.measurement.samples_s[0]
    found = record.measurement.model_copy(update={"samples_s": tuple(step_s * share for share in shares)})
    return record.model_copy(update={"measurement": found})


def predicted(record: Record, low: float, rate: float, high: float) -> Record:
    figures = PredictedFigures(
        tokens_per_s_low=low,
        tokens_per_s=rate,
        tokens_per_s_high=high,
        limited_by="memory",
        peak_bytes_high=record.measurement.peak_bytes or 0,
    )
    device = GPU.model_copy(update={"kind": "predicted"})
    found = {"predicted": figures, "samples_s": (), "device": device}
    return record.model_copy(update={"measurement": record.measurement.model_copy(update=found)})


def point_of(record: Record) -> Point:
    [point] = to_points([record])
    return point


@st.composite
def runs(draw: st.DrawFn) -> list[Record]:
    """Few distinct configurations and figures, so that two runs share many."""
    keys = st.tuples(st.sampled_from(["nano", "small"]), st.sampled_from([256, 512]), st.integers(1, 3))
    found = []
    for model, n_seq, batch in draw(st.lists(keys, max_size=8, unique=True)):
        candidate = make_candidate(model=model, n_seq=n_seq, batch_size=batch)
        rate = float(draw(st.sampled_from([100, 1000, 1004, 1100])))
        kind = draw(st.sampled_from(["measured", "jitter", "predicted", "oom"]))
        if kind == "oom":
            found.append(make_record(candidate, outcome=Outcome.OOM, peak_bytes=None))
            continue
        record = make_record(candidate, tokens_per_s=rate, peak_bytes=draw(st.integers(1, 4)) * 1000 * MIB)
        if kind == "jitter":
            record = with_samples(record, 0.9, 1.0, 1.1)
        if kind == "predicted":
            record = predicted(record, 0.8 * rate, rate, 1.2 * rate)
        found.append(record)
    return found


def digests(pairs: tuple[Pair, ...]) -> list[str]:
    return [pair.first.record.digest for pair in pairs]


@few
@given(runs(), runs())
def test_runs_in_the_other_order_have_the_opposite_changes(one: list[Record], other: list[Record]) -> None:
    there, back = compare_runs(one, other), compare_runs(other, one)
    assert digests(there.changed) == digests(back.changed)
    for pair, turned in zip(there.changed, back.changed, strict=True):
        assert pair.change is not None
        assert turned.change is not None
        assert math.isclose(math.log1p(pair.change), -math.log1p(turned.change))
    assert [(c.cell, c.first, c.second) for c in there.cells] == [
        (c.cell, c.second, c.first) for c in back.cells
    ]
    assert [(o.point, o.fits_in_first) for o in there.one_sided] == [
        (o.point, not o.fits_in_first) for o in back.one_sided
    ]
    assert (there.only_first, there.only_second) == (back.only_second, back.only_first)
    assert counts(there) == counts(back)
    assert (there.median_change is None) == (back.median_change is None)
    if there.median_change is not None and back.median_change is not None:
        assert math.isclose(math.log1p(there.median_change), -math.log1p(back.median_change), abs_tol=1e-9)


def counts(found: Comparison) -> tuple[int, int, int]:
    return found.unchanged, found.unknown, found.unlike


@few
@given(runs())
def test_a_run_has_not_changed_against_itself(records: list[Record]) -> None:
    found = compare_runs(records, records)
    assert (found.changed, found.one_sided) == ((), ())
    assert (found.unknown, found.unlike, found.only_first, found.only_second) == (0, 0, 0, 0)
    assert found.unchanged == len(to_points(records))


@few
@given(runs(), runs(), st.randoms(use_true_random=False))
def test_the_order_of_records_does_not_matter(one: list[Record], other: list[Record], chance: object) -> None:
    shuffled = list(one)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert compare_runs(shuffled, other) == compare_runs(one, other)


@few
@given(runs(), runs())
def test_every_configuration_of_both_is_counted_once(one: list[Record], other: list[Record]) -> None:
    found = compare_runs(one, other)
    fitting = [{point.record.digest for point in to_points(records)} for records in (one, other)]
    assert len(found.changed) + sum(counts(found)) == len(fitting[0] & fitting[1])
    assert all(pair.is_alike for pair in found.changed)


def test_a_change_counts_only_beyond_both_intervals() -> None:
    first = make_record(tokens_per_s=1000.0)
    # Without any spread among the samples, measurements as a whole differ by 0.3 %: twice 0.59 % together.
    for rate, is_beyond in ((1005.0, False), (1011.0, False), (1013.0, True), (985.0, True)):
        pair = Pair(first=point_of(first), second=point_of(make_record(tokens_per_s=rate)))
        assert pair.is_beyond is is_beyond, rate
    noisy = point_of(with_samples(make_record(tokens_per_s=1100.0), 0.8, 1.0, 1.2))
    assert Pair(first=point_of(first), second=noisy).is_beyond is False


def test_more_samples_make_an_interval_smaller() -> None:
    wide = rate_interval(point_of(with_samples(make_record(), 0.9, 1.0, 1.1)))
    many = rate_interval(point_of(with_samples(make_record(), *(0.9, 1.0, 1.1) * 20)))
    assert wide is not None
    assert many is not None
    assert wide[0] < many[0] < many[1] < wide[1]
    # Rates of 3 samples with a mean of 1006.7 and a deviation of 100.7: 4.303 × 100.7 / √3 = 250.2
    assert (wide[1] - wide[0]) / 2 == pytest.approx(250.2, rel=0.01)


def test_what_is_not_known_is_no_change() -> None:
    first, disturbed = make_record(), make_record(tokens_per_s=5000.0, tainted=("drift",))
    single = with_samples(make_record(tokens_per_s=5000.0), 1.0)
    for other in (disturbed, single):
        found = compare_runs([first], [other])
        assert (found.changed, found.unknown) == ((), 1)


def test_predicted_and_measured_are_not_compared() -> None:
    measured, foreseen = make_record(), predicted(make_record(), 4000.0, 5000.0, 6000.0)
    found = compare_runs([measured], [foreseen])
    assert (found.changed, found.unlike) == ((), 1)
    [cell] = found.cells
    assert cell.pair is not None
    assert (cell.pair.change, cell.pair.peak_change, cell.pair.is_beyond) == (None, None, None)
    better = predicted(make_record(), 7000.0, 8000.0, 9000.0)
    [pair] = compare_runs([foreseen], [better]).changed
    assert pair.change == pytest.approx(0.6)


def write_run(root: Path, records: list[Record], name: str = "Example GPU") -> Path:
    root.mkdir(parents=True)
    info = RunInfo(
        format_version=1,
        study="tiny",
        definition_digest="0" * 16,
        budget_bytes=BUDGET_BYTES,
        device_kind="cuda",
        device_name=name,
        created_at="2026-01-01T00:00:00+00:00",
    )
    RunPaths(root=root).info.write_text(info.model_dump_json())
    with Journal(RunPaths(root=root).journal) as journal:
        journal.append(*records)
    return root


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs: of 25 configurations two did not change, one fits before and one after."""
    monkeypatch.chdir(tmp_path)
    batches = [make_candidate(batch_size=batch) for batch in range(1, 26)]
    card = GPU.model_copy(update={"name": "Another GPU"})
    before = [make_record(c, tokens_per_s=1000.0 + c.batch_size) for c in batches]
    after = [
        make_record(c, tokens_per_s=(1000.0 + c.batch_size) * (1 + 0.02 * (c.batch_size - 1)), device=card)
        for c in batches[:-1]
    ]
    after[1] = make_record(batches[1], tokens_per_s=1003.0, device=card)
    after.append(make_record(batches[-1], outcome=Outcome.OOM, peak_bytes=None, device=card))
    early = make_candidate(batch_size=30)
    before.append(make_record(early, outcome=Outcome.COMPILE_ERROR, peak_bytes=None))
    after.append(make_record(early, tokens_per_s=900.0, peak_bytes=7000 * MIB, device=card))
    write_run(tmp_path / "runs" / "before", before)
    write_run(tmp_path / "runs" / "after", after, "Another GPU")
    return tmp_path


def compare(*arguments: str) -> int:
    return exit_code(lambda: main(["compare", *arguments]))


def test_the_command_says_what_changed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare("before", "after") == 0
    shown = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert "Device Example GPU (cuda) Another GPU (cuda) differs" in lines
    assert "Budget 8GB 8GB" in lines
    assert "Fit in both runs: 24; changed beyond the noise: 22, not beyond it: 2." in lines
    assert "Changed by more than both intervals together (the first 20 of 22; --all):" in lines
    rows = [line for line in lines if line.startswith("small ") and "+" in line and "the same" not in line]
    best, changed = rows[0], rows[1:]
    assert best.startswith(
        "small 512 small 25×512 reference bf16 train small 24×512 reference bf16 train 1,025 (±0) "
    )
    assert len(changed) == 20
    assert changed[0] == "small 24×512 reference bf16 train 1,024 (±0) 1,495 (±0) +46.0 % 2,048 2,048 0.0 %"
    assert "small 25×512 reference bf16 train 1,025 (±0) tokens/s, 2,048 MB out of memory" in lines
    assert "small 30×512 reference bf16 train compile error 900 (±0) tokens/s, 7,000 MB" in lines
    assert "The median change of these: +23.0 %." in lines
    assert compare("before", "after", "--all") == 0
    every = capsys.readouterr().out
    assert "--all" not in every
    assert len(every.splitlines()) == len(shown.splitlines()) + 2


def test_json_has_everything(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare("runs/before", "after", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [run["run"] for run in found["runs"]] == ["runs/before", "runs/after"]
    assert len(found["changed"]) == 22
    assert found["changed"][0]["change"] == pytest.approx(0.46)
    assert found["changed"][0]["is_beyond_noise"] is True
    assert [one["fits_in"] for one in found["fits_in_one"]] == ["a", "b"]
    assert [one["other_outcome"] for one in found["fits_in_one"]] == ["oom", "compile_error"]
    assert found["median_change"] == pytest.approx(0.23, abs=0.001)
    assert (found["unchanged"], found["only_in_a"], found["only_in_b"]) == (2, 0, 0)


def test_a_narrow_terminal_still_names_every_cell(folder: Path) -> None:
    runs = [
        ComparedRun(name=name, info=read_run_info(root), records=read_records(RunPaths(root=root).journal))
        for name in ("before", "after")
        for root in (folder / "runs" / name,)
    ]
    text = render_comparison(*runs, shows_all=False, json_command="all --json", width=60)
    assert "Device: A Example GPU (cuda); B Another GPU (cuda)" in text
    assert "Budget: 8GB\n" in text
    assert any(line.startswith("small 512 ") for line in text.splitlines())
    cells = text.partition("The best of each cell")[2].partition("Left out")[0]
    assert max(map(len, cells.splitlines())) <= 60


def test_predicted_figures_are_marked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(folder / "runs" / "plan", [predicted(make_record(), 500.0, 1000.0, 2000.0)])
    assert compare("before", "plan") == 0
    shown = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert "Figures measured predicted differs" in lines
    assert "~1,000 (500–2,000)" in shown
    assert "not compared" in shown
    assert "predicted in one and measured in the other: 1." in shown


def test_what_is_no_pair_of_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(folder / "runs" / "empty", [])
    for second, said in (
        ("nowhere", "expected a run directory"),
        ("runs/before", "expected two runs, got the same twice"),
        ("empty", "expected a run with records, got none yet"),
    ):
        assert compare("before", second) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
