"""What kernels take on cards that are not there: as recorded, as kernels/README.md shows it, and now."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from phase8_tune.benchmarks import registers
from phase8_tune.benchmarks.registers import Kept
from phase8_tune.benchmarks.registers_report import (
    SMALL_CARD,
    SPILL_LIMIT_BYTES,
    limit_bytes,
    shown,
    to_rows,
    warps_a_multiprocessor,
)
from phase8_tune.kernels.versions import KERNEL_VERSIONS
from phase8_tune.tuner.compiling.specialization import Specialization
from phase8_tune.tuner.predict.trace import launches

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "studies" / "results" / "2026-11-29-cpu-kernel-resources"
LONG_ROWS = FOLDER.with_name(f"{FOLDER.name}-long-rows")
MODELS = ["small", "medium", "xl"]


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "results.json").read_text(encoding="utf-8"))
    return found


def test_every_version_is_recorded_on_every_architecture(results: dict[str, Any]) -> None:
    """Their kernels are those that a prediction knows, but for what no preset launches here."""
    rows = results["kernels"]
    assert set(results["cards"]) == {"80", "86", "89", "90", "100", "120"}
    for architecture in map(int, results["cards"]):
        for version in KERNEL_VERSIONS[1:]:
            here = [r for r in rows if r["architecture"] == architecture and version in r["versions"]]
            assert {row["model"] for row in here} == set(MODELS)
    known = {*launches._MATRIX, *launches._VECTOR, *launches._TRAFFIC_ALONE}
    more = json.loads((LONG_ROWS / "results.json").read_text(encoding="utf-8"))
    assert set(more["cards"]) == set(results["cards"])
    recorded = {row["kernel"] for row in (*rows, *more["kernels"])}
    assert recorded <= known
    assert len(recorded) > 0.9 * len(known)


def test_the_scans_of_long_rows_keep_to_the_limits_of_a_small_card() -> None:
    results = json.loads((LONG_ROWS / "results.json").read_text(encoding="utf-8"))
    rows = [row for row in results["kernels"] if row["architecture"] == SMALL_CARD]
    assert {"bk_gate.maps.gate_adjoint_maps", "ar_ssm_scan.maps.gated_maps"} <= {r["kernel"] for r in rows}
    assert max(row["shared_bytes"] for row in rows) <= limit_bytes(SMALL_CARD)
    assert max(row["stack_bytes"] for row in rows) <= SPILL_LIMIT_BYTES


def test_fast_keeps_to_the_limits_of_a_small_card(results: dict[str, Any]) -> None:
    rows = [r for r in results["kernels"] if r["architecture"] == SMALL_CARD and "fast" in r["versions"]]
    assert max(row["shared_bytes"] for row in rows) <= limit_bytes(SMALL_CARD)
    assert max(row["stack_bytes"] for row in rows) <= SPILL_LIMIT_BYTES
    for costly in results["costliest"].values():
        assert len(costly) == 5
        assert costly.keys() <= {row["kernel"] for row in rows}


def test_the_page_shows_what_is_recorded(results: dict[str, Any]) -> None:
    page = (ROOT / "kernels" / "README.md").read_text(encoding="utf-8")
    assert shown(results) in page
    assert FOLDER.name in page


def test_the_costliest_kernels_are_still_within_the_limits(
    compiled: Callable[[str], list[dict[str, Any]]], results: dict[str, Any]
) -> None:
    """Compiled as they are now, at medium."""
    lines = compiled("compile_costliest.py")
    assert {line["kernel"] for line in lines} == set(results["costliest"]["medium"])
    assert max(line["stack_bytes"] for line in lines) <= SPILL_LIMIT_BYTES


def test_the_optimizers_kernel_neither_spills_nor_needs_shared_memory(
    compiled: Callable[[str], list[dict[str, Any]]],
) -> None:
    lines = compiled("compile_adamw.py")
    assert len(lines) == 4
    assert {line["stack_bytes"] for line in lines} == {0}
    assert max(line["registers"] for line in lines) <= 64  # half of a multiprocessor's threads, and more


def line(kernel: str, **taken: Any) -> dict[str, Any]:
    given = {"architecture": 86, "kernel": kernel, "version": "fast", "model": "small", "key": kernel}
    return given | {"warps": 4, "registers": 32, "stack_bytes": 0, "shared_bytes": 0} | taken


def test_a_kernel_counts_with_the_worst_of_its_forms() -> None:
    found = [
        line("a.b.c", registers=40),
        line("a.b.c", key="other", stack_bytes=8, shared_bytes=99),
        line("a.b.c", key="other", version="v1"),
        line("a.b.d", architecture=90),
    ]
    first, second = to_rows(found)
    assert (first["forms"], first["versions"], first["registers"]) == (2, ["fast", "v1"], 40)
    assert (first["stack_bytes"], first["shared_bytes"]) == (8, 99)
    assert (second["architecture"], second["forms"]) == (90, 1)


def test_warps_that_a_multiprocessor_holds() -> None:
    """By registers, by shared memory, by threads: by hand, of 64 K registers, 100 KiB and 48 warps."""
    assert warps_a_multiprocessor(line("a", registers=255)) == 8
    assert warps_a_multiprocessor(line("a", registers=168, warps=1)) == 12
    assert warps_a_multiprocessor(line("a", shared_bytes=49_152)) == 8
    assert warps_a_multiprocessor(line("a", shared_bytes=101_376)) == 4
    assert warps_a_multiprocessor(line("a", warps=16)) == 48


def test_what_was_compiled_is_not_compiled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def compile_it(form: Specialization, architecture: int) -> dict[str, Any]:
        asked.append(f"{form.name} {architecture}")
        return {"warps": 4, "registers": 9, "stack_bytes": 0, "shared_bytes": 0}

    monkeypatch.setattr(registers, "compiled", compile_it)
    monkeypatch.setattr(registers, "key_of", lambda form, architecture: f"{form.description} {architecture}")
    first, second = (Specialization(module="a.b", kernel="c", description=text) for text in "12")
    path = tmp_path / "compiled.jsonl"
    kept = Kept(path)
    assert kept(first, 86) == kept(first, 86)
    again = Kept(path)
    assert again(first, 86)["registers"] == 9
    again(first, 90)
    again(second, 86)
    assert asked == ["a.b.c 86", "a.b.c 90", "a.b.c 86"]
    assert len(path.read_text(encoding="utf-8").splitlines()) == 3
