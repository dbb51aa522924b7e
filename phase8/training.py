"""The one training step: what the tuner measures is what `phase8-train` runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..kernels.versions import CAPTURED_VERSIONS
from .capture import EAGER_CALLS, CapturedFunction
from .config import Phase8Config
from .model import Checkpointing, Phase8Model, Precision
from .optimizer import CompactAdamW, MasterWeights, OptimizerState


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingOptions:
    """How a model is trained; the first three are what the tuner chooses.

    optimizer_state: what both moments of AdamW are kept in. master_weights: float32, or bfloat16, rounded
    stochastically, for the large matrices.
    """

    kernel_version: str = "reference"
    gradient_checkpointing: Checkpointing = "none"
    mixed_precision: Precision = "bf16"
    optimizer_state: OptimizerState = "fp32"
    master_weights: MasterWeights = "fp32"
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1
    max_gradient_norm: float = 1.0
    seed: int = 0


class Trainer:
    """A model, its optimizer and the step that trains it: forward, backward, clipping, fused AdamW.

    Master weights, gradients and optimizer state are float32 unless the options say otherwise; gradients are
    of their weights' type. fp16 compute uses dynamic loss scaling.
    """

    def __init__(self, config: Phase8Config, options: TrainingOptions, *, device: torch.device) -> None:
        self.options = options
        self.device = device
        torch.manual_seed(options.seed)
        with device:
            self.model = Phase8Model(
                config,
                kernel_version=options.kernel_version,
                mixed_precision=options.mixed_precision,
                gradient_checkpointing=options.gradient_checkpointing,
                product_dtype=torch.bfloat16 if options.master_weights == "bf16_sr" else torch.float32,
            )
        self.captures = options.kernel_version in CAPTURED_VERSIONS and device.type == "cuda"
        self.optimizer = self._new_optimizer()
        self.scaler = torch.amp.GradScaler(device.type, enabled=options.mixed_precision == "fp16")
        self._captured: dict[tuple[str, torch.Size], CapturedFunction] = {}
        self._step_captured: CapturedFunction | None = None

    def _new_optimizer(self) -> torch.optim.Optimizer:
        options = self.options
        matrices = [p for p in self.model.parameters() if p.dim() >= 2]
        vectors = [p for p in self.model.parameters() if p.dim() < 2]
        groups: list[dict[str, Any]] = [
            {"params": matrices, "weight_decay": options.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        # A captured step reads its learning rate from the device, where `set_learning_rate` puts it.
        rate: float | Tensor = options.learning_rate
        if self.captures:
            rate = torch.tensor(rate, device=self.device)
        if (options.optimizer_state, options.master_weights) == ("fp32", "fp32"):
            return torch.optim.AdamW(
                groups, lr=rate, betas=options.betas, fused=True, capturable=self.captures
            )
        return CompactAdamW(
            groups,
            lr=rate,
            betas=options.betas,
            max_gradient_norm=options.max_gradient_norm,
            is_8bit=options.optimizer_state == "8bit",
            kernel_version=options.kernel_version,
            seed=options.seed,
        )

    @property
    def setup_calls(self) -> int:
        """Calls with one shape of tokens that compile or capture something, before all are alike."""
        return EAGER_CALLS + 1 if self.captures else 1

    def set_learning_rate(self, learning_rate: float) -> None:
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(learning_rate)
            else:
                group["lr"] = learning_rate

    def step(self, tokens: Tensor) -> Tensor:
        """One step on tokens [B, N + 1] int64: predict each next token. Returns the loss, a float32 scalar.

        The loss is detached and stays on the device: reading it is what synchronises. Versions in
        CAPTURED_VERSIONS are captured in a CUDA graph after their first calls with a shape.
        """
        return self._run("step", self._step, tokens)

    def accumulate(self, tokens: Tensor, parts: int) -> Tensor:
        """Gradients of one of `parts` equal parts of a step; `update` then takes the step. Returns the loss.

        Gradients stay between calls: 4 bytes a parameter, of bfloat16 weights 2, beside what `step` takes.
        """
        return self._run(f"accumulate 1/{parts}", lambda part: self._accumulate(part, parts), tokens)

    def update(self) -> None:
        """Take the step that the gradients accumulated so far say."""
        self._run("update", self._update, torch.zeros((), device=self.device))

    def evaluate(self, tokens: Tensor) -> Tensor:
        """The loss on tokens [B, N + 1] int64 without training, a float32 scalar on the device.

        A captured step holds most of what training may take: the evaluation runs in the memory that it leaves
        free between its replays, and so takes none of its own.
        """
        if self._step_captured is None:
            return self._evaluate(tokens)
        return self._step_captured.run_beside(self._evaluate, tokens)

    def forward(self, tokens: Tensor) -> Tensor:
        """As `evaluate`, captured as a step is: for measuring how fast the loss alone is."""
        return self._run("forward", self._evaluate, tokens)

    def _run(self, name: str, function: Callable[[Tensor], Tensor], tokens: Tensor) -> Tensor:
        if not self.captures:
            return function(tokens)
        key = (name, tokens.shape)
        if key not in self._captured:
            if name == "update":
                self._captured[key] = CapturedFunction(function, beside=self._step_captured)
            else:
                self._captured[key] = self._step_captured = CapturedFunction(function)
        return self._captured[key](tokens)

    def _step(self, tokens: Tensor) -> Tensor:
        loss: Tensor = self.model(tokens[:, :-1], tokens[:, 1:])
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self._apply_gradients()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def _accumulate(self, tokens: Tensor, parts: int) -> Tensor:
        loss: Tensor = self.model(tokens[:, :-1], tokens[:, 1:])
        self.scaler.scale(loss / parts).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _update(self, result: Tensor) -> Tensor:
        self._apply_gradients()
        self.optimizer.zero_grad(set_to_none=False)  # a captured part of a step adds where they lie
        return result

    def _apply_gradients(self) -> None:
        self.scaler.unscale_(self.optimizer)
        if not isinstance(self.optimizer, CompactAdamW):  # which clips while it takes the step
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.options.max_gradient_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    @torch.no_grad()
    def _evaluate(self, tokens: Tensor) -> Tensor:
        loss: Tensor = self.model(tokens[:, :-1], tokens[:, 1:])
        return loss

    def tensors(self) -> dict[str, Tensor]:
        """All that a later process needs to go on, by name, on the device: nothing is copied.

        `model.…` the weights and buffers; `optimizer.KIND.…` its state, where a step was taken; `scaler.…`
        the loss scaling of float16. Rates and flags belong to this run's options.
        """
        found = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        for name, parameter in self._parameters_in_order():
            for kind, tensor in self.optimizer.state.get(parameter, {}).items():
                found[f"optimizer.{kind}.{name}"] = tensor
        for key, value in self.scaler.state_dict().items():
            found[f"scaler.{key}"] = torch.tensor(value)
        return found

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Overwrite weights and optimizer state with `tensors`, which may lie in host memory, where they are.

        A step must have been taken, on any tokens: then memory lies as it does in a training from the start,
        takes no more than there, and what was captured stays valid.

        Raises: KeyError for a tensor that is missing; RuntimeError (torch's) for one of another shape;
        ValueError for the state of an optimizer that keeps it in another type.
        """
        own = self.tensors()
        for name, tensor in own.items():
            if name.startswith("optimizer.") and tensors[name].dtype != tensor.dtype:
                raise ValueError(
                    f"{name}: expected {tensor.dtype}, got {tensors[name].dtype}; go on with the "
                    f"optimizer_state that it was written with, which is not {self.options.optimizer_state}"
                )
        with torch.no_grad():
            for name, tensor in own.items():
                if not name.startswith("scaler."):
                    tensor.copy_(tensors[name])
        if self.scaler.is_enabled():
            kept = {
                n.removeprefix("scaler."): t.item() for n, t in tensors.items() if n.startswith("scaler.")
            }
            if kept:  # none of a training that was begun in another precision
                self.scaler.load_state_dict(kept)

    def _parameters_in_order(self) -> list[tuple[str, nn.Parameter]]:
        """Names and parameters in the order in which the optimizer numbers them."""
        names = {parameter: name for name, parameter in self.model.named_parameters()}
        return [(names[p], p) for group in self.optimizer.param_groups for p in group["params"]]
