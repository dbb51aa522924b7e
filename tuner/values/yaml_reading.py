"""Reads YAML that a person wrote, and says in one line what is wrong with it."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from .errors import UserInputError

_SHOWN_CHARS = 60


class _UniqueKeyLoader(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys without a word; a repeated key in a file is a mistake."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = key_node.value
            if isinstance(key_node, yaml.ScalarNode) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key if isinstance(key, Hashable) else id(key_node))
        return super().construct_mapping(node, deep=deep)


def read_text_file(path: Path, what: str) -> str:
    """The text of a UTF-8 file; `what` names it in the message, for example "study definition".

    Raises: UserInputError for a missing file, a directory, no permission, or bytes that are not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserInputError(f"{path}: expected a {what} (a YAML file), but there is no such file") from None
    except IsADirectoryError:
        raise UserInputError(
            f"{path}: expected a {what} (a YAML file), got a directory; name the file"
        ) from None
    except UnicodeDecodeError as error:
        raise UserInputError(
            f"{path}: expected a {what} in UTF-8, got the byte 0x{error.object[error.start]:02x} "
            f"at offset {error.start}; save the file as UTF-8"
        ) from None
    except OSError as error:
        raise UserInputError(f"{path}: expected a readable {what}, got: {error.strerror or error}") from None


def parse_mapping(text: str, source: str) -> dict[str, Any]:
    """The mapping that a YAML text holds.

    Raises: UserInputError, with the line, for broken YAML, a key given twice, or no mapping with text keys.
    """
    try:
        data = yaml.load(text, Loader=_UniqueKeyLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "unknown line"
        raise UserInputError(f"{source}: {where}: expected valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise UserInputError(f"{source}: expected valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise UserInputError(
            f"{source}: expected a few levels of YAML, got too many inside each other"
        ) from None
    except ValueError as error:  # an impossible date, an integer of thousands of digits
        raise UserInputError(f"{source}: expected valid YAML values: {error}") from None
    if not isinstance(data, dict):
        raise UserInputError(f"{source}: expected keys with values, got {shown(data)}")
    for key in data:
        if not isinstance(key, str):
            raise UserInputError(f"{source}: {shown(key)}: expected a text as key, got {shown(key)}")
    return data


def shown(value: object) -> str:
    """A value as a person may recognise it, in one line and not too long."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = " ".join(repr(value).split())
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 1] + "…"


def key_path(location: tuple[int | str, ...]) -> str:
    """A place in nested data as people write it, for example `axes.batch_size[2]`."""
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


def _known_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> tuple[str, ...]:
    """The keys that a model has at a place of the data, found by walking the annotations."""
    kinds: list[Any] = [model]
    for part in location:
        if isinstance(part, str):
            fields = [kind.model_fields[part] for kind in kinds if part in kind.model_fields]
            kinds = [m for field in fields for m in _models_in(field.annotation)]
    return tuple(key for kind in kinds for key in kind.model_fields)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]


def explain(error: ValidationError, source: str, model: type[BaseModel]) -> UserInputError:
    """One line for what pydantic found wrong first: file, key, what was expected, what came.

    `model` is the one that refused the data. An unknown key comes before a missing one, because it is
    usually the cause: the missing key misspelt.
    """
    details = error.errors(include_url=False)
    first = min(details, key=lambda detail: detail["type"] != "extra_forbidden")
    came = ", but it is missing" if first["type"] == "missing" else f", got {shown(first['input'])}"
    if first["type"] == "extra_forbidden":
        place = first["loc"][:-1]
        text = f"unknown key; expected one of {', '.join(_known_keys(model, place))}"
    elif first["type"] == "value_error":  # our own validators, whose sentences tell what came
        text = first["msg"].removeprefix("Value error, ")
    else:
        text = _expectation(first) + came
    more = f" ({len(details) - 1} more to correct)" if len(details) > 1 else ""
    return UserInputError(": ".join(part for part in (source, key_path(first["loc"]), text) if part) + more)


def _expectation(detail: ErrorDetails) -> str:
    context = detail.get("ctx", {})
    return {
        "missing": "expected this key",
        "int_type": "expected a whole number",
        "int_from_float": "expected a whole number",
        "float_type": "expected a number",
        "string_type": "expected a text",
        "bool_type": "expected true or false",
        "model_type": "expected keys with values",
        "tuple_type": "expected a list",
        "finite_number": "expected a finite number",
        "too_short": "expected a non-empty list",
        "literal_error": f"expected {context.get('expected')}",
        "greater_than": f"expected a number greater than {context.get('gt')}",
        "greater_than_equal": f"expected a number of at least {context.get('ge')}",
        "less_than": f"expected a number less than {context.get('lt')}",
        "string_pattern_mismatch": f"expected a text like {context.get('pattern')}",
    }.get(detail["type"], detail["msg"])
