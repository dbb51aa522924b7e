"""The table of kernel versions: which implementation of each operation a version name stands for.

Importing this module imports no torch: the tuner's driver reads the names; `load` imports the rest.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

OPERATIONS: dict[str, str] = {
    # operation: folder it lives in
    "htt_embedding": "htt_embedding",
    "layer_norm": "layer_norm",
    "norm_potential": "layer_norm",
    "bk_scan": "bk_scan",
    "window_attention": "window_attention",
    "ar_ssm_scan": "ar_ssm_scan",
    "mix_norm": "mix_norm",
    "block": "block",
    "bk_gate": "bk_gate",
    "rank_scan": "rank_scan",
    "htt_cross_entropy": "htt_cross_entropy",
}
"""Every operation of the model with its folder; the signature is that of `reference.py` there."""

CAPTURED_VERSIONS = frozenset({"fast"})
"""Versions whose training step is captured in a CUDA graph: the host would not keep up with the GPU."""

_WITHOUT_SIMPLE_FORMS = ("layer_norm", "norm_potential", "mix_norm")
"""Operations that are worth a kernel only when it fuses: v1 and v2 have the reference's."""

_NOTHING_TO_FUSE = ("bk_scan", "rank_scan", "htt_embedding")
"""Operations whose v2 is already one kernel each way, without neighbours to take in: fast has v2's."""

_ONE_SIMPLE_FORM = {"htt_embedding": "v2", "ar_ssm_scan": "v2", "rank_scan": "v2", "window_attention": "v1"}
"""Operations with one implementation between the reference and `fast`, and its module: a second lost wherever
it was measured."""


def _simple(module: str) -> dict[str, str]:
    every = dict.fromkeys(OPERATIONS, module) | dict.fromkeys(_WITHOUT_SIMPLE_FORMS, "reference")
    return every | _ONE_SIMPLE_FORM


_TABLE: dict[str, dict[str, str]] = {
    # version: operation: module in the operation's folder
    "reference": dict.fromkeys(OPERATIONS, "reference"),
    "v1": _simple("v1"),
    "v2": _simple("v2"),
    "fast": dict.fromkeys(OPERATIONS, "fast") | dict.fromkeys(_NOTHING_TO_FUSE, "v2"),
}


KERNEL_VERSIONS: tuple[str, ...] = tuple(_TABLE)
"""The versions, each complete: every operation has an implementation in it."""


class UnsupportedVersionError(RuntimeError):
    """A kernel version cannot run here; the text says why and names the versions that can."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelSet:
    """One callable an operation, with the signatures of the reference modules."""

    version: str
    htt_embedding: Callable[..., Any]
    layer_norm: Callable[..., Any]
    norm_potential: Callable[..., Any]
    bk_scan: Callable[..., Any]
    window_attention: Callable[..., Any]
    ar_ssm_scan: Callable[..., Any]
    mix_norm: Callable[..., Any]
    block: Callable[..., Any]
    bk_gate: Callable[..., Any]
    rank_scan: Callable[..., Any]
    htt_cross_entropy: Callable[..., Any]


def load(version: str | Mapping[str, str]) -> KernelSet:
    """The implementations a version name stands for.

    version: one of `KERNEL_VERSIONS`, or a choice for single operations, {operation: version}, with the
    reference for the others: what an ablation compares. The block is then composed of what was chosen.
    Raises: UnsupportedVersionError for a version or an operation that does not exist.
    """
    if isinstance(version, str):
        if version not in KERNEL_VERSIONS:
            raise UnsupportedVersionError(
                f"kernel version: expected one of {', '.join(KERNEL_VERSIONS)}, got {version!r}"
            )
        name, choice = version, dict.fromkeys(OPERATIONS, version)
    else:
        name = ",".join(f"{operation}={chosen}" for operation, chosen in version.items())
        choice = dict.fromkeys(OPERATIONS, "reference") | dict(version)
    functions = {op: implementation(op, chosen) for op, chosen in choice.items()}
    if not isinstance(version, str) and "block" not in version:
        from .block.composed import composed

        functions["block"] = composed(choice)
    return KernelSet(version=name, **functions)


def implementation(operation: str, version: str) -> Callable[..., Any]:
    """One operation as a version has it.

    Raises: UnsupportedVersionError for a version or an operation that does not exist.
    """
    if operation not in OPERATIONS:
        raise UnsupportedVersionError(
            f"operation: expected one of {', '.join(OPERATIONS)}, got {operation!r}"
        )
    if version not in _TABLE:
        raise UnsupportedVersionError(
            f"version of {operation}: expected one of {', '.join(_TABLE)}, got {version!r}"
        )
    package = __name__.rpartition(".")[0]
    module = importlib.import_module(f"{package}.{OPERATIONS[operation]}.{_TABLE[version][operation]}")
    function: Callable[..., Any] = getattr(module, operation)
    return function
