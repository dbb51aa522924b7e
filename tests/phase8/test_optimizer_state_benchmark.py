"""The side by side of optimizers, as far as it needs no GPU: curves, going on, what the report says."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from phase8_tune.benchmarks import optimizer_state
from phase8_tune.benchmarks.loss_texts import Text
from phase8_tune.benchmarks.optimizer_state import Kept, curve
from phase8_tune.benchmarks.optimizer_state_contestants import CONTESTANTS, EXACT, Contestant
from phase8_tune.benchmarks.optimizer_state_report import differences, report
from phase8_tune.phase8.config import preset

TINY = "64x1h2r4"


@pytest.fixture
def text() -> Text:
    numbers = np.arange(4000, dtype=np.int16) * 7 % 50
    return Text(
        train=numbers,
        held_out=numbers[:400],
        vocab_size=50,
        bytes_per_token=1.0,
        digest="a",
        train_bytes=4000,
    )


def test_contestants_learn_the_same_from_the_same_batches(
    text: Text, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimizer_state, "BATCHES", {TINY: (2, 16)})
    monkeypatch.setattr(optimizer_state, "_A_POINT", 2)
    ours = [each for each in CONTESTANTS if each.package is None]
    assert [(each.optimizer_state, each.master_weights) for each in ours] == [
        ("fp32", "fp32"), ("8bit", "fp32"), ("fp32", "bf16_sr"), ("8bit", "bf16_sr"),
    ]  # fmt: skip
    device = torch.device("cpu")
    found = [curve(each, text, TINY, 0, 5, device=device, version="reference") for each in ours]
    for each in found:
        assert len(each["losses_nats"]) == 3
        assert each["losses_nats"] == pytest.approx(found[0]["losses_nats"], rel=0.005)
        assert each["held_out_nats"] == pytest.approx(found[0]["held_out_nats"], rel=0.005)
    assert len({json.dumps(each) for each in found}) == len(ours)


def test_another_optimizer_takes_the_place_of_the_trainers() -> None:
    asked: list[Any] = []

    def make(groups: Any, rate: torch.Tensor, options: Any) -> torch.optim.Optimizer:
        asked.append((len(groups), groups[0]["weight_decay"], groups[1]["weight_decay"], float(rate)))
        return torch.optim.SGD(groups, lr=0.5)

    config = preset(TINY, n_seq=16, vocab_size=50)
    made = Contestant(name="other", make=make).trainer(
        config, device=torch.device("cpu"), kernel_version="reference"
    )
    made.set_learning_rate(0.25)
    assert isinstance(made.optimizer, torch.optim.SGD)
    assert {group["lr"] for group in made.optimizer.param_groups} == {0.25}
    assert asked == [(2, 0.1, 0.0, pytest.approx(1e-3))]


def test_a_package_that_is_missing_is_no_contestant() -> None:
    assert EXACT.is_installed
    assert not Contestant(name="a", package="no_such_package").is_installed


def test_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path, asked = tmp_path / "results.json", list[str]()

    def measure(name: str) -> int:
        asked.append(name)
        return len(asked)

    for _ in range(2):
        kept = Kept(path, {"steps_of_a_curve": 3})
        for name in ("a", "b"):
            kept("curves", name, lambda name=name: measure(name))  # type: ignore[misc]
    assert asked == ["a", "b"]
    assert json.loads(path.read_text(encoding="utf-8"))["curves"] == {"a": 1, "b": 2}
    with pytest.raises(SystemExit, match="expected results of the same steps_of_a_curve, got others"):
        Kept(path, {"steps_of_a_curve": 4})


def test_differences_are_against_the_same_seed_and_the_worst_counts() -> None:
    def made(end: float, held_out: float) -> dict[str, Any]:
        return {"losses_nats": [9.0, end, end, end, end], "held_out_nats": held_out}

    other = "ours, 8 bits"
    curves = {
        f"small seed 0 {EXACT.name}": made(2.0, 3.0),
        f"small seed 1 {EXACT.name}": made(4.0, 5.0),
        f"small seed 0 {other}": made(2.002, 3.0),
        f"small seed 1 {other}": made(4.0, 4.97),
        f"small seed 2 {other}": made(1.0, 1.0),  # its float32 is not there yet
    }
    pairs = differences(curves)
    assert list(itertools.chain(*pairs["small", other])) == pytest.approx([0.001, 0, 0, -0.006])
    step = {"bytes_a_parameter": 6.03, "step_s": {"median_s": 1e-3, "low_s": 9e-4, "high_s": 2e-3}}
    text = report({"gpu": "X", "steps_of_a_curve": 2000, "steps": {"small": {other: step}}, "curves": curves})
    (line,) = [line for line in text.splitlines() if "0.600%" in line]
    assert line.rstrip(" |").endswith("no")
    assert "6.03" in text
    assert "[0.900, 2.000]" in text
