"""Answers about one line as they are kept on disk, by the names of their questions and ladders."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ..values.atomic_write import write_atomically
from .jobs import Answers, LineJob
from .lines import Answer, Rungs

_FORMAT = 2
"""Of a file of answers: one of another format counts as not there."""


@dataclass(kw_only=True, slots=True)
class KeptAnswers:
    """What is known about a line."""

    answers: dict[str, Answer] = field(default_factory=dict)
    rungs: dict[str, Rungs] = field(default_factory=dict)
    problem: str = ""
    parameters: int | None = None

    def missing(self, job: LineJob) -> LineJob:
        """What of a job is not known yet; nothing, where it is known that the line cannot be followed."""
        if self.problem:
            return replace(job, questions=(), ladders=())
        return replace(
            job,
            questions=tuple(q for q in job.questions if q.name() not in self.answers),
            ladders=tuple(ladder for ladder in job.ladders if ladder.name() not in self.rungs),
        )

    def add(self, job: LineJob, found: Answers) -> None:
        """Take in the answers to a job."""
        if found.problem:
            self.problem = found.problem
            return
        self.parameters = found.parameters
        self.answers |= {q.name(): a for q, a in zip(job.questions, found.questions, strict=True)}
        self.rungs |= {ladder.name(): r for ladder, r in zip(job.ladders, found.ladders, strict=True)}

    def of(self, job: LineJob) -> Answers:
        """The answers to a job of which nothing is missing."""
        if self.problem:
            return Answers(problem=self.problem)
        return Answers(
            parameters=self.parameters,
            questions=tuple(self.answers[q.name()] for q in job.questions),
            ladders=tuple(self.rungs[ladder.name()] for ladder in job.ladders),
        )


def read_answers(path: Path) -> KeptAnswers:
    """What a file holds; nothing where it is missing, damaged, or of another format: it is asked again."""
    try:
        data = json.loads(path.read_bytes())
        if data["format"] != _FORMAT:
            return KeptAnswers()
        return KeptAnswers(
            answers={name: _answer(values) for name, values in data["answers"].items()},
            rungs={name: _rungs(values) for name, values in data["rungs"].items()},
            problem=str(data.get("problem", "")),
            parameters=data.get("parameters"),
        )
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return KeptAnswers()


def write_answers(path: Path, kept: KeptAnswers) -> None:
    """Raises: OSError."""
    answers = {name: _values(item) for name, item in kept.answers.items()}
    rungs = {name: _rung_values(item) for name, item in kept.rungs.items()}
    data = {"format": _FORMAT, "answers": answers, "rungs": rungs}
    if kept.problem or kept.parameters is not None:  # of a factory's model
        data |= {"problem": kept.problem, "parameters": kept.parameters}
    text = json.dumps(data)
    write_atomically(path, text.encode())


def _values(answer: Answer) -> dict[str, Any]:
    return {item.name: getattr(answer, item.name) for item in fields(Answer)}


def _answer(values: dict[str, Any]) -> Answer:
    costs = {name: tuple(cost) for name, cost in values["costs"].items()}
    return Answer(**{**values, "costs": costs})


def _rung_values(rungs: Rungs) -> dict[str, Any]:
    values: dict[str, Any] = {
        "largest": rungs.largest,
        "answers": {str(batch): _values(answer) for batch, answer in rungs.answers.items()},
        "recommended": None,
    }
    if rungs.recommended is not None:
        batch, answer = rungs.recommended
        values["recommended"] = [batch, _values(answer)]
    return values


def _rungs(values: dict[str, Any]) -> Rungs:
    answers = {int(batch): _answer(each) for batch, each in values["answers"].items()}
    recommended = values["recommended"]
    return Rungs(
        largest=values["largest"],
        answers=answers,
        recommended=None if recommended is None else (recommended[0], _answer(recommended[1])),
    )
