"""What of a GPU a trace depends on."""

from __future__ import annotations

from dataclasses import dataclass

from .reductions import Processors


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What kernels and reductions ask of the GPU when they choose their blocks; a trace depends on it."""

    shared_memory_bytes: int
    multiprocessors: int
    threads_per_multiprocessor: int

    @property
    def processors(self) -> Processors:
        return Processors(self.multiprocessors, self.threads_per_multiprocessor)
