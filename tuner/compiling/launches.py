"""Which forms of which kernels are launched, found without a GPU and without running one.

The real step runs on the meta device, as it does for a trace (`tuner/predict/trace/`), with the bodies of our
operations; each launch is left out once Triton has said what it would compile for it.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from triton import knobs
from triton.runtime.jit import JITFunction
from triton.tools.tensor_descriptor import TensorDescriptor

from ...kernels import gate
from ...kernels.adamw import gate as adamw_gate
from ...kernels.adamw.fast import adamw as adamw_step
from ...kernels.device_limits import assuming_limits
from ...kernels.gate_draws import DEVICE_SHAPES
from ...kernels.gate_inputs import draw_inputs
from ...kernels.versions import OPERATIONS, implementation
from ..predict.trace.limits import Limits
from ..predict.trace.operations import Operation, custom_body
from ..values.candidate import Precision
from .specialization import Specialization
from .target import aim_at

META = torch.device("meta")
Told = Callable[[Any, Mapping[str, Any], tuple[int, ...]], None]
"""Of a launch: the kernel, its arguments and options by name, its grid."""
Beside = Callable[[Operation, Sequence[Any], Any], None]
"""Of an operation of PyTorch's: itself, its arguments, its result."""
_DTYPES: dict[Precision, torch.dtype] = {
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "none": torch.float32,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Pointer:
    """Stands in for a tensor on the GPU, of which Triton asks the dtype and whether it begins at a multiple
    of 16 bytes. What PyTorch allocates does (it rounds to 512), so that the place in it decides."""

    dtype: torch.dtype
    offset_bytes: int

    def data_ptr(self) -> int:
        return self.offset_bytes


def check_launches(
    version: str, precision: Precision, *, optimizer: bool, limits: Limits, architecture: int
) -> list[Specialization]:
    """What the check of a kernel version launches on a GPU with these limits, each form once.

    optimizer: with that of the step of an optimizer of our own.

    Raises: UnsupportedVersionError where the version cannot run.
    """
    found: dict[Specialization, None] = {}
    for operation in OPERATIONS:
        dtype = torch.float32 if operation in gate._FLOAT32_ONLY else _DTYPES[precision]
        for shape in DEVICE_SHAPES:
            for inputs in draw_inputs(operation, shape, dtype, 0):
                function = implementation(operation, version)
                with recording(limits, architecture) as launched:
                    gate._outputs_and_gradients(function, inputs, dtype, dtype, META, 0)
                found |= launched
    if optimizer:
        found |= _optimizer_launches(limits, architecture)
    return list(found)


def _optimizer_launches(limits: Limits, architecture: int) -> dict[Specialization, None]:
    with recording(limits, architecture) as launched:
        for (dtype, is_8bit), count in itertools.product(adamw_gate.FORMS, adamw_gate.ODD_COUNTS):
            drawn = adamw_gate._drawn(count, dtype, 0, is_8bit=is_8bit, device=META)
            adamw_gate._stepped(adamw_step, *drawn, 0)
    return launched


@contextlib.contextmanager
def recording(
    limits: Limits, architecture: int, each: Told | None = None, beside: Beside | None = None
) -> Iterator[dict[Specialization, None]]:
    """Inside, launches are left out and what Triton would compile for them on a GPU with these limits is put
    down, each form once, in the order of their first launch. All is to be on `META`.

    each: is told of every launch; beside: of every operation of PyTorch's.
    """
    found: dict[Specialization, None] = {}
    launch = JITFunction.run

    def run(kernel: Any, *args: Any, grid: Any, warmup: bool = False, **kwargs: Any) -> None:
        if each is not None:
            each(kernel, dict(zip(kernel.arg_names, args, strict=False)) | kwargs, tuple(grid))
        named = {name: _stand_in(value) for name, value in kwargs.items()}
        launch(kernel, *map(_stand_in, args), grid=grid, warmup=True, **named)

    def note(*, fn: Any, compile: dict[str, Any], **_: Any) -> bool:
        form = Specialization(module=fn.module, kernel=fn.name, description=compile["specialization_data"])
        found[form] = None
        return True  # it was dealt with: Triton compiles nothing

    aim_at(architecture)
    JITFunction.run = run
    knobs.runtime.jit_cache_hook = note
    try:
        with (
            assuming_limits(
                shared_memory_bytes=limits.shared_memory_bytes, multiprocessors=limits.multiprocessors
            ),
            torch.autograd.set_multithreading_enabled(False),
            _WithBodies(beside),
        ):
            yield found
    finally:
        JITFunction.run = launch
        knobs.runtime.jit_cache_hook = None


def _stand_in(value: Any) -> Any:
    """What Triton sees instead of a launch's argument."""
    if isinstance(value, Tensor):
        return _Pointer(dtype=value.dtype, offset_bytes=int(value.storage_offset()) * value.element_size())
    if isinstance(value, TensorDescriptor):
        return replace(value, base=_stand_in(value.base))
    return value


class _WithBodies(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Operations of our own run their Python bodies, and those that only write write nothing."""

    def __init__(self, beside: Beside | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._operations: dict[Any, Operation] = {}
        self._beside = beside

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled by PyTorch here."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        operation = self._operations.get(func)
        if operation is None:
            operation = self._operations[func] = Operation(func)
        if operation.is_composite:
            with self:
                return func.decompose(*args, **kwargs)
        if operation.namespace == "phase8":
            with self:
                return custom_body(func)(*args, **kwargs)
        result = operation.written(args, kwargs) if operation.writes_only else func(*args, **kwargs)
        if self._beside is not None:
            self._beside(operation, args, result)
        return result
