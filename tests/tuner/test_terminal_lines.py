"""What a run tells in plain lines, quietly, and to programs."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import phase8_tune
from phase8_tune.tuner.cli import main
from phase8_tune.tuner.records.journal import read_records
from phase8_tune.tuner.records.results import Results
from phase8_tune.tuner.report.display import Beginning, Display, Ending
from phase8_tune.tuner.report.displays import choose_display, display_for_people
from phase8_tune.tuner.report.event_lines import FORMAT_VERSION, EventLines
from phase8_tune.tuner.report.lines import LineDisplay, QuietDisplay
from phase8_tune.tuner.report.live import LiveDisplay
from phase8_tune.tuner.search.plan_summary import read_summary
from phase8_tune.tuner.search.progress import SearchEvent, StopReason
from phase8_tune.tuner.values.outcome import Outcome
from phase8_tune.tuner.values.record import Record

from ..faults.commands import SEARCH, faked, run, write_study
from .report_records import BUDGET_BYTES, make_candidate, make_record

EARLIER = Path(__file__).parent.parent / "formats"
RUNS = (
    "2026-11-main/finished",
    "2026-11-main/interrupted",
    "2026-11-main/planned",
    "2026-11-records-2/finished",
)
PAGE = Path(phase8_tune.__file__).parent / "docs" / "commands.md"


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def make_event(last: Record | None = None) -> SearchEvent:
    return SearchEvent(
        done=1,
        pruned=1,
        failed=0,
        total=12,
        best_tokens_per_s=1138.4,
        running={} if last is not None else {"cpu": make_candidate()},
        last=last,
        seconds_left_estimate=125.0,
    )


def make_ending(name: str) -> Ending:
    """Of a run that an earlier version left."""
    root = EARLIER / name
    results = Results.of(read_records(root / "records.jsonl"))
    plan = read_summary(root / "plan.json")
    reason = StopReason.EXHAUSTED if plan is None else None
    return Ending(results=results, run_root=root, recommended=[], reason=reason, plan=plan)


def shown(display: Display, out: io.StringIO, ending: Ending) -> str:
    display.end(ending)
    return out.getvalue()


def test_a_line_for_each_launched_trial() -> None:
    err = io.StringIO()
    with LineDisplay(io.StringIO(), err) as display:
        display.show(make_event())  # about to be measured: nothing to say yet
        display.show(make_event(make_record(tokens_per_s=1138)))
        display.show(make_event(make_record(outcome=Outcome.OOM)))
        display.show(make_event(make_record(outcome=Outcome.PREDICTED_OVER_BUDGET, attempt=0)))
        display.tell("GPU-0 is set aside")
    measured, failed, told = err.getvalue().splitlines()
    assert measured == (
        "[ 1/12] small 4×512 reference bf16 train: 1,138 (±0) tokens/s, 2,048.00 MB "
        "(1 pruned, best 1,138 tokens/s, about 2 min 05 s left)"
    )
    assert "small 4×512 reference bf16 train: out of memory (1 pruned" in failed
    assert told == "phase8-tune: GPU-0 is set aside"


def test_a_prediction_tells_how_long_it_takes_now_and_then() -> None:
    """A part a second: a line each ten seconds, with the time that the rest takes at that rate."""
    err, now_s = io.StringIO(), 0.0
    with LineDisplay(io.StringIO(), err, clock=lambda: now_s) as display:
        for done in range(0, 41):
            display.show_predicted(done, 40)
            now_s += 1.0
    assert err.getvalue().splitlines() == [
        "predicted 25%, about 30 s left",
        "predicted 50%, about 20 s left",
        "predicted 75%, about 10 s left",
    ]


def test_what_is_predicted_besides_has_a_time_of_its_own() -> None:
    err, now_s = io.StringIO(), 0.0
    with LineDisplay(io.StringIO(), err, clock=lambda: now_s) as display:
        for seconds_each, total in ((100.0, 4), (1.0, 20)):
            for done in range(0, total + 1):
                display.show_predicted(done, total)
                now_s += seconds_each
    assert err.getvalue().splitlines()[-1] == "predicted 60%, about 8 s left"


def test_a_terminal_has_a_bar_while_it_is_predicted_and_what_is_told_stands_above_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    err = Screen()
    with display_for_people(io.StringIO(), err) as display:
        display.show_predicted(1, 2)
        display.tell("a line")
        print("another", file=sys.stderr)
        display.show_predicted(2, 2)
    assert "░  50%" in re.sub(r"\x1b\[[\d;]*m", "", err.getvalue())
    assert "phase8-tune: a line\n" in err.getvalue()
    assert "another\n" in err.getvalue()


@pytest.mark.parametrize("term", ["dumb", "unknown", ""])
def test_how_it_is_told_follows_from_what_is_asked_and_where_to(
    term: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert type(choose_display(Screen(), Screen())) is LiveDisplay
    assert type(choose_display(Screen(), io.StringIO())) is LineDisplay
    assert type(choose_display(Screen(), Screen(), is_quiet=True)) is QuietDisplay
    assert type(choose_display(Screen(), Screen(), as_json=True)) is EventLines
    monkeypatch.setenv("TERM", term)
    assert type(choose_display(Screen(), Screen())) is LineDisplay


@pytest.mark.parametrize("name", RUNS)
def test_a_run_ends_with_the_answer_and_no_table(name: str) -> None:
    ending, out = make_ending(name), io.StringIO()
    text = shown(LineDisplay(out, io.StringIO()), out, ending)
    assert len(re.findall("^balanced: ", text, re.M)) == 1
    assert "\n  why: " in text
    assert f"All {len(ending.results.frontier)} configurations of the frontier: phase8-tune frontier" in text
    assert not any(line.startswith("-----") for line in text.splitlines())
    assert ("predicted to fit" in text) == name.endswith("planned")
    quiet = io.StringIO()
    assert shown(QuietDisplay(quiet), quiet, ending) in text
    assert quiet.getvalue().startswith("balanced: ")


@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_goes_on_shows_what_it_had(name: str) -> None:
    root = EARLIER / name
    display = LiveDisplay(io.StringIO(), io.StringIO())
    display.begin(
        Beginning(
            study="s",
            budget_bytes=BUDGET_BYTES,
            device="cpu",
            run_root=root,
            is_plan=False,
            earlier=read_records(root / "records.jsonl"),
        )
    )
    shown = [line.plain for line in display.view().lines(80, 40)]
    best = [line for line in shown if line.startswith("best    nano ")]
    assert len(best) == (0 if name.endswith("planned") else 1)  # nothing of a plan was measured


def read(out: io.StringIO | str) -> list[dict[str, Any]]:
    text = out if isinstance(out, str) else out.getvalue()
    lines = [json.loads(line) for line in text.splitlines()]
    assert {line.pop("format_version") for line in lines} == {FORMAT_VERSION}
    return lines


@pytest.mark.parametrize("name", RUNS)
def test_the_last_line_for_programs_has_the_answer(name: str) -> None:
    ending, out = make_ending(name), io.StringIO()
    EventLines(out).end(replace(ending, problem="a problem"))
    [ended] = read(out)
    assert ended["event"] == "ended"
    assert ended["reason"] == ("planned" if name.endswith("planned") else "exhausted")
    assert ended["problem"] == "a problem"
    assert ended["configurations"] == ended["fitting"] + ended["not_fitting"] + ended["failed"]
    assert ended["configurations"] == len(ending.results.settled)
    answer = ended["answer"]
    assert answer["goal"] == "balanced"
    assert answer["point"]["digest"] in {point.record.digest for point in ending.results.points}


def test_the_answer_for_programs_is_that_of_recommend(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "finished"
    shutil.copytree(EARLIER / RUNS[0], root)
    main(["recommend", str(root), "--goal", "balanced", "--json"])
    [answer] = json.loads(capsys.readouterr().out)["answers"]
    out = io.StringIO()
    EventLines(out).end(replace(make_ending(RUNS[0]), run_root=root))
    assert read(out)[0]["answer"] == answer
    assert answer["file"] == str(root / "recommended" / "goal-balanced.yaml")


def test_where_nothing_fits_there_is_no_answer() -> None:
    out = io.StringIO()
    record = make_record(outcome=Outcome.OOM)
    EventLines(out).end(Ending(results=Results.of([record]), run_root=Path("r"), recommended=[]))
    [ended] = read(out)
    assert (ended["answer"], ended["reason"], ended["not_fitting"]) == (None, "failed", 1)
    quiet = io.StringIO()
    QuietDisplay(quiet).end(Ending(results=Results.of([record]), run_root=Path("r"), recommended=[]))
    assert quiet.getvalue() == ""


def test_every_event_is_a_line_with_the_keys_that_the_page_names() -> None:
    out = io.StringIO()
    display = EventLines(out)
    display.begin(
        Beginning(study="s", budget_bytes=BUDGET_BYTES, device="cpu", run_root=Path("r"), is_plan=False)
    )
    display.tell("a note")
    display.show_predicted(1, 2)
    display.show(make_event())
    display.show(make_event(make_record(tokens_per_s=1138)))
    display.show(make_event(make_record(outcome=Outcome.OOM)))
    display.show(make_event())
    display.end(make_ending(RUNS[0]))
    lines = read(out)
    assert [line["event"] for line in lines] == [
        *("begun", "note", "predicted", "measuring", "recorded", "recorded", "measuring", "ended")
    ]
    measured, failed = (line for line in lines if line["event"] == "recorded")
    assert (measured["outcome"], measured["tokens_per_s"]) == ("ok", pytest.approx(1138))
    assert (failed["outcome"], failed["tokens_per_s"]) == ("oom", None)
    assert measured["progress"]["seconds_left"] == 125.0
    if not PAGE.exists():
        pytest.skip("phase8_tune is installed without its pages")
    table = re.findall(r"^\| `(\w+)` \|(.*)\|(.*)\|$", PAGE.read_text(encoding="utf-8"), re.M)
    keys = {event: set(re.findall(r"`(\w+)`", named)) for event, _, named in table}
    for line in lines:
        assert keys[line.pop("event")] == set(line)


def test_a_search_tells_programs_all_and_quietly_the_answer(tmp_path: Path) -> None:
    write_study(tmp_path)
    done = run(faked(*SEARCH, "--json"), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = read(done.stdout)
    assert [line["event"] for line in lines] == [
        *("begun", "measuring", "recorded", "measuring", "recorded", "ended")
    ]
    assert lines[-1]["answer"]["point"]["candidate"]["batch_size"] == 2
    quiet = run(faked(*SEARCH, "--quiet"), tmp_path)
    assert (quiet.returncode, quiet.stderr) == (0, "")
    assert quiet.stdout.startswith("balanced: nano 2×32 reference none train: ")
    assert "report.html" not in quiet.stdout
    both = run(faked(*SEARCH, "--quiet", "--json"), tmp_path)
    assert (both.returncode, both.stdout) == (2, "")
    assert both.stderr == "phase8-tune: --quiet: expected it or --json, got both; leave out one\n"
