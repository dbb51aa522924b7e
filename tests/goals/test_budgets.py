"""Other budgets: a larger one than the card has is that of a card as fast with as much memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from phase8_tune.tuner.predict.prediction import Predictor
from phase8_tune.tuner.predict.rate.profiles import gpu_profile
from phase8_tune.tuner.search import budgets
from phase8_tune.tuner.study.definition import StudyDefinition

GIB = 2**30


def test_a_budget_above_the_card_is_that_of_a_larger_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, told = [], []

    def decide(definition: object, predictor: Predictor, budget_bytes: int, *, on_progress: Any) -> object:
        asked.append((budget_bytes, predictor.profile.capacity_bytes))
        for done in range(4):
            on_progress(done, 3)
        return SimpleNamespace(predictions=())

    monkeypatch.setattr(budgets, "decide", decide)
    profile = gpu_profile("rtx-3060").model_copy(update={"capacity_bytes": 12 * GIB})
    predictor = Predictor(profile=profile, store=cast(Any, None))
    found = budgets.predict_under(
        cast(StudyDefinition, None), predictor, [4 * GIB, 24 * GIB], lambda *done: told.append(done)
    )
    assert found == {4 * GIB: [], 24 * GIB: []}
    assert asked == [(4 * GIB, 12 * GIB), (24 * GIB, 24 * GIB)]
    assert told == [(n, 2000) for n in (333, 666, 1000, 1333, 1666, 2000)]
