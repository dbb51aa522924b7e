"""A candidate in the words of transformers: what its Trainer, its models and peft are to be given.

Loads neither; the tests hold the names against the installed versions.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...values.atomic_write import write_atomically
from ...values.axes import AxisValues
from ...values.candidate import Candidate

LEARNING_RATE = 5e-5  # the Trainer's own default, as those below
BETAS = (0.9, 0.999)
WEIGHT_DECAY = 0.0
MAX_GRADIENT_NORM = 1.0
_ALPHA = 2
"""Adapters are scaled by alpha / rank; twice the rank is usual. Memory and speed do not depend on it."""


def training_arguments(candidate: Candidate) -> dict[str, Any]:
    """Fields of `TrainingArguments` under which the Trainer takes the step that was measured."""
    axes = candidate.axes
    precision = axes.text("mixed_precision")
    return {
        "output_dir": "output",
        "per_device_train_batch_size": candidate.batch_size,
        "gradient_accumulation_steps": 1,
        "gradient_checkpointing": axes.text("gradient_checkpointing") == "full",
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "bf16": precision == "bf16",
        "fp16": precision == "fp16",
        "optim": "adamw_torch_fused",
        "learning_rate": LEARNING_RATE,
        "adam_beta1": BETAS[0],
        "adam_beta2": BETAS[1],
        "weight_decay": WEIGHT_DECAY,
        "max_grad_norm": MAX_GRADIENT_NORM,
    }


def model_arguments(axes: AxisValues) -> dict[str, Any]:
    """What `from_pretrained` or `from_config` is to be given beside the model."""
    return {"attn_implementation": axes.text("attention"), "dtype": axes.text("weights")}


def lora_arguments(axes: AxisValues) -> dict[str, Any] | None:
    """Fields of peft's `LoraConfig`: adapters of all linear layers but the head; None without adapters."""
    rank = axes.integer("lora_rank")
    if rank == 0:
        return None
    return {
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": _ALPHA * rank,
        "target_modules": "all-linear",
    }


def write_arguments(folder: Path, stem: str, candidate: Candidate) -> list[Path]:
    """Write a candidate's arguments beside its settings file; returns the files.

    `<stem>.training_arguments.json` is what `HfArgumentParser(TrainingArguments).parse_json_file` reads;
    `<stem>.model_arguments.json` holds the model, its sequence length and what its constructor is given;
    `<stem>.lora_config.json` only where there are adapters.
    """
    axes = candidate.axes
    model = {"model": candidate.model, "n_seq": axes.integer("n_seq"), **model_arguments(axes)}
    contents: dict[str, dict[str, Any] | None] = {
        "training_arguments": training_arguments(candidate),
        "model_arguments": model,
        "lora_config": lora_arguments(axes),
    }
    written = []
    for name, content in contents.items():
        if content is not None:
            path = folder / f"{stem}.{name}.json"
            write_atomically(path, json.dumps(content, indent=2) + "\n")
            written.append(path)
    return written
