"""A workload's settings as they come in a `Build`: completed and checked, so that factories trust them."""

from __future__ import annotations

from collections.abc import Mapping

from ..values.axes import AxisValue, AxisValues
from ..values.nearest import one_of
from ..values.workload_spec import WorkloadSpec


def checked_axes(spec: WorkloadSpec, given: Mapping[str, AxisValue]) -> AxisValues:
    """What is given on every axis of the spec, or its default.

    Raises: ValueError, naming the axis, for one that there is not, that is missing, or whose value cannot be.
    """
    try:
        values = spec.complete(given)
    except TypeError as error:
        raise ValueError(str(error)) from error
    for name, value in values.items():
        axis = spec.by_name[name]
        if axis.values and value not in axis.values:
            raise ValueError(f"{name}: {one_of([str(known) for known in axis.values], str(value))}")
        # True is a whole number to Python
        if not isinstance(value, axis.kind) or (axis.kind is int and isinstance(value, bool)):
            raise ValueError(f"{name}: expected {_KINDS[axis.kind]}, got {value!r}")
        if axis.minimum is not None and isinstance(value, int) and value < axis.minimum:
            raise ValueError(f"{name}: expected at least {axis.minimum}, got {value}")
    return AxisValues(values)


_KINDS: dict[type, str] = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
