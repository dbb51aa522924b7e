"""Versions of what lies on the disk: every earlier one is read, a later one is refused with what to do.

Each format counts for itself from 1; what was written before its files had a number is version 1. The number
goes up whenever a reader of the one before would refuse what is written now, or take it for something else:
readers are strict, so a new key is reason enough. Where there is a version 2, the reader fills in the missing
number of version 1 before it validates.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

FORMAT_KEY = "format_version"


def later_format(data: object, newest: int) -> str | None:
    """Why a mapping that was read cannot be used: a later version of the program made it; None: it did not.

    newest: the last version of this format that is read here.
    """
    found = data.get(FORMAT_KEY) if isinstance(data, Mapping) else None
    if type(found) is not int or found <= newest:
        return None
    return (
        f"made by a later version of phase8-tune (format {found}, this one reads up to {newest}); "
        "update phase8-tune"
    )


def later_json_format(text: bytes, newest: int) -> str | None:
    """`later_format` of a JSON text; None for a text that is none."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return later_format(data, newest)


def identity(
    values: Mapping[str, Any], *, first: Collection[str], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """What of `values` counts for a digest, so that a key added later changes no digest of before.

    first: the keys of format 1, which always count; any other counts where it differs from its default.
    """
    return {key: value for key, value in values.items() if key in first or value != defaults[key]}
