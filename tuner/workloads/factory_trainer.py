"""The training of a factory's model of tokens: the step that was measured, with its state by name."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .stepping import SETUP_CALLS, TrainingStepper
from .training import Training

_SCALER = "scaler."


class FactoryTrainer:
    """A `Trainer` of what a factory made: of one module, one optimizer, and a loss of tokens [B, N + 1]."""

    setup_calls = SETUP_CALLS

    def __init__(self, training: Training, device: torch.device) -> None:
        (self._module,), (self._optimizer,) = training.modules, training.optimizers
        self._stepper = TrainingStepper(training, device.type)
        self.device = device

    def set_learning_rate(self, learning_rate: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate

    def step(self, tokens: Tensor) -> Tensor:
        return self._stepper.step(tokens)

    def accumulate(self, tokens: Tensor, parts: int) -> Tensor:
        return self._stepper.accumulate(tokens, parts)

    def update(self) -> None:
        self._stepper.update()

    def evaluate(self, tokens: Tensor) -> Tensor:
        loss = self._stepper.evaluate(tokens)
        assert loss is not None  # there is a loss
        return loss

    def tensors(self) -> dict[str, Tensor]:
        found = {f"model.{name}": tensor for name, tensor in self._module.state_dict().items()}
        for name, parameter in self._module.named_parameters():
            for kind, tensor in self._optimizer.state.get(parameter, {}).items():
                found[f"optimizer.{kind}.{name}"] = tensor
        for key, value in self._stepper.scaler.state_dict().items():
            found[f"{_SCALER}{key}"] = torch.tensor(value)
        return found

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, tensor in self.tensors().items():
                if not name.startswith(_SCALER):
                    tensor.copy_(tensors[name])
        scaler = self._stepper.scaler
        kept = {n.removeprefix(_SCALER): t.item() for n, t in tensors.items() if n.startswith(_SCALER)}
        if scaler.is_enabled() and kept:  # none of a training that was begun in another precision
            scaler.load_state_dict(kept)
