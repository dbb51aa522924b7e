"""A workload as a user writes one, for the tests: a small image classifier."""

from __future__ import annotations

import os
import random
import sys

import torch
from torch import nn

from phase8_tune.tuner.workloads import Axis, Build, Training, WorkloadSpec

print("printed where it is imported")

SPEC = WorkloadSpec(
    title="Small classifier",
    items="images",
    models=("narrow", "wide"),
    axes=(
        Axis(name="size", kind=int, minimum=4, default=8, is_ordered=True, is_cell_key=True),
        Axis(name="precision", values=("bf16", "none"), default="none"),
        Axis(name="smooth", kind=bool, default=False, word="smooth"),
    ),
)


def build(asked: Build) -> Training:
    """Models: narrow, wide."""
    torch.manual_seed(asked.seed)
    channels, size = {"narrow": 4, "wide": 16}[asked.model], int(asked.axes["size"])
    with asked.device:
        model = nn.Sequential(
            nn.Conv2d(3, channels, 3), nn.BatchNorm2d(channels), nn.Flatten(), nn.LazyLinear(10)
        )
        model(torch.zeros(2, 3, size, size))

    def batch() -> tuple[torch.Tensor, torch.Tensor]:
        images = torch.randn(asked.batch_size, 3, size, size, device=asked.device)
        return images, torch.zeros(asked.batch_size, dtype=torch.long, device=asked.device)

    def loss(images_and_classes: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        images, classes = images_and_classes
        return nn.functional.cross_entropy(
            model(images), classes, label_smoothing=0.1 if asked.axes["smooth"] else 0.0
        )

    return Training(
        modules=[model],
        batch=batch,
        loss=loss,
        optimizers=[torch.optim.SGD(model.parameters(), lr=0.1)],
        autocast=torch.bfloat16 if asked.axes["precision"] == "bf16" else None,
    )


def raises(asked: Build) -> Training:
    """Fails as a bug does."""
    raise KeyError("no such layer")


def out_of_memory(asked: Build) -> Training:
    """Is refused memory."""
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")


def device_fails(asked: Build) -> Training:
    """Meets a device that fails."""
    raise RuntimeError("CUDA error: uncorrectable ECC error encountered")


def kernel_fails(asked: Build) -> Training:
    """Meets a kernel that was wrong."""
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


def ends(asked: Build) -> Training:
    """Would end the process."""
    sys.exit(3)


def nothing(asked: Build) -> None:
    """Forgets to return."""


def vector_loss(asked: Build) -> Training:
    """Its loss is not one number."""
    made = build(asked)
    made.loss = lambda batch: batch[0].sum(dim=(1, 2, 3))
    return made


def dies(asked: Build) -> Training:
    """Ends the process where nothing can stop it."""
    os._exit(7)


def sets(asked: Build) -> Training:
    """Changes what holds for the whole process."""
    torch.use_deterministic_algorithms(True)
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    random.seed(1)
    return build(asked)


def sets_and_raises(asked: Build) -> Training:
    """The same, and then a bug."""
    sets(asked)
    torch.set_default_dtype(torch.float64)
    return raises(asked)


_KEPT: list[nn.Module] = []


def keeps(asked: Build) -> Training:
    """Its model outlives it."""
    made = build(asked)
    _KEPT.append(made.modules[0])
    del _KEPT[:-1]
    return made


def forgets(asked: Build) -> Training:
    """A layer that is learned and never stepped."""
    made = build(asked)
    made.modules = [*made.modules, nn.Linear(2, 2, device=asked.device)]
    return made


def ragged(asked: Build) -> Training:
    """Every batch has another size."""
    made, counts = build(asked), iter(range(2, 99))
    make = made.batch
    made.batch = lambda: tuple(part.repeat(next(counts), *[1] * (part.dim() - 1)) for part in make())
    return made


def wrong_size(asked: Build) -> Training:
    """One sample, whatever is asked for."""
    made = build(asked)
    make = made.batch
    made.batch = lambda: tuple(part[:1].repeat(5, *[1] * (part.dim() - 1)) for part in make())
    return made


def unseeded(asked: Build) -> Training:
    """Weights of its own choice."""
    made = build(asked)
    torch.seed()
    with torch.no_grad():
        for parameter in made.modules[0].parameters():
            parameter.copy_(torch.randn(parameter.shape))
    return made


def looks(asked: Build) -> Training:
    """Its loss looks at data, which cannot be followed without any."""
    made = build(asked)
    plain = made.loss
    assert plain is not None
    made.loss = lambda batch: plain(batch) * (2.0 if float(batch[0].sum()) > 1e9 else 1.0)
    return made


NO_FACTORY = 5
