"""The table of kernel versions: which implementation of each operation a version name stands for.

Importing this module imports no torch: the tuner's driver reads the names; `implementation` imports the rest.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from .cache_keys import settle_cache_keys

OPERATIONS: dict[str, str] = {
    # operation: folder it lives in
    "htt_embedding": "htt_embedding",
    "layer_norm": "layer_norm",
    "norm_potential": "layer_norm",
    "bk_scan": "bk_scan",
    "window_attention": "window_attention",
    "ar_ssm_scan": "ar_ssm_scan",
    "mix_norm": "mix_norm",
    "block_scalars": "block_scalars",
    "block": "block",
    "bk_gate": "bk_gate",
    "rank_weight": "rank_weight",
    "spectral_norm": "spectral_norm",
    "rank_scan": "rank_scan",
    "htt_cross_entropy": "htt_cross_entropy",
}
"""Every operation of the model with its folder; the signature is that of `reference.py` there."""

CAPTURED_VERSIONS = frozenset({"v1", "v2", "fast"})
"""Versions whose training step is captured in a CUDA graph: they differ by their kernels, and not by what the
host takes to launch them. The reference, which they are compared with, stays eager."""

_WITHOUT_SIMPLE_FORMS = (
    *("layer_norm", "norm_potential", "mix_norm", "block_scalars", "rank_weight", "spectral_norm"),
)
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
    settle_cache_keys()
    function: Callable[..., Any] = getattr(module, operation)
    return function
