"""Decoding token by token is the full forward pass at every position, with a state that does not grow."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from phase8_tune.phase8.config import Phase8Config
from phase8_tune.phase8.decoding import CapturedStep, Decoder, generate, room_after, sample
from phase8_tune.phase8.mixers import Block
from phase8_tune.phase8.model import Phase8Model

TINY = Phase8Config(d_model=32, n_layers=2, n_heads=2, n_seq=48, htt_rank=4, window=8, vocab_size=300)
CONFIGS = {
    "phase8": TINY,
    "phase7": replace(TINY, variant="phase7"),
    "feed-forward": replace(TINY, low_rank_ffn=True),
    "window of one": replace(TINY, window=1),
    "window beyond n_seq": replace(TINY, window=64),
    "one head, other folds": replace(
        TINY, d_model=20, n_heads=1, n_layers=3, ar_ssm_rank=7, window=5, vocab_size=97, htt_dims=(3, 9)
    ),
}


def make(config: Phase8Config, seed: int = 0, **options) -> Phase8Model:
    """A model of which no parameter hides a mistake: no bias is 0, and attention is not its sink's alone."""
    torch.manual_seed(seed)
    model = Phase8Model(config, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        for block in model.blocks:
            assert isinstance(block, Block)
            block.in_weight[: 2 * config.d_model] *= 0.1
            block.attention_bias.sub_(1)
    return model


def tokens(config: Phase8Config, batch: int, n: int, seed: int = 1) -> Tensor:
    return torch.randint(0, config.vocab_size, (batch, n), generator=torch.Generator().manual_seed(seed))


def stepped(decoder: Decoder, text: Tensor) -> Tensor:
    """Logits at every position, [B, N, V], token by token."""
    state, found = decoder.start(text.shape[0]), []
    for i in range(text.shape[1]):
        logits, state = decoder.step(text[:, i], state)
        found.append(logits)
    return torch.stack(found, dim=1)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_every_position_has_the_logits_of_the_full_forward_pass(name: str, batch: int) -> None:
    config = CONFIGS[name]
    model = make(config).double()
    text = tokens(config, batch, config.n_seq)
    torch.testing.assert_close(stepped(Decoder(model), text), model.logits(text), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("precision", ["none", "bf16", "fp16"])
@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_rounding_errs_no_more_than_twice_the_forward_pass_own(name: str, precision: str) -> None:
    """The rule of kernels.gate: both against float64, pooled over draws of weights and of tokens."""
    config = CONFIGS[name]
    own = decoded = 0.0
    for seed in range(4):
        model = make(config, seed, mixed_precision=precision)
        text = tokens(config, 2, config.n_seq, seed)
        exact = make(config, seed).double().logits(text)
        own += float((model.logits(text).double() - exact).square().sum())
        logits = stepped(Decoder(model), text)
        assert logits.dtype == torch.float32
        decoded += float((logits.double() - exact).square().sum())
    assert math.sqrt(decoded) <= 2 * math.sqrt(own)


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 41])
@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_a_prompt_read_at_once_is_as_if_read_in_steps(name: str, n: int, monkeypatch) -> None:
    monkeypatch.setattr("phase8_tune.phase8.decoding.decoder.CHUNK", 5)  # chunks shorter than the window too
    config = CONFIGS[name]
    decoder = Decoder(make(config).double())
    text = tokens(config, 3, n + 1)
    prompted, after = decoder.prefill(text[:, :n])
    steps = stepped(decoder, text)
    torch.testing.assert_close(prompted, steps[:, n - 1], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(decoder.step(text[:, n], after)[0], steps[:, n], rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_the_state_after_a_prompt_is_the_state_after_its_steps() -> None:
    decoder = Decoder(make(TINY).double())
    text = tokens(TINY, 2, 21)
    state = decoder.start(2)
    for i in range(21):
        decoder.step(text[:, i], state)
    at_once = decoder.prefill(text)[1]
    in_two = decoder.prefill(text[:, 13:], decoder.prefill(text[:, :13])[1])[1]
    for other in (at_once, in_two):
        assert other.length == state.length == int(other.position) == 21
        for (name, found), (_, expected) in zip(other.tensors(), state.tensors(), strict=True):
            # A norm in the state is a square root: where keys are near 0, half of the digits are left
            atol = 1e-6 if name == "radial" else 1e-9
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=atol, msg=name)


@pytest.mark.parametrize("name", ["phase8", "phase7"])
@torch.no_grad()
def test_the_state_is_as_large_after_many_tokens_as_after_none(name: str) -> None:
    config = CONFIGS[name]
    decoder = Decoder(make(config))
    state = decoder.start(3)
    before = {name: (tensor.shape, tensor.data_ptr()) for name, tensor in state.tensors()}
    size_bytes = state.size_bytes()
    for i in range(config.n_seq):
        decoder.step(tokens(config, 3, 1, i)[:, 0], state)
    assert {name: (tensor.shape, tensor.data_ptr()) for name, tensor in state.tensors()} == before
    assert state.size_bytes() == size_bytes
    longer = Decoder(make(replace(config, n_seq=4 * config.n_seq))).start(3)
    assert longer.size_bytes() == size_bytes
    own = state.position.element_size()
    assert decoder.start(6).size_bytes() - own == 2 * (size_bytes - own)


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_every_part_of_the_state_counts(name: str) -> None:
    """So that the comparisons above would see each of them wrong."""
    config = CONFIGS[name]
    decoder = Decoder(make(config).double())
    text = tokens(config, 1, 21)
    _, state = decoder.prefill(text[:, :20])
    expected = decoder.step(text[:, 20], state.clone())[0]
    for part, _ in state.tensors():
        if config.window == 1 and part in ("keys", "values", "radial"):
            continue  # the next position has their only slot
        changed = state.clone()
        tensor = getattr(changed, part)
        tensor.copy_(tensor - 1 if part == "position" else tensor * 0.9)
        assert float((decoder.step(text[:, 20], changed)[0] - expected).abs().max()) > 1e-5, part


@torch.no_grad()
def test_a_sequence_is_not_touched_by_the_others_of_its_batch() -> None:
    decoder = Decoder(make(TINY).double())
    text = tokens(TINY, 3, 20)
    alone = stepped(decoder, text[1:2])
    torch.testing.assert_close(stepped(decoder, text)[1:2], alone, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_a_copy_of_a_state_goes_its_own_way() -> None:
    decoder = Decoder(make(TINY).double())
    text = tokens(TINY, 1, 20)
    _, state = decoder.prefill(text[:, :12])
    other = state.clone()
    decoder.prefill(tokens(TINY, 1, 8, seed=5), other)
    assert (state.length, other.length) == (12, 20)
    expected = decoder.prefill(text)[0]
    torch.testing.assert_close(decoder.prefill(text[:, 12:], state)[0], expected, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_product_weights_in_bfloat16_leave_all_others_in_float32() -> None:
    """As they are while a model is trained so: a bias beside them is not rounded with them."""
    config = CONFIGS["feed-forward"]
    made, wide = make(config), make(config)
    for weight, other in zip(made.product_weights(), wide.product_weights(), strict=True):
        weight.data = weight.data.bfloat16()
        other.data = weight.data.float()
    text = tokens(config, 1, 5)
    assert torch.equal(stepped(Decoder(made), text), stepped(Decoder(wide), text))


@torch.no_grad()
def test_decoding_keeps_no_gradients_and_leaves_the_model_as_it_is() -> None:
    model = make(TINY)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.enable_grad():
        decoder = Decoder(model)
        logits, state = decoder.prefill(tokens(TINY, 1, 9))
        logits, state = decoder.step(logits.argmax(dim=-1), state)
    assert not logits.requires_grad
    assert not any(tensor.requires_grad for _, tensor in state.tensors())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_more_than_n_seq_positions_are_refused_in_one_line() -> None:
    decoder = Decoder(make(TINY))
    message = r"^tokens: expected at most n_seq=48 positions, got 49$"
    with pytest.raises(ValueError, match=message):
        decoder.prefill(tokens(TINY, 1, 49))
    _, state = decoder.prefill(tokens(TINY, 1, 48))
    for read in (decoder.step, lambda text, state: decoder.prefill(text[:, None], state)):
        with pytest.raises(ValueError, match=message):
            read(tokens(TINY, 1, 1)[0], state)
    assert state.length == int(state.position) == 48


def test_an_empty_prompt_and_a_capture_without_a_gpu_are_refused() -> None:
    decoder = Decoder(make(TINY))
    with pytest.raises(ValueError, match="expected at least one position, got none"):
        decoder.prefill(tokens(TINY, 1, 0))
    with pytest.raises(ValueError, match="expected a model on a CUDA device, got cpu"):
        CapturedStep(decoder, decoder.start(1))


def likeliest(logits: Tensor) -> Tensor:
    return sample(logits, temperature=0)


@torch.no_grad()
def test_generated_tokens_are_those_of_the_full_forward_pass() -> None:
    model = make(TINY).double()
    prompt = tokens(TINY, 2, 11)
    expected = prompt
    for _ in range(15):
        expected = torch.cat([expected, model.next_token_logits(expected).argmax(dim=-1)[:, None]], dim=1)
    found = torch.stack(list(generate(Decoder(model), prompt, likeliest, max_tokens=15)), dim=1)
    assert torch.equal(found, expected[:, 11:])


@pytest.mark.parametrize(("count", "room"), [(1, 48), (47, 2), (48, 1), (49, 0), (99, 0)])
def test_a_text_ends_one_token_after_the_last_position(count: int, room: int) -> None:
    assert room_after(48, count) == room
    decoder, prompt = Decoder(make(TINY)), tokens(TINY, 1, count)
    if room:
        assert len(list(generate(decoder, prompt, likeliest, max_tokens=room))) == room
    with pytest.raises(ValueError, match=f"expected at most {room} after {count} of n_seq=48 positions"):
        generate(decoder, prompt, likeliest, max_tokens=room + 1)
