"""The gate of a step of AdamW: the budget of `kernels/gate.py`, for what an operation changes in place."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..gate import GateFailure, GateResult, Pool
from ..gate_draws import Draw
from . import reference
from .codes import decode, encode
from .tensors import Moments, StepScalars, corrections

FORMS = tuple((dtype, is_8bit) for dtype in (torch.float32, torch.bfloat16) for is_8bit in (False, True))
"""What a weight and its moments may be: the weight's type, and whether its moments have 8 bits."""

ODD_COUNTS = (1, 255, 1300)
"""Of numbers: less than a block, a block that lacks one, several programs; no multiple of a block."""

_SETTINGS = ((0.9, 0.95), 1e-8, 0.1)  # β₁ and β₂, ε, weight decay
_DRAWS = 3
_STEP = 7
_PARTS = ("weight", "first moment", "second moment")


def check_adamw(version: str, device: torch.device, counts: Sequence[int] = ODD_COUNTS) -> GateResult:
    """One step of a version, reference or fast, from random states of every form, against float64.

    What a step leaves is compared as it is read again: a moment of 8 bits as the number that its code stands
    for. Weights are small, so that an error of the step is not lost in them.
    Raises: UnsupportedVersionError where the version cannot run; whatever its kernel raises on this device.
    """
    package = __name__.rpartition(".")[0]
    candidate: Callable[..., None] = importlib.import_module(f"{package}.{version}").adamw
    worst, failures = 0.0, []
    for dtype, is_8bit in FORMS:
        for count in counts:
            pools = {part: Pool() for part in _PARTS}
            for seed in range(_DRAWS):
                weight, gradient, moments = _drawn(count, dtype, seed, is_8bit=is_8bit, device=device)
                exact = _stepped(reference.adamw, weight.double(), gradient.double(), _wide(moments), seed)
                own = _stepped(reference.adamw, weight, gradient, moments, seed)
                got = _stepped(candidate, weight, gradient, moments, seed)
                for part, *tensors in zip(_PARTS, exact, own, got, strict=True):
                    pools[part].add(*tensors)
            for part, pool in pools.items():
                worst = max(worst, pool.ratio())
                if not pool.ratio() <= 1:
                    error, budget = pool.error_and_budget()
                    name = f"{part} of {count} in {dtype}, {'8 bits' if is_8bit else 'float32'}"
                    failures.append(GateFailure(tensor=name, error=error, budget=budget))
    return GateResult(
        operation="adamw", version=version, dtype="all", worst_ratio=worst, failures=tuple(failures)
    )


def step_scalars(
    number: int, device: torch.device, *, rate: float = 1e-2, scale: float = 0.7, skip: float = 0.0
) -> StepScalars:
    """Those of a step, counted from 1, with β of the gate."""
    step, *others = (torch.tensor(value, device=device) for value in (float(number), rate, scale, skip))
    return StepScalars(step, others[0], corrections(step, _SETTINGS[0]), *others[1:])


def _drawn(
    count: int, dtype: torch.dtype, seed: int, *, is_8bit: bool, device: torch.device
) -> tuple[Tensor, Tensor, Moments]:
    """Weight, gradient and moments; of gradients of many magnitudes, as weights have."""
    draw = Draw(seed, dtype)
    weight, gradient = draw.compute(count, std=0.02), draw.compute(count)
    first, second = draw.wide(count).float(), draw.wide(count).float().square()
    magnitudes = torch.exp2(-draw.indices(count, below=8).float())
    first, second = first * magnitudes, second * magnitudes.square()
    moments = Moments(first, second)
    if is_8bit:
        (first_codes, first_peaks), (second_codes, second_peaks) = (
            encode(first, signed=True),
            encode(second, signed=False),
        )
        moments = Moments(first_codes, second_codes, first_peaks, second_peaks)
    placed = Moments(*(None if each is None else each.to(device) for each in moments))  # type: ignore[arg-type]
    given = gradient.to(dtype).double() * magnitudes
    return weight.to(device, dtype), given.to(device, dtype), placed


def _read(moments: Moments) -> tuple[Tensor, Tensor]:
    """The numbers of both moments."""
    if moments.first_peaks is None or moments.second_peaks is None:
        return moments.first, moments.second
    first = decode(moments.first, moments.first_peaks, signed=True)
    return first, decode(moments.second, moments.second_peaks, signed=False)


def _wide(moments: Moments) -> Moments:
    return Moments(*(moment.double() for moment in _read(moments)))


def _stepped(
    adamw: Callable[..., None], weight: Tensor, gradient: Tensor, moments: Moments, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Weight and both moments after a step from copies."""
    weight = weight.clone()
    moments = Moments(*(None if each is None else each.clone() for each in moments))  # type: ignore[arg-type]
    adamw(weight, gradient, moments, step_scalars(_STEP, weight.device), *_SETTINGS, seed, 0)
    return weight, *_read(moments)
