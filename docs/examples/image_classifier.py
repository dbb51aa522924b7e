"""An image classifier as a workload: convolutions and batch norm, a loss and an optimizer of its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from phase8_tune.tuner.workloads import Axis, Build, Training, WorkloadSpec

CHANNELS = {"tiny": (16, 32), "small": (64, 128, 256)}
CLASSES = 10
SPEC = WorkloadSpec(
    title="Image classifier",
    items="images",
    models=tuple(CHANNELS),
    axes=(
        Axis(name="size", kind=int, minimum=8, default=64, is_ordered=True, is_cell_key=True),
        Axis(name="precision", values=("bf16", "fp16", "none"), default="none"),
    ),
)


def stage(inside: int, outside: int) -> nn.Sequential:
    """Half the height and width, more channels."""
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(outside), nn.ReLU()
    )


def classifier(channels: tuple[int, ...]) -> nn.Sequential:
    """Images [B, 3, H, W] → logits [B, 10]."""
    stages = [stage(*pair) for pair in zip((3, *channels), channels, strict=False)]
    return nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[-1], CLASSES))


def factory(build: Build) -> Training:
    """Models: tiny, small. Settings: size (of an image's sides), precision (bf16, fp16 or none)."""
    size = int(build.axes.get("size", 64))
    torch.manual_seed(build.seed)
    with build.device:
        model = classifier(CHANNELS[build.model])

    def batch() -> tuple[Tensor, Tensor]:
        images = torch.randn(build.batch_size, 3, size, size).to(build.device)
        classes = torch.randint(0, CLASSES, (build.batch_size,)).to(build.device)
        return images, classes

    def loss(images_and_classes: tuple[Tensor, Tensor]) -> Tensor:
        images, classes = images_and_classes
        # Focal: what is already right counts less
        of_each = nn.functional.cross_entropy(model(images).float(), classes, reduction="none")
        return ((1 - torch.exp(-of_each)) ** 2 * of_each).mean()

    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    casts = {"bf16": torch.bfloat16, "fp16": torch.float16}  # fp16 brings a gradient scaler by itself
    autocast = casts.get(str(build.axes.get("precision", "none")))
    return Training(modules=[model], batch=batch, optimizers=[optimizer], loss=loss, autocast=autocast)
