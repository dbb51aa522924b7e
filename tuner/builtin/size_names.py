"""What a settings file may call its model: a size's name is of that size alone. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping

from ...phase8.config import PRESETS, is_size_name, preset
from ..values.nearest import nearest

_MISTYPED = 0.81  # of `nearest`: nanoo and smal are, xxl is not; nano2 and my-small are names of one's own


def check_model_name(model: str, sizes: Mapping[str, int]) -> None:
    """See that a name means these numbers, or none. sizes: as `SIZE_KEYS`, or some of them.

    Raises: ValueError, naming the key that is another of this name, or the name that was probably meant.
    """
    if not is_size_name(model):
        meant = nearest(model, PRESETS, alike=_MISTYPED) if model.isalpha() else None
        if meant is not None:
            raise ValueError(
                f"model: expected {meant}, or a name unlike a preset's, got {model!r}; correct it"
            )
        return
    named = preset(model, n_seq=1)
    for key, found in sizes.items():
        if found != getattr(named, key):
            raise ValueError(
                f"{key}: expected {getattr(named, key)} for model: {model} "
                f"(or another name for model), got {found}"
            )


def preset_of(d_model: object, n_layers: object) -> str | None:
    """The preset of these two numbers."""
    for name in PRESETS:
        config = preset(name, n_seq=1)
        if (config.d_model, config.n_layers) == (d_model, n_layers):
            return name
    return None
