"""What is known of models of transformers without loading one. Imports no torch: the driver reads it."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

from ...values.axes import Axis
from ...values.workload_spec import WorkloadSpec
from ..token_axes import CHECKPOINTING, PRECISION, SEQUENCE
from .known_models import known_models, model_size, obstacle, read_model


def installed() -> tuple[str, ...]:
    """The implementations of attention that this installation has."""
    own = ("eager", "sdpa")
    return own if importlib.util.find_spec("flash_attn") is None else (*own, "flash_attention_2")


SPEC = WorkloadSpec(
    name="hf",
    title="Hugging Face",
    items="tokens",
    items_axis="n_seq",
    version_axis="attention",
    reference="eager",
    installed=installed,
    needs=("transformers",),
    models=tuple(known_models()),
    searched_models=("gpt2",),
    read_model=read_model,
    model_size=model_size,
    obstacle=obstacle,
    files="phase8_tune.tuner.builtin.hf.arguments:write_arguments",
    axes=(
        # 0: all weights are trained
        Axis(
            name="lora_rank",
            kind=int,
            minimum=0,
            default=0,
            is_of_model=True,
            is_quiet=True,
            title="LoRA rank",
            word="lora{}",
        ),
        SEQUENCE,
        Axis(
            name="attention",
            values=("eager", "sdpa", "flash_attention_2"),
            searched=("sdpa",),
            default="sdpa",
            title="Attention",
            phrase="{} attention",
            plain="eager",
        ),
        PRECISION,
        # What the weights are kept in; bfloat16 halves them, their gradients and the optimizer's state, and
        # loses small updates, so it is for weights that adapters leave as they are
        Axis(
            name="weights",
            values=("float32", "bfloat16"),
            searched=("float32",),
            default="float32",
            is_quiet=True,
            title="Weights",
            word="{} weights",
            phrase="{} weights",
            plain="float32",
        ),
        # Selective is a function, which the Trainer's arguments, a file, cannot name
        replace(CHECKPOINTING, values=("none", "full"), searched=()),
    ),
)
