"""Runs real training steps on tensors without data and writes down every allocation and free.

The tensors lie on the meta device: shapes, strides, dtypes and autograd are the real ones, so that what is
allocated is what CUDA would allocate, and no step costs arithmetic. (Fake CPU tensors say the same four times
slower, and PyTorch gives LayerNorm's statistics another dtype on the CPU.) Say that block 2 going forward
takes the exponential of a tensor of 4 KiB. The tracer gets the call, makes the result, and notes

    an allocation: slot 7, 4,096 bytes, "aten.exp", forward, block 2
    a cost:        "memory" of block 2, 8,192 bytes moved in one launch

and, when nobody holds the result any more, that slot 7 is freed (`storages`).

The model casts explicitly and uses no autocast, so that nothing depends on the device; where PyTorch itself
chooses by device (fused and foreach kernels), the tracer makes it choose as for CUDA. Where PyTorch does
under a dispatch mode what it would not do without (`accumulation`), or hides on CUDA what it takes inside
(`scratch_rules`), the tracer writes down what CUDA's allocator would. Operations of our own run their Python
body with the kernel launches left out: their scratch memory is seen.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from .accumulation import SUM, sole_counts, sums_in_place
from .bodies import Bodies, Body, body_of
from .cost_log import CostLog
from .event_log import EventLog, Mark
from .events import GLOBAL, LT_WORKSPACE, WORKSPACE
from .known_values import EQUAL, ITEM, KnownValues
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
from .storages import Storages

_FOREACH_CHUNK = 65536  # numbers
_CREATIONS = ("zeros", "zeros_like", "full")
_OPERATIONS: dict[int, Operation] = {}
"""By the identity of the function, which its `Operation` holds: hashing the function itself runs Python."""
_MEMORY: dict[Any, Outputs | None] = {}
"""Operation and layouts of its arguments → its outputs; a process traces many like models."""


class Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Events and costs of what runs under it, on tensors of one device.

    log: the events; work: the costs; progress: to be told where a step is. bodies: what is known of custom
    operations on a GPU with these limits, added to. values: None where no operation asks for any.
    """

    values: KnownValues | None = None

    def __init__(self, device: torch.device, processors: Processors, bodies: Bodies | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device, self.processors = device, processors
        self.log, self.work = EventLog(), CostLog()
        self.progress = Progress(self.log)
        self._storages = Storages(self.log, self.progress)
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
        return self._storages.slot(tensor)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Every operation that PyTorch would hand to the device comes here."""
        kwargs = kwargs or {}
        if self.values is None:
            return self._dispatched(func, args, kwargs, sys._getframe(1))
        if func is ITEM or func is EQUAL:
            return self.values.asked(func, args)
        result = self._dispatched(func, args, kwargs, sys._getframe(1))
        self.values.follow(func, args, kwargs, result)
        return result

    def _dispatched(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any], caller: FrameType) -> Any:
        operation = _OPERATIONS.get(id(func))
        if operation is None:
            operation = _OPERATIONS[id(func)] = Operation(func)
        if operation.is_composite:
            with self:
                return func.decompose(*args, **kwargs)
        if operation.is_view:
            return func(*args, **kwargs)
        is_in_place = func is SUM and sums_in_place(args, caller, self._sole_counts)
        self.progress.follow()
        if is_in_place:
            self.work.add(operation.cost_class, self.log.unit, 0.0, 1.5 * tensor_bytes(tensors_of(args)))
            return args[0]
        if operation.is_custom:
            return self._run_custom(operation, func, args, kwargs)
        return self._run(operation, func, args, kwargs)

    # One operation of PyTorch

    def _run(self, operation: Operation, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Its result, with what it allocates, holds while it runs, and costs written down."""
        self.work.dispatch(self.log.unit, is_recorded=torch.is_grad_enabled())
        partial_norms = self._hold_partial_norms(args[0]) if operation.short_name == "_foreach_norm" else None
        result, work, moved = self._result(operation, func, args, kwargs)
        self._track(result, operation, args)
        if operation.is_gemm:
            self._take_workspace(WORKSPACE, "cublas")
            if adds_bias_in_product(func, args, kwargs):
                self._take_workspace(LT_WORKSPACE, "cublaslt")
        if operation.scratch is not None:
            self._hold(operation.scratch(args, result), operation.name)
        if partial_norms is not None:
            self.log.free(partial_norms, operation.name)
        self._count(operation, args, work, moved)
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
        is_left_out = operation.writes_only and not _has_data(args)
        result = operation.written(args, kwargs) if is_left_out else func(*args, **kwargs)
        if key is not None:
            _MEMORY[key] = known = remember(operation, args, result, self.device)
            if known is not None:
                return result, known.flops, known.moved_bytes
        values = list(result) if isinstance(result, (list, tuple)) else [result]
        moved = tensor_bytes(tensors_of(args)) + tensor_bytes(tensors_of(values))
        return result, flops(operation, args), float(moved)

    def _track(self, result: Any, operation: Operation, args: Sequence[Any]) -> None:
        """Log the new storages among the results."""
        if isinstance(result, Tensor):
            self._track_tensor(result, operation, args, None)
        elif isinstance(result, (list, tuple)):
            for index, value in enumerate(result):
                if isinstance(value, Tensor):
                    self._track_tensor(value, operation, args, index)

    def _track_tensor(
        self, tensor: Tensor, operation: Operation, args: Sequence[Any], index: int | None
    ) -> None:
        storage = tensor.untyped_storage()
        if tensor.device != self.device or self._storages.is_followed(storage):
            return
        size, unit, growth = storage.nbytes(), self.log.unit, 0
        if self.log.phase == "optimizer" and unit == GLOBAL:
            unit, growth = self._storages.unit_of_state(operation.short_name, args, index, size)
        elif self.log.phase == "setup" and operation.short_name == "_to_copy":
            unit = self._storages.unit(args[0])  # a weight of another type
        name = operation.name if self.work.operation is None else f"{self.work.operation}: {operation.name}"
        self._storages.follow(storage, self.log.allocate(size, name, unit, growth), name)

    def _take_workspace(self, kind: int, library: str) -> None:
        """cuBLAS takes one workspace a thread and stream."""
        thread = autograd_thread()
        if (library, thread) in self._workspaces:
            return
        self._workspaces.add((library, thread))
        before, self.log.category = self.log.category, "workspaces"
        self.log.allocate(kind, f"{library} workspace, {thread} thread", self.log.unit)
        self.log.category = before

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
        units = [self._storages.unit(tensor) for tensor in tensors]
        return self.log.allocate(
            4 * chunks * len(units), "partial norms", GLOBAL, 4 * chunks * units.count(1)
        )

    def _count(self, operation: Operation, args: Sequence[Any], work: float, moved: float) -> None:
        """Its costs, if it is to be done in every step."""
        is_optimizer = self.log.phase == "optimizer"
        if operation.is_allocation or (is_optimizer and operation.short_name in _CREATIONS):
            return  # the optimizer's state is made in the first step only
        if is_optimizer and any(isinstance(value, (list, tuple)) for value in args):
            self._share_cost(operation, args)
        else:
            self.work.add(operation.cost_class, self.log.unit, work, moved)

    def _share_cost(self, operation: Operation, args: Sequence[Any]) -> None:
        """One launch over parameters of many blocks: each block bears its own traffic."""
        self.work.add(operation.cost_class, self.log.unit, 0.0, 0.0)
        moved: dict[int, float] = {}
        for tensor in tensors_of(args):
            unit = self._storages.unit(tensor)
            moved[unit] = moved.get(unit, 0.0) + tensor.numel() * tensor.element_size()
        for unit, size in moved.items():
            self.work.add(operation.cost_class, unit, 0.0, size, launches=0.0)

    # One operation of our own

    def _run_custom(
        self, operation: Operation, func: Any, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Any:
        """Its result: the body is run, or written down again where one with the same arguments is known."""
        self.work.call(self.log.unit)
        if self.log.phase == "optimizer":  # each has a weight of its own
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
        """The result of a body that is known, with its events and costs written down as of now."""
        slots = body.log(self.log)
        self.work.merge({(name, self.log.unit): cost for name, cost in body.costs.items()})
        result = recreate(body.outputs, self.device)
        for tensor, (place, name) in zip(tensors_of([result]), body.returned, strict=True):
            self._storages.follow(tensor.untyped_storage(), slots[place], name)
        return result


def _has_data(args: Sequence[Any]) -> bool:
    """Whether an operation works on the CPU's memory, as on the step counts of an optimizer."""
    return any(tensor.device.type == "cpu" for tensor in tensors_of(args[:1]))
