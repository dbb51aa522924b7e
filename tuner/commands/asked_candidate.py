"""One candidate of any workload from the options of a command, and whether a card runs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from ..predict.rate.abilities import obstacles
from ..predict.rate.profiles import GpuProfile
from ..study.axes import row_class
from ..study.model_names import model_option
from ..values.axes import AxisValue
from ..values.candidate import DEFAULT_WORKLOAD, Candidate, Mode
from ..values.errors import UserInputError
from ..values.nearest import one_of
from ..values.workload_spec import WorkloadSpec
from ..values.yaml_reading import explain, parse_mapping
from ..workloads.spec import check_needs, spec_of

_CHECKPOINTING = "gradient_checkpointing"
_OPTIONS = {
    "n_seq": "--seq",
    "kernel_version": "--kernel",
    _CHECKPOINTING: "--checkpointing",
    "mixed_precision": "--precision",
    "optimizer_state": "--optimizer-state",
    "master_weights": "--master-weights",
    "variant": "--variant",
    "vocab_size": "--vocab-size",
}
"""Axes that have an option of their own, whatever the workload."""
_USUAL: dict[str, AxisValue] = {
    "kernel_version": "fast",
    _CHECKPOINTING: "none",
    "mixed_precision": "bf16",
}
"""Of Phase 8, where the options say nothing."""


def asked_candidate(
    *,
    workload: str,
    model: str,
    batch_size: int,
    mode: Mode,
    precision: str | None,
    others: Sequence[str],
    **options: AxisValue | None,
) -> Candidate:
    """The candidate that options name. others: `axis=value`, for axes without an option of their own.

    Raises: UserInputError for an axis that the workload has not, a value that it may not have, or where one
    is missing.
    """
    spec = spec_of(workload)
    check_needs(spec)
    if precision is not None:
        options["mixed_precision"] = precision
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in spec.by_name:
            raise UserInputError(
                f"{_OPTIONS[name]}: expected an axis of workload {workload} ({', '.join(spec.by_name)}), got "
                f"{name}; leave it out"
            )
    for text in others:
        name, _, value = text.partition("=")
        if name not in spec.by_name:
            raise UserInputError(f"--set: {one_of(spec.by_name, name)}")
        given[name] = _read(value)
    if workload == DEFAULT_WORKLOAD:
        given = _USUAL | given
    for name, axis in spec.by_name.items():
        option = _OPTIONS.get(name, f"--set {name}=VALUE")
        if name not in given and axis.default is None:
            raise UserInputError(f"{option}: expected a value of {name}, got none")
        if name in given:
            _check(spec, name, given[name], option.removesuffix("=VALUE"))
    [named] = model_option([model], [workload])
    candidate = Candidate(workload=workload, model=named, batch_size=batch_size, mode=mode, axes=given)
    if (obstacle := candidate.obstacle) is not None:
        raise UserInputError(obstacle)
    return candidate


def savings_of(candidate: Candidate) -> list[tuple[Candidate, str]]:
    """The candidate with settings that take less memory, and the options that ask for each, what costs least
    time first: the optimizer that keeps least, checkpointing, both. Empty where it trains nothing."""
    if candidate.mode != "train":
        return []
    spec = candidate.spec
    small = {name: spec.by_name[name].values[-1] for name in spec.optimizer_axes}
    recomputed: dict[str, AxisValue] = {_CHECKPOINTING: "full"} if _CHECKPOINTING in spec.by_name else {}
    found: dict[Candidate, str] = {candidate: ""}
    for settings in (small, recomputed, small | recomputed):
        changes = {name: value for name, value in settings.items() if candidate.axes[name] != value}
        options = " ".join(f"{_OPTIONS[name]} {value}" for name, value in changes.items())
        found.setdefault(candidate.changed(**changes), options)
    return list(found.items())[1:]


def check_card(candidate: Candidate, profile: GpuProfile) -> None:
    """Raises: UserInputError for what does not run on such a card."""
    if unable := obstacles(profile.compute_capability, candidate):
        raise UserInputError(
            f"{profile.title}: expected what runs on compute capability {profile.compute_capability}, got "
            f"{' and '.join(unable)}; take --kernel reference --precision fp16 (or none)"
        )


def _read(text: str) -> Any:
    """A value as a study would have it. Raises: UserInputError."""
    return parse_mapping(f"value: {text}", "--set")["value"]


def _check(spec: WorkloadSpec, name: str, value: object, option: str) -> None:
    """Raises: UserInputError for a value that the axis may not have, as a study refuses it."""
    border = row_class((spec,))
    try:
        border.model_validate({name: value})
    except ValidationError as error:
        text = str(explain(error, option, border))
        raise UserInputError(text.replace(f"{option}: {name}: ", f"{option}: ", 1)) from None
