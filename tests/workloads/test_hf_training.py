"""A step of a transformers model from its configuration: learning, adapters, settings, and its arguments."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from phase8_tune.tuner.builtin.hf.arguments import (
    lora_arguments,
    model_arguments,
    training_arguments,
    write_arguments,
)
from phase8_tune.tuner.builtin.hf.training import build
from phase8_tune.tuner.values.axes import AxisValue
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.errors import UserInputError
from phase8_tune.tuner.workloads.training import Build, Training

transformers = pytest.importorskip("transformers", reason="needs the extra hf")
peft = pytest.importorskip("peft", reason="needs the extra hf")

CPU = torch.device("cpu")
LLAMA = {
    "model_type": "llama",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "vocab_size": 128,
    "max_position_embeddings": 64,
}
GPT2 = {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": 128}


@pytest.fixture(params=[LLAMA, GPT2], ids=["llama", "gpt2"])
def model(request: pytest.FixtureRequest, tmp_path) -> str:
    """A config.json of a tiny model, without dropout."""
    file = tmp_path / "config.json"
    still = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    file.write_text(json.dumps(request.param | still if request.param is GPT2 else request.param))
    return str(file)


def make(model: str, device: torch.device = CPU, **axes: str | int | bool) -> Training:
    tiny: dict[str, AxisValue] = {"n_seq": 24, "mixed_precision": "none"}
    return build(Build(model=model, batch_size=2, axes={**tiny, **axes}, device=device))


def step(training: Training) -> torch.Tensor:
    assert training.loss is not None
    with torch.autocast("cpu", dtype=training.autocast, enabled=training.autocast is not None):
        loss = training.loss(training.batch())
    loss.backward()
    training.optimizers[0].step()
    training.optimizers[0].zero_grad()
    return loss.detach()


def gradients(training: Training) -> list[torch.Tensor]:
    assert training.loss is not None
    training.loss(training.batch()).backward()
    return [p.grad for p in training.modules[0].parameters() if p.grad is not None]


@pytest.mark.parametrize("axes", [{}, {"mixed_precision": "bf16"}, {"weights": "bfloat16"}])
def test_a_step_changes_every_weight(model, axes):
    training = make(model, **axes)
    before = {name: p.clone() for name, p in training.modules[0].named_parameters()}
    loss = step(training)
    assert loss.item() == pytest.approx(4.85, abs=0.3)  # ln 128
    dtype = torch.bfloat16 if "weights" in axes else torch.float32
    for name, parameter in training.modules[0].named_parameters():
        assert parameter.dtype == dtype
        assert dtype == torch.bfloat16 or not torch.equal(parameter, before[name]), name


def test_adapters_alone_are_learned_beside_weights_of_16_bits(model):
    training = make(model, lora_rank=4, weights="bfloat16", mixed_precision="bf16")
    before = {name: p.clone() for name, p in training.modules[0].named_parameters()}
    for _ in range(2):  # the first step leaves one of two factors where it is: the other one is 0
        step(training)
    learned = 0
    for name, parameter in training.modules[0].named_parameters():
        is_adapter = "lora_" in name
        assert parameter.requires_grad == is_adapter
        assert torch.equal(parameter, before[name]) == (not is_adapter), name
        assert parameter.dtype == (torch.float32 if is_adapter else torch.bfloat16)
        learned += is_adapter
    linear_layers = {"llama": 7, "gpt2": 4}[json.loads(Path(model).read_text())["model_type"]]
    assert learned == 2 * 2 * linear_layers  # two factors each, in two blocks


def test_checkpointing_and_attention_change_no_gradient(model):
    plain = gradients(make(model))
    for axes in ({"gradient_checkpointing": True}, {"attention": "eager"}):
        for got, expected in zip(gradients(make(model, **axes)), plain, strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


def test_a_batch_is_of_the_vocabulary_and_the_length(model):
    batch = make(model).batch()
    assert batch.shape == (2, 24)
    assert 0 <= batch.min() <= batch.max() < 128


@pytest.mark.parametrize("axes", [{}, {"lora_rank": 8, "weights": "bfloat16"}], ids=["full", "lora"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_model_of_124_million_is_stepped_without_its_memory(axes, checkpointing):
    with FakeTensorMode():
        training = make("gpt2", mixed_precision="bf16", gradient_checkpointing=checkpointing, **axes)
        assert isinstance(step(training), FakeTensor)
        parameters = [
            p for p in training.modules[0].parameters() if "lora_rank" not in axes or not p.requires_grad
        ]
        assert all(isinstance(p.data, FakeTensor) for p in parameters)
    assert sum(p.numel() for p in parameters) == 124_439_808


@pytest.mark.parametrize("name", ["gpt2", "opt-125m", "pythia-160m", "SmolLM2-135M", "gemma-2-2b", "phi-2"])
def test_a_step_on_the_meta_device_looks_at_no_data_and_makes_no_mask(monkeypatch, name):
    masks: list[object] = []
    attend = torch.nn.functional.scaled_dot_product_attention

    def attended(*args: torch.Tensor, **kwargs: object) -> torch.Tensor:
        masks.append(kwargs.get("attn_mask"))
        return attend(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attended)
    training = make(name, torch.device("meta"))
    assert training.loss is not None
    loss = training.loss(training.batch())
    loss.backward()
    assert loss.device.type == "meta"
    assert all(p.grad is not None for p in training.modules[0].parameters())
    assert set(map(type, masks)) == {type(None)}


def test_a_sequence_that_is_too_long_is_refused(model):
    with pytest.raises(ValueError, match=r"^n_seq: .* takes at most 64 positions, got 65$"):
        make(model, n_seq=65)


def test_attention_that_is_not_installed_is_said(model, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserInputError, match=r"^attention: flash_attention_2 needs flash-attn"):
        make(model, attention="flash_attention_2")


# In the words of transformers


def candidate(**axes: str | int | bool) -> Candidate:
    return Candidate(workload="hf", model="gpt2", batch_size=6, axes={"n_seq": 512, **axes})


@pytest.mark.parametrize("precision", ["bf16", "fp16", "none"])
def test_the_arguments_are_those_of_the_installed_version(precision):
    found = training_arguments(candidate(mixed_precision=precision, gradient_checkpointing=True))
    known = {field.name: field for field in fields(transformers.TrainingArguments)}
    assert found.keys() <= known.keys()
    assert found["per_device_train_batch_size"] == 6
    assert found["gradient_checkpointing"] is True
    assert (found["bf16"], found["fp16"]) == (precision == "bf16", precision == "fp16")
    for name in ("optim", "learning_rate", "adam_beta1", "adam_beta2", "weight_decay", "max_grad_norm"):
        default = known[name].default
        assert found[name] == getattr(default, "value", default), name


def test_adapters_are_a_configuration_of_peft():
    axes = candidate(lora_rank=16, weights="bfloat16").axes
    arguments = lora_arguments(axes)
    assert arguments is not None
    config = peft.LoraConfig(**arguments)
    assert (config.r, config.lora_alpha, config.target_modules) == (16, 32, "all-linear")
    assert model_arguments(axes) == {"attn_implementation": "sdpa", "dtype": "bfloat16"}
    assert lora_arguments(candidate().axes) is None


def test_the_files_hold_what_the_parser_of_transformers_reads(tmp_path):
    written = write_arguments(tmp_path, "gpt2", candidate(lora_rank=4, mixed_precision="none"))
    names = [path.name.removeprefix("gpt2.") for path in written]
    assert names == ["training_arguments.json", "model_arguments.json", "lora_config.json"]
    (read,) = transformers.HfArgumentParser(transformers.TrainingArguments).parse_json_file(str(written[0]))
    assert read.per_device_train_batch_size == 6
    assert read.gradient_checkpointing_kwargs == {"use_reentrant": False}
    assert json.loads(written[1].read_text())["n_seq"] == 512
    assert len(write_arguments(tmp_path, "gpt2", candidate())) == 2
