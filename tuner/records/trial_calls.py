"""The trials of a study in any Optuna storage, by the calls of its interface: a few for each trial."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from .trial_rows import Attribute, as_it_is

ATTRIBUTE = "trial {number}: {key}"
"""How the study calls an attribute of a trial that had finished: Optuna changes no such trial."""


class TrialCalls:
    """As `TrialRows`, for storages that are no tables, or tables of another database."""

    def __init__(
        self, storage: optuna.storages.BaseStorage, study_id: int, trials: Sequence[FrozenTrial]
    ) -> None:
        """`trials` are those that are there now, by number."""
        self._storage, self._study_id = storage, study_id
        self._ids = [trial._trial_id for trial in trials]
        self._open = {trial.number: as_it_is(trial) for trial in trials if not trial.state.is_finished()}

    def write(self, trials: Sequence[FrozenTrial], attributes: Sequence[Attribute] = ()) -> None:
        """Write what is new; where it raises, a part of it may be there.

        Raises: what the storage raises.
        """
        beside: dict[int, dict[str, Any]] = defaultdict(dict)
        for number, key, value in attributes:
            beside[number][key] = value
        for number in sorted({*self._open, *beside, *range(len(self._ids), len(trials))}):
            trial = as_it_is(trials[number])
            if number >= len(self._ids):
                whole = copy.copy(trial)
                whole.user_attrs = trial.user_attrs | beside[number]
                self._ids.append(self._storage.create_new_trial(self._study_id, template_trial=whole))
            elif number in self._open:
                self._change(number, trial, beside[number])
            else:
                for key, value in beside[number].items():
                    name = ATTRIBUTE.format(number=number, key=key)
                    self._storage.set_study_user_attr(self._study_id, name, value)
            self._open[number] = trial
            if trial.state.is_finished():
                del self._open[number]

    def _change(self, number: int, trial: FrozenTrial, beside: dict[str, Any]) -> None:
        before, trial_id, storage = self._open[number], self._ids[number], self._storage
        if before.state == TrialState.WAITING != trial.state:
            storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        for name, value in trial.params.items():
            if name not in before.params:
                distribution = trial.distributions[name]
                internal = distribution.to_internal_repr(value)
                storage.set_trial_param(trial_id, name, internal, distribution)
        for key, value in (trial.user_attrs | beside).items():
            if before.user_attrs.get(key) != value:
                storage.set_trial_user_attr(trial_id, key, value)
        for key, value in trial.system_attrs.items():
            if before.system_attrs.get(key) != value:
                storage.set_trial_system_attr(trial_id, key, value)
        if trial.state.is_finished():
            storage.set_trial_state_values(trial_id, trial.state, trial.values)
