"""The bar of a training on a terminal."""

from __future__ import annotations

import io
import sys

import pytest

from phase8_tune.tuner.training.display import TrainingDisplay


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_says_loss_rate_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "100")
    display = TrainingDisplay(first=0, steps=12)
    display.show(12, 6.95, 808.0, 3 << 30)
    shown = terminal.getvalue().split("\r")[-1]
    display.close()
    assert shown.startswith("12/12 |")
    assert shown.rstrip().endswith("| loss 6.9500 · 808 tokens/s · 3,072 MB · 0 s left")
