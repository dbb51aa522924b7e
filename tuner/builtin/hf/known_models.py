"""Which models of transformers are meant by a name or a path, and their configurations. Loads no torch.

A configuration comes from a folder's config.json, from that file itself, or from `models.yaml`, which holds
well-known ones; weights are never read, as neither memory nor speed depends on them.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from ...values.axes import AxisValue
from ...values.errors import UserInputError
from ...values.nearest import one_of

_FILE = "config.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownModel:
    """A model by its published dimensions. published: learned scalars as others count them; source: where."""

    name: str
    config: Mapping[str, Any]
    published: int
    source: str


@functools.cache
def known_models() -> Mapping[str, KnownModel]:
    """The models of `models.yaml` by their names, in the order of the file."""
    content = yaml.safe_load(files(__package__).joinpath("models.yaml").read_text(encoding="utf-8"))
    return {
        name: KnownModel(
            name=name,
            config=entry["config"],
            published=entry["published"],
            source=content["sources"][entry["source"]],
        )
        for name, entry in content["models"].items()
    }


def read_model(value: object) -> object:
    """The one name of a model: that of a known one in any case, or the absolute path of a config.json.

    What is no text comes back, to be refused as what no name can be.
    Raises: ValueError, one line, for a name that is not known where there is no such path either.
    """
    if not isinstance(value, str):
        return value
    by_form = {name.casefold(): name for name in known_models()}
    if value.casefold() in by_form:
        return by_form[value.casefold()]
    path = Path(value).expanduser()
    file = path / _FILE if path.is_dir() else path
    if file.is_file():
        return str(file.resolve())
    if path.is_dir():
        raise ValueError(f"{path}: expected a folder with a {_FILE}, but it has none")
    raise ValueError(f"{one_of(known_models(), value)}; or give a {_FILE} or its folder")


def read_config(model: str) -> dict[str, Any]:
    """The configuration of a model by its one name, as config.json has it.

    Raises: UserInputError for a file that cannot be read, is no JSON object, or does not say its model_type.
    """
    known = known_models().get(model)
    if known is not None:
        return dict(known.config)
    try:
        config = json.loads(Path(model).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserInputError(f"{model}: expected a readable {_FILE}, got: {error.strerror}") from None
    except ValueError as error:
        raise UserInputError(f"{model}: expected JSON, got: {error}") from None
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise UserInputError(f'{model}: expected an object with "model_type", as transformers writes it')
    return config


@functools.cache
def longest_sequence(model: str) -> int | None:
    """The positions that a model has; None where its configuration says nothing of them.

    Raises: ValueError, UserInputError for a model that cannot be read.
    """
    config = read_config(model)
    found = config.get("max_position_embeddings", config.get("n_positions"))
    return found if isinstance(found, int) else None


def obstacle(model: str, axes: Mapping[str, AxisValue]) -> str | None:
    """Why a model does not take a sequence."""
    longest, n_seq = longest_sequence(model), int(axes["n_seq"])
    if longest is None or n_seq <= longest:
        return None
    return f"n_seq: {model} takes at most {longest} positions, got {n_seq}"


def model_size(model: str) -> float:
    """Learned scalars of a known model, by which models are put in order; infinite for one in a file."""
    known = known_models().get(model)
    return float("inf") if known is None else known.published
