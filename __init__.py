"""phase8-tune: training settings for a language model that fit a small GPU, found by measuring them.

    from phase8_tune import recommend, tune
    run = tune("8GB", gpu="rtx-3060-ti", models=["small"])
    print(recommend(run, "context", min_seq=1024))

Names are imported when they are first used; none of them brings torch into this process.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .tuner.library import Phase8TuneError, load_run, load_settings, predict, recommend, tune, verify

__version__ = "0.1.0"
__all__ = ["Phase8TuneError", "load_run", "load_settings", "predict", "recommend", "tune", "verify"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with warnings.catch_warnings():
        # tqdm, which Optuna imports, tells a notebook without widgets that it would draw with them.
        warnings.filterwarnings("ignore", message="IProgress not found")
        library = import_module(".tuner.library", __name__)
    value = getattr(library, name)
    globals()[name] = value  # found directly from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
