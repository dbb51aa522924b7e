"""The axes of a workload: its own settings, by name, beside model, batch and mode that every workload has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

AxisValue = str | int | float | bool


def flag_as_word(value: Any, flags: Sequence[str]) -> Any:
    """A truth as the word that stands in its place now; whatever else it is comes back. flags: the words of
    false and true, none of what was no truth."""
    return flags[value] if flags and isinstance(value, bool) else value


def word_as_flag(value: AxisValue, flags: Sequence[str]) -> AxisValue:
    """Inverse of `flag_as_word`; a word that no truth stood for comes back."""
    return bool(flags.index(value)) if value in flags else value


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """One setting of a workload.

    default: of a candidate that does not say it; None: each has to say it. values: those that it can have;
    none: any text, number or truth, as `kind` says. minimum, maximum: of whole numbers.
    searched: what a study tries that says nothing of it; none: all of `values`, of what is of the model, and
    where there are no values, the default.
    is_ordered: near values are alike, so that the sampler sees their place among the sorted ones.
    is_cell_key: throughput is compared between candidates of the same value only.
    is_of_model: it tells a model from others, so that it belongs to the model's name; also a key of a cell.
    is_later: candidates of this workload were on disks before there was the axis, so that it counts for a
    digest only away from its default.

    flags: the values that were false and true before the axis had words: those are read as these, and these
    are recorded, and counted in digests, as those.

    title: heading of its column. word: how a value reads in a line, for example `vocab{}`; of a truth, the
    word where it is true. phrase: the same in a sentence, for example `sequence {}`. said: values that read
    otherwise in both, each with its words. is_quiet: the default goes without saying. plain: the value that
    others are compared with.
    """

    name: str
    kind: type[str] | type[int] | type[float] | type[bool] = str
    default: AxisValue | None = None
    values: tuple[AxisValue, ...] = ()
    minimum: int | None = None
    maximum: int | None = None
    searched: tuple[AxisValue, ...] = ()
    is_ordered: bool = False
    is_cell_key: bool = False
    is_of_model: bool = False
    is_later: bool = False
    flags: tuple[str, ...] = ()
    title: str = ""
    word: str = "{}"
    phrase: str = ""
    said: tuple[tuple[AxisValue, str], ...] = ()
    is_quiet: bool = False
    plain: AxisValue | None = None

    def allows(self, value: object) -> bool:
        """Whether a candidate may have this value."""
        if type(value) is not self.kind or (self.values and value not in self.values):
            return False
        if isinstance(value, int):
            return (self.minimum is None or value >= self.minimum) and (
                self.maximum is None or value <= self.maximum
            )
        return True

    def read(self, value: Any) -> Any:
        """A value as candidates have it, of one in any spelling; what cannot be one comes back."""
        return flag_as_word(value, self.flags)

    def recorded(self, value: AxisValue) -> AxisValue:
        """A value as records have it, and digests count it."""
        return word_as_flag(value, self.flags)

    def say(self, value: AxisValue) -> str:
        """A value as a word of a line; empty where it goes without saying."""
        return self._filled(self.word, value)

    def say_in_sentence(self, value: AxisValue) -> str:
        """A value as a part of a sentence; empty where it goes without saying."""
        return self._filled(self.phrase or f"{self.heading.lower()} {{}}", value)

    def show(self, value: AxisValue) -> str:
        """A value in its column of a table."""
        return ("yes" if value else "no") if isinstance(value, bool) else str(value)

    @property
    def heading(self) -> str:
        """What its column is called."""
        return self.title or self.name.replace("_", " ").capitalize()

    def _filled(self, form: str, value: AxisValue) -> str:
        for known, words in self.said:
            if value == known:
                return words
        if isinstance(value, bool):
            return form.replace("{}", self.name) if value else ""
        return "" if self.is_quiet and value == self.default else form.format(value)


class AxisValues(Mapping[str, AxisValue]):
    """What a candidate has on the axes of its workload, in their order: frozen, and a key of dictionaries."""

    __slots__ = ("_hash", "_values")

    def __init__(self, values: Mapping[str, AxisValue]) -> None:
        self._values = dict(values)
        self._hash = hash(tuple(self._values.items()))

    def __getitem__(self, name: str) -> AxisValue:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AxisValues) and (self is other or self._values == other._values)

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"AxisValues({self._values})"

    def __reduce__(self) -> tuple[type[AxisValues], tuple[dict[str, AxisValue]]]:
        return AxisValues, (self._values,)  # hashes of texts differ between processes

    def text(self, name: str) -> str:
        """The text on an axis.

        Raises: KeyError where there is no such axis; TypeError for a value of another kind, as those below.
        """
        value = self._values[name]
        if not isinstance(value, str):
            raise TypeError(f"{name}: expected a text, got {value!r}")
        return value

    def integer(self, name: str) -> int:
        """The whole number on an axis."""
        value = self._values[name]
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{name}: expected a whole number, got {value!r}")
        return value

    def flag(self, name: str) -> bool:
        """The truth on an axis."""
        value = self._values[name]
        if not isinstance(value, bool):
            raise TypeError(f"{name}: expected true or false, got {value!r}")
        return value
