"""What a traced training step did: its allocations and frees in order, and its arithmetic and traffic.

Imports no torch: traces are made in worker processes and read anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from .scratch import ScratchOf

Phase = Literal["setup", "forward", "backward", "optimizer"]
PHASES: tuple[Phase, ...] = ("setup", "forward", "backward", "optimizer")
Category = Literal["weights", "gradients", "optimizer", "activations", "loss", "workspaces"]
CATEGORIES: tuple[Category, ...] = (
    "weights", "gradients", "optimizer", "activations", "loss", "workspaces",
)  # fmt: skip

FREE = -1
"""`Event.size_bytes` of a free."""
WORKSPACE = -2
"""`Event.size_bytes` of a matrix library's workspace, whose size is the GPU's and not the model's."""
LT_WORKSPACE = -3
"""The same of the library's second interface, which adds a bias in the product (cuBLASLt)."""
GLOBAL = -1
"""`Event.unit` of what belongs to no block."""

LOSS_SCALING = "memory, loss scaling"
"""Class of the work that float16 steps have and bfloat16 steps have not."""


class Workspaces(NamedTuple):
    """Bytes of the matrix library's workspaces on one GPU: of WORKSPACE and of LT_WORKSPACE."""

    blas_bytes: int
    blaslt_bytes: int


class Event(NamedTuple):
    """An allocation (size ≥ 0 or a workspace) or a free (FREE) of the memory `slot`, one slot a storage.

    unit: the block it belongs to: block 0 with the embedding before it, the last block with all after it.
    growth_bytes: by how much the size rises with every further block. scratch: what the size follows from
    where it is not straight in the batch.
    """

    slot: int
    size_bytes: int
    op: str
    phase: Phase
    unit: int
    growth_bytes: int = 0
    scratch: ScratchOf | None = None


@dataclass(slots=True)
class Cost:
    """Work of one class of operations in one step."""

    flops: float = 0.0
    moved_bytes: float = 0.0
    launches: float = 0.0

    def add(self, flops: float, moved_bytes: float, launches: float) -> None:
        self.flops += flops
        self.moved_bytes += moved_bytes
        self.launches += launches


@dataclass(kw_only=True, slots=True)
class Trace:
    """One run of a candidate: its first two steps and, where it is trained, an evaluation of the same batch.

    setup: building the model and its batch; first: the first step, which also creates the optimizer's state;
    repeat: the second, as all that follow. evaluation: the loss alone, without autograd; none where steps are
    forward passes themselves, and of `NOT_EVALUATED`. costs: (class, unit) → work of the second step.
    """

    depth: int
    setup: list[Event] = field(default_factory=list)
    first: list[Event] = field(default_factory=list)
    repeat: list[Event] = field(default_factory=list)
    evaluation: list[Event] = field(default_factory=list)
    categories: list[Category] = field(default_factory=list)
    costs: dict[tuple[str, int], Cost] = field(default_factory=dict)

    def parts(self) -> tuple[list[Event], list[Event], list[Event], list[Event]]:
        return self.setup, self.first, self.repeat, self.evaluation
