"""The gate: whether a kernel version computes what the reference computes here, within an error budget.

For every output and gradient, error = ‖x − reference64‖ / ‖reference64‖, pooled over a few random inputs.
The budget is twice the error of the reference run at the version's own precision. Three rules keep
out luck; none matters for a tensor of ordinary size:
- a reference that happens to be exactly right does not demand exactness: the budget is at least the rounding
  of the result, half a unit in the last place for 16-bit types, four units for float32, where sums round too;
- an error estimated from n < 64 numbers (the gradient of a scalar) is itself uncertain, by about 1/√n, so two
  such standard deviations are added to the reference's;
- what fails by a finite error is drawn again, 16 times in all, and every draw counts: a loss is one number a
  draw, and now and then the reference's is right by luck in all of the first three.
NaN never passes, and every buffer the version allocates is full of NaN before it writes there.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .gate_draws import ODD_SHAPES, GateInputs, GateShape
from .gate_inputs import draw_inputs
from .versions import OPERATIONS, implementation

_FACTOR = 2.0
_FLOOR_ULPS = {torch.float16: 0.5, torch.bfloat16: 0.5, torch.float32: 4.0}
_FEW = 64
_DRAWS = 3
_DRAWS_IN_DOUBT = 16
_FLOAT32_ONLY = frozenset({"bk_scan", "rank_scan", "block_scalars", "spectral_norm"})
"""Operations in float32, whatever the compute dtype."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GateFailure:
    """One tensor outside its budget; `tensor` names the output or gradient, and the shape of the check."""

    tensor: str
    error: float
    budget: float


@dataclass(frozen=True, kw_only=True, slots=True)
class GateResult:
    """What the gate says of one operation. worst_ratio: the largest error / budget; above 1 it fails."""

    operation: str
    version: str
    dtype: str
    worst_ratio: float
    failures: tuple[GateFailure, ...]

    @property
    def ok(self) -> bool:
        return not self.failures


@contextmanager
def poisoned_memory() -> Iterator[None]:
    """torch.empty returns NaN: what a kernel forgets to write cannot look right by luck."""
    mode = torch.get_deterministic_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # of operations that have no deterministic form: they are not what is asked
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.set_deterministic_debug_mode(mode)


def check_version(
    version: str,
    device: torch.device,
    dtypes: Sequence[torch.dtype],
    shapes: Sequence[GateShape] = ODD_SHAPES,
) -> tuple[GateResult, ...]:
    """Check every operation of a version at these compute dtypes; the scans, always float32, once.

    Raises: UnsupportedVersionError where the version cannot run; whatever a kernel raises on this device.
    """
    return tuple(
        check_operation(operation, version, device, dtype, shapes)
        for operation in OPERATIONS
        for dtype in ((torch.float32,) if operation in _FLOAT32_ONLY else dtypes)
    )


def check_operation(
    operation: str,
    version: str,
    device: torch.device,
    dtype: torch.dtype,
    shapes: Sequence[GateShape] = ODD_SHAPES,
    draws: int = _DRAWS,
) -> GateResult:
    """Check one operation, forward and every gradient, in a compute dtype at some shapes.

    version: a name of the table; dtype: torch.float32, float16 or bfloat16.
    Raises: UnsupportedVersionError where the version cannot run; whatever its kernel raises on this device.
    """
    reference, candidate = implementation(operation, "reference"), implementation(operation, version)
    worst, failures = 0.0, []
    for shape in shapes:
        pools: dict[str, Pool] = {}
        for seed in range(draws):
            _draw(pools, operation, reference, candidate, device, dtype, shape, seed)
        if 1 < max(pool.ratio() for pool in pools.values()) < math.inf:
            for seed in range(draws, _DRAWS_IN_DOUBT):
                _draw(pools, operation, reference, candidate, device, dtype, shape, seed)
        for tensor, pool in pools.items():
            worst = max(worst, pool.ratio())
            if pool.ratio() > 1:
                error, budget = pool.error_and_budget()
                failures.append(GateFailure(tensor=f"{tensor} at {shape}", error=error, budget=budget))
    return GateResult(
        operation=operation,
        version=version,
        dtype=str(dtype).removeprefix("torch."),
        worst_ratio=worst,
        failures=tuple(failures),
    )


class Pool:
    """Squares of the errors of one tensor over draws, of the reference's and of the version's."""

    def __init__(self) -> None:
        self.norm = self.reference = self.candidate = 0.0
        self.elements = 0
        self.floor = 0.0

    def add(self, exact: Tensor, reference: Tensor, candidate: Tensor | None) -> None:
        self.norm += exact.square().sum().item()
        self.reference += (reference.double() - exact).square().sum().item()
        self.elements += exact.numel()
        self.floor = _FLOOR_ULPS[reference.dtype] * torch.finfo(reference.dtype).eps
        if candidate is None or (candidate.shape, candidate.dtype) != (reference.shape, reference.dtype):
            self.candidate = math.nan
        else:
            self.candidate += (candidate.double() - exact).square().sum().item()

    def error_and_budget(self) -> tuple[float, float]:
        norm = math.sqrt(self.norm) or 1.0  # an exact zero (dM of one position) must be met exactly
        uncertainty = 1 + (2 / math.sqrt(self.elements) if self.elements < _FEW else 0.0)
        floor = self.floor if self.norm > 0 else 0.0
        error = math.sqrt(self.candidate) / norm
        return error, max(_FACTOR * uncertainty * math.sqrt(self.reference) / norm, floor)

    def ratio(self) -> float:
        """error / budget; infinite for what is not finite, or not zero where it must be."""
        error, budget = self.error_and_budget()
        if error == 0:
            return 0.0
        return error / budget if math.isfinite(error) and budget > 0 else math.inf


def _draw(
    pools: dict[str, Pool],
    operation: str,
    reference: Callable[..., Any],
    candidate: Callable[..., Any],
    device: torch.device,
    dtype: torch.dtype,
    shape: GateShape,
    seed: int,
) -> None:
    """Add the errors of one draw, of every output and gradient, to the pools."""
    for form, inputs in enumerate(draw_inputs(operation, shape, dtype, seed)):
        exact = _outputs_and_gradients(reference, inputs, torch.float64, dtype, device, seed)
        own = _outputs_and_gradients(reference, inputs, dtype, dtype, device, seed)
        with poisoned_memory():
            got = _outputs_and_gradients(candidate, inputs, dtype, dtype, device, seed)
        for name, tensor in exact.items():
            label = f"{name} (form {form + 1})" if form else name
            pools.setdefault(label, Pool()).add(tensor, own[name], got.get(name))


def _outputs_and_gradients(
    function: Callable[..., Any],
    inputs: GateInputs,
    dtype: torch.dtype,
    cotangent_dtype: torch.dtype,
    device: torch.device,
    seed: int,
) -> dict[str, Tensor]:
    """Outputs of one call and the gradients of every leaf through random cotangents.

    The cotangents are representable in `cotangent_dtype`, so that the float64 run has the same. The gradient
    of an input without influence is zero.
    """
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    leaves = {
        name: leaf.to(device=device, dtype=kind).requires_grad_()
        for group, kind in ((inputs.compute, dtype), (inputs.wide, wide))
        for name, leaf in group.items()
    }
    result = function(*inputs.arguments(leaves, dtype))
    outputs = result if isinstance(result, tuple) else (result,)
    generator = torch.Generator().manual_seed(seed + 1)
    cotangents = [
        torch.randn(output.shape, generator=generator).to(cotangent_dtype).to(device, output.dtype)
        for output in outputs
    ]
    gradients = torch.autograd.grad(outputs, list(leaves.values()), cotangents, materialize_grads=True)
    named = {f"output {i}": output.detach() for i, output in enumerate(outputs)}
    return named | {f"gradient of {name}": grad for name, grad in zip(leaves, gradients, strict=True)}
