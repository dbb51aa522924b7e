"""Reads YAML that a person wrote, and says in one line what is wrong with it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from .errors import UserInputError
from .nearest import nearest
from .yaml_dialect import Loader, is_decimal, is_invisible

UNNAMED = "~"
"""How a tag of a choice between two forms begins: it is no key, so no path shows it."""
_SHOWN_CHARS = 60
_NUMBER_LIKE = re.compile(r"[-+]?[0-9.][0-9a-fA-FoxX_:.+-]*")
_QUOTED_OR_COMMENT = re.compile(r"""\"(?:\\.|[^"\\])*\"|'(?:''|[^'])*'|(?:^|(?<=\s))#.*""")

_IN_OTHER_WORDS = {
    "mapping values are not allowed": "a ':' where no key can stand; give each key a line of its own, "
    "indented like its neighbours",
    "expected <block end>": "a line that is indented unlike its neighbours; indent keys of one level alike",
    "expected ',' or": "a list or keys in brackets that do not end; close the bracket",
    "found unexpected end of stream": "a quote that does not end; close it",
}


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
    _refuse_invisible(text, source)
    try:
        data = yaml.load(text, Loader=Loader)
    except yaml.MarkedYAMLError as error:
        mark, problem = error.problem_mark or error.context_mark, error.problem or ""
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "unknown line"
        other = next((words for raw, words in _IN_OTHER_WORDS.items() if problem.startswith(raw)), None)
        problem = f"expected valid YAML: {problem}" if other is None else f"expected valid YAML, got {other}"
        raise UserInputError(f"{source}: {where}: {problem}") from None
    except yaml.YAMLError as error:
        raise UserInputError(f"{source}: expected valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise UserInputError(
            f"{source}: expected a few levels of YAML, got too many inside each other"
        ) from None
    except ValueError as error:  # an integer of thousands of digits
        raise UserInputError(f"{source}: expected valid YAML values: {error}") from None
    if not isinstance(data, dict):
        raise UserInputError(f"{source}: expected keys with values, got {shown(data)}")
    for key in data:
        if not isinstance(key, str):
            raise UserInputError(f"{source}: {shown(key)}: expected a text as key, got {shown(key)}")
    return data


def _refuse_invisible(text: str, source: str) -> None:
    """Raises: UserInputError for a tab, a no-break space and the like, outside of quotes and comments."""
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text.removeprefix("\ufeff")), start=1):
        bare = _QUOTED_OR_COMMENT.sub(lambda found: " " * len(found[0]), line)
        for column, sign in enumerate(bare, start=1):
            if is_invisible(sign):
                name = "a tab" if sign == "\t" else unicodedata.name(sign, "a control sign").lower()
                raise UserInputError(
                    f"{source}: line {number}, column {column}: expected plain spaces, got {name} "
                    f"(U+{ord(sign):04X}); replace it by spaces"
                )


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
        if isinstance(part, int):
            path += f"[{part}]"
            continue
        if part.startswith(UNNAMED):
            continue
        name = part if part.isprintable() else repr(part)  # a key may hold what begins a new line
        path += f".{name}" if path else name
    return path


def _known_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> tuple[str, ...]:
    """The keys that a model has at a place of the data, found by walking the annotations."""
    kinds: list[Any] = [model]
    for part in location:
        if isinstance(part, str) and not part.startswith(UNNAMED):
            fields = [kind.model_fields[part] for kind in kinds if part in kind.model_fields]
            kinds = [m for field in fields for m in _models_in(field.annotation)]
    return tuple(key for kind in kinds for key in kind.model_fields)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]


def explain(
    error: ValidationError,
    source: str,
    model: type[BaseModel],
    keys_at: Callable[[Sequence[int | str]], Sequence[str] | None] = lambda place: None,
) -> UserInputError:
    """One line for what pydantic found wrong first: file, key, what was expected, what came.

    `model` is the one that refused the data. An unknown key comes before a missing one, because it is
    usually the cause: the missing key misspelt. keys_at: the keys at a place that the model's annotations do
    not tell; None where they do.
    """
    details = error.errors(include_url=False)
    first = min(details, key=lambda detail: detail["type"] != "extra_forbidden")
    came = ", but it is missing" if first["type"] == "missing" else f", got {shown(first['input'])}"
    if first["type"] == "extra_forbidden":
        *place, key = first["loc"]
        known = keys_at(place) or _known_keys(model, tuple(place))
        text = f"unknown key; expected one of {', '.join(known)}"
        if meant := nearest(str(key), known):
            text += f"; did you mean {meant}?"
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
        "int_type": f"expected a whole number{_form(detail['input'])}",
        "int_from_float": "expected a whole number",
        "float_type": f"expected a number{_form(detail['input'])}",
        "string_type": "expected a text",
        "bool_type": "expected true or false",
        "model_type": "expected keys with values",
        "tuple_type": "expected a list",
        "finite_number": "expected a finite number",
        "too_short": "expected a non-empty list",
        "literal_error": f"expected {context.get('expected')}",
        "greater_than": f"expected a number greater than {context.get('gt')}",
        "greater_than_equal": f"expected a number of at least {context.get('ge')}",
        "less_than_equal": f"expected a number of at most {context.get('le')}",
        "less_than": f"expected a number less than {context.get('lt')}",
        "string_pattern_mismatch": f"expected a text like {context.get('pattern')}",
    }.get(detail["type"], detail["msg"])


def _form(value: object) -> str:
    """What else to say of a text where a number belongs."""
    if not isinstance(value, str) or not _NUMBER_LIKE.fullmatch(value):
        return ""
    return " without quotes" if is_decimal(value) else " in decimal digits, such as 90"
