"""One configuration to measure: a frozen value with a digest that names it everywhere."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, Self

from .format_versions import identity

Precision = Literal["bf16", "fp16", "none"]
Mode = Literal["train", "forward"]
DEFAULT_VOCAB_SIZE = 50257
"""Tokens of GPT-2's tokenizer: the vocabulary where none is said, and of all before it could be."""
LARGEST_VOCAB_SIZE = 2**24
"""As many tokens as `torch.multinomial` draws from, by which the batches that are measured are made."""

FORMAT_1_FIELDS = frozenset(
    {
        "workload",
        "model",
        "variant",
        "n_seq",
        "batch_size",
        "kernel_version",
        "gradient_checkpointing",
        "mixed_precision",
        "mode",
    }
)
"""The fields that every digest is made of. Never changed: runs on the disk are known by their digests."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """What is measured. Two candidates with the same digest are the same measurement.

    A field that is not of format 1 has a default: what every candidate was before there was the field.

    `mixed_precision` is the compute type beside the float32 master weights ("none": float32 throughout).
    `mode` "train" is forward, backward and optimizer step; "forward" is the loss under no_grad.
    `model` and `vocab_size` (tokens) are the size of the model; what a model is called says `phase8.config`.
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
    vocab_size: int = DEFAULT_VOCAB_SIZE

    @property
    def model_words(self) -> tuple[str, ...]:
        """Which model it is: its name, then what is not as usual, for example `small`, `vocab8192`."""
        variant = () if self.variant == "phase8" else (self.variant,)
        vocabulary = () if self.vocab_size == DEFAULT_VOCAB_SIZE else (f"vocab{self.vocab_size}",)
        return self.model, *variant, *vocabulary

    @property
    def tokens_per_step(self) -> int:
        return self.batch_size * self.n_seq

    def line(self) -> Candidate:
        """Stands for all candidates that differ only in the batch."""
        return replace(self, batch_size=0)

    def at(self, batch_size: int) -> Candidate:
        """The candidate of this line with a batch."""
        return replace(self, batch_size=batch_size)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Inverse of `to_dict`.

        Raises: TypeError where a field is missing or unknown.
        """
        return cls(**data)

    def identity(self) -> dict[str, Any]:
        """The fields that tell it from others: those of format 1, and later ones that are set."""
        defaults = {field.name: field.default for field in fields(self)}
        return identity(self.to_dict(), first=FORMAT_1_FIELDS, defaults=defaults)

    def digest(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the canonical JSON of its identity."""
        text = json.dumps(self.identity(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def describe(self) -> str:
        """One short line for people, for example `small 8×256 fast bf16 checkpointing train`."""
        checkpointing = " checkpointing" if self.gradient_checkpointing else ""
        return (
            f"{' '.join(self.model_words)} {self.batch_size}×{self.n_seq} {self.kernel_version} "
            f"{self.mixed_precision}{checkpointing} {self.mode}"
        )


CANDIDATE_FIELDS: tuple[str, ...] = tuple(f.name for f in fields(Candidate))
