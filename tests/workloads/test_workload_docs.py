"""docs/workloads.md says what there is: axes with their values, models, and the fields of the contract."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

import phase8_tune
from phase8_tune.tuner.builtin.hf.known_models import known_models
from phase8_tune.tuner.builtin.hf.spec import SPEC as HF
from phase8_tune.tuner.builtin.transformer.spec import SPEC as TRANSFORMER
from phase8_tune.tuner.records.recommend import recommendation_name
from phase8_tune.tuner.training.settings import load_settings
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.workloads import Axis, WorkloadSpec
from phase8_tune.tuner.workloads.training import Build, Training

PAGE = Path(phase8_tune.__file__).resolve().parent / "docs" / "workloads.md"

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="phase8_tune is installed without its sources")


def section(title: str) -> str:
    """A section's text, up to the next title."""
    text: str
    (text,) = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.M | re.S)
    return text


def rows(text: str) -> dict[str, list[str]]:
    """Cells of the tables' rows by what stands in backticks in the first one."""
    found = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            found[cells[0].strip("`")] = cells[1:]
    return found


@pytest.mark.parametrize("spec", [HF, TRANSFORMER], ids=lambda spec: spec.name)
def test_every_axis_with_its_values_and_default(spec):
    table = rows(section(spec.name))
    for axis in spec.axes:
        values, default, _ = table[axis.name]
        said = default.strip("`")
        assert said == ("" if axis.default is None else str(axis.default).lower())
        if axis.values:
            assert re.findall(r"`([^`]+)`", values) == list(map(str, axis.values))
        elif axis.kind is bool:
            assert values == "true or false"
        else:
            assert values == f"from {axis.minimum}"


def test_every_known_model_with_its_size():
    table = rows(section(HF.name))
    assert [name for name in table if name in known_models()] == list(known_models())
    for name, known in known_models().items():
        count, positions = table[name]
        assert float(count.replace(",", "")) * 1e6 == pytest.approx(known.published, rel=0.03)
        longest = known.config.get("n_positions", known.config.get("max_position_embeddings"))
        assert int(positions.replace(",", "")) == longest


def blocks(title: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", section(title), re.M | re.S)


def test_the_settings_by_hand_are_the_preset_of_its_name(tmp_path):
    (text,) = blocks("transformer", "yaml")
    path = tmp_path / "by-hand.yaml"
    path.write_text(text)
    candidate = load_settings(path).to_candidate()
    assert candidate == Candidate(
        workload="transformer", model="small", batch_size=4, n_seq=512, mixed_precision="none"
    )
    assert recommendation_name(candidate) == "transformer-small"
    assert "`transformer-small.yaml`" in section("transformer")


def test_what_is_shown_of_a_factory_and_its_spec_is_python():
    factory, spec = blocks("A model of one's own", "python")
    shown: dict[str, Any] = {"torch": torch, "Axis": Axis, "WorkloadSpec": WorkloadSpec}
    exec(factory, shown)
    assert callable(shown["factory"])
    exec(spec, shown)
    assert shown["SPEC"].axes[0].allows(64)
    assert set(re.findall(r"^        (\w+)=", factory, re.M)) <= {field.name for field in fields(Training)}


@pytest.mark.parametrize("contract", [Build, Training])
def test_every_field_of_the_contract(contract):
    assert {field.name for field in fields(contract)} <= rows(section("A model of one's own")).keys()
