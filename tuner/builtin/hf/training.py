"""One training step of a causal language model of transformers, as a factory that is run and traced."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from ...values.axes import AxisValues
from ...values.errors import UserInputError
from ...workloads.training import Build, Training
from ..checked_axes import checked_axes
from ..drawn_tokens import token_drawer
from .arguments import (
    BETAS,
    LEARNING_RATE,
    MAX_GRADIENT_NORM,
    WEIGHT_DECAY,
    lora_arguments,
    model_arguments,
)
from .dataless import movable_modules, unpacked
from .known_models import read_config
from .spec import SPEC

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16, "none": None}


def build(build: Build) -> Training:
    """The model from its configuration, fused AdamW over what is learned, and batches of tokens [B, n_seq].

    Raises: UserInputError where transformers or peft is not installed, or for a configuration that makes no
    causal language model; ValueError, naming the setting that cannot be.
    """
    axes = checked_axes(SPEC, build.axes)
    config = _config(build.model, axes)
    torch.manual_seed(build.seed)
    with build.device:
        model = _model(config, axes)
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        learned, lr=LEARNING_RATE, betas=BETAS, weight_decay=WEIGHT_DECAY, fused=True
    )

    def loss(tokens: Tensor) -> Tensor:
        with unpacked(tokens):
            found: Tensor = model(input_ids=tokens, labels=tokens, use_cache=False).loss
        return found

    vocabulary = int(config.get_text_config().vocab_size)
    return Training(
        modules=[model],
        batch=token_drawer(build.batch_size, axes.integer("n_seq"), vocabulary, build.seed, build.device),
        optimizers=[optimizer],
        loss=loss,
        autocast=_AUTOCAST[axes.text("mixed_precision")],
        max_gradient_norm=MAX_GRADIENT_NORM,
    )


def _config(model: str, axes: AxisValues) -> Any:
    """The configuration as transformers holds it, able to take the sequence."""
    transformers = _library("transformers")
    fields = read_config(model)
    if "quantization_config" in fields:
        raise UserInputError(f"{model}: expected weights that can be trained, got quantised ones")
    kind = fields["model_type"]
    if kind not in transformers.CONFIG_MAPPING:
        raise UserInputError(
            f"{model}: model_type {kind!r} is not known to transformers {transformers.__version__}; "
            "a newer version may know it, and code that comes with a model is not run"
        )
    config = transformers.CONFIG_MAPPING[kind].from_dict(fields)
    if type(config) not in transformers.MODEL_FOR_CAUSAL_LM_MAPPING:
        raise UserInputError(f"{model}: expected a causal language model, got the model_type {kind!r}")
    longest, n_seq = getattr(config.get_text_config(), "max_position_embeddings", None), axes.integer("n_seq")
    if longest is not None and n_seq > longest:
        raise ValueError(f"n_seq: {model} takes at most {longest} positions, got {n_seq}")
    return config


def _model(config: Any, axes: AxisValues) -> nn.Module:
    transformers = _library("transformers")
    arguments = model_arguments(axes)
    dtype = getattr(torch, arguments.pop("dtype"))
    if axes.text("attention") == "flash_attention_2" and importlib.util.find_spec("flash_attn") is None:
        raise UserInputError("attention: flash_attention_2 needs flash-attn, which is not installed")
    model: Any = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype, **arguments)
    if model.loss_type is None:  # of a class whose name does not say it, for which the loss is guessed aloud
        model.loss_type = "ForCausalLM"
    if axes.text("gradient_checkpointing") == "full":
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    lora = lora_arguments(axes)
    if lora is not None:
        peft = _library("peft")
        with movable_modules():
            model = peft.get_peft_model(model, peft.LoraConfig(**lora))
    model.train()
    module: nn.Module = model
    return module


def _library(name: str) -> ModuleType:
    """transformers or peft, imported when it is first needed: neither is needed by other workloads."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserInputError(
            f"workload hf needs {name}, which cannot be imported ({error}): pip install phase8-tune[hf]"
        ) from error
