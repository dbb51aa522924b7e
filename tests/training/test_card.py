"""The cap that a training sets itself leaves room for what is not loaded yet, however it is divided."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from phase8_tune.tuner.training import card
from phase8_tune.tuner.training.card import HeldCard

MIB, BUDGET, CAPACITY = 2**20, 8 * 2**30, 24 * 2**30


@pytest.mark.parametrize(
    ("context", "figures", "outside"),
    [
        (518, (518, 226, 80), 824),
        (518, (621, 128, 74), 823),  # the card's figures have the same sum, in other parts
        (640, (621, 128, 74), 842),  # a larger context than the card's figure
    ],
)
def test_the_whole_process_stays_within_its_budget(
    monkeypatch: pytest.MonkeyPatch, context: int, figures: tuple[int, int, int], outside: int
) -> None:
    set_to: list[float] = []
    opened = SimpleNamespace(
        context_bytes=context * MIB, info=SimpleNamespace(total_bytes=CAPACITY, name="A card", uuid="GPU-1")
    )
    parts = dict(zip(("context_bytes", "libraries_bytes", "graph_bytes"), figures, strict=True))
    profile = SimpleNamespace(
        **{name: SimpleNamespace(value=size * MIB) for name, size in parts.items()},
        outside_bytes=(figures[0] + figures[1]) * MIB,
    )
    monkeypatch.setattr(card, "open_cuda", lambda: opened)
    monkeypatch.setattr(card, "device_used_bytes", lambda: context * MIB)
    monkeypatch.setattr(card, "known_profile", lambda *named: profile)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", set_to.append)
    HeldCard(BUDGET)
    assert set_to == [pytest.approx((BUDGET - outside * MIB) / CAPACITY)]
