"""The colours of the models are told apart by people with any colour vision, and seen on both papers."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from phase8_tune.tuner.html import page
from phase8_tune.tuner.report.picture import COLOURS as PICTURE

FOLDER = Path(page.__file__).parent
# Machado, Oliveira and Fernandes 2009, the matrices of severity 1, for linear RGB.
VISIONS = {
    "usual": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
NEAREST = 12.0
"""Between two colours, in CIELAB; about 2 is the least that is seen at all."""
LEAST_CONTRAST = 1.9
"""With the paper. Orange and light blue have no more on white; their shapes and rims help."""


def palettes() -> dict[str, list[str]]:
    script = (FOLDER / "charts.js").read_text(encoding="utf-8")
    found = re.findall(r"const (\w*COLOURS) = \[(.*?)\]", script)
    return {name: re.findall(r"#[0-9A-F]{6}", text) for name, text in found}


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    ratio = TO_XYZ @ np.clip(rgb, 0, 1) / np.array([0.9505, 1.0, 1.089])
    x, y, z = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("name", ["COLOURS", "DARK_COLOURS"])
def test_any_two_are_told_apart(name: str, vision: str) -> None:
    colours = palettes()[name]
    assert len(colours) == 7
    seen = {colour: lab(VISIONS[vision] @ linear(colour)) for colour in colours}
    distances = {
        (one, other): float(np.linalg.norm(seen[one] - seen[other])) for one, other in combinations(seen, 2)
    }
    assert min(distances.values()) > NEAREST, min(distances, key=lambda pair: distances[pair])


@pytest.mark.parametrize(("name", "paper"), [("COLOURS", "#FFFFFF"), ("DARK_COLOURS", "#14171A")])
def test_each_is_seen_on_its_paper(name: str, paper: str) -> None:
    assert paper.lower() in (FOLDER / "page.css").read_text(encoding="utf-8")
    light = {colour: float(TO_XYZ[1] @ linear(colour)) for colour in (*palettes()[name], paper)}
    ground = light.pop(paper)
    for colour, own in light.items():
        high, low = max(own, ground), min(own, ground)
        assert (high + 0.05) / (low + 0.05) > LEAST_CONTRAST, colour


def test_the_picture_has_those_of_the_page() -> None:
    assert list(PICTURE) == palettes()["COLOURS"]
