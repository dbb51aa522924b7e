"""A workload's settings as they come in a `Build`: of the type that the factory needs, or refused by name."""

from __future__ import annotations

from collections.abc import Mapping

from ..workloads.training import AxisValue


class AxisValues:
    """Settings by name, each with the default that the caller names where it is not said."""

    def __init__(self, values: Mapping[str, AxisValue], known: tuple[str, ...]) -> None:
        """Raises: ValueError for a setting that is not among `known`."""
        for name in values:
            if name not in known:
                raise ValueError(f"{name}: unknown setting; expected one of {', '.join(known)}")
        self._values = values

    def choice(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        """Raises: ValueError for a value that is not allowed."""
        value = self._values.get(name, default)
        if value not in allowed:
            raise ValueError(f"{name}: expected one of {', '.join(allowed)}, got {value!r}")
        return str(value)

    def flag(self, name: str, default: bool) -> bool:
        """Raises: ValueError for what is neither true nor false."""
        value = self._values.get(name, default)
        if not isinstance(value, bool):
            raise ValueError(f"{name}: expected true or false, got {value!r}")
        return value

    def count(self, name: str, default: int) -> int:
        """Raises: ValueError for what is no positive whole number."""
        value = self._values.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name}: expected a positive whole number, got {value!r}")
        return value
