"""The account that a tracer keeps: arithmetic, traffic and launches by class of operations and block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .cost_classes import CALLS, RECORDED, UNRECORDED, gemm_costs
from .events import LOSS_SCALING, Cost
from .launches import launch_costs


class CostLog:
    """Costs so far, by (class, block). operation: the custom operation that runs, if any; is_scaling: true
    while the loss or the gradients are scaled; is_forward_only: true where there is no backward pass.
    """

    def __init__(self) -> None:
        self.costs: dict[tuple[str, int], Cost] = {}
        self.operation: str | None = None
        self.is_scaling = False
        self.is_forward_only = False

    def call(self, unit: int) -> None:
        """A call of a custom operation."""
        self.count(CALLS, unit, 0.0, 0.0, 1.0)

    def dispatch(self, unit: int, *, is_recorded: bool) -> None:
        """An operation of PyTorch with autograd on or off, which may be part of a custom one."""
        if self.operation is None and not self.is_scaling and (is_recorded or self.is_forward_only):
            self.count(RECORDED if is_recorded else UNRECORDED, unit, 0.0, 0.0, 1.0)

    def launch(self, kernel: Any, args: Sequence[Any], kwargs: Mapping[str, Any], unit: int) -> None:
        """A kernel launch that was left out."""
        costs = launch_costs(kernel, args, kwargs, self.operation)
        for launches, (name, work, moved) in zip((1.0, 0.0), costs, strict=False):
            self.count(name, unit, work, moved, launches)

    def add(self, cost_class: str, unit: int, work: float, moved: float, launches: float = 1.0) -> None:
        """An operation of PyTorch; within a custom one it counts as that one's, but for matrix products."""
        if self.is_scaling:
            cost_class = LOSS_SCALING
        elif self.operation is not None and cost_class != "gemm":
            cost_class = self.operation
        self.count(cost_class, unit, work, moved, launches)
        if cost_class == "gemm":
            for name, balanced in gemm_costs(work, moved):
                self.count(name, unit, balanced, 0.0, 0.0)

    def count(self, cost_class: str, unit: int, work: float, moved: float, launches: float) -> None:
        """Add to a class."""
        cost = self.costs.get((cost_class, unit))
        if cost is None:
            cost = self.costs[cost_class, unit] = Cost()
        cost.add(work, moved, launches)

    def merge(self, others: Mapping[tuple[str, int], Cost], times: int = 1) -> None:
        """Add another account, so many times."""
        for (name, unit), cost in others.items():
            self.count(name, unit, times * cost.flops, times * cost.moved_bytes, times * cost.launches)
