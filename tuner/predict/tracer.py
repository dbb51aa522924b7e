"""Runs real training steps on tensors without data and writes down every allocation and free.

The tensors lie on the meta device: shapes, strides, dtypes and autograd are the real ones, so that what is
allocated is what CUDA would allocate, and no step costs arithmetic. (Fake CPU tensors say the same four times
slower, and PyTorch gives LayerNorm's statistics another dtype on the CPU.) Storages are followed by weak
references. Where PyTorch does under a dispatch mode what it would not do without (`accumulation`), or hides
on CUDA what it takes inside (`operations`), the tracer writes down what CUDA's allocator would.
The model casts explicitly and uses no autocast, so that nothing depends on the device; where PyTorch itself
chooses by device (fused and foreach kernels), the tracer makes it choose as for CUDA.
Operations of our own run their Python body with the kernel launches left out: their scratch memory is seen.
"""

from __future__ import annotations

import weakref
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from .accumulation import adds_in_place, next_sequence_number, sole_counts
from .cost_classes import CALLS, gemm_costs
from .event_log import UNKNOWN, EventLog
from .events import GLOBAL, LOSS_SCALING, LT_WORKSPACE, WORKSPACE, Cost
from .launches import launch_costs
from .operations import (
    Operation,
    Outputs,
    adds_bias_in_product,
    custom_body,
    flops,
    pointwise,
    recreate,
    remember,
    signature,
    tensor_bytes,
    tensors_of,
)
from .reductions import Processors
from .scratch import ScratchOf, scratch_bytes

_FOREACH_CHUNK = 65536  # numbers
_STACKS = ("stack", "cat")
_CREATIONS = ("zeros", "zeros_like", "full")
_OPERATIONS: dict[Any, Operation] = {}
_MEMORY: dict[Any, Outputs | None] = {}
"""Operation and layouts of its arguments → its outputs; a process traces many like models."""


class Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Events and costs of what runs under it, on tensors of one device.

    log: the events; its `unit` and `category` are set by who drives the tracer, see `stepping`; so is
    `is_scaling`, true while the loss or the gradients are scaled.
    """

    def __init__(self, device: torch.device, processors: Processors) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device, self.processors = device, processors
        self.costs: dict[tuple[str, int], Cost] = {}
        self.log = EventLog()
        self.is_step = False
        self.is_scaling = False
        self.first_sequence_numbers: list[int] = []
        self.loss_sequence_number: int | None = None
        self._slot_of: dict[int, tuple[Any, int]] = {}
        self._workspaces: set[tuple[str, str]] = set()
        self._custom: str | None = None
        self._sole_counts = sole_counts()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here; PyTorch's guard against that would cost more than the tracing."""
        return False

    def begin_step(self) -> None:
        log = self.log
        log.phase, log.unit, log.category, self.is_step = "forward", 0, "activations", True
        self.first_sequence_numbers, self.loss_sequence_number = [], None

    def begin_block(self, unit: int) -> None:
        """The forward pass enters a block; a block computed again in the backward pass says nothing new."""
        if torch._C._current_graph_task_id() == -1:
            self.log.unit = unit
            self.first_sequence_numbers.append(next_sequence_number())

    def begin_loss(self) -> None:
        self.log.category = "loss"
        self.loss_sequence_number = next_sequence_number()

    def allocate_extra(self, size_bytes: int, name: str) -> int:
        """The slot of something that lives on the GPU and that the traced code does not allocate here."""
        return self.log.allocate(size_bytes, name, self.log.unit)

    def slot(self, tensor: Tensor) -> int:
        """The slot of a live tensor's storage."""
        return self._slot_of[tensor.untyped_storage()._cdata][1]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        operation = _OPERATIONS.get(func)
        if operation is None:
            operation = _OPERATIONS[func] = Operation(func)
        if operation.is_composite:
            with self:
                return func.decompose(*args, **kwargs)
        if operation.is_view:
            return func(*args, **kwargs)
        if adds_in_place(func, args, self._sole_counts):
            if self.is_step:
                self._follow_phase()
            self._add_cost(operation.cost_class, 0.0, 1.5 * tensor_bytes(tensors_of(args)))
            return args[0]
        if self.is_step:
            self._follow_phase()
        if operation.namespace == "phase8":
            return self._run_custom(operation, func, args, kwargs)
        partial_norms = self._hold_partial_norms(args[0]) if operation.short_name == "_foreach_norm" else None
        result, work, moved = self._result(operation, func, args, kwargs)
        self._track(result, operation, args)
        if operation.is_gemm:
            self._take_workspace(WORKSPACE, "cublas")
            if adds_bias_in_product(func, args, kwargs):
                self._take_workspace(LT_WORKSPACE, "cublaslt")
        if operation.scratch is not None:
            self._hold(operation.scratch(args), operation.name)
        if partial_norms is not None:
            self.log.free(partial_norms, operation.name)
        if operation.is_allocation or (self.log.phase == "optimizer" and operation.short_name in _CREATIONS):
            pass  # the optimizer's state is made in the first step only
        elif self.log.phase == "optimizer" and any(isinstance(value, (list, tuple)) for value in args):
            self._share_cost(operation, args)
        else:
            self._add_cost(operation.cost_class, work, moved)
        return result

    def _result(
        self, operation: Operation, func: Any, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> tuple[Any, float, float]:
        """What the operation returns, its arithmetic and its traffic."""
        key: Any = None
        if operation.is_pure:
            key = (func, signature(args), signature(tuple(kwargs.items())))
            known = _MEMORY.get(key)
            if known is None:
                known = None if kwargs else pointwise(operation, args)
                _MEMORY[key] = known
            if known is not None:
                return recreate(known, self.device), known.flops, known.moved_bytes
        result = kwargs["out"] if operation.writes_out_on_cuda else func(*args, **kwargs)
        if key is not None:
            _MEMORY[key] = known = remember(operation, args, result, self.device)
            if known is not None:
                return result, known.flops, known.moved_bytes
        values = list(result) if isinstance(result, (list, tuple)) else [result]
        moved = tensor_bytes(tensors_of(args)) + tensor_bytes(tensors_of(values))
        return result, flops(operation, args), float(moved)

    def _run_custom(
        self, operation: Operation, func: Any, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Any:
        self._count(CALLS, 0.0, 0.0, 1.0)
        outer, self._custom = self._custom, operation.short_name
        try:
            with self:
                return custom_body(func)(*args, **kwargs)
        finally:
            self._custom = outer

    def note_launch(self, kernel: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        """A kernel launch that was left out."""
        costs = launch_costs(kernel, args, kwargs, self._custom)
        for launches, (name, work, moved) in zip((1.0, 0.0), costs, strict=False):
            self._count(name, work, moved, launches)

    def _add_cost(self, cost_class: str, work: float, moved: float, launches: float = 1.0) -> None:
        if self.is_scaling:
            cost_class = LOSS_SCALING
        elif self._custom is not None and cost_class != "gemm":
            cost_class = self._custom
        self._count(cost_class, work, moved, launches)
        if cost_class == "gemm":
            for name, balanced in gemm_costs(work, moved):
                self._count(name, balanced, 0.0, 0.0)

    def _count(self, cost_class: str, work: float, moved: float, launches: float) -> None:
        cost = self.costs.get((cost_class, self.log.unit))
        if cost is None:
            cost = self.costs[cost_class, self.log.unit] = Cost()
        cost.add(work, moved, launches)

    def _share_cost(self, operation: Operation, args: Sequence[Any]) -> None:
        """One launch over parameters of many blocks: each block bears its own traffic."""
        self._add_cost(operation.cost_class, 0.0, 0.0)
        unit = self.log.unit
        for tensor in tensors_of(args):
            self.log.unit = self._unit_of(tensor)
            self._add_cost(operation.cost_class, 0.0, float(tensor_bytes([tensor])), launches=0.0)
        self.log.unit = unit

    def _follow_phase(self) -> None:
        if torch._C._current_graph_task_id() == -1:
            if self.log.phase == "backward":
                self.log.phase, self.log.unit, self.log.category = "optimizer", GLOBAL, "optimizer"
            return
        self.log.phase = "backward"
        node = torch._C._current_autograd_node()
        number = -1 if node is None else node._sequence_nr()
        if number < 0 or number >= 1 << 63:  # AccumulateGrad runs with the node before it
            return
        is_loss = self.loss_sequence_number is not None and number >= self.loss_sequence_number
        self.log.category = "loss" if is_loss else "activations"
        self.log.unit = max(bisect_right(self.first_sequence_numbers, number) - 1, 0)

    def _hold(self, scratch: Sequence[int | ScratchOf], name: str) -> None:
        """What an operation takes beside its outputs, given back when it ends: the last first."""
        held = []
        for item in scratch:
            source = item if isinstance(item, ScratchOf) else None
            size = scratch_bytes(item, self.processors) if isinstance(item, ScratchOf) else item
            held.append(self.log.allocate(size, name, self.log.unit, scratch=source))
        for slot in reversed(held):
            self.log.free(slot, name)

    def _hold_partial_norms(self, tensors: Sequence[Tensor]) -> int:
        """A number a tensor and chunk of the largest. Source: ATen/native/cuda/ForeachReduceOp.cu."""
        chunks = max(-(-tensor.numel() // _FOREACH_CHUNK) for tensor in tensors)
        units = [self._unit_of(tensor) for tensor in tensors]
        return self.log.allocate(
            4 * chunks * len(units), "partial norms", GLOBAL, 4 * chunks * units.count(1)
        )

    def _track(self, result: Any, operation: Operation, args: Sequence[Any]) -> None:
        if isinstance(result, Tensor):
            self._track_tensor(result, operation, args, None)
        elif isinstance(result, (list, tuple)):
            for index, value in enumerate(result):
                if isinstance(value, Tensor):
                    self._track_tensor(value, operation, args, index)

    def _track_tensor(
        self, tensor: Tensor, operation: Operation, args: Sequence[Any], index: int | None
    ) -> None:
        if tensor.device != self.device:
            return
        storage = tensor.untyped_storage()
        key = storage._cdata
        known = self._slot_of.get(key)
        if known is not None and known[0]() is storage:
            return
        size, unit, growth = storage.nbytes(), self.log.unit, 0
        if self.log.phase == "optimizer":
            unit, growth = self._unit_by_arguments(args, index, operation, size)
        name = operation.name if self._custom is None else f"{self._custom}: {operation.name}"
        slot = self.log.allocate(size, name, unit, growth)

        def forget(_: Any, key: int = key, slot: int = slot, name: str = name) -> None:
            del self._slot_of[key]
            if self.log.phase == "backward":
                self._follow_phase()  # the backward pass may have ended with nothing more to dispatch
            self.log.free(slot, name)

        self._slot_of[key] = (weakref.ref(storage, forget), slot)

    def _unit_by_arguments(
        self, args: Sequence[Any], index: int | None, operation: Operation, size: int
    ) -> tuple[int, int]:
        """Which block an allocation of the optimizer serves, and how it grows with the number of blocks."""
        first = args[0] if args else None
        if index is not None and isinstance(first, (list, tuple)) and len(first) > index:
            return self._unit_of(first[index]), 0
        units = [self._unit_of(tensor) for tensor in tensors_of(args)]
        if not units:
            return UNKNOWN, 0
        if len(set(units)) == 1:
            return units[0], 0
        if operation.short_name in _STACKS:
            return GLOBAL, size * units.count(1) // len(units)
        return GLOBAL, 0

    def _unit_of(self, tensor: Tensor) -> int:
        known = self._slot_of.get(tensor.untyped_storage()._cdata)
        return GLOBAL if known is None else self.log.unit_of_slot[known[1]]

    def _take_workspace(self, kind: int, library: str) -> None:
        """cuBLAS takes one workspace a thread and stream; autograd's backward pass has its own thread."""
        thread = "forward" if torch._C._current_graph_task_id() == -1 else "backward"
        if (library, thread) in self._workspaces:
            return
        self._workspaces.add((library, thread))
        before, self.log.category = self.log.category, "workspaces"
        self.log.allocate(kind, f"{library} workspace, {thread} thread", self.log.unit)
        self.log.category = before
