"""The presets that benchmarks draw from. Imports no torch."""

from __future__ import annotations

from ..phase8.config import PRESETS

MODELS = PRESETS[: PRESETS.index("xl") + 1]
"""Those of the recorded results, so that a seed draws what it drew: state of float32 fits a small card."""
