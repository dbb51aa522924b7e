"""What is known of a workload without loading it: its axes, what it counts, how its models are called."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .axes import Axis, AxisValue
from .nearest import one_of

_FIRST, _LAST = ("workload", "model"), ("batch_size", "mode")
FIELDS_OF_ALL = (*_FIRST, *_LAST)
"""What every candidate has, whatever its workload."""

SPECS = {
    "phase8": "phase8_tune.tuner.builtin.phase8.spec:SPEC",
    "transformer": "phase8_tune.tuner.builtin.transformer.spec:SPEC",
    "hf": "phase8_tune.tuner.builtin.hf.spec:SPEC",
}
"""Where each workload that comes with it is described; found by name, as rooms above this one hold them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkloadSpec:
    """One workload, for a process that does not load torch.

    name: as studies call it; of a user's own it need not be said. title: for reports; without, its name.
    axes: in the order in which people see them. file_order: of all fields of a candidate in files, where that
    is not workload, model, axes, batch and mode. items: what throughput counts, in the plural. items_axis: by
    which the batch is multiplied to items; None: the batch is their number. parts_axis: batches of which a
    step gathers the gradients; None: of one. version_axis: implementations of
    the same computation; reference: the one that defines it.
    is_checked: the others are checked against it before they are timed. optimizer_axes: those that, away
    from their defaults, take an optimizer whose kernel is checked with them; with the last value of each it
    keeps least.
    installed: the values of the version axis that this installation has; None: all of them.
    models: known names, offered where another is given. searched_models: those that a study tries which says
    nothing of them; none: all that are known. read_model: from what a user calls a model to its one
    name, raises ValueError with one line; None: any text, or one of `models` where there are some.
    model_size: by which models are put in order; None: by name. parameters: learned scalars of a model, by
    its name and axes; None: known once it is built. position_parameters: of a model, by its name
    and axes, those that make it no larger; None: none.
    obstacle: why a model does not take such axes, in a line; None: it does, or nothing is known of that.
    needs: modules without which its models cannot be built; they come with the extra of its name.
    settings: `module:class` of its settings files (tuner/workloads/settings.py); None: there are none.
    files: `module:function` that writes other files of a recommended candidate: it is given a folder, how
    their names begin, and the candidate; returns their paths.
    """

    name: str = ""
    title: str = ""
    axes: tuple[Axis, ...] = ()
    file_order: tuple[str, ...] = ()
    items: str = "samples"
    items_axis: str | None = None
    parts_axis: str | None = None
    version_axis: str | None = None
    reference: AxisValue | None = None
    is_checked: bool = False
    optimizer_axes: tuple[str, ...] = ()
    installed: Callable[[], tuple[str, ...]] | None = None
    models: tuple[str, ...] = ()
    searched_models: tuple[str, ...] = ()
    read_model: Callable[[object], object] | None = None
    model_size: Callable[[str], float] | None = None
    parameters: Callable[[str, Mapping[str, AxisValue]], int] | None = None
    position_parameters: Callable[[str, Mapping[str, AxisValue]], int] | None = None
    obstacle: Callable[[str, Mapping[str, AxisValue]], str | None] | None = None
    needs: tuple[str, ...] = ()
    settings: str | None = None
    files: str | None = None
    by_name: Mapping[str, Axis] = field(init=False, repr=False, compare=False)
    order: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.title:
            object.__setattr__(self, "title", self.name)
        named = {axis.name: axis for axis in self.axes}
        if len(named) != len(self.axes) or not named.keys().isdisjoint(FIELDS_OF_ALL):
            raise ValueError(
                f"axes of {self.name}: expected every name once and none of {', '.join(FIELDS_OF_ALL)}, got "
                f"{', '.join(axis.name for axis in self.axes)}"
            )
        object.__setattr__(self, "by_name", named)
        object.__setattr__(self, "order", self.file_order or (*_FIRST, *named, *_LAST))
        if set(self.order) != {*FIELDS_OF_ALL, *named}:
            raise ValueError(f"order of {self.name}: expected every field once, got {', '.join(self.order)}")
        roles = ("items_axis", self.items_axis), ("parts_axis", self.parts_axis)
        for role, name in (*roles, ("version_axis", self.version_axis)):
            if name is not None and name not in named:
                raise ValueError(f"{role} of {self.name}: {one_of(named, name)}")

    @property
    def counted(self) -> frozenset[str]:
        """The fields that every digest is made of: all but later axes. Never changed for what is on disks."""
        return frozenset(FIELDS_OF_ALL) | {axis.name for axis in self.axes if not axis.is_later}

    def complete(self, given: Mapping[str, AxisValue]) -> dict[str, AxisValue]:
        """The value on every axis, in their order: the given one, or the default.

        Raises: TypeError for an axis that it has not, or where one without a default is missing.
        """
        if unknown := [name for name in given if name not in self.by_name]:
            raise TypeError(
                f"workload {self.name}: expected the axes {', '.join(self.by_name)}, got {unknown}"
            )
        found: dict[str, AxisValue] = {}
        for name, axis in self.by_name.items():
            value: AxisValue | None = axis.read(given.get(name, axis.default))
            if value is None:
                raise TypeError(f"{self.name}: expected a value of {name}, got none")
            found[name] = value
        return found

    def name_model(self, value: object) -> object:
        """The one name of a model that a user called otherwise; what cannot be a name comes back.

        Raises: ValueError, one line that offers what was probably meant.
        """
        if self.read_model is not None:
            return self.read_model(value)
        if self.models and isinstance(value, str) and value not in self.models:
            raise ValueError(one_of(self.models, value))
        return value


_known: dict[str, WorkloadSpec | None] = {}


def known_spec(workload: str) -> WorkloadSpec | None:
    """What is known of a workload in this process: of one that comes with it, or was noted; else None."""
    if workload not in _known and workload in SPECS:
        module, _, name = SPECS[workload].partition(":")
        found: WorkloadSpec = getattr(importlib.import_module(module), name)
        _known[workload] = found
    return _known.get(workload)


def note_spec(spec: WorkloadSpec) -> None:
    """Have `known_spec` answer with this one from now on."""
    _known[spec.name] = spec
