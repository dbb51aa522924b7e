"""What is worked ahead of a search, and what is told where nothing can be."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from phase8_tune.tests.fakes.nvml import FakeNvml
from phase8_tune.tuner.commands import ahead
from phase8_tune.tuner.machine.nvml import open_nvml
from phase8_tune.tuner.places import here

from .search_bench import BUDGET_BYTES, TINY


def _looked(kind: Literal["cuda", "cpu"], root: Path) -> tuple[ahead.Ahead | None, list[str]]:
    """What is worked with, and what was told."""
    told: list[str] = []
    devices = here.Cards(()) if kind == "cuda" else here.Processor()
    with ahead.working_ahead(
        TINY, devices, budget_bytes=BUDGET_BYTES, reserve_bytes=0, root=root, tell=told.append
    ) as found:
        return found, told


@pytest.mark.parametrize(
    ("card", "called"),
    [
        (FakeNvml(name="A card of tomorrow"), "A card of tomorrow"),
        (FakeNvml(refused={"nvmlDeviceGetName"}), "this GPU"),
        (FakeNvml(uuid="GPU-another"), "this GPU"),  # than the one that torch sees
    ],
)
def test_a_card_without_figures_is_told_and_nothing_is_foreseen(
    card: FakeNvml,
    called: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PHASE8_TUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(here, "open_nvml", lambda: open_nvml(card))
    monkeypatch.setattr(here, "device_uuids", lambda gpus: ("GPU-fake",))
    found, (told,) = _looked("cuda", tmp_path)
    assert found is None
    assert told.startswith(f"no figures of {called}, so nothing is predicted; ")
    assert "`phase8-tune predict --calibrate`" in told
    assert not (tmp_path / ahead.COMPILER_LOG).exists()


def test_of_a_cpu_nothing_is_foreseen_nor_told(tmp_path: Path) -> None:
    assert _looked("cpu", tmp_path) == (None, [])
