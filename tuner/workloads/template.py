"""A model of your own for phase8-tune. Replace what you need, then try it:

phase8-tune workload check FILE.py:build
phase8-tune --vram 8GB --workload FILE.py:build
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from phase8_tune.tuner.workloads import Axis, Build, Training, WorkloadSpec

# What a study can choose beside model and batch. Without SPEC there is nothing to choose.
SPEC = WorkloadSpec(
    title="My model",
    items="samples",  # what throughput counts: images, tokens ...
    models=("small", "large"),  # the names of your sizes
    axes=(
        # Numbers of which near ones are alike; throughput is compared within each.
        Axis(name="features", kind=int, minimum=1, default=256, is_ordered=True, is_cell_key=True),
        Axis(name="mixed_precision", values=("bf16", "none"), default="bf16", title="Precision"),
    ),
)
WIDTHS = {"small": 512, "large": 4096}


def build(asked: Build) -> Training:
    """One training step of the model, made on the device that is asked for."""
    torch.manual_seed(asked.seed)
    features, width = int(asked.axes["features"]), WIDTHS[asked.model]

    # Where memory is predicted the device has no data: make everything inside this, and copy nothing by hand.
    with asked.device:
        model = nn.Sequential(nn.Linear(features, width), nn.GELU(), nn.Linear(width, 10))

    def batch() -> tuple[Tensor, Tensor]:
        inputs = torch.randn(asked.batch_size, features, device=asked.device)
        return inputs, torch.zeros(asked.batch_size, dtype=torch.long, device=asked.device)

    def loss(inputs_and_classes: tuple[Tensor, Tensor]) -> Tensor:
        inputs, classes = inputs_and_classes
        return nn.functional.cross_entropy(model(inputs), classes)

    # Backward pass and optimizer steps follow by themselves. Where that is not enough, give `step` instead of
    # `loss`: all of a training step, which returns a scalar.
    return Training(
        modules=[model],
        batch=batch,
        loss=loss,
        optimizers=[torch.optim.AdamW(model.parameters(), lr=1e-3)],
        autocast=torch.bfloat16 if asked.axes["mixed_precision"] == "bf16" else None,
    )
