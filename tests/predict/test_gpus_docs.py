"""docs/gpus.md shows every card's figures as they are, and a file of one's own that is read."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

import phase8_tune
from phase8_tune.tuner.predict.rate.abilities import lacking
from phase8_tune.tuner.predict.rate.profiles import (
    Figure,
    GpuProfile,
    gpu_profile,
    gpu_profiles,
    read_gpu_file,
)

PAGE = Path(phase8_tune.__file__).resolve().parent / "docs" / "gpus.md"
MEASURES = {  # heading of the cards' table → field, and bytes or seconds in one of its unit
    "capacity, GiB": ("capacity_bytes", 2**30),
    "multiprocessors": ("multiprocessors", 1),
    "shared memory, bytes": ("shared_memory_per_block_bytes", 1),
    "GB/s": ("bandwidth", 1e9),
    "16 bits, TFLOP/s": ("matrix_16bit", 1e12),
    "32 bits, TFLOP/s": ("matrix_32bit", 1e12),
    "launch, µs": ("launch_s", 1e-6),
    "context, MiB": ("context_bytes", 2**20),
    "libraries, MiB": ("libraries_bytes", 2**20),
    "graph, MiB": ("graph_bytes", 2**20),
}

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="phase8_tune is installed without its sources")


def text() -> str:
    return PAGE.read_text(encoding="utf-8")


def rows() -> dict[str, dict[str, str]]:
    """The rows of the table of figures, by the card's name."""
    lines = [line.strip("|").split("|") for line in text().splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line] for line in lines]
    [start] = [number for number, row in enumerate(cells) if row[0] == "card"]
    found = [dict(zip(cells[start], row, strict=True)) for row in cells[start + 2 :]]
    return {row["card"].strip("`"): row for row in found}


@pytest.mark.parametrize("profile", gpu_profiles().values(), ids=lambda profile: profile.name)
def test_every_figure_of_a_card(profile: GpuProfile) -> None:
    row = rows()[profile.name]
    assert row["compute capability"] == profile.compute_capability
    assert row["without"] == (", ".join(lacking(profile.compute_capability)) or "–")
    for heading, (field, unit) in MEASURES.items():
        value = getattr(profile, field)
        number, _, basis = row[heading].partition(" ")
        if isinstance(value, Figure):
            assert basis == value.basis[0], heading
            value = value.value
        assert math.isclose(float(number.replace(",", "")) * unit, value), heading


def test_no_card_is_shown_that_is_gone() -> None:
    assert list(rows()) == list(gpu_profiles())


def test_the_example_of_a_file_is_read(tmp_path: Path) -> None:
    [example] = re.findall(r"```yaml\n(.*?)```", text(), re.DOTALL)
    (tmp_path / "card.yaml").write_text(example, encoding="utf-8")
    card = read_gpu_file(tmp_path / "card.yaml")
    assert card.multiprocessors == gpu_profile("rtx-4070-laptop").multiprocessors
    assert math.isclose(card.matrix_16bit.value, 36 * 512 * 1620e6, rel_tol=0.01)


def test_every_key_is_explained() -> None:
    missing = [key for key in GpuProfile.model_fields if f"`{key}`" not in text()]
    assert missing == []


def test_files_tests_and_links_exist() -> None:
    root = PAGE.parent.parent
    for path in re.findall(r"`((?:tuner|tests|kernels)/[\w./-]+)`", text()):
        assert (root / path).exists(), path
    for name in re.findall(r"\b20\d\d-\d\d-\d\d-[\w-]+\w", text()):
        assert (root / "studies" / "results" / name / "report.md").exists(), name
    for target in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", text()):
        assert (PAGE.parent / target).exists(), target
