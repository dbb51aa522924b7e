"""The part of a budget that is left to a card's other users: what they hold, and what a screen takes later.

What others hold comes off the card, not off the budget: on a card that is much larger than the budget nothing
of it is left to them. All figures are bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..machine.nvml import Card
from ..values.sizes import MIB, format_mb
from .memory import DRIFT_BYTES

DISPLAY_MARGIN_BYTES = 600 * MIB
"""What windows that are opened later may take of a card that drives a screen.

Nine windows as large as a screen of 3840 × 2160, 4 bytes a pixel and two buffers each, are 570 MiB. ComfyUI,
which runs on such cards too, keeps as much free under Windows (EXTRA_RESERVED_VRAM, model_management.py).
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class OtherUse:
    """What a card has beside this program, by NVML. driver_bytes: what is nobody's to have."""

    total_bytes: int
    others_bytes: int
    driver_bytes: int
    drives_display: bool

    def room_bytes(self) -> int:
        """What is left of the card for this program."""
        return self.total_bytes - self.driver_bytes - self.others_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Reserve:
    """What `--reserve auto` comes to, and the sentence that says why; nothing to say where it is 0."""

    size_bytes: int = 0
    told: str | None = None


def see_other_use(card: Card | None, own_bytes: int = 0) -> OtherUse | None:
    """What others have of a card now; None where NVML does not tell. own_bytes: what this program has."""
    memory = None if card is None else card.memory()
    if card is None or memory is None:
        return None
    driver_bytes = card.driver_bytes() or 0
    return OtherUse(
        total_bytes=memory.total_bytes,
        others_bytes=max(0, memory.used_bytes - driver_bytes - own_bytes),
        driver_bytes=driver_bytes,
        drives_display=bool(card.drives_display()),
    )


def reserve_for_others(
    uses: Sequence[OtherUse | None], *, budget_bytes: int, promised_bytes: int = 0
) -> Reserve:
    """What of the budget others need on any of these cards; nothing of a card that only this program uses.

    promised_bytes: the peak of the one training that is to run, found under such a reserve. Windows opened
    since then are what the screen's margin was for, so that it is not asked for again on top of them.
    """
    known = [use for use in uses if use is not None]
    found = [_reserve_beside(use, budget_bytes, promised_bytes) for use in known]
    return max(found, key=lambda reserve: reserve.size_bytes, default=Reserve())


def _reserve_beside(use: OtherUse, budget_bytes: int, promised_bytes: int) -> Reserve:
    if not use.drives_display and use.others_bytes <= DRIFT_BYTES:
        return Reserve()
    room_bytes = use.room_bytes()
    margin_bytes = DISPLAY_MARGIN_BYTES if use.drives_display else 0
    kept_bytes = max(room_bytes - margin_bytes, min(promised_bytes, room_bytes))
    size_bytes = budget_bytes - kept_bytes
    if size_bytes <= 0:
        return Reserve()
    held = f"others hold {format_mb(use.others_bytes)} MB of the card's {format_mb(use.total_bytes)} MB"
    screen = ""
    if room_bytes > kept_bytes:
        screen = f", and {format_mb(room_bytes - kept_bytes)} MB are for windows that its screen may open"
    lack = ""
    if promised_bytes > room_bytes:
        lack = (
            f"; the {format_mb(promised_bytes)} MB that the settings need are more than is left: close them"
        )
    return Reserve(
        size_bytes=size_bytes,
        told=f"--reserve auto: {format_mb(size_bytes)} MB of the budget: {held}{screen}{lack}",
    )
