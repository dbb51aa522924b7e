"""What a user calls a model, as the one name that candidates, records and files have for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ...phase8.config import PRESETS, preset, size_name
from ..values.errors import UserInputError
from ..values.nearest import nearest

_SIZE = "model: "  # before what is wrong with the name, and not with a key of it


def read_model(value: object) -> object:
    """The name of a size that was given by a name in any spelling, or by a mapping of its numbers.

    Whatever else it is comes back, to be refused as what no name can be.
    Raises: ValueError, one line that names the key which is wrong.
    """
    if not isinstance(value, str | Mapping):
        return value
    try:
        return size_name(value)
    except ValueError as error:
        text = " ".join(str(error).split()).removeprefix(_SIZE)
        meant = nearest(value, PRESETS) if isinstance(value, str) else None
        raise ValueError(text + ("" if meant is None else f"; did you mean {meant}?")) from None


def model_option(names: Iterable[str]) -> tuple[str, ...]:
    """The models that were named by `--model`, each once, the smallest first.

    Raises: UserInputError.
    """
    try:
        models = {str(read_model(name)) for name in names}
    except ValueError as error:
        raise UserInputError(f"--model: {error}") from None
    return tuple(sorted(models, key=lambda model: (preset(model, n_seq=1).parameter_count(), model)))


def known_or_same(name: str) -> str:
    """A model's name as records have it; what names none is left as it is."""
    try:
        return size_name(name)
    except ValueError:
        return name
