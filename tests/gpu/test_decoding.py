"""Decoding on a real GPU: a captured step is the step, within the error budget, in constant memory."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from phase8_tune.phase8.config import Phase8Config, Variant, preset
from phase8_tune.phase8.decoding import Decoder, generate, sample
from phase8_tune.phase8.mixers import Block
from phase8_tune.phase8.model import Phase8Model, Precision

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

DEVICE = torch.device("cuda")
TINY = Phase8Config(d_model=64, n_layers=2, n_heads=2, n_seq=80, htt_rank=4, window=16, vocab_size=500)
SMALL = preset("small", n_seq=256)


def make(
    config: Phase8Config, precision: Precision = "none", *, seed: int = 0, spread: float = 0.1
) -> Phase8Model:
    """A model none of whose parameters is at its start."""
    torch.manual_seed(seed)
    with DEVICE:
        model = Phase8Model(config, mixed_precision=precision)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(
                spread * parameter.std(unbiased=False).clamp_min(0.1) * torch.randn_like(parameter)
            )
        for block in model.blocks:
            assert isinstance(block, Block)
            block.in_weight[: 2 * config.d_model] *= 0.1  # attention has weight beside its sink
    return model


def tokens(config: Phase8Config, batch: int, n: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, config.vocab_size, (batch, n), generator=generator).to(DEVICE)


def captured_logits(decoder: Decoder, text: Tensor) -> Tensor:
    """Logits at every position, [B, N, V], by one captured step."""
    step = decoder.capture(decoder.start(text.shape[0]))
    return torch.stack([step(text[:, i]).clone() for i in range(text.shape[1])], dim=1)


@pytest.mark.parametrize("variant", ["phase8", "phase7"])
@pytest.mark.parametrize("batch", [1, 3])
@torch.no_grad()
def test_a_captured_step_gives_the_logits_of_the_full_forward_pass(variant: Variant, batch: int) -> None:
    config = replace(TINY, variant=variant, low_rank_ffn=batch == 3)
    model = make(config).double()
    text = tokens(config, batch, config.n_seq)
    found = captured_logits(Decoder(model), text)
    torch.testing.assert_close(found, model.logits(text), rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_a_step_is_the_same_with_and_without_a_capture() -> None:
    decoder = Decoder(make(TINY).double())
    text = tokens(TINY, 2, 40)
    _, eager = decoder.prefill(text[:, :20])
    replayed = eager.clone()
    step = decoder.capture(replayed)
    for (name, before), (_, after) in zip(eager.tensors(), replayed.tensors(), strict=True):
        assert torch.equal(before, after), name  # capturing has read no token
    for i in range(20, 40):
        torch.testing.assert_close(step(text[:, i]), decoder.step(text[:, i], eager)[0], rtol=1e-9, atol=1e-9)
    assert replayed.length == eager.length == int(replayed.position) == 40


@pytest.mark.parametrize("precision", ["bf16", "fp16", "none"])
@torch.no_grad()
def test_rounding_errs_no_more_than_twice_the_forward_pass_own(precision: Precision) -> None:
    """The rule of kernels.gate at a real size, pooled over positions and draws."""
    own = decoded = prompted = 0.0
    for seed in range(2):
        model = make(SMALL, precision, seed=seed)
        text = tokens(SMALL, 2, 200, seed)
        exact = make(SMALL, seed=seed).double().logits(text)
        own += float((model.logits(text).double() - exact).square().sum())
        decoder = Decoder(model)
        decoded += float((captured_logits(decoder, text).double() - exact).square().sum())
        last = decoder.prefill(text)[0].double() - exact[:, -1]
        prompted += float(last.square().sum()) * text.shape[1]
    assert math.sqrt(decoded) <= 2 * math.sqrt(own)
    assert math.sqrt(prompted) <= 4 * math.sqrt(own)  # one position stands for all


@torch.no_grad()
def test_memory_does_not_grow_with_the_length() -> None:
    decoder = Decoder(make(SMALL, "bf16"))
    step = decoder.capture(decoder.start(4))
    row = tokens(SMALL, 4, 1)[:, 0]
    step(row)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    for _ in range(SMALL.n_seq - 1):
        step(row)
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() == torch.cuda.max_memory_allocated() == before
    with pytest.raises(ValueError, match="at most n_seq=256 positions, got 257"):
        step(row)


@torch.no_grad()
def test_generated_tokens_are_those_of_the_full_forward_pass() -> None:
    model = make(TINY).double()
    text = tokens(TINY, 2, 11)
    found = torch.stack(
        list(
            generate(Decoder(model), text.cpu(), lambda logits: sample(logits, temperature=0), max_tokens=30)
        ),
        dim=1,
    )
    for _ in range(30):
        text = torch.cat([text, model.next_token_logits(text).argmax(dim=-1)[:, None]], dim=1)
    assert torch.equal(found, text[:, 11:])


def test_draws_on_the_gpu_repeat_with_their_seed() -> None:
    logits = torch.randn(64, 1000, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    drawn = [
        sample(logits, top_k=50, top_p=0.9, generator=torch.Generator(DEVICE).manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
