"""The progress display: a bar on a terminal, a line a trial elsewhere."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from phase8_tune.tuner.report.progress_bar import PredictionProgress, ProgressDisplay
from phase8_tune.tuner.search.progress import SearchEvent
from phase8_tune.tuner.values.outcome import Outcome
from phase8_tune.tuner.values.record import Record

from .report_records import make_candidate, make_record


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def make_event(last: Record | None = None, *, done: int = 1) -> SearchEvent:
    return SearchEvent(
        done=done,
        pruned=1,
        failed=0,
        total=12,
        best_tokens_per_s=1138.4,
        running=() if last is not None else (make_candidate(),),
        last=last,
        seconds_left_estimate=125.0,
    )


def test_a_line_for_each_launched_trial() -> None:
    stream = io.StringIO()
    with ProgressDisplay(stream) as progress:
        progress(make_event())  # about to be measured: nothing to say yet
        progress(make_event(make_record(tokens_per_s=1138)))
        progress(make_event(make_record(outcome=Outcome.OOM)))
        progress(make_event(make_record(outcome=Outcome.PREDICTED_OVER_BUDGET, attempt=0)))
    measured, failed = stream.getvalue().splitlines()
    assert measured == (
        "[ 1/12] small 4×512 reference bf16 train: 1,138 (±0) tokens/s, 2,048.00 MB "
        "(1 pruned, best 1,138 tokens/s, about 2 min 05 s left)"
    )
    assert "small 4×512 reference bf16 train: out of memory (1 pruned" in failed


def test_the_bar_names_one_of_several_that_are_running() -> None:
    stream = Terminal()
    three = tuple(make_candidate(batch_size=batch) for batch in (1, 2, 4))
    with ProgressDisplay(stream) as progress:
        progress(replace(make_event(), running=three))
        assert "small 4×512 reference bf16 train · and 2 more" in stream.getvalue()


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_what_is_told_is_a_line_of_its_own(stream: io.StringIO) -> None:
    with ProgressDisplay(stream) as progress:
        progress(make_event())
        progress.tell("GPU-0 is set aside")
    assert "GPU-0 is set aside\n" in stream.getvalue().replace("\r", "\n")


def test_a_bar_on_a_terminal_that_goes_away() -> None:
    stream = Terminal()
    with ProgressDisplay(stream) as progress:
        progress(make_event(done=3))
        assert "3/12" in stream.getvalue()
        assert "1 pruned · best 1,138 tokens/s · about 2 min 05 s left" in stream.getvalue()
        progress(make_event(make_record(), done=4))
    assert "\n" not in stream.getvalue()
    assert stream.getvalue().rpartition("\r")[0].rpartition("\r")[2].strip() == ""


def test_a_prediction_tells_how_long_it_takes_now_and_then() -> None:
    """A part a second: a line each ten seconds, with the time that the rest takes at that rate."""
    stream, now_s = io.StringIO(), 0.0
    with PredictionProgress(stream, clock=lambda: now_s) as progress:
        for done in range(0, 41):
            progress(done, 40)
            now_s += 1.0
    assert stream.getvalue().splitlines() == [
        "predicted 25%, about 30 s left",
        "predicted 50%, about 20 s left",
        "predicted 75%, about 10 s left",
    ]


def test_a_terminal_has_a_bar_while_it_is_predicted() -> None:
    stream = Terminal()
    with PredictionProgress(stream) as progress:
        progress(0, 2)
        progress(1, 2)
        progress(2, 2)
    assert "predicting 100%" in stream.getvalue()
