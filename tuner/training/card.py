"""The card under a training: held to the budget, and watched for memory that moves to the system's."""

from __future__ import annotations

import torch

from ..measuring.memory import PINNED, cap_bytes
from ..values.errors import UserInputError
from ..values.sizes import format_mb
from ..worker.cuda_accounting import OpenedCuda, device_used_bytes, open_cuda

_CLIFF = 0.5  # tokens/s below this share of the best so far, with a full card, are a spill's


class HeldCard:
    """The first visible card with this process's context, whose allocator may not exceed the budget.

    budget_bytes: all that the process may take of the card; None: all of the card.
    """

    def __init__(self, budget_bytes: int | None, reserve_bytes: int = 0) -> None:
        """Raises: RuntimeError (torch's) for no usable card; UserInputError where the budget leaves
        nothing."""
        self._opened: OpenedCuda = open_cuda()
        self._others_bytes = max(device_used_bytes() - self._opened.context_bytes, 0)
        self._capacity_bytes = self._opened.info.total_bytes
        self.budget_bytes = min(budget_bytes or self._capacity_bytes, self._capacity_bytes)
        self._reserve_bytes = reserve_bytes
        self._best_rate, self._is_told = 0.0, False
        self._cap(self._opened.context_bytes)

    def settle(self) -> None:
        """Once all kernels and libraries are loaded: what they take is no longer the allocator's to have."""
        self._cap(self.process_bytes() - torch.cuda.memory_reserved())

    def process_bytes(self) -> int:
        """What this process has of the card now, as far as others did not change theirs since it began."""
        return device_used_bytes() - self._others_bytes

    def peak_bytes(self) -> int:
        """The most that this process had of the card: what is outside torch now, and torch's own peak."""
        outside = self.process_bytes() - torch.cuda.memory_reserved()
        return outside + self.reserved_peak_bytes()

    def reserved_peak_bytes(self) -> int:
        """The most that torch's allocator had reserved."""
        return torch.cuda.max_memory_reserved()

    def warn_of_spill(self, tokens_per_s: float) -> str | None:
        """Once, when tokens/s fall off a cliff while the card is full: what it means and what to do."""
        is_cliff = tokens_per_s < _CLIFF * self._best_rate
        self._best_rate = max(self._best_rate, tokens_per_s)
        if self._is_told or not is_cliff or device_used_bytes() < PINNED * self._capacity_bytes:
            return None
        self._is_told = True
        return (
            f"tokens/s fell to {tokens_per_s:,.0f} from {self._best_rate:,.0f} while the card is full: its "
            "memory "
            "is being moved to the system's; close other programs on it, lower --vram, or turn off the "
            "driver's system-memory fallback"
        )

    def _cap(self, held_bytes: int) -> None:
        cap = cap_bytes(
            budget_bytes=self.budget_bytes,
            reserve_bytes=self._reserve_bytes,
            held_bytes=held_bytes,
            capacity_bytes=self._capacity_bytes,
        )
        if cap <= 0:
            raise UserInputError(
                f"--vram: expected room beside the {format_mb(held_bytes)} MB that CUDA and its libraries "
                f"take, got a budget of {format_mb(self.budget_bytes)} MB"
            )
        torch.cuda.set_per_process_memory_fraction(cap / self._capacity_bytes)
