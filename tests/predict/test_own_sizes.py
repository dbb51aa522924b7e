"""Sizes and vocabularies of one's own are predicted as presets are: traced, not interpolated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from phase8_tune.phase8.config import preset, size_name
from phase8_tune.tuner.predict.outlook import Prediction
from phase8_tune.tuner.predict.prediction import Predictor
from phase8_tune.tuner.predict.rate.profiles import gpu_profile
from phase8_tune.tuner.predict.store import PredictionStore
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.errors import UserInputError

BUDGET_BYTES = 8 << 30
OWN = Candidate(
    model="64x2",  # of fewer blocks than are traced of a deep model
    n_seq=64,
    batch_size=2,
    kernel_version="v2",
    gradient_checkpointing=False,
    mixed_precision="bf16",
    vocab_size=600,
)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Predictor]:
    with PredictionStore(tmp_path_factory.mktemp("cache"), processes=1) as store:
        yield Predictor(profile=gpu_profile("rtx-3080-laptop"), store=store)


def weights_bytes(prediction: Prediction) -> int:
    (line,) = (line for line in prediction.ledger if line.name == "weights")
    return line.size_bytes


def test_its_weights_are_those_of_the_model(predictor: Predictor) -> None:
    small, large = (predictor.predict(OWN.changed(vocab_size=size), BUDGET_BYTES) for size in (600, 50257))
    for prediction, size in ((small, 600), (large, 50257)):
        config = preset("64x2", n_seq=64, vocab_size=size)
        assert prediction.parameters == config.parameter_count()
        assert prediction.body_parameters == config.parameter_count() - 64 * 64
        # Of each tensor a multiple of 512 bytes: 80 small ones of them.
        assert 0 <= weights_bytes(prediction) - 4 * config.parameter_count() < 80 * 512
    assert large.peak_allocated_bytes > small.peak_allocated_bytes
    assert large.tokens_per_s.expected < small.tokens_per_s.expected


def test_a_preset_by_its_numbers_is_the_preset(predictor: Predictor) -> None:
    nano = replace(OWN, model="nano")
    numbers = {"d_model": 128, "n_layers": 4, "n_heads": 2, "htt_rank": 8}
    by_numbers = replace(OWN, model=size_name(numbers))
    assert by_numbers.digest() == nano.digest()
    assert predictor.predict(by_numbers, BUDGET_BYTES) == predictor.predict(nano, BUDGET_BYTES)
    other = predictor.predict(replace(OWN, model="128x4r4"), BUDGET_BYTES)
    assert other.parameters < predictor.parameters(nano)[0]


def test_what_the_kernels_do_not_take_is_the_users_error(predictor: Predictor) -> None:
    with pytest.raises(
        UserInputError, match=r"192x1h1 with kernels v2: .*at most 128 features a head, got 192"
    ):
        predictor.predict(replace(OWN, model="192x1h1"), BUDGET_BYTES)
