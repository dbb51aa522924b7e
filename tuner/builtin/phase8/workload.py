"""The Phase 8 language model as a workload: the same training step that `phase8-train` runs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch

from ....kernels.adamw.gate import check_adamw
from ....kernels.gate import GateResult, check_version
from ....kernels.gate_draws import DEVICE_SHAPES
from ....phase8.training import Trainer
from ...values.candidate import Candidate, Precision
from ...workloads.trainer import take_step
from ..drawn_tokens import token_drawer
from .options import options_of
from .settings import config_of

if TYPE_CHECKING:
    from ...compiling.specialization import Specialization
    from ...predict.lines import LineKey
    from ...predict.traced_line import BlockTracing

_COMPUTE_DTYPES: dict[Precision, torch.dtype] = {
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "none": torch.float32,
}


class Phase8Run:
    """One model with its optimizer and one batch of tokens drawn as a text has them, int64 [B, N + 1]."""

    def __init__(self, candidate: Candidate, device: torch.device, seed: int) -> None:
        config = config_of(candidate)
        self.parameters = config.parameter_count()
        self.body_parameters = self.parameters - config.position_count
        trainer = Trainer(config, options_of(candidate, seed=seed), device=device)
        self.setup_calls = trainer.setup_calls
        self._once = partial(self._train, trainer) if candidate.mode == "train" else trainer.forward
        self._evaluate = trainer.evaluate if candidate.mode == "train" else None
        length = candidate.n_seq + 1
        self._tokens = token_drawer(candidate.batch_size, length, config.vocab_size, seed, device)()
        self._parts = candidate.parts

    def _train(self, trainer: Trainer, tokens: torch.Tensor) -> torch.Tensor:
        return take_step(trainer, lambda: tokens, self._parts)

    def run_once(self) -> torch.Tensor:
        return self._once(self._tokens)

    def finish(self) -> None:
        """Evaluate once, as a training does. Saving and loading take no memory of the device."""
        if self._evaluate is not None:
            self._evaluate(self._tokens)

    def close(self) -> None:
        del self._once, self._evaluate, self._tokens


class Phase8Workload:
    """Prepares a `Phase8Run`, and checks a kernel version."""

    def prepare(self, candidate: Candidate, device: torch.device, seed: int) -> Phase8Run:
        """Raises: ValueError for a model, variant or version that does not exist."""
        return Phase8Run(candidate, device, seed)

    def check(self, candidate: Candidate, device: torch.device) -> tuple[GateResult, ...]:
        """Every operation of the version, forward and backward, at the sizes of `DEVICE_SHAPES`, and the step
        of an optimizer of our own."""
        dtype = _COMPUTE_DTYPES[candidate.mixed_precision]
        results = check_version(candidate.kernel_version, device, (dtype,), DEVICE_SHAPES)
        return (*results, check_adamw("fast", device)) if candidate.has_own_optimizer else results

    def tracing(self, key: LineKey) -> BlockTracing:
        """How a line is traced; see `TracedWorkload`."""
        from .lines import tracing_of

        return tracing_of(key)

    def launches(self, key: LineKey, batch_size: int, architecture: int) -> list[Specialization]:
        """What a training launches; see `CompiledWorkload`."""
        from .launches import training_launches

        return training_launches(
            config_of(key),
            options_of(key),
            batch_size=batch_size,
            mode=key.mode,
            limits=key.limits,
            architecture=architecture,
        )


WORKLOAD = Phase8Workload()
