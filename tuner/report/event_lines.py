"""A run told to a program: a JSON object a line on standard output, the last with the answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, TextIO

from ..goals.filters import Filters
from ..goals.goals import Answer
from ..goals.loss import Horizon
from ..records.recommend import has_settings
from ..search.progress import SearchEvent
from ..training.recommended import goal_path
from ..training.verification import Verification
from ..values.candidate import Candidate
from ..values.outcome import Outcome
from ..values.record import Record
from .answers import answer_to_dict
from .display import Beginning, Display, Ending
from .ending import find_balanced
from .recommendations import run_answers
from .verified import verified_to_dict

FORMAT_VERSION: Final = 1
"""Of every line. It is raised when a program that reads the one before would misread what is written."""


class EventLines(Display):
    """`docs/commands.md` has the events with their keys."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._running: dict[str, Candidate] = {}

    def write(self, event: str, **values: Any) -> None:
        """A line."""
        line = {"format_version": FORMAT_VERSION, "event": event, **values}
        print(f"{json.dumps(line, ensure_ascii=False)}\n", end="", file=self._out, flush=True)  # in one piece

    def tell(self, text: str) -> None:
        self.write("note", text=text)

    def begin(self, beginning: Beginning) -> None:
        self.write(
            "begun",
            study=beginning.study,
            budget_bytes=beginning.budget_bytes,
            device=beginning.device,
            run=str(beginning.run_root),
            is_plan=beginning.is_plan,
            earlier_records=len(beginning.earlier),
        )

    def show(self, event: SearchEvent) -> None:
        if event.last is not None:
            self.write("recorded", **_record_to_dict(event.last), progress=_progress_to_dict(event))
        for device, candidate in event.running.items():
            if self._running.get(device) != candidate:
                self.write("measuring", device=device, **_name(candidate), progress=_progress_to_dict(event))
        self._running = dict(event.running)

    def show_predicted(self, done: int, total: int) -> None:
        self.write("predicted", done=done, total=total)

    def end(self, ending: Ending) -> None:
        results, root = ending.results, ending.run_root
        balanced = find_balanced(run_answers(results))
        outcomes = [record.measurement.outcome for record in results.settled]
        not_fitting = sum(outcome.is_memory for outcome in outcomes)
        fitting = outcomes.count(Outcome.OK)
        self.write(
            "ended",
            reason=_reason(ending),
            problem=ending.problem,
            configurations=len(outcomes),
            fitting=fitting,
            not_fitting=not_fitting,
            failed=len(outcomes) - fitting - not_fitting,
            frontier=len(results.frontier),
            run=str(root),
            recommended=[str(path) for path in ending.recommended],
            answer=None if balanced is None else _answer_to_dict(balanced, root / "recommended"),
        )

    def show_verified(self, found: Sequence[Verification]) -> None:
        for one in found:
            self.write("verified", **verified_to_dict(one))


def _answer_to_dict(answer: Answer, folder: Path) -> dict[str, Any]:
    file = str(goal_path(folder, answer.goal)) if has_settings(answer.point) else None
    return answer_to_dict(answer, Filters(), Horizon()) | {"file": file}


def _reason(ending: Ending) -> str:
    if ending.plan is not None:
        return "planned"
    return "failed" if ending.reason is None else ending.reason.value


def _name(candidate: Candidate) -> dict[str, Any]:
    return {
        "digest": candidate.digest(),
        "candidate": candidate.to_dict(),
        "description": candidate.describe(),
    }


def _record_to_dict(record: Record) -> dict[str, Any]:
    measurement, candidate = record.measurement, record.to_candidate()
    rate = None
    if record.fits and measurement.samples_s:
        rate, _ = measurement.tokens_per_s(candidate.items_per_step)
    return {
        **_name(candidate),
        "attempt": record.attempt,
        "outcome": measurement.outcome.value,
        "message": measurement.message,
        "tokens_per_s": rate,
        "peak_bytes": measurement.peak_bytes,
        "device": None if measurement.device is None else measurement.device.name,
        "gpu_uuid": None if measurement.device is None else measurement.device.uuid,
    }


def _progress_to_dict(event: SearchEvent) -> dict[str, Any]:
    return {
        "done": event.done,
        "total": event.total,
        "pruned": event.pruned,
        "failed": event.failed,
        "best_tokens_per_s": event.best_tokens_per_s,
        "seconds_left": event.seconds_left_estimate,
    }
