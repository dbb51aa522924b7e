"""The Phase 8 language model as a workload: the same training step that `phase8-train` runs."""

from __future__ import annotations

import torch

from ....kernels.gate import GateResult, check_version
from ....kernels.gate_draws import DEVICE_SHAPES
from ....phase8.config import preset
from ....phase8.training import Trainer, TrainingOptions
from ...values.candidate import Candidate, Precision
from ..drawn_tokens import token_drawer

_COMPUTE_DTYPES: dict[Precision, torch.dtype] = {
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "none": torch.float32,
}


class Phase8Run:
    """One model with its optimizer and one batch of tokens drawn as a text has them, int64 [B, N + 1]."""

    def __init__(self, candidate: Candidate, device: torch.device, seed: int) -> None:
        config = preset(
            candidate.model,
            n_seq=candidate.n_seq,
            variant="phase7" if candidate.variant == "phase7" else "phase8",
            vocab_size=candidate.vocab_size,
        )
        options = TrainingOptions(
            kernel_version=candidate.kernel_version,
            gradient_checkpointing=candidate.gradient_checkpointing,
            mixed_precision=candidate.mixed_precision,
            seed=seed,
        )
        self.parameters = config.parameter_count()
        self.body_parameters = self.parameters - config.position_count
        trainer = Trainer(config, options, device=device)
        self.setup_calls = trainer.setup_calls
        self._once = trainer.step if candidate.mode == "train" else trainer.forward
        self._evaluate = trainer.evaluate if candidate.mode == "train" else None
        length = candidate.n_seq + 1
        self._tokens = token_drawer(candidate.batch_size, length, config.vocab_size, seed, device)()

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
        if candidate.variant not in ("phase7", "phase8"):
            raise ValueError(f"variant: expected phase7 or phase8, got {candidate.variant!r}")
        return Phase8Run(candidate, device, seed)

    def check(self, candidate: Candidate, device: torch.device) -> tuple[GateResult, ...]:
        """Every operation of the version, forward and backward, at the sizes of `DEVICE_SHAPES`."""
        dtype = _COMPUTE_DTYPES[candidate.mixed_precision]
        return check_version(candidate.kernel_version, device, (dtype,), DEVICE_SHAPES)


WORKLOAD = Phase8Workload()
