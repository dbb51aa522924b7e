"""Whose time a kernel on the device is: a timeline of replays beside what the same step does, in order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

_PRODUCT = re.compile(r"gemm|nvjet|xmma|cutlass|splitk|gemv|cublas", re.IGNORECASE)
"""Names of kernels of matrix products in NVIDIA's libraries."""


class Work(NamedTuple):
    """What one launch of ours, folder.module.kernel, or one operation of PyTorch's (None) does: operations,
    bytes, and whether these operations run on the matrix units."""

    kernel: str | None
    operations: float
    moved_bytes: float
    is_matrix: bool


class Kernel(NamedTuple):
    """A kernel on the device, from one second to another."""

    name: str
    start_s: float
    end_s: float


def one_step(kernels: Sequence[Kernel], replays: int) -> list[list[Kernel]]:
    """The kernels of each of some replays, in order.

    Raises: ValueError where they cannot be divided so: then not all of them were recorded.
    """
    ordered = sorted(kernels, key=lambda kernel: kernel.start_s)
    size, rest = divmod(len(ordered), replays)
    if not size or rest:
        raise ValueError(f"expected {replays} times as many kernels as in a step, got {len(ordered)} of them")
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def idle_s(step: Sequence[Kernel]) -> float:
    """Seconds between the first and the last kernel of a step in which none runs."""
    idle, until = 0.0, step[0].end_s
    for kernel in step[1:]:
        idle += max(kernel.start_s - until, 0.0)
        until = max(until, kernel.end_s)
    return idle


def rows_of(steps: Sequence[Sequence[Kernel]], works: Sequence[Work]) -> list[dict[str, Any]]:
    """By kernel of ours, and by what PyTorch does after one of ours: launches a step, seconds, operations and
    bytes; the longest first.

    works: of one step, in its order. Products and the rest of PyTorch's between two launches of ours are a
    row each: of one kernel among several the order does not say whose it is.
    Raises: ValueError for launches of ours that are not those of `works`.
    """
    rows: dict[str, dict[str, Any]] = {}

    def row(label: str) -> dict[str, Any]:
        empty = {"label": label, "launches": 0.0, "s": 0.0, "operations": 0.0, "moved_bytes": 0.0}
        return rows.setdefault(label, empty | {"is_matrix": False})

    after = "the step's beginning"
    for work in works:
        after = work.kernel or after
        found = row(_label(after, ours=work.kernel is not None, product=work.is_matrix))
        found["operations"] += work.operations
        found["moved_bytes"] += work.moved_bytes
        found["is_matrix"] |= work.is_matrix
    ours = [work.kernel for work in works if work.kernel is not None]
    names = {name.rpartition(".")[2] for name in ours}
    for step in steps:
        launches = [kernel for kernel in step if function_of(kernel.name) in names]
        _same([function_of(kernel.name) for kernel in launches], [name.rpartition(".")[2] for name in ours])
        expected, after = iter(ours), "the step's beginning"
        for kernel in step:
            is_ours = function_of(kernel.name) in names
            after = next(expected) if is_ours else after
            product = _PRODUCT.search(kernel.name) is not None
            found = row(_label(after, ours=is_ours, product=product))
            found["launches"] += 1 / len(steps)
            found["s"] += (kernel.end_s - kernel.start_s) / len(steps)
    timed = [found for found in rows.values() if found["launches"]]
    return sorted(timed, key=lambda found: -float(found["s"]))


def floor_s(row: dict[str, Any], ceilings: dict[str, float]) -> float:
    """What its bytes, and its operations on the matrix units, take at the rates that the card reaches."""
    by_bytes = float(row["moved_bytes"]) / ceilings["bytes_per_s"]
    return max(by_bytes, row["operations"] / ceilings["flop_per_s"] if row["is_matrix"] else 0.0)


def function_of(name: str) -> str:
    """A Triton kernel's function from its name on the device, to which some versions add its form."""
    return re.sub(r"_\d[0-9a-z]*$", "", name)


def _label(after: str, *, ours: bool, product: bool) -> str:
    if ours:
        return after
    return f"{'products' if product else 'others'} after {after}"


def _same(got: Sequence[str], expected: Sequence[str]) -> None:
    if list(got) == list(expected):
        return
    at = next(
        (i for i, (a, b) in enumerate(zip(got, expected, strict=False)) if a != b),
        min(len(got), len(expected)),
    )
    raise ValueError(
        f"launch {at} of ours: expected {expected[at : at + 1]} of {len(expected)}, got {got[at : at + 1]} "
        f"of {len(got)}; the recorded step is not the one that ran"
    )
