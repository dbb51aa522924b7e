"""The table of kernel versions: which implementation of each operation a version name stands for.

Importing this module imports no torch: the tuner's driver reads the names. `load` imports what a version needs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
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
    "bk_gate": "bk_gate",
    "rank_scan": "rank_scan",
    "htt_cross_entropy": "htt_cross_entropy",
}
"""Every operation of the model with the folder that holds it; the signature is that of `reference.py` there."""

_TABLE: dict[str, dict[str, str]] = {
    "reference": dict.fromkeys(OPERATIONS, "reference"),
}
KERNEL_VERSIONS: tuple[str, ...] = tuple(_TABLE)


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
    bk_gate: Callable[..., Any]
    rank_scan: Callable[..., Any]
    htt_cross_entropy: Callable[..., Any]


def load(version: str) -> KernelSet:
    """The implementations a version name stands for.

    Raises: UnsupportedVersionError for a name that is not in the table.
    """
    if version not in _TABLE:
        raise UnsupportedVersionError(
            f"kernel version: expected one of {', '.join(KERNEL_VERSIONS)}, got {version!r}"
        )
    package = __name__.rpartition(".")[0]
    functions = {
        operation: getattr(
            importlib.import_module(f"{package}.{folder}.{_TABLE[version][operation]}"), operation
        )
        for operation, folder in OPERATIONS.items()
    }
    return KernelSet(version=version, **functions)
