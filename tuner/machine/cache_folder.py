"""Where what can be made again is kept between runs."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Of predictions and calibrations: PHASE8_TUNE_CACHE, or phase8-tune in the user's cache."""
    named = os.environ.get("PHASE8_TUNE_CACHE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "phase8-tune"
