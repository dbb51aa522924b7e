"""What a factory of a model that is not ours returns: a training step, in the parts that are run and traced.

Torch is named for types only: a user's own file may import this before it is known whether torch is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

AxisValue = str | int | float | bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Build:
    """What a factory is asked for.

    axes: the workload's own settings by name, for example {"n_seq": 512, "precision": "bf16"}. device: where
    everything is to be made; it may be a fake one, on which nothing is computed. seed: of weights and batch.
    """

    model: str
    batch_size: int
    axes: Mapping[str, AxisValue]
    device: torch.device
    seed: int = 0


@dataclass(kw_only=True, slots=True)
class Training:
    """One training step of a model, made by a factory on the device that it was asked for.

    modules: all that is learned or has state. batch: makes one batch of the size that was asked for, any
    nesting of tensors on the device. loss: of a batch, a scalar tensor; backward pass and optimizers' steps
    follow. step: all of a step instead, where a loss and a backward pass are not enough (two
    optimizers that take turns); it returns a scalar tensor and does not synchronise. autocast: the loss is
    computed under torch.autocast with this dtype; float16 brings a gradient scaler. max_gradient_norm: to
    which the gradients of all modules together are clipped, as by `torch.nn.utils.clip_grad_norm_`; of a
    step, which clips by itself, none.

    The loss is computed without gradients, too, on modules that evaluate: a training's life has evaluations.
    """

    modules: Sequence[torch.nn.Module]
    batch: Callable[[], Any]
    optimizers: Sequence[torch.optim.Optimizer] = ()
    loss: Callable[[Any], torch.Tensor] | None = None
    step: Callable[[Any], torch.Tensor] | None = None
    autocast: torch.dtype | None = None
    max_gradient_norm: float | None = None

    def __post_init__(self) -> None:
        if (self.loss is None) == (self.step is None):
            raise ValueError(
                "Training: expected either loss or step, got " + ("both" if self.loss else "none")
            )
        norm = self.max_gradient_norm
        if norm is not None and (self.step is not None or not norm > 0):
            what = "none beside a step, which clips by itself" if self.step else "a number above 0"
            raise ValueError(f"Training: max_gradient_norm: expected {what}, got {norm}")


Factory = Callable[[Build], Training]
