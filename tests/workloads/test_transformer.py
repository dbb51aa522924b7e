"""The built-in transformer: what must hold of its shape, its attention, its positions and its losses."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from phase8_tune.phase8.config import PRESETS, preset
from phase8_tune.tuner.builtin.transformer.config import FAMILIES, TransformerConfig, transformer_config
from phase8_tune.tuner.builtin.transformer.losses import dense_loss
from phase8_tune.tuner.builtin.transformer.model import Block, Transformer, rotary_table, rotate

TINY = TransformerConfig(
    d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, n_seq=40, ffn_dim=64, vocab_size=300
)
GPT2 = replace(TINY, n_kv_heads=4, norm="layer", positions="learned", ffn="gelu", ffn_dim=128, biases=True)


def make(config: TransformerConfig, seed: int = 0) -> Transformer:
    torch.manual_seed(seed)
    return Transformer(config)


def tokens(batch: int, n: int, seed: int = 1) -> Tensor:
    return torch.randint(0, 300, (batch, n), generator=torch.Generator().manual_seed(seed))


# Shape


@given(
    d_head=st.integers(1, 12),
    groups=st.integers(1, 3),
    shared=st.integers(1, 3),
    n_layers=st.integers(1, 3),
    ffn_dim=st.integers(1, 70),
    vocab_size=st.integers(1, 200),
    norm=st.sampled_from(("layer", "rms")),
    positions=st.sampled_from(("learned", "rotary")),
    ffn=st.sampled_from(("gelu", "swiglu")),
    biases=st.booleans(),
)
def test_the_counts_are_those_of_the_model(
    d_head, groups, shared, n_layers, ffn_dim, vocab_size, norm, positions, ffn, biases
):
    assume(positions == "learned" or d_head % 2 == 0)
    config = TransformerConfig(
        d_model=d_head * groups * shared,
        n_layers=n_layers,
        n_heads=groups * shared,
        n_kv_heads=groups,
        n_seq=17,
        ffn_dim=ffn_dim,
        vocab_size=vocab_size,
        norm=norm,
        positions=positions,
        ffn=ffn,
        biases=biases,
    )
    with torch.device("meta"):
        model = Transformer(config)
    count = sum(p.numel() for p in model.parameters())
    assert config.parameter_count() == count
    tables = [model.tokens] if model.positions is None else [model.tokens, model.positions]
    outside = sum(p.numel() for table in tables for p in table.parameters())
    assert config.body_parameter_count() == count - outside


def test_gpt2_has_its_published_count():
    """124 439 808 with a vocabulary of 50 257 rows, of which ours is padded to 50 304."""
    config = transformer_config("base", n_seq=1024, family="gpt2")
    padding = (50_304 - 50_257) * 768
    assert config.parameter_count() - padding == 124_439_808


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", [*PRESETS, "640x10"])
def test_every_size_has_the_width_depth_and_heads_of_phase_8(name, family):
    config, other = transformer_config(name, n_seq=64, family=family), preset(name, n_seq=64)
    assert (config.d_model, config.n_layers, config.n_heads) == (
        other.d_model,
        other.n_layers,
        other.n_heads,
    )


def test_arithmetic_a_token_is_that_of_pytorch():
    """But for attention, of which PyTorch counts both halves of the square."""
    model = make(TINY)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model(tokens(2, 40))
    square = 4 * TINY.d_model * TINY.n_seq * TINY.n_layers
    half = 2 * TINY.d_model * (TINY.n_seq + 1) * TINY.n_layers
    assert counter.get_total_flops() == 80 * (TINY.body_flop_per_token() - half + square)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"n_heads": 5}, "d_model"),
        ({"n_kv_heads": 3}, "n_kv_heads"),
        ({"n_layers": 0}, "n_layers"),
        ({"norm": "batch"}, "norm"),
        ({"d_model": 12, "n_kv_heads": 4}, "n_heads"),
    ],
)
def test_a_shape_that_cannot_be_is_named(changes, named):
    with pytest.raises(ValueError, match=f"^{named}: "):
        replace(TINY, **changes)


def test_shared_heads_that_do_not_divide_are_named():
    with pytest.raises(ValueError, match=r"^queries_per_kv: expected a divisor of the 2 heads, got 4"):
        transformer_config("nano", n_seq=64, queries_per_kv=4)


# What it computes


def naive_hidden(model: Transformer, inputs: Tensor) -> Tensor:
    """The model again, a position at a time and without one of PyTorch's fused functions."""
    config = model.config
    x = model.tokens.weight[inputs]
    if model.positions is not None:
        x = x + model.positions.weight[: inputs.shape[1]]
    for block in model.blocks:
        assert isinstance(block, Block)
        normed = naive_norm(block.norm1, x)
        qkv = block.attention.qkv(normed)
        q = qkv[..., : config.d_model].unflatten(-1, (config.n_heads, config.head_dim))
        k, v = (
            part.unflatten(-1, (config.n_kv_heads, config.head_dim))
            for part in qkv[..., config.d_model :].chunk(2, dim=-1)
        )
        seen = torch.empty_like(q)
        for i in range(inputs.shape[1]):
            for head in range(config.n_heads):
                own = head * config.n_kv_heads // config.n_heads
                scores = [
                    (naive_turn(model, q[:, i, head], i) * naive_turn(model, k[:, j, own], j)).sum(-1)
                    for j in range(i + 1)
                ]
                weights = (torch.stack(scores, dim=-1) / math.sqrt(config.head_dim)).exp()
                weights = weights / weights.sum(-1, keepdim=True)
                seen[:, i, head] = (weights[..., None] * v[:, : i + 1, own]).sum(1)
        x = x + block.attention.out(seen.flatten(-2))
        wide = block.ffn.up(naive_norm(block.norm2, x))
        if config.ffn == "swiglu":
            gate, value = wide.chunk(2, dim=-1)
            wide = gate / (1 + (-gate).exp()) * value
        else:
            wide = 0.5 * wide * (1 + torch.tanh(math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)))
        x = x + block.ffn.down(wide)
    return naive_norm(model.norm, x)


def naive_norm(norm: torch.nn.Module, x: Tensor) -> Tensor:
    centred = x if isinstance(norm, torch.nn.RMSNorm) else x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
    weights = dict(norm.named_parameters())
    return scaled * weights["weight"] + weights.get("bias", torch.zeros(()))


def naive_turn(model: Transformer, x: Tensor, position: int) -> Tensor:
    """Pairs of channels as complex numbers, turned by the angle of the position."""
    if model.positions is not None:
        return x
    half = model.config.head_dim // 2
    angle = torch.complex(model.cos[position], model.sin[position])
    turned = torch.complex(x[..., :half], x[..., half:]) * angle
    return torch.cat((turned.real, turned.imag), dim=-1)


CONFIGS = pytest.mark.parametrize("config", [TINY, GPT2], ids=["llama", "gpt2"])


@CONFIGS
@torch.no_grad()
def test_the_model_is_its_definition_in_float64(config):
    model = make(config).double()
    for parameter in model.parameters():  # norms and biases that a start leaves at 1 and 0 count too
        parameter.add_(torch.randn_like(parameter), alpha=0.05)
    inputs = tokens(2, 9)
    torch.testing.assert_close(model(inputs), naive_hidden(model, inputs), rtol=0, atol=1e-12)


@CONFIGS
def test_autocast_stays_near_float64(config):
    model, inputs = make(config), tokens(4, 41)
    targets = inputs[:, 1:].flatten()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = dense_loss(model(inputs[:, :-1]).flatten(0, 1), model.head, targets)
    single = dense_loss(model(inputs[:, :-1]).flatten(0, 1), model.head, targets)
    model = model.double()
    exact = dense_loss(model(inputs[:, :-1]).flatten(0, 1), model.head, targets)
    assert exact.dtype == torch.float64
    torch.testing.assert_close(single.double(), exact, rtol=1e-6, atol=0)
    torch.testing.assert_close(low.double(), exact, rtol=2e-3, atol=0)


@CONFIGS
@pytest.mark.parametrize("position", [0, 17, 39])
@torch.no_grad()
def test_a_token_changes_no_earlier_state(config, position):
    model, before = make(config).double(), tokens(2, 40)
    after = before.clone()
    after[:, position] = (after[:, position] + 17) % 300
    difference = (model(after) - model(before)).abs().amax((0, 2))
    assert difference[:position].eq(0).all()
    assert difference[position:].gt(0).all()


@given(first=st.integers(0, 30), second=st.integers(0, 30), shift=st.integers(0, 60))
def test_a_rotary_product_depends_on_the_distance_alone(first, second, shift):
    cos, sin = rotary_table(96, 8)
    q, k = torch.randn(2, 1, 1, 1, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(3))

    def product(i: int, j: int) -> Tensor:
        return (rotate(q, cos[i], sin[i]) * rotate(k, cos[j], sin[j])).sum()

    shifted = product(first + shift, second + shift)
    torch.testing.assert_close(product(first, second), shifted, rtol=0, atol=1e-5)


@torch.no_grad()
def test_shared_heads_are_heads_repeated():
    shared = make(TINY).double()
    alone = make(replace(TINY, n_kv_heads=4)).double()
    state = shared.state_dict()
    for name, weight in state.items():
        if name.endswith("qkv.weight"):
            q, k, v = weight.split([32, 16, 16])
            k, v = (part.unflatten(0, (2, 8)).repeat_interleave(2, 0).flatten(0, 1) for part in (k, v))
            state[name] = torch.cat((q, k, v))
    alone.load_state_dict(state)
    torch.testing.assert_close(shared(tokens(2, 40)), alone(tokens(2, 40)), rtol=0, atol=1e-12)


def test_weights_start_as_those_of_gpt_2():
    model = make(replace(GPT2, d_model=128, n_layers=8))
    assert model.head.std().item() == pytest.approx(0.02, rel=0.05)
    block = model.blocks[0]
    assert isinstance(block, Block)
    for linear in (block.attention.out, block.ffn.down):
        assert linear.weight.std().item() == pytest.approx(0.02 / 4, rel=0.05)
        assert linear.bias.eq(0).all()
    assert block.ffn.up.weight.std().item() == pytest.approx(0.02, rel=0.05)
