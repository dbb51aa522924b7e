"""The Phase 8 language model: its configurations and presets, the model, and the step that trains it.

    import torch
    from phase8_tune.phase8 import Trainer, TrainingOptions, preset
    config = preset("nano", n_seq=64)
    trainer = Trainer(config, TrainingOptions(mixed_precision="none"), device=torch.device("cpu"))
    loss = trainer.step(torch.randint(config.vocab_size, (2, config.n_seq + 1)))

`Phase8Model` alone is an ordinary module: `Phase8Model(config).logits(tokens)`. Names are imported when they
are first used: `Phase8Config` and `preset` need no torch, the others bring it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import Phase8Config, preset
    from .model import Phase8Model
    from .training import Trainer, TrainingOptions

__all__ = ["Phase8Config", "Phase8Model", "Trainer", "TrainingOptions", "preset"]

_MODULES = {
    "Phase8Config": "config",
    "Phase8Model": "model",
    "Trainer": "training",
    "TrainingOptions": "training",
    "preset": "config",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value  # found directly from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
