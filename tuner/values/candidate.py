"""One configuration to measure: a frozen value with a digest that names it everywhere."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, cast

from .axes import Axis, AxisValue, AxisValues
from .workload_spec import FIELDS_OF_ALL, WorkloadSpec, known_spec

Precision = Literal["bf16", "fp16", "none"]
Checkpointing = Literal["none", "selective", "full"]
CHECKPOINTING_FLAGS: tuple[Checkpointing, Checkpointing] = ("none", "full")
"""What false and true were before there were words, and still are where they are written."""
OptimizerState = Literal["fp32", "8bit"]
MasterWeights = Literal["fp32", "bf16_sr"]
Mode = Literal["train", "forward"]
DEFAULT_WORKLOAD = "phase8"
DEFAULT_VOCAB_SIZE = 50257
"""Tokens of GPT-2's tokenizer: the vocabulary where none is said, and of all before it could be."""
LARGEST_VOCAB_SIZE = 2**24
"""As many tokens as `torch.multinomial` draws from, by which the batches that are measured are made."""


@dataclass(frozen=True, init=False, slots=True)
class Candidate:
    """What is measured. Two candidates with the same digest are the same measurement.

    `mode` "train" is forward, backward and optimizer step; "forward" is the loss under no_grad. `axes` are
    the settings that its workload has, all of them, in the order of its spec; of a workload without one as
    they were given, and then the batch counts.
    """

    workload: str
    model: str
    batch_size: int
    mode: Mode
    axes: AxisValues

    def __init__(
        self,
        *,
        workload: str = DEFAULT_WORKLOAD,
        model: str,
        batch_size: int,
        mode: Mode = "train",
        axes: Mapping[str, AxisValue] | None = None,
        **named: AxisValue,
    ) -> None:
        """axes: of the workload; `named`: the same each by its name, which counts where both are given.

        Raises: TypeError for an axis that the workload has not, or where one without a default is missing.
        """
        if named or not isinstance(axes, AxisValues):
            given = {**(axes or {}), **named}
            spec = known_spec(workload)
            axes = AxisValues(given if spec is None else spec.complete(given))
        self._set(workload, model, batch_size, mode, axes)

    def _set(self, workload: str, model: str, batch_size: int, mode: Mode, axes: AxisValues) -> None:
        put = object.__setattr__
        put(self, "workload", workload)
        put(self, "model", model)
        put(self, "batch_size", batch_size)
        put(self, "mode", mode)
        put(self, "axes", axes)

    @property
    def spec(self) -> WorkloadSpec:
        """What is known of its workload; of one that is not described, the names of its axes."""
        return known_spec(self.workload) or _undescribed(self.workload, tuple(self.axes))

    @property
    def model_words(self) -> tuple[str, ...]:
        """Which model it is: its name, then what is not as usual, for example `small`, `vocab8192`."""
        spec = self.spec
        words = (axis.say(self.axes[axis.name]) for axis in spec.axes if axis.is_of_model)
        return self.model, *(word for word in words if word)

    @property
    def length(self) -> int:
        """Items of one of the batch, such as the tokens of a sequence; 1 where the batch counts."""
        name = self.spec.items_axis
        return 1 if name is None else self.axes.integer(name)

    @property
    def parts(self) -> int:
        """Batches of which a step gathers the gradients; a forward pass has one."""
        name = self.spec.parts_axis
        return 1 if name is None or self.mode == "forward" else self.axes.integer(name)

    @property
    def items_per_step(self) -> int:
        """Tokens, images or samples, as its workload counts."""
        return self.parts * self.batch_size * self.length

    @property
    def version(self) -> str:
        """Which implementation of its computation; empty where its workload has one."""
        name = self.spec.version_axis
        return "" if name is None else str(self.axes[name])

    @property
    def precision(self) -> str:
        """The compute type that a check of its kernels holds for; empty where it says nothing of one."""
        return str(self.axes.get("mixed_precision", ""))

    @property
    def is_reference(self) -> bool:
        """Whether its implementation is the one that others are checked against, or is the only one."""
        spec = self.spec
        return spec.version_axis is None or self.axes[spec.version_axis] == spec.reference

    @property
    def has_own_optimizer(self) -> bool:
        """Whether its step is taken by an optimizer whose kernel is checked with its implementation."""
        spec = self.spec
        return any(self.axes[name] != spec.by_name[name].default for name in spec.optimizer_axes)

    @property
    def obstacle(self) -> str | None:
        """Why its model does not take its axes, in a line; None where nothing is known against it."""
        obstacle = self.spec.obstacle
        return None if obstacle is None else obstacle(self.model, self.axes)

    def line(self) -> Candidate:
        """Stands for all candidates that differ only in the batch."""
        return self.at(0)

    def at(self, batch_size: int) -> Candidate:
        """The candidate of this line with a batch."""
        found: Candidate = object.__new__(type(self))
        found._set(self.workload, self.model, batch_size, self.mode, self.axes)
        return found

    def changed(self, **changes: Any) -> Candidate:
        """The candidate with other fields or other values on its axes, each by its name.

        Raises: TypeError for an axis that the workload has not.
        """
        return Candidate(**(self.to_dict() | changes))

    def field(self, name: str) -> AxisValue:
        """What it has in a field that every candidate has, or on an axis.

        Raises: KeyError where there is no such axis.
        """
        if name in FIELDS_OF_ALL:
            return cast(AxisValue, getattr(self, name))
        return self.axes[name]

    def to_dict(self) -> dict[str, Any]:
        """Its fields and axes beside each other, in the order of its spec."""
        return {name: self.field(name) for name in self.spec.order}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Inverse of `to_dict` and `identity`; an axis that was not there yet has its default.

        Raises: TypeError where a field is missing or unknown.
        """
        return cls(**data)

    def identity(self) -> dict[str, Any]:
        """The fields that tell it from others, as records have them: those that always counted, and later
        ones that are set."""
        spec = self.spec
        counted, axes = spec.counted, spec.by_name
        return {
            name: axes[name].recorded(value) if name in axes else value
            for name, value in self.to_dict().items()
            if name in counted or value != axes[name].default
        }

    def digest(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the canonical JSON of its identity."""
        text = json.dumps(self.identity(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def describe(self) -> str:
        """One short line for people, for example `small 8×256 fast bf16 checkpointing train`; of another
        workload than the usual one it begins with that."""
        spec = self.spec
        said = (
            axis.say(self.axes[axis.name])
            for axis in spec.axes
            if not axis.is_of_model and axis.name != spec.items_axis
        )
        words = (*self.model_words, self.shape, *(word for word in said if word), self.mode)
        return " ".join(words if self.workload == DEFAULT_WORKLOAD else (self.workload, *words))

    @property
    def shape(self) -> str:
        """The batch, and what an item of it is multiplied by: `8×256`."""
        name = self.spec.items_axis
        return str(self.batch_size) if name is None else f"{self.batch_size}×{self.axes[name]}"

    # Axes of Phase 8 by their names, for its own code; KeyError for a workload without them.

    @property
    def variant(self) -> str:
        return self.axes.text("variant")

    @property
    def n_seq(self) -> int:
        return self.axes.integer("n_seq")

    @property
    def kernel_version(self) -> str:
        return self.axes.text("kernel_version")

    @property
    def gradient_checkpointing(self) -> Checkpointing:
        return cast(Checkpointing, self.axes.text("gradient_checkpointing"))

    @property
    def mixed_precision(self) -> Precision:
        return cast(Precision, self.axes.text("mixed_precision"))

    @property
    def vocab_size(self) -> int:
        return self.axes.integer("vocab_size")

    @property
    def optimizer_state(self) -> OptimizerState:
        return cast(OptimizerState, self.axes.text("optimizer_state"))

    @property
    def master_weights(self) -> MasterWeights:
        return cast(MasterWeights, self.axes.text("master_weights"))

    @property
    def gradient_accumulation(self) -> int:
        return self.axes.integer("gradient_accumulation")


@functools.cache
def _undescribed(workload: str, names: tuple[str, ...]) -> WorkloadSpec:
    return WorkloadSpec(name=workload, title=workload, axes=tuple(Axis(name=name) for name in names))


def fields_of(workloads: Iterable[str]) -> tuple[str, ...]:
    """The fields that candidates of some workloads have, in their order, each once.

    Raises: KeyError for a workload that is not described.
    """
    specs = {workload: known_spec(workload) for workload in workloads}
    if missing := [workload for workload, spec in specs.items() if spec is None]:
        raise KeyError(f"expected workloads that are described, got {', '.join(missing)}")
    return tuple(dict.fromkeys(name for spec in specs.values() if spec is not None for name in spec.order))
