"""Sizes of memory and lengths of time as users write them, and back."""

from __future__ import annotations

import re
from decimal import Decimal

from .errors import UserInputError

MIB = 2**20
"""Bytes of what is printed as one MB: as on a GPU's box, in the seed's table and in nvidia-smi."""

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40, "P": 2**50}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*(?:([KMGTP])(?:I?B)?|B)", re.IGNORECASE)
_LARGEST = 2**63 - 1  # what a database column and a CUDA size can hold
_SIZE_EXAMPLES = "expected a size such as 8GB, 7.5GB or 8192MB"

_THOUSANDS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_COUNT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmg]?)", re.IGNORECASE)

_TIMES_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_TIME = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*([smhd]?)", re.IGNORECASE)


def parse_size(text: str, *, what: str = "size", least_bytes: int = 1) -> int:
    """Bytes of a size such as `8GB`; GB, GiB and G are all 2^30 bytes, as on a GPU's box.

    A fraction of a byte is cut off. `what` names the option in the error.
    Raises: UserInputError where the text is not a size of at least `least_bytes`, which is 1 or 0.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UserInputError(f"{what}: {_SIZE_EXAMPLES}, got {_shown(text)}")
    size_bytes = int(Decimal(match[1]) * _UNITS[(match[2] or "").upper()])
    if size_bytes < least_bytes:
        raise UserInputError(f"{what}: {_SIZE_EXAMPLES}, more than nothing, got {_shown(text)}")
    if size_bytes > _LARGEST:
        raise UserInputError(f"{what}: {_SIZE_EXAMPLES}, at most 8191PB, got {_shown(text)}")
    return size_bytes


def format_size(size_bytes: int) -> str:
    """The shortest exact text of a size, which `parse_size` reads back to the same number of bytes.

    Raises: ValueError for a number that is not positive.
    """
    if size_bytes < 1:
        raise ValueError(f"expected a positive number of bytes, got {size_bytes}")
    for unit, unit_bytes in reversed(_UNITS.items()):
        thousandths, rest = divmod(size_bytes * 1000, unit_bytes)
        if rest == 0 and size_bytes >= unit_bytes:
            number = Decimal(thousandths) / 1000
            return f"{number.normalize():f}{unit}B"
    raise AssertionError("one byte divides every size")


def format_mb(size_bytes: int) -> str:
    """Megabytes (2^20 bytes) for a table, for example `2,139.17`."""
    return f"{size_bytes / MIB:,.2f}"


def format_budget(size_bytes: int) -> str:
    """A size for people: as it would be typed where that is short, for example `8GB`, else in MB."""
    typed = format_size(size_bytes)
    return typed if len(typed) <= 7 else f"{format_mb(size_bytes)} MB"


def parse_count(text: str, *, what: str = "count") -> int:
    """A whole number such as `512k`: k, M and G are 1,000, 1,000,000 and 1,000,000,000.

    Raises: UserInputError where the text is not a positive whole number.
    """
    match = _COUNT.fullmatch(text.strip())
    number = Decimal(match[1]) * _THOUSANDS[match[2].lower()] if match else Decimal(0)
    if number < 1 or number != int(number) or number > _LARGEST:
        raise UserInputError(f"{what}: expected a whole number such as 4096 or 512k, got {_shown(text)}")
    return int(number)


def parse_duration(text: str, *, what: str = "time") -> float:
    """Seconds of a length of time such as `30m`, `90s` or `1.5h`; a bare number is seconds.

    Raises: UserInputError where the text is not a positive length of time.
    """
    expected = "expected a length of time such as 90s, 30m or 1.5h"
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise UserInputError(f"{what}: {expected}, got {_shown(text)}")
    seconds = float(match[1]) * _TIMES_S[match[2].lower() or "s"]
    if not 0 < seconds <= 10 * 365 * 86400:
        raise UserInputError(f"{what}: {expected}, more than nothing and under ten years, got {_shown(text)}")
    return seconds


def format_duration(seconds: float) -> str:
    """A length of time for people: `42 s`, `3 min 05 s`, `2 h 07 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _shown(text: str) -> str:
    """The text as typed, quoted, on one line, cut where it is long."""
    return repr(text if len(text) <= 60 else text[:57] + "...")
