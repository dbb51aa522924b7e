"""All operations of one version, or of a choice for single operations, as a model calls them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .block.composed import composed
from .versions import KERNEL_VERSIONS, OPERATIONS, UnsupportedVersionError, implementation


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
    block_scalars: Callable[..., Any]
    block: Callable[..., Any]
    bk_gate: Callable[..., Any]
    rank_weight: Callable[..., Any]
    spectral_norm: Callable[..., Any]
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
        functions["block"] = composed(choice)
    return KernelSet(version=name, **functions)
