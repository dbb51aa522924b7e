"""One configuration to measure: a frozen value with a digest that names it everywhere."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self

Precision = Literal["bf16", "fp16", "none"]
Mode = Literal["train", "forward"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """What is measured. Two candidates with the same digest are the same measurement.

    `mixed_precision` is the compute type beside the float32 master weights ("none": float32 throughout).
    `mode` "train" is forward, backward and optimizer step; "forward" is the loss under no_grad.
    """

    workload: str = "phase8"
    model: str
    variant: str = "phase8"
    n_seq: int
    batch_size: int
    kernel_version: str
    gradient_checkpointing: bool
    mixed_precision: Precision
    mode: Mode = "train"

    @property
    def tokens_per_step(self) -> int:
        return self.batch_size * self.n_seq

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Inverse of `to_dict`.

        Raises: TypeError where a field is missing or unknown.
        """
        return cls(**data)

    def digest(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the canonical JSON of all fields."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def describe(self) -> str:
        """One short line for people, for example `small 8×256 fast bf16 checkpointing train`."""
        checkpointing = " checkpointing" if self.gradient_checkpointing else ""
        variant = "" if self.variant == "phase8" else f" {self.variant}"
        return (
            f"{self.model}{variant} {self.batch_size}×{self.n_seq} {self.kernel_version} "
            f"{self.mixed_precision}{checkpointing} {self.mode}"
        )


CANDIDATE_FIELDS: tuple[str, ...] = tuple(f.name for f in fields(Candidate))
