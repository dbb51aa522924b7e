"""The card under a training: held to the budget, and watched for memory that moves to the system's."""

from __future__ import annotations

import torch

from ..machine.nvml import open_nvml
from ..measuring.memory import cap_bytes
from ..measuring.reserve import reserve_for_others, see_other_use
from ..predict.rate.calibration import known_profile
from ..values.errors import UserInputError
from ..values.sizes import format_mb
from ..worker.cuda_accounting import OpenedCuda, device_used_bytes, open_cuda, used_by_this_process
from .spill import SpillWatch

_MOST_LIBRARIES_BYTES = 1 << 30  # beside the context; 290 MiB were seen on an H200 with a captured graph


class HeldCard:
    """The first visible card with this process's context, whose allocator may not exceed the budget.

    budget_bytes: all that the process may take of the card; None: all of the card. reserve_bytes: what of it
    is left to others; None: what they need now, see `reserve_for_others`, and `note` says so.
    """

    def __init__(
        self, budget_bytes: int | None, reserve_bytes: int | None = 0, promised_bytes: int = 0
    ) -> None:
        """Raises: RuntimeError (torch's) for no usable card; UserInputError where the budget leaves none."""
        self._opened: OpenedCuda = open_cuda()
        self._others_bytes = max(device_used_bytes() - self._opened.context_bytes, 0)
        self._capacity_bytes = self._opened.info.total_bytes
        self.budget_bytes = min(budget_bytes or self._capacity_bytes, self._capacity_bytes)
        self.note: str | None = None
        self._watch = SpillWatch()
        self.reserve_bytes = self._settle_reserve(promised_bytes) if reserve_bytes is None else reserve_bytes
        profile = known_profile(self._opened.info.name, self._capacity_bytes)
        self._outside_bytes = self._opened.context_bytes
        if profile is not None:
            # In a process the context may be smaller than the card's figure for it, and the rest larger.
            later = int(profile.libraries_bytes.value + profile.graph_bytes.value)
            whole = profile.outside_bytes + int(profile.graph_bytes.value)
            self._outside_bytes = max(self._outside_bytes + later, whole)
        self._cap(self._outside_bytes)

    @property
    def name(self) -> str:
        """As its driver calls it."""
        return self._opened.info.name

    def settle(self) -> None:
        """Once all kernels and libraries are loaded: what they take is no longer the allocator's to have."""
        own = used_by_this_process(open_nvml().nvml, str(self._opened.info.uuid))
        used = device_used_bytes() - self._others_bytes if own is None else own
        seen = used - torch.cuda.memory_reserved()
        # More, or less than the bare context, is another program's memory that came or went since the start.
        if 0 <= seen - self._opened.context_bytes <= _MOST_LIBRARIES_BYTES:
            self._outside_bytes = seen
        self._cap(self._outside_bytes)

    def peak_bytes(self) -> int:
        """The most that this process had of the card: what is outside torch, and torch's own peak."""
        return self._outside_bytes + self.reserved_peak_bytes()

    def reserved_peak_bytes(self) -> int:
        """The most that torch's allocator had reserved."""
        return torch.cuda.max_memory_reserved()

    def warn_of_spill(self, tokens_per_s: float) -> str | None:
        """Once, when tokens/s fall off a cliff while the card is full: what it means and what to do."""
        return self._watch.note(
            tokens_per_s, used_bytes=device_used_bytes(), capacity_bytes=self._capacity_bytes
        )

    def _settle_reserve(self, promised_bytes: int) -> int:
        nvml, uuid = open_nvml().nvml, str(self._opened.info.uuid)
        own = used_by_this_process(nvml, uuid) or self._opened.context_bytes
        use = None if nvml is None else see_other_use(nvml.find(uuid), own)
        found = reserve_for_others([use], budget_bytes=self.budget_bytes, promised_bytes=promised_bytes)
        self.note = found.told
        return found.size_bytes

    def _cap(self, held_bytes: int) -> None:
        cap = cap_bytes(
            budget_bytes=self.budget_bytes,
            reserve_bytes=self.reserve_bytes,
            held_bytes=held_bytes,
            capacity_bytes=self._capacity_bytes,
        )
        if cap <= 0:
            left = "" if not self.reserve_bytes else f", {format_mb(self.reserve_bytes)} MB of it for others"
            raise UserInputError(
                f"--vram: expected room beside the {format_mb(held_bytes)} MB that CUDA and its libraries "
                f"take, got a budget of {format_mb(self.budget_bytes)} MB{left}; raise it, or close other "
                "programs on the card"
            )
        torch.cuda.set_per_process_memory_fraction(cap / self._capacity_bytes)
