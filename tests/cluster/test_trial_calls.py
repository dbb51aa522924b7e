"""A study that another storage follows by calls: what is changed after it was written is written too."""

from __future__ import annotations

import optuna
from optuna.storages import InMemoryStorage

from phase8_tune.tuner.records.trial_calls import TrialCalls


def test_an_attribute_that_comes_after_its_trial_was_written_is_written() -> None:
    mine, theirs = optuna.create_study(), InMemoryStorage()
    study_id = theirs.create_new_study([optuna.study.StudyDirection.MINIMIZE], "theirs")
    writer = TrialCalls(theirs, study_id, ())
    trial = mine.ask()
    writer.write(mine.get_trials(deepcopy=False))  # in another thread, at any moment
    trial.set_user_attr("digest", "0123")
    trial.suggest_int("batch_size", 1, 8)
    writer.write(mine.get_trials(deepcopy=False))
    mine.tell(trial, 1.0)
    writer.write(mine.get_trials(deepcopy=False))
    [found] = theirs.get_all_trials(study_id)
    [expected] = mine.trials
    assert (found.user_attrs, found.params, found.values) == ({"digest": "0123"}, expected.params, [1.0])
