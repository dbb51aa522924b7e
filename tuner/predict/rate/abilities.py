"""What a card can and cannot do by its compute capability: number formats, Triton kernels, shared memory."""

from __future__ import annotations

from ...values.candidate import Candidate

SHARED_MEMORY_BYTES = {
    "7.5": 65_536,
    "8.0": 166_912,
    "8.6": 101_376,
    "8.9": 101_376,
    "9.0": 232_448,
    "10.0": 232_448,
    "12.0": 101_376,
}
"""Shared memory that a block of threads may use: 64, 163, 99, 99, 227, 227 and 99 KiB.

Source: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".
"""

LOWEST_CAPABILITY = {"bf16": (8, 0), "fp8": (8, 9), "Triton": (8, 0)}
"""From which compute capability on a card has it.

Sources: CUDA C++ Programming Guide, "Compute Capabilities"; Triton's README, "Supported Hardware". Since 3.3
Triton has no matrix units below 8.0: what it still compiles for 7.5 multiplies on the vector units.
"""

WITHOUT_TRITON = "reference"
"""The kernel version that needs no Triton."""


def lacking(compute_capability: str) -> tuple[str, ...]:
    """What a card of this compute capability, such as "7.5", does not have of `LOWEST_CAPABILITY`."""
    major, _, minor = compute_capability.partition(".")
    have = int(major), int(minor)
    return tuple(what for what, lowest in LOWEST_CAPABILITY.items() if have < lowest)


def obstacles(compute_capability: str, candidate: Candidate) -> tuple[str, ...]:
    """What of a candidate does not run on such a card, in words; empty where it runs."""
    lacks = lacking(compute_capability)
    found = []
    if "Triton" in lacks and candidate.spec.is_checked and candidate.version != WITHOUT_TRITON:
        found.append(f"kernels {candidate.version}")
    if "bf16" in lacks and candidate.precision == "bf16":
        found.append("bf16")
    return tuple(found)
