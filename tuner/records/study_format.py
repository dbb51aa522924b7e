"""The Optuna study of a run as it lies in its storage: its objectives, and the version of what is in it."""

from __future__ import annotations

import copy
import warnings

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.study import StudyDirection

from ..values.errors import UserInputError
from ..values.format_versions import FORMAT_KEY, later_format
from .following import is_record_key

FORMAT_VERSION = 3  # of attributes and values; the tables are Optuna's, which knows its own version
METRIC_NAMES = ["tokens_per_s", "peak_bytes", "body_parameters"]
DIRECTIONS = [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE]


def open_study(storage: optuna.storages.BaseStorage, name: str) -> optuna.Study:
    """The study of that name, made if missing. One of an earlier format, whose trials have other values, is
    removed and made anew: the journal has all that was in it.

    Raises: UserInputError for a study that a later version of this program made.
    """
    study = _create(storage, name)
    noted = study.user_attrs
    if later := later_format(noted, FORMAT_VERSION):
        raise UserInputError(f"study {name} of the database: {later}")
    has_number = FORMAT_KEY in noted
    is_earlier = noted[FORMAT_KEY] != FORMAT_VERSION if has_number else bool(study.get_trials(False))
    if is_earlier:
        optuna.delete_study(study_name=name, storage=storage)
        study, has_number = _create(storage, name), False
    if not has_number:
        study.set_user_attr(FORMAT_KEY, FORMAT_VERSION)
    with warnings.catch_warnings():  # metric names are marked experimental since Optuna 3.2
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names(METRIC_NAMES)
    return study


def copy_to_memory(stored: optuna.Study) -> optuna.Study:
    """The same study in memory, without its attributes, and without the records that its trials may carry for
    who takes the study over: the journal has them."""
    memory = optuna.storages.InMemoryStorage()
    study_id = memory.create_new_study(stored.directions, stored.study_name)
    for trial in stored.get_trials(deepcopy=False):
        if any(map(is_record_key, trial.user_attrs)):
            trial = copy.copy(trial)
            trial.user_attrs = {k: v for k, v in trial.user_attrs.items() if not is_record_key(k)}
        memory.create_new_trial(study_id, trial)
    return optuna.load_study(study_name=stored.study_name, storage=memory)


def _create(storage: optuna.storages.BaseStorage, name: str) -> optuna.Study:
    return optuna.create_study(storage=storage, study_name=name, directions=DIRECTIONS, load_if_exists=True)
