"""The samplers of Optuna that a study may name."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from ..study.definition import Sampler
from ..values.errors import UserInputError

_SMALLEST_POPULATION = 4
"""NSGA-II crosses two parents, of which a population has to have several."""
_NEEDED_BY_GP = "scipy"
_GIVEN = "fixed_params"
"""The attribute that Optuna gives a queued trial."""

_Space = dict[str, BaseDistribution]


class _Parzen(optuna.samplers.TPESampler):
    """Models nothing for a trial whose parameters are given, as those of a candidate that another strategy
    chose: that takes 0.1 s where a few hundred are known."""

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: _Space
    ) -> dict[str, Any]:
        return {} if _GIVEN in trial.system_attrs else super().sample_relative(study, trial, search_space)


class _GaussianProcess(optuna.samplers.GPSampler):
    """The same, which takes seconds."""

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: _Space
    ) -> dict[str, Any]:
        return {} if _GIVEN in trial.system_attrs else super().sample_relative(study, trial, search_space)


def check_sampler(name: Sampler) -> None:
    """Raises: UserInputError where a sampler needs a package that is not installed."""
    if name == "gp" and find_spec(_NEEDED_BY_GP) is None:
        raise UserInputError(
            f"sampler gp: expected the package {_NEEDED_BY_GP}, which is not installed; "
            f"`pip install {_NEEDED_BY_GP}`, or choose tpe, the default"
        )


def make_sampler(name: Sampler, seed: int, startup_trials: int) -> optuna.samplers.BaseSampler:
    """A sampler that begins with `startup_trials` random ones, where it is not random throughout.

    seed: another one for a study that is gone on with, or it would begin again.
    A grid needs none: what it proposes is asked for by name (`search.proposals.GridOrder`).
    Raises: as `check_sampler`.
    """
    check_sampler(name)
    if name == "tpe":
        # Axes act together. The lie is that what runs on other devices turns out bad: so the next one is
        # asked for elsewhere.
        return _Parzen(multivariate=True, seed=seed, n_startup_trials=startup_trials, constant_liar=True)
    if name == "nsga2":
        return optuna.samplers.NSGAIISampler(
            seed=seed, population_size=max(startup_trials, _SMALLEST_POPULATION)
        )
    if name == "gp":
        return _GaussianProcess(seed=seed, n_startup_trials=startup_trials, warn_independent_sampling=False)
    return optuna.samplers.RandomSampler(seed=seed)
