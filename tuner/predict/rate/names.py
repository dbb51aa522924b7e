"""Which cards a name stands for, as people write it: "3060ti", "RTX 4060 Ti 16GB", "4060 laptop"."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from ...values.sizes import format_size

_SAID_OTHERWISE = ((r"\bmobile\b|\bnotebook\b|\bmax q\b", "laptop"), (r"\btis\b", "ti super"))
_NO_MATTER = frozenset(("nvidia", "geforce", "tesla", "rtx", "gtx", "gpu", "graphics", "card", "sxm"))


class _Words(NamedTuple):
    """What makes out a model, and what narrows the choice: GB of memory, a laptop's, a desktop's."""

    model: frozenset[str]
    memory: str | None
    is_laptop: bool
    is_desktop: bool


def meant_by(written: str, cards: Mapping[str, int]) -> list[str]:
    """The names whose model was written, and that agree with what else was; cards: bytes of memory by name.

    Memory, "laptop" and "desktop" only narrow the choice, and so "RTX 4060" may be two cards.
    """
    asked = _words(written)
    found = []
    for name, capacity_bytes in cards.items():
        own = _words(name)
        memory = own.memory or format_size(capacity_bytes).removesuffix("GB")
        is_other = (asked.is_laptop and not own.is_laptop) or (asked.is_desktop and own.is_laptop)
        if own.model == asked.model and not is_other and asked.memory in (None, memory):
            found.append(name)
    return found


def _words(name: str) -> _Words:
    text = " ".join(re.findall(r"[a-z]+|[0-9]+", name.lower()))
    memory = re.search(r"\b([0-9]+) gi?b\b", text)
    text = re.sub(r"\b[0-9]+ gi?b\b|\bsxm [0-9]\b", " ", text)
    for pattern, usual in _SAID_OTHERWISE:
        text = re.sub(pattern, usual, text)
    words = frozenset(text.split()) - _NO_MATTER
    model = words - {"laptop", "desktop"}
    return _Words(model, memory[1] if memory else None, "laptop" in words, "desktop" in words)
