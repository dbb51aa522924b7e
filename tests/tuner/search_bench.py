"""A search in memory for the tests of the search."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna

from phase8_tune.tuner.measuring.measurer import Measurer
from phase8_tune.tuner.measuring.pool import LocalExecutor
from phase8_tune.tuner.measuring.testing import FormulaMeasurer
from phase8_tune.tuner.records.database import StudyStore
from phase8_tune.tuner.records.journal import Journal, read_records
from phase8_tune.tuner.records.knowledge import Knowledge
from phase8_tune.tuner.search.progress import SearchEvent, SearchResult
from phase8_tune.tuner.search.search import Search
from phase8_tune.tuner.study.definition import SearchSettings, StudyDefinition, parse_definition
from phase8_tune.tuner.study.space import SearchSpace

BUDGET_BYTES = 2 * 2**30
AXES = """\
name: tiny
axes:
  model: [nano, small]
  n_seq: [64, 256]
  batch_size: [1, 4, 16]
  kernel_version: [reference]
  gradient_checkpointing: [false, true]
  mixed_precision: [none]
search: {startup_trials: 4}
"""
ROWS = """\
name: rows
defaults:
  {model: nano, n_seq: 64, kernel_version: reference, gradient_checkpointing: true, mixed_precision: none}
rows: [{batch_size: 4}, {batch_size: 8}, {batch_size: 2}, {batch_size: 16}]
"""
TINY = parse_definition(AXES, "tiny")
ALL_TINY = list(SearchSpace(TINY).enumerate())


class Bench:
    """A search in memory: everything real but Optuna's storage, which needs no file here.

    `others` are measurers beside the one of formulas, by the names of their devices; the one is `first`.
    """

    def __init__(self, folder: Path, definition: StudyDefinition = TINY, **measurer: Any) -> None:
        self.path = folder / "records.jsonl"
        self.definition = definition
        self.space = SearchSpace(definition)
        self.storage = optuna.storages.InMemoryStorage()
        self.measurer = FormulaMeasurer(BUDGET_BYTES, **measurer)
        self.others: dict[str, Measurer] = {}
        self.losses: list[str] = []
        self.events: list[SearchEvent] = []
        self.on_event: Callable[[SearchEvent], None] = self.events.append

    def run(self, limits: SearchSettings | None = None, **options: Any) -> SearchResult:
        store = StudyStore(self.storage, self.space, name="s", seed=0, startup_trials=4)
        pool = LocalExecutor({"first": self.measurer, **self.others}, on_loss=self.losses.append)
        with Journal(self.path) as journal, pool:
            return Search(
                definition=self.definition.model_copy(update={"search": limits or SearchSettings()}),
                space=self.space,
                store=store,
                journal=journal,
                knowledge=Knowledge(read_records(self.path)),
                pool=pool,
                budget_bytes=BUDGET_BYTES,
                on_event=self.on_event,
                **options,
            ).run()

    @property
    def trials(self) -> list[optuna.trial.FrozenTrial]:
        return optuna.load_study(study_name="s", storage=self.storage).trials

    def trial_of(self, digest: str) -> optuna.trial.FrozenTrial:
        return next(t for t in self.trials if t.user_attrs.get("digest") == digest)
