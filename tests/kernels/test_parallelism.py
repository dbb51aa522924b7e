"""What kernels have to fill a card with: as recorded, as kernels/README.md shows it, how it is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from phase8_tune.benchmarks.parallelism import CASES, chain
from phase8_tune.benchmarks.parallelism_report import shown, table

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "studies" / "results" / "2026-11-29-cpu-kernel-parallelism"


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "results.json").read_text(encoding="utf-8"))
    return found


def test_the_page_shows_what_is_recorded(results: dict[str, Any]) -> None:
    page = (ROOT / "kernels" / "README.md").read_text(encoding="utf-8")
    assert shown(results) in page
    assert FOLDER.name in page


def test_no_chain_of_a_long_row_is_longer_than_those_of_short_rows_are(results: dict[str, Any]) -> None:
    assert results["models"].keys() == CASES.keys()
    for model, cases in results["models"].items():
        short, *long = (max(row["chain"] for row in kernels.values()) for kernels in cases.values())
        assert max(long) <= short, model


def test_scans_walk_twice_in_one_launch_and_once_with_maps() -> None:
    name = "bk_scan.resolvent.resolvent_forward"
    assert chain(name, {"length": 24, "SEGMENTS": 1, "CHUNKED": False}, (1, 4, 1)) == 24
    assert chain(name, {"length": 24, "SEGMENTS": 16, "CHUNKED": False}, (1, 4, 1)) == 48
    assert chain(name, {"length": 24, "SEGMENTS": 16, "CHUNKED": True}, (1, 4, 8)) == 24 + 8
    assert chain("bk_scan.maps.resolvent_maps", {"length": 24}, (1, 4, 8)) == 24
    assert chain("layer_norm.tiles.forward_kernel", {}, (7,)) == 1
    assert chain("layer_norm.tiles.backward_kernel", {"count": 100, "ROWS": 4}, (6,)) == 5


def test_few_programs_are_told_and_come_first() -> None:
    row = {"launches": 2, "programs": 500, "warps": 4, "chain": 3}
    text = table({"1×8": {"a.b.c": row, "a.b.d": row | {"programs": 5}}}, 132).splitlines()
    assert "a.b.d" in text[2]
    assert "2 · **5** × 4 · 3" in text[2]
    assert "2 · 500 × 4 · 3" in text[3]
