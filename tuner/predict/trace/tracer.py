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
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from .accumulation import adds_in_place, sole_counts
from .bodies import Bodies, Body, body_of
from .cost_log import CostLog
from .event_log import UNKNOWN, EventLog, Mark
from .events import GLOBAL, LT_WORKSPACE, WORKSPACE
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
from .step_progress import Progress, autograd_thread

_FOREACH_CHUNK = 65536  # numbers
_STACKS = ("stack", "cat")
_CREATIONS = ("zeros", "zeros_like", "full")
_OPERATIONS: dict[int, Operation] = {}
"""By the identity of the function, which its `Operation` holds: hashing the function itself runs Python."""
_MEMORY: dict[Any, Outputs | None] = {}
"""Operation and layouts of its arguments → its outputs; a process traces many like models."""


class Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Events and costs of what runs under it, on tensors of one device.

    log: the events; work: the costs; progress: to be told where a step is. bodies: what is known of custom
    operations on a GPU with these limits, added to.
    """

    def __init__(self, device: torch.device, processors: Processors, bodies: Bodies | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device, self.processors = device, processors
        self.log, self.work = EventLog(), CostLog()
        self.progress = Progress(self.log)
        self._slot_of: dict[int, tuple[Any, int]] = {}
        self._workspaces: set[tuple[str, str]] = set()
        self._bodies: Bodies = {} if bodies is None else bodies
        self._sole_counts = sole_counts()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here; PyTorch's guard against that would cost more than the tracing."""
        return False

    def rewind(self, mark: Mark) -> None:
        """Back to a mark in the setup, with nothing allocated since still alive."""
        self.log.rewind(mark)
        self.work.costs = {}
        self._workspaces.clear()
        self.progress.is_step = False

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
        operation = _OPERATIONS.get(id(func))
        if operation is None:
            operation = _OPERATIONS[id(func)] = Operation(func)
        if operation.is_composite:
            with self:
                return func.decompose(*args, **kwargs)
        if operation.is_view:
            return func(*args, **kwargs)
        if adds_in_place(func, args, self._sole_counts):
            self.progress.follow()
            self.work.add(operation.cost_class, self.log.unit, 0.0, 1.5 * tensor_bytes(tensors_of(args)))
            return args[0]
        self.progress.follow()
        if operation.namespace == "phase8":
            return self._run_custom(operation, func, args, kwargs)
        self.work.dispatch(self.log.unit, is_recorded=torch.is_grad_enabled())
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
            self.work.add(operation.cost_class, self.log.unit, work, moved)
        return result

    def _result(
        self, operation: Operation, func: Any, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> tuple[Any, float, float]:
        """What the operation returns, its arithmetic and its traffic."""
        key: Any = None
        if operation.is_pure:
            key = (operation, signature(args), signature(tuple(kwargs.items())))
            known = _MEMORY.get(key)
            if known is None:
                known = None if kwargs else pointwise(operation, args)
                _MEMORY[key] = known
            if known is not None:
                return recreate(known, self.device), known.flops, known.moved_bytes
        result = operation.written(args, kwargs) if operation.writes_only else func(*args, **kwargs)
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
        self.work.call(self.log.unit)
        if self.log.unit == GLOBAL:  # of the optimizer: what it does is many blocks'
            return self._run_body(operation, func, args, kwargs)
        thread = autograd_thread()
        held = tuple(sorted(library for library, taker in self._workspaces if taker == thread))
        offsets = tuple(tensor.storage_offset() for tensor in tensors_of(args))  # alignment
        key = (operation, signature(args), signature(tuple(kwargs.items())), offsets, held)
        body = self._bodies.get(key)
        if body is not None:
            return self._repeat(body)
        if key in self._bodies:
            return self._run_body(operation, func, args, kwargs)
        outer, self.work.costs, start = self.work.costs, {}, self.log.position
        try:
            result = self._run_body(operation, func, args, kwargs)
            outputs = remember(operation, args, result, self.device)
            slots = [] if outputs is None else [self.slot(tensor) for tensor in tensors_of([result])]
            events = self.log.since(start)
            self._bodies[key] = body_of(events, outputs, slots, self.work.costs, self.log.unit)
        finally:
            inner, self.work.costs = self.work.costs, outer
            self.work.merge(inner)
        return result

    def _run_body(self, operation: Operation, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        outer, self.work.operation = self.work.operation, operation.short_name
        try:
            with self:
                return custom_body(func)(*args, **kwargs)
        finally:
            self.work.operation = outer

    def _repeat(self, body: Body) -> Any:
        slots = body.log(self.log)
        self.work.merge({(name, self.log.unit): cost for name, cost in body.costs.items()})
        result = recreate(body.outputs, self.device)
        for tensor, (place, name) in zip(tensors_of([result]), body.returned, strict=True):
            self._follow(tensor.untyped_storage(), slots[place], name)
        return result

    def _share_cost(self, operation: Operation, args: Sequence[Any]) -> None:
        """One launch over parameters of many blocks: each block bears its own traffic."""
        self.work.add(operation.cost_class, self.log.unit, 0.0, 0.0)
        moved: dict[int, float] = {}
        for tensor in tensors_of(args):
            unit = self._unit_of(tensor)
            moved[unit] = moved.get(unit, 0.0) + tensor.numel() * tensor.element_size()
        for unit, size in moved.items():
            self.work.add(operation.cost_class, unit, 0.0, size, launches=0.0)

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
        name = operation.name if self.work.operation is None else f"{self.work.operation}: {operation.name}"
        self._follow(storage, self.log.allocate(size, name, unit, growth), name)

    def _follow(self, storage: Any, slot: int, name: str) -> None:
        """Note what is freed once nobody holds a storage any more."""
        key = storage._cdata

        def forget(_: Any) -> None:
            del self._slot_of[key]
            if self.log.phase == "backward":
                self.progress.follow()  # the backward pass may have ended with nothing more to dispatch
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
        """cuBLAS takes one workspace a thread and stream."""
        thread = autograd_thread()
        if (library, thread) in self._workspaces:
            return
        self._workspaces.add((library, thread))
        before, self.log.category = self.log.category, "workspaces"
        self.log.allocate(kind, f"{library} workspace, {thread} thread", self.log.unit)
        self.log.category = before
