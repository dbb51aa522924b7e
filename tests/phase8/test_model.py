"""What must hold of the model: causality to the bit, exact gradients, finite extremes, learning."""

import math
import pydoc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from phase8_tune.phase8.config import Phase8Config
from phase8_tune.phase8.model import Phase8Model
from phase8_tune.phase8.training import Trainer, TrainingOptions
from phase8_tune.tuner.training.tokens import unigram_entropy
from phase8_tune.tuner.training.windows import WindowSampler

TINY = Phase8Config(d_model=32, n_layers=2, n_heads=2, n_seq=48, htt_rank=4, window=8, vocab_size=300)
CPU = torch.device("cpu")


def make(config=TINY, **options):
    torch.manual_seed(0)
    return Phase8Model(config, **options)


def tokens(batch, n, vocab=300, seed=1):
    return torch.randint(0, vocab, (batch, n), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("variant", ["phase8", "phase7"])
@pytest.mark.parametrize("position", [0, 7, 8, 21, 47])
@torch.no_grad()
def test_a_token_changes_no_earlier_logit(variant, position):
    model = make(replace(TINY, variant=variant, low_rank_ffn=True))
    before = tokens(2, 48)
    after = before.clone()
    after[:, position] = (after[:, position] + 17) % 300
    difference = model.logits(after) - model.logits(before)
    assert torch.count_nonzero(difference[:, :position]) == 0
    assert torch.count_nonzero(difference[:, position:]) > 0


@torch.no_grad()
def test_a_prefix_has_the_logits_of_the_whole():
    model = make().double()
    whole = tokens(1, 48)
    torch.testing.assert_close(model.logits(whole[:, :19]), model.logits(whole)[:, :19], rtol=0, atol=1e-12)
    torch.testing.assert_close(model.next_token_logits(whole), model.logits(whole)[:, -1], rtol=0, atol=1e-12)


@torch.no_grad()
def test_information_reaches_far_beyond_the_window():
    model = make().double()
    before = tokens(1, 48)
    after = before.clone()
    after[:, 0] = (after[:, 0] + 17) % 300
    assert (model.logits(after) - model.logits(before))[:, -1].abs().max() > 1e-9


@pytest.mark.parametrize("variant", ["phase8", "phase7"])
def test_gradient_of_the_whole_model_along_random_directions(variant):
    """Central differences in float64 along three random directions through every parameter."""
    model = make(replace(TINY, variant=variant, low_rank_ffn=True, n_layers=1)).double()
    inputs, targets = tokens(2, 13), tokens(2, 13, seed=2)
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(model(inputs, targets), parameters)
    generator = torch.Generator().manual_seed(3)
    for _ in range(3):
        direction = [torch.randn(p.shape, generator=generator, dtype=p.dtype) * 1e-5 for p in parameters]
        losses = []
        with torch.no_grad():
            for sign in (1, -2, 1):  # to +1, to −1, back
                for p, step in zip(parameters, direction, strict=True):
                    p.add_(step, alpha=sign)
                losses.append(model(inputs, targets))
        expected = sum((g * s).sum() for g, s in zip(gradients, direction, strict=True))
        torch.testing.assert_close((losses[0] - losses[1]) / 2, expected, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 17])
@pytest.mark.parametrize("precision", ["none", "bf16", "fp16"])
def test_every_length_gives_finite_loss_and_gradients(n, precision):
    model = make(mixed_precision=precision)
    loss = model(tokens(1, n), tokens(1, n, seed=2))
    loss.backward()
    assert loss.dtype == torch.float32
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.dtype == torch.float32, name
        assert torch.isfinite(p.grad).all(), name


def test_gradients_are_finite_where_all_tokens_agree_and_the_potential_saturates():
    model = make()
    with torch.no_grad():
        for block in model.blocks:
            block.potential_weight.mul_(1e4)
            block.in_weight[:64].zero_()  # q = k = 0
    same = torch.full((1, 20), 5)
    model(same, same).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("options", [{}, {"low_rank_ffn": True}, {"variant": "phase7"}], ids=str)
@pytest.mark.parametrize("recomputing", ["selective", "full"])
def test_checkpointing_changes_nothing_but_memory(recomputing, options):
    losses, gradients = [], []
    for checkpointing in ("none", recomputing):
        model = make(replace(TINY, **options), gradient_checkpointing=checkpointing)
        loss = model(tokens(2, 20), tokens(2, 20, seed=2))
        loss.backward()
        losses.append(loss.detach())
        gradients.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(losses[0], losses[1], rtol=0, atol=0)
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, plain, rtol=0, atol=0)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp16", 2e-3), ("bf16", 1e-2)])
def test_mixed_precision_is_the_float32_model_up_to_rounding(precision, tolerance):
    exact, rounded = make(), make(mixed_precision=precision)
    inputs, targets = tokens(2, 48), tokens(2, 48, seed=2)
    assert rounded.hidden(inputs).dtype == rounded.compute_dtype != torch.float32
    assert all(p.dtype == torch.float32 for p in rounded.parameters())
    torch.testing.assert_close(rounded(inputs, targets), exact(inputs, targets), rtol=tolerance, atol=0)


def test_too_long_a_sequence_is_refused():
    with pytest.raises(ValueError, match="at most n_seq=48 positions, got 49"):
        make()(tokens(1, 49), tokens(1, 49))


def test_initial_loss_is_near_the_uniform_one():
    config = Phase8Config(d_model=128, n_layers=4, n_heads=2, n_seq=64, htt_rank=8)
    with torch.no_grad():
        loss = make(config)(tokens(2, 64, 50257), tokens(2, 64, 50257, seed=2))
    assert abs(loss.item() / math.log(50257) - 1) < 0.05


@pytest.mark.parametrize("precision", ["none", "fp16"])
def test_training_on_real_text_learns_more_than_letter_frequencies(precision):
    # A source file that ships with Python
    stream = np.frombuffer(Path(pydoc.__file__).read_bytes(), dtype=np.uint8)
    config = Phase8Config(d_model=32, n_layers=2, n_heads=2, n_seq=32, htt_rank=8, window=16, vocab_size=256)
    trainer = Trainer(config, TrainingOptions(mixed_precision=precision, learning_rate=8e-3), device=CPU)
    sampler = WindowSampler(stream, batch_size=8, n_seq=32, seed=0)
    losses = [trainer.step(torch.from_numpy(sampler.batch(step))).item() for step in range(100)]
    assert losses[0] > unigram_entropy(stream)
    assert sum(losses[-10:]) / 10 < unigram_entropy(stream) - 0.3
