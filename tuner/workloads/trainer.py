"""What a training needs of a model: its step and its state by name; and what continues texts with it.

Torch is named for types only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    import torch
    from torch import Tensor


B = TypeVar("B")
Batch = TypeVar("Batch", contravariant=True)


class Stepper(Protocol[Batch]):
    """Takes the steps of a training on batches. Losses are detached and on the device."""

    def step(self, batch: Batch, /) -> Tensor:
        """One step. Returns the loss, a scalar."""
        ...

    def accumulate(self, batch: Batch, parts: int, /) -> Tensor:
        """Gradients of one of `parts` equal parts of a step; `update` then takes the step. Returns the
        loss."""
        ...

    def update(self) -> None:
        """Take the step that the gradients accumulated so far say."""
        ...


class Trainer(Stepper["Tensor"], Protocol):
    """A model of tokens, its optimizer and the step that trains it.

    Its batches are tokens [B, N + 1] int64: each next token is predicted.
    """

    @property
    def device(self) -> torch.device: ...

    @property
    def setup_calls(self) -> int:
        """Calls of `step` with one shape of tokens that compile or capture something, before all are
        alike."""
        ...

    def set_learning_rate(self, learning_rate: float) -> None: ...

    def evaluate(self, tokens: Tensor) -> Tensor:
        """The loss on tokens [B, N + 1] int64 without training."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """All that a later process needs to go on, by name, on the device: `model.…`, `optimizer.KIND.…`,
        `scaler.…`."""
        ...

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Overwrite what `tensors` gives, which may lie in host memory. A step must have been taken.

        Raises: KeyError for a tensor that is missing; RuntimeError (torch's) for one of another shape.
        """
        ...


def take_step(trainer: Stepper[B], next_batch: Callable[[], B], parts: int) -> Tensor:
    """One step on as many batches as it has parts. Returns their mean loss, a scalar on the device.

    Of more than one the gradients stay from batch to batch, beside what a step on one takes.
    """
    if parts == 1:
        return trainer.step(next_batch())
    loss = trainer.accumulate(next_batch(), parts)
    for _ in range(parts - 1):
        loss = loss + trainer.accumulate(next_batch(), parts)
    trainer.update()
    return loss / parts


class Generator(Protocol):
    """A trained model that continues texts."""

    def __call__(
        self, prompt: Tensor, draw: Callable[[Tensor], Tensor], *, max_tokens: int
    ) -> Iterator[Tensor]:
        """Continue prompts token by token: prompt [B, N] int64 → max_tokens times tokens [B] int64.

        draw: logits [B, V] → tokens [B]. A token is read when the next is asked for.
        Raises: ValueError where prompt and continuation do not fit the model's positions.
        """
        ...
