"""Models that learn side by side for a given time: Phase 8, Phase 7, and the built-in transformer."""

from __future__ import annotations

import gc
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from ..phase8.config import preset, size_name
from ..phase8.training import Trainer, TrainingOptions
from ..tuner.builtin.transformer.config import transformer_config
from ..tuner.builtin.transformer.training import build
from ..tuner.values.axes import AxisValue
from ..tuner.workloads.factory_trainer import FactoryTrainer
from ..tuner.workloads.training import Build

ModelName = Literal["phase8", "phase7", "transformer"]
_WIDTHS = range(64, 2049, 64)
_DEPTHS = range(2, 41)
_MOST_OTHER_SHAPE = 1.6
"""A model of matched size is at most so many times wider or narrower for its depth than what it matches."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What is trained: a model of a named size on rows of n_seq tokens.

    kernel_version: for Phase 8 one of its own, for the transformer eager or compiled.
    """

    model: ModelName
    size: str
    n_seq: int
    vocab_size: int
    kernel_version: str
    mixed_precision: Literal["bf16", "none"]

    def parameters(self) -> int:
        """Learned scalars."""
        if self.model == "transformer":
            return transformer_config(
                self.size, n_seq=self.n_seq, vocab_size=self.vocab_size
            ).parameter_count()
        return preset(
            self.size, n_seq=self.n_seq, vocab_size=self.vocab_size, variant=self.model
        ).parameter_count()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Learner(Protocol):
    """A model with its optimizer. Tokens are int64 [B, n_seq + 1], losses mean nats a token on the device."""

    def step(self, tokens: Tensor) -> Tensor:
        """Learn from a batch."""

    def loss(self, tokens: Tensor) -> Tensor:
        """Without learning."""

    def set_rate(self, rate: float) -> None:
        """The learning rate from the next step on."""

    def forget(self) -> None:
        """What the optimizer holds is as before the first step; its tensors stay where they are."""


class Phase8Learner:
    """Phase 8 or Phase 7 with the trainer of `phase8-train`."""

    def __init__(self, plan: Plan, device: torch.device) -> None:
        variant: Literal["phase8", "phase7"] = "phase7" if plan.model == "phase7" else "phase8"
        config = preset(plan.size, n_seq=plan.n_seq, vocab_size=plan.vocab_size, variant=variant)
        options = TrainingOptions(kernel_version=plan.kernel_version, mixed_precision=plan.mixed_precision)
        self._trainer = Trainer(config, options, device=device)

    def step(self, tokens: Tensor) -> Tensor:
        return self._trainer.step(tokens)

    def loss(self, tokens: Tensor) -> Tensor:
        return self._trainer.evaluate(tokens)

    def set_rate(self, rate: float) -> None:
        self._trainer.set_learning_rate(rate)

    def forget(self) -> None:
        _clear(self._trainer.optimizer)


class TransformerLearner:
    """The built-in transformer of Llama's class with the trainer of `phase8-train`."""

    def __init__(self, plan: Plan, device: torch.device) -> None:
        axes: dict[str, AxisValue] = {
            "n_seq": plan.n_seq,
            "vocab_size": plan.vocab_size,
            "kernel_version": plan.kernel_version,
            "mixed_precision": plan.mixed_precision,
        }
        training = build(Build(model=plan.size, batch_size=1, axes=axes, device=device))
        (self._optimizer,) = training.optimizers
        self._trainer = FactoryTrainer(training, device)

    def step(self, tokens: Tensor) -> Tensor:
        return self._trainer.step(tokens)

    def loss(self, tokens: Tensor) -> Tensor:
        return self._trainer.evaluate(tokens)

    def set_rate(self, rate: float) -> None:
        self._trainer.set_learning_rate(rate)

    def forget(self) -> None:
        _clear(self._optimizer)


def make_learner(plan: Plan, device: torch.device) -> Learner:
    """The model of a plan, at its start."""
    return TransformerLearner(plan, device) if plan.model == "transformer" else Phase8Learner(plan, device)


def matched_size(plan: Plan) -> str:
    """The size of a transformer that has as many parameters as a Phase 8 model, and about its proportions."""
    wanted = plan.parameters()
    shape = preset(plan.size, n_seq=plan.n_seq)
    proportion = shape.d_model / shape.n_layers
    found: dict[str, float] = {}
    for width in _WIDTHS:
        for depth in _DEPTHS:
            other = width / depth / proportion
            if max(other, 1 / other) > _MOST_OTHER_SHAPE:
                continue
            config = transformer_config(f"{width}x{depth}", n_seq=plan.n_seq, vocab_size=plan.vocab_size)
            found[f"{width}x{depth}"] = abs(config.parameter_count() / wanted - 1)
    return size_name(min(found, key=lambda size: found[size]))


def fits(plan: Plan, batch: int, device: torch.device) -> bool:
    """Whether a step with a batch stays under the cap of this process. Leaves nothing on the card."""
    has_room = True
    try:
        learner = make_learner(plan, device)
        tokens = torch.randint(0, plan.vocab_size, (batch, plan.n_seq + 1), device=device)
        for _ in range(2):  # the optimizer's state is there from the second on
            learner.step(tokens)
        torch.cuda.synchronize()
    except torch.cuda.OutOfMemoryError:
        has_room = False
    # Only here, where nothing holds the frames of what ran out of memory any more
    learner = tokens = None  # type: ignore[assignment]
    gc.collect()
    torch.cuda.empty_cache()
    return has_room


def largest_batch(plan: Plan, device: torch.device) -> int:
    """The largest batch that fits, to within an eighth; 0 where not even one row does."""
    fitting, over = 0, 1
    while fits(plan, over, device):
        fitting, over = over, 2 * over
    while over - fitting > max(fitting // 8, 1):
        middle = (fitting + over) // 2
        fitting, over = (middle, over) if fits(plan, middle, device) else (fitting, middle)
    return fitting


def _clear(optimizer: torch.optim.Optimizer) -> None:
    for state in optimizer.state.values():
        for value in state.values():
            if isinstance(value, Tensor):
                value.zero_()
