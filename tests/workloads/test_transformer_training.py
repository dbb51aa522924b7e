"""The factory of the built-in transformer: a step that learns, and its settings."""

from __future__ import annotations

import functools
import math
from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from phase8_tune.tuner.builtin.checked_axes import checked_axes
from phase8_tune.tuner.builtin.transformer.config import FAMILIES, transformer_config
from phase8_tune.tuner.builtin.transformer.spec import SPEC, config_of, parameters, position_parameters
from phase8_tune.tuner.builtin.transformer.training import build
from phase8_tune.tuner.values.axes import AxisValue
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.workloads.training import Build

CPU = torch.device("cpu")


def asked(**axes: str | int | bool) -> Build:
    tiny: dict[str, AxisValue] = {"n_seq": 24, "vocab_size": 200, "mixed_precision": "none"}
    return Build(model="64x2", batch_size=2, axes={**tiny, **axes}, device=CPU)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("loss", ["dense", "chunked"])
def test_a_step_learns(family, loss):
    training = build(asked(family=family, loss=loss))
    batch = training.batch()
    assert batch.shape == (2, 25)
    assert batch.dtype == torch.int64
    assert training.loss is not None
    losses = []
    for _ in range(8):
        value = training.loss(batch)
        value.backward()
        training.optimizers[0].step()
        training.optimizers[0].zero_grad()
        losses.append(value.item())
    assert losses[0] == pytest.approx(math.log(256), abs=0.2)  # of 200 tokens and 56 rows of padding
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("recomputing", ["selective", "full"])
def test_checkpointing_changes_no_gradient(family, recomputing):
    found = []
    for checkpointing in ("none", recomputing):
        training = build(asked(family=family, gradient_checkpointing=checkpointing))
        assert training.loss is not None
        training.loss(training.batch()).backward()
        found.append([p.grad for p in training.modules[0].parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_the_same_seed_gives_the_same_weights_and_batches():
    first, second = build(asked()), build(asked())
    assert torch.equal(first.batch(), second.batch())
    assert not torch.equal(first.batch(), second.batch().roll(1))
    for one, other in zip(first.modules[0].parameters(), second.modules[0].parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"n_seqs": 3}, "workload transformer: expected the axes family, .*, got \\['n_seqs'\\]"),
        ({"n_seq": 0}, "n_seq: expected at least 1, got 0"),
        ({"family": "bert"}, "family: expected one of gpt2, llama"),
        ({"mixed_precision": "fp8"}, "mixed_precision: expected one of bf16, fp16, none"),
        ({"kernel_version": "fast"}, "kernel_version: expected one of eager, compiled"),
        (
            {"gradient_checkpointing": 1},
            "gradient_checkpointing: expected one of none, selective, full, got .1.",
        ),
    ],
)
def test_a_setting_that_cannot_be_is_named(axes, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        build(asked(**axes))


def test_a_candidate_says_its_length_alone():
    axes = checked_axes(SPEC, {"n_seq": 512})
    assert config_of("small", axes) == transformer_config("small", n_seq=512)
    candidate = Candidate(workload="transformer", model="small", batch_size=8, axes={"n_seq": 512})
    assert candidate.items_per_step == 4096
    assert "small 8×512 eager dense bf16 train" in candidate.describe()


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_are_known_without_the_model(family):
    """64x2 has one head, nano two: groups of two are of nano."""
    asked_for = Build(model="nano", batch_size=1, axes={"n_seq": 24, "family": family}, device=CPU)
    axes = checked_axes(SPEC, {**asked_for.axes, "queries_per_kv": 2})
    module = build(replace(asked_for, axes=axes)).modules[0]
    assert parameters("nano", axes) == sum(p.numel() for p in module.parameters())
    assert position_parameters("nano", axes) == (24 * 128 if family == "gpt2" else 0)


def test_a_large_model_is_built_without_its_memory():
    with FakeTensorMode():
        training = build(
            Build(
                model="xl", batch_size=8, axes={"n_seq": 512, "loss": "chunked"}, device=torch.device("cpu")
            )
        )
        assert isinstance(training.batch(), FakeTensor)
        parameters = list(training.modules[0].parameters())
        assert {type(p.data) for p in parameters} == {FakeTensor}
    assert sum(p.numel() for p in parameters) == transformer_config("xl", n_seq=512).parameter_count()


@pytest.mark.parametrize("loss", ["dense", "chunked"])
@pytest.mark.parametrize("checkpointing", ["none", "selective", "full"])
def test_compiled_is_one_graph_with_the_loss_of_eager(monkeypatch, loss, checkpointing):
    whole = functools.partial(torch.compile, backend="aot_eager", fullgraph=True)
    monkeypatch.setattr(torch, "compile", whole)
    found = []
    for version in ("eager", "compiled"):
        training = build(asked(kernel_version=version, loss=loss, gradient_checkpointing=checkpointing))
        assert training.loss is not None
        value = training.loss(training.batch())
        value.backward()
        found.append([value, *(p.grad for p in training.modules[0].parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)
