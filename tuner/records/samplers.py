"""The samplers of Optuna that a study may name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from ..study.definition import Sampler
from ..values.errors import UserInputError

_SMALLEST_POPULATION = 4
"""NSGA-II crosses two parents, of which a population has to have several."""
_NEEDED_BY_GP = "scipy"
_GIVEN = "fixed_params"
"""The attribute that Optuna gives a queued trial."""

_FITTING = (optuna.samplers.TPESampler, optuna.samplers.GPSampler)
"""Samplers that fit a model for each trial, which takes 0.1 s and more where a few hundred are known."""

Parameters = dict[str, Any]
_Space = dict[str, BaseDistribution]


class Adjusted(optuna.samplers.BaseSampler):
    """Another sampler, whose choice is adjusted before a trial has it: so the trial is of what is measured.

    `adjust` gets the parameters that were sampled and gives those of the trial, of the same names. What a
    trial was queued with remains, and nothing is fitted for it.
    """

    def __init__(self, sampler: optuna.samplers.BaseSampler, distributions: _Space) -> None:
        """distributions: those of a trial, in the order in which they are suggested."""
        self._sampler = sampler
        self._space = {name: each for name, each in distributions.items() if not each.single()}
        self.adjust: Callable[[Parameters], Parameters] = lambda sampled: sampled

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> _Space:
        return self._space

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: _Space) -> Parameters:
        is_given = _GIVEN in trial.system_attrs
        if is_given and isinstance(self._sampler, _FITTING):
            return {}
        own = self._sampler.infer_relative_search_space(study, trial)
        sampled = self._sampler.sample_relative(study, trial, own)
        if is_given:
            return {}
        for name, distribution in self._space.items():
            if name not in sampled:
                sampled[name] = self.sample_independent(study, trial, name, distribution)
        return self.adjust(sampled)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        self._sampler.reseed_rng()

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._sampler.before_trial(study, trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._sampler.after_trial(study, trial, state, values)


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
        return optuna.samplers.TPESampler(
            multivariate=True, seed=seed, n_startup_trials=startup_trials, constant_liar=True
        )
    if name == "nsga2":
        return optuna.samplers.NSGAIISampler(
            seed=seed, population_size=max(startup_trials, _SMALLEST_POPULATION)
        )
    if name == "gp":
        return optuna.samplers.GPSampler(
            seed=seed, n_startup_trials=startup_trials, warn_independent_sampling=False
        )
    return optuna.samplers.RandomSampler(seed=seed)
