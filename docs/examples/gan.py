"""Two models that learn against each other as a workload: two optimizers, and a whole step of one's own."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from phase8_tune.tuner.workloads import Axis, Build, Training, WorkloadSpec

WIDTHS = {"small": 128, "large": 1024}
NOISE = 32
SPEC = WorkloadSpec(
    title="GAN",
    models=tuple(WIDTHS),
    axes=(
        Axis(name="size", kind=int, minimum=1, default=64, is_ordered=True, is_cell_key=True),
        Axis(name="precision", values=("bf16", "none"), default="none"),
    ),
)


def factory(build: Build) -> Training:
    """Models: small, large. Settings: size (of what is generated), precision (bf16 or none)."""
    width, size = WIDTHS[build.model], int(build.axes.get("size", 64))
    torch.manual_seed(build.seed)
    with build.device:
        generator = nn.Sequential(nn.Linear(NOISE, width), nn.ReLU(), nn.Linear(width, size))
        critic = nn.Sequential(nn.Linear(size, width), nn.LeakyReLU(0.2), nn.Linear(width, 1))
    of_generator = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    of_critic = torch.optim.Adam(critic.parameters(), lr=2e-4, betas=(0.5, 0.999))
    # A step of one's own casts by itself. "cuda" also where the step is traced without a GPU
    kind = "cpu" if build.device.type == "cpu" else "cuda"
    is_cast = build.axes.get("precision") == "bf16"

    def batch() -> Tensor:
        return torch.rand(build.batch_size, size).to(build.device)

    def step(real: Tensor) -> Tensor:
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=is_cast):
            noise = torch.randn(real.shape[0], NOISE, device=real.device)
            made = generator(noise)
            told_apart = (
                softplus(-critic(real).float()).mean() + softplus(critic(made.detach()).float()).mean()
            )
        told_apart.backward()
        of_critic.step()
        of_critic.zero_grad()
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=is_cast):
            fooled = softplus(-critic(made).float()).mean()
        fooled.backward()
        of_generator.step()
        of_generator.zero_grad()
        of_critic.zero_grad()  # what the generator's step left there
        return (told_apart + fooled).detach()

    return Training(modules=[generator, critic], batch=batch, optimizers=[of_generator, of_critic], step=step)
