"""The workload that comes with the tuner: the model, the vocabulary and the tokens that a candidate names."""

from __future__ import annotations

import math

import pytest
import torch

from phase8_tune.phase8.config import preset
from phase8_tune.tuner.builtin.phase8.workload import WORKLOAD
from phase8_tune.tuner.values.candidate import Candidate


@pytest.mark.parametrize("mode", ["train", "forward"])
@pytest.mark.parametrize("vocab_size", [2, 300])
def test_a_size_of_ones_own_is_run_with_tokens_of_its_vocabulary(vocab_size: int, mode: str) -> None:
    candidate = Candidate(
        model="64x1",
        variant="phase7",
        n_seq=32,
        batch_size=4,
        kernel_version="reference",
        gradient_checkpointing=False,
        mixed_precision="none",
        mode=mode,  # type: ignore[arg-type]
        vocab_size=vocab_size,
    )
    run = WORKLOAD.prepare(candidate, torch.device("cpu"), 0)
    config = preset("64x1", n_seq=32, variant="phase7", vocab_size=vocab_size)
    assert run.parameters == config.parameter_count()
    assert run.body_parameters == config.parameter_count() - 32 * 64
    tokens = run._tokens
    assert tokens.shape == (4, 33)
    assert int(tokens.min()) == 0  # the most frequent
    assert int(tokens.max()) < vocab_size
    loss = float(run.run_once())
    assert loss == pytest.approx(math.log(vocab_size), rel=0.2)  # nothing is known yet
    run.close()
