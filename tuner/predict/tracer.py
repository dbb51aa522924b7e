"""Runs real training steps on tensors without data and writes down every allocation and free.

The tensors lie on the meta device: shapes, strides, dtypes and autograd are the real ones, so that what is
allocated is what CUDA would allocate, and no step costs arithmetic. (Fake CPU tensors say the same four times
slower, and PyTorch gives LayerNorm's statistics another dtype on the CPU.) Storages are followed by weak
references. On a CUDA device the same tracer writes down what really happens there: the fixture of the tests.
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

from ...kernels.scratch import scratch_rule
from .events import FREE, GLOBAL, WORKSPACE, Category, Cost, Event, Phase
from .operations import Operation, Outputs, flops, recreate, remember, signature, tensor_bytes, tensors_of

_UNKNOWN = -2  # unit of an allocation in the optimizer phase until the next one with a known unit
_STACKS = ("stack", "cat")
_MEMORY: dict[Any, Outputs | None] = {}
"""Operation and layouts of its arguments → its outputs; a process traces many like models."""


def _sequence_number() -> int:
    """The number that autograd gives the next node of the graph."""
    return int(torch.autograd._get_sequence_nr())  # type: ignore[attr-defined]


class Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Events and costs of what runs under it, on tensors of one device.

    `unit`, `is_step` and `category` are set by who drives it; see `stepping`.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device = device
        self.has_data = device.type != "meta"
        self.events: list[Event] = []
        self.costs: dict[tuple[str, int], Cost] = {}
        self.unit = 0
        self.is_step = False
        self.category: Category = "weights"
        self.categories: list[Category] = []
        self.first_sequence_numbers: list[int] = []
        self.loss_sequence_number: int | None = None
        self.phase: Phase = "setup"
        self._slot_of: dict[int, tuple[Any, int]] = {}
        self._unit_of_slot: list[int] = []
        self._unresolved: list[int] = []
        self._operations: dict[Any, Operation] = {}
        self._workspaces: set[str] = set()
        self._custom: str | None = None

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here; PyTorch's guard against that would cost more than the tracing."""
        return False

    # ---- driving

    def begin_step(self) -> None:
        self.phase, self.unit, self.category, self.is_step = "forward", 0, "activations", True
        self.first_sequence_numbers, self.loss_sequence_number = [], None

    def begin_block(self, unit: int) -> None:
        """The forward pass enters a block; a block computed again in the backward pass says nothing new."""
        if torch._C._current_graph_task_id() == -1:
            self.unit = unit
            self.first_sequence_numbers.append(_sequence_number())

    def begin_loss(self) -> None:
        self.category = "loss"
        self.loss_sequence_number = _sequence_number()

    def allocate_extra(self, size_bytes: int, name: str) -> None:
        """Something that lives on the GPU and that the traced code does not allocate here."""
        self._allocate(size_bytes, name, self.unit)

    def take_events(self) -> list[Event]:
        """The events since the last call."""
        self._resolve(GLOBAL)
        events, self.events = self.events, []
        return events

    def slot(self, tensor: Tensor) -> int:
        """The slot of a live tensor's storage."""
        return self._slot_of[tensor.untyped_storage()._cdata][1]

    # ---- dispatching

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        operation = self._operations.get(func)
        if operation is None:
            operation = self._operations[func] = Operation(func)
        if operation.is_view:
            return func(*args, **kwargs)
        if self.is_step:
            self._follow_phase()
        if operation.is_gemm:
            self._take_workspace()
        if operation.namespace == "phase8":
            return self._run_custom(operation, func, args, kwargs)
        scratch = operation.scratch(args) if operation.scratch is not None else ()
        result, work, moved = self._result(operation, func, args, kwargs)
        held = [self._allocate(size, operation.name, self.unit) for size in scratch]
        self._track(result, operation, args)
        for slot in held:
            self._free(slot, operation.name)
        if self.phase == "optimizer" and any(isinstance(value, (list, tuple)) for value in args):
            self._share_cost(operation, args)
        else:
            self._add_cost(operation.cost_class, work, moved)
        return result

    def _result(
        self, operation: Operation, func: Any, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> tuple[Any, float, float]:
        """What the operation returns, its arithmetic and its traffic."""
        key: Any = None
        if operation.is_pure and not self.has_data:
            key = (func, signature(args), signature(tuple(kwargs.items())))
            known = _MEMORY.get(key)
            if known is not None:
                return recreate(known, self.device), known.flops, known.moved_bytes
        if operation.writes_out_on_cuda and not self.has_data:
            result = kwargs["out"]
        else:
            result = func(*args, **kwargs)
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
        outer, self._custom = self._custom, operation.short_name
        try:
            rule = scratch_rule(f"{operation.namespace}::{operation.short_name}")
            if rule is None:
                with self:
                    return custom_body(func)(*args, **kwargs)
            held = [self._allocate(size, operation.name, self.unit) for size in rule(*args, **kwargs)]
            result = func(*args, **kwargs)
            self._track(result, operation, args)
            for slot in held:
                self._free(slot, operation.name)
            values = list(result) if isinstance(result, (list, tuple)) else [result]
            self._add_cost(operation.short_name, 0.0, float(tensor_bytes(tensors_of([*args, *values]))))
            return result
        finally:
            self._custom = outer

    def note_launch(self, arguments: Sequence[Any]) -> None:
        """A kernel launch that was left out: it reads or writes its tensors once."""
        self._add_cost(self._custom or "launch", 0.0, float(tensor_bytes(tensors_of(arguments))))

    def _add_cost(self, cost_class: str, work: float, moved: float, launches: float = 1.0) -> None:
        if self._custom is not None and cost_class != "gemm":
            cost_class = self._custom
        cost = self.costs.get((cost_class, self.unit))
        if cost is None:
            cost = self.costs[cost_class, self.unit] = Cost()
        cost.add(work, moved, launches)

    def _share_cost(self, operation: Operation, args: Sequence[Any]) -> None:
        """One launch over parameters of many blocks: each block bears its own traffic."""
        self._add_cost(operation.cost_class, 0.0, 0.0)
        unit = self.unit
        for tensor in tensors_of(args):
            self.unit = self._unit_of(tensor)
            self._add_cost(operation.cost_class, 0.0, float(tensor_bytes([tensor])), launches=0.0)
        self.unit = unit

    def _follow_phase(self) -> None:
        if torch._C._current_graph_task_id() == -1:
            if self.phase == "backward":
                self.phase, self.unit, self.category = "optimizer", GLOBAL, "optimizer"
            return
        self.phase = "backward"
        node = torch._C._current_autograd_node()
        number = -1 if node is None else node._sequence_nr()
        if number < 0 or number >= 1 << 63:  # AccumulateGrad runs with the node before it
            return
        is_loss = self.loss_sequence_number is not None and number >= self.loss_sequence_number
        self.category = "loss" if is_loss else "activations"
        unit = sum(number >= first for first in self.first_sequence_numbers) - 1
        self.unit = max(unit, 0)

    # ---- memory

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
        size, unit, growth = storage.nbytes(), self.unit, 0
        if self.phase == "optimizer":
            unit, growth = self._unit_by_arguments(args, index, operation, size)
        slot = self._allocate(size, operation.name, unit, growth)

        def forget(_: Any, key: int = key, slot: int = slot, name: str = operation.name) -> None:
            del self._slot_of[key]
            self._free(slot, name)

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
            return _UNKNOWN, 0
        if len(set(units)) == 1:
            return units[0], 0
        if operation.short_name in _STACKS:
            return GLOBAL, size * units.count(1) // len(units)
        return GLOBAL, 0

    def _unit_of(self, tensor: Tensor) -> int:
        known = self._slot_of.get(tensor.untyped_storage()._cdata)
        return GLOBAL if known is None else self._unit_of_slot[known[1]]

    def _take_workspace(self) -> None:
        """cuBLAS takes one workspace a thread and stream; autograd's backward pass has its own thread."""
        thread = "forward" if torch._C._current_graph_task_id() == -1 else "backward"
        if thread in self._workspaces:
            return
        self._workspaces.add(thread)
        before, self.category = self.category, "workspaces"
        self._allocate(WORKSPACE, f"cublas workspace, {thread} thread", self.unit)
        self.category = before

    def _allocate(self, size: int, name: str, unit: int, growth: int = 0) -> int:
        slot = len(self._unit_of_slot)
        if unit == _UNKNOWN:
            self._unresolved.append(len(self.events))
        elif self._unresolved:
            self._resolve(unit)
        self._unit_of_slot.append(unit)
        self.categories.append(self.category)
        self.events.append(Event(slot, size, name, self.phase, unit, growth))
        return slot

    def _resolve(self, unit: int) -> None:
        for index in self._unresolved:
            event = self.events[index]
            self.events[index] = event._replace(unit=unit)
            self._unit_of_slot[event.slot] = unit
        self._unresolved = []

    def _free(self, slot: int, name: str) -> None:
        if self.phase == "backward":
            self._follow_phase()
        # What the optimizer's phase frees, it frees parameter by parameter
        unit = self._unit_of_slot[slot] if self.phase == "optimizer" else self.unit
        self.events.append(Event(slot, FREE, name, self.phase, unit))


def custom_body(function: Any) -> Any:
    """The Python body of one of our custom operations.

    Raises: KeyError for an operation that was not defined by `torch.library.custom_op`.
    """
    from torch._library.custom_ops import OPDEFS

    return OPDEFS[function._schema.name]._init_fn
