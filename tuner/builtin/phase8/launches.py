"""Which forms of which kernels a training of Phase 8 launches: the real step, run on the meta device."""

from __future__ import annotations

from dataclasses import replace

import torch

from ....phase8.config import Phase8Config
from ....phase8.optimizer import CompactAdamW
from ....phase8.training import Trainer, TrainingOptions
from ...compiling.launches import META, recording
from ...compiling.specialization import Specialization
from ...predict.trace.limits import Limits
from ...values.candidate import Mode

_ALIKE = 3
"""Blocks: the first, one between, and the last. Those between launch the same."""


def training_launches(
    config: Phase8Config,
    options: TrainingOptions,
    *,
    batch_size: int,
    mode: Mode,
    limits: Limits,
    architecture: int,
) -> list[Specialization]:
    """What setup, a step and an evaluation launch on a GPU with these limits, each form once.

    An optimizer of PyTorch's own compiles nothing, and neither does clipping.
    Raises: UnsupportedVersionError where the kernel version does not take this model.
    """
    config = replace(config, n_layers=min(config.n_layers, _ALIKE))
    with recording(limits, architecture) as found:
        trainer = Trainer(config, options, device=META)
        tokens = torch.zeros(batch_size, config.n_seq + 1, dtype=torch.int64, device=META)
        if mode == "train":
            trainer.accumulate(tokens, 1)
            if isinstance(trainer.optimizer, CompactAdamW):
                trainer.optimizer.step()
        trainer.evaluate(tokens)
    return list(found)
