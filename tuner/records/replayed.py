"""The study of a run that is not searched: brought in step with its records, and asked nothing."""

from __future__ import annotations

from collections.abc import Iterable

from optuna.storages import BaseStorage

from ..study.definition import StudyDefinition
from ..study.space import SearchSpace
from ..values.record import Record
from .database import StudyStore
from .knowledge import Knowledge


def replayed(storage: BaseStorage, definition: StudyDefinition, records: Iterable[Record]) -> StudyStore:
    """Its sampler is the default: none is asked.

    Raises: UserInputError where the database cannot be used, or a later version of this program made it.
    """
    store = StudyStore(
        storage,
        SearchSpace(definition),
        name=definition.name,
        seed=definition.search.seed,
        startup_trials=definition.search.startup_trials,
    )
    store.replay(Knowledge(records))
    return store
