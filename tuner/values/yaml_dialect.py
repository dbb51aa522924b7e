"""The YAML of this project's files: what a plain text stands for, reading and writing alike.

That of YAML 1.2's core schema, of numbers only the decimal ones: 010, 0x10, 1_000 and 1:30 are texts, and so
are yes, off and dates, to be refused where a number or true or false belongs. YAML 1.1, which PyYAML reads,
makes 8, 16, 1000, 90, true and false of them; and a text of 1e5.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Hashable
from typing import Any, ClassVar

import yaml

_TAG = "tag:yaml.org,2002:"
_SCALARS = {  # tag: the plain texts that have it, and how these begin
    "null": (r"~|null|Null|NULL|", "~nN"),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    "float": (
        r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
}
_INVISIBLE = ("Cc", "Cf", "Zs", "Zl", "Zp")  # Unicode's controls, format signs and white space


def is_decimal(text: str) -> bool:
    """Whether a plain text is a number."""
    return re.fullmatch(_SCALARS["float"][0], text) is not None


def is_invisible(sign: str) -> bool:
    """Whether a sign looks like a space or like nothing and is no plain space: a tab, a no-break space."""
    return sign != " " and unicodedata.category(sign) in _INVISIBLE


class Loader(yaml.SafeLoader):
    """For `yaml.load`; a key that is given twice is an error.

    PyYAML keeps the last of two without a word, and in a file that a person wrote it is a mistake.
    """

    yaml_constructors: ClassVar[dict[str | None, Any]] = {
        tag: construct
        for tag, construct in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag in {_TAG + kind for kind in ("null", "str", "seq", "map")}
    }

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


def _checked(kind: str, convert: Callable[[str], Any]) -> Callable[[yaml.SafeLoader, yaml.ScalarNode], Any]:
    def construct(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Any:
        text = loader.construct_scalar(node)
        if not re.fullmatch(_SCALARS[kind][0], text):  # of a tag that was written out: !!int 010
            problem = f"expected a decimal {kind} after !!{kind}, got {text!r}"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return convert(text)

    return construct


Loader.yaml_implicit_resolvers = {}
for _kind, (_pattern, _first) in _SCALARS.items():
    Loader.add_implicit_resolver(_TAG + _kind, re.compile(f"^(?:{_pattern})$"), [*_first, ""])
Loader.add_implicit_resolver(_TAG + "merge", re.compile("^<<$"), ["<"])
Loader.add_constructor(_TAG + "bool", _checked("bool", lambda text: text.lower() == "true"))
Loader.add_constructor(_TAG + "int", _checked("int", int))
Loader.add_constructor(
    _TAG + "float",
    _checked("float", lambda text: float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))),
)


class Dumper(yaml.SafeDumper):
    """For `yaml.dump`: what is read back equal, the text 1e5 and one with a no-break space in quotes."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """A scalar, in quotes where the text alone would not be read as it is."""
        quotes = '"' if any(is_invisible(sign) for sign in text) else None
        return self.represent_scalar(_TAG + "str", text, style=quotes)


Dumper.add_representer(str, Dumper.represent_text)
Dumper.add_implicit_resolver(
    _TAG + "float", re.compile(f"^(?:{_SCALARS['float'][0]})$"), list(_SCALARS["float"][1])
)
