"""The benchmark of loss at the same time: on the CPU, in seconds, and gone on with where it stopped."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from phase8_tune.benchmarks import loss_at_time, loss_at_time_curve, loss_learners
from phase8_tune.benchmarks.loss_at_time_curve import Clock, Stream, held_out_loss, learn
from phase8_tune.benchmarks.loss_at_time_report import best_of, loss_at
from phase8_tune.benchmarks.loss_learners import ModelName, Plan, make_learner, matched_size
from phase8_tune.benchmarks.loss_texts import PACKAGES, code_files

CPU = torch.device("cpu")


def plan(model: ModelName = "phase8", size: str = "64x1", n_seq: int = 16, vocab_size: int = 300) -> Plan:
    version = "eager" if model == "transformer" else "reference"
    return Plan(
        model=model,
        size=size,
        n_seq=n_seq,
        vocab_size=vocab_size,
        kernel_version=version,
        mixed_precision="none",
    )


class StepClock(Clock):
    """A second a step, however long it takes."""

    def tick(self) -> float:
        self._counted_s += 1
        return self._counted_s

    def stop(self) -> float:
        return self._counted_s


@pytest.fixture(scope="module")
def text() -> dict[str, torch.Tensor]:
    """Tokens that follow each other: what comes next can be learned."""
    tokens = torch.arange(3000, dtype=torch.int16) % 290
    return {"train": tokens, "held_out": tokens[:600]}


@pytest.mark.parametrize("size", ["small", "base", "medium"])
def test_a_matched_transformer_has_the_parameters_of_phase_8(size):
    phase8 = plan(size=size, n_seq=512, vocab_size=8192)
    matched = plan("transformer", matched_size(phase8), n_seq=512, vocab_size=8192)
    assert matched.parameters() == pytest.approx(phase8.parameters(), rel=0.04)


def test_the_text_is_code_that_pip_did_not_install():
    files = code_files(2_000_000)
    assert 2_000_000 <= sum(path.stat().st_size for path in files) < 3_000_000
    parts = {part for path in files for part in path.parts}
    assert set(PACKAGES) < parts
    assert not {"pip", "plotly", "pytest"} & parts


@given(limit=st.integers(0, 5000))
def test_the_largest_batch_is_found_to_within_an_eighth(limit: int):
    tried: list[int] = []

    def fit(plan: Plan, batch: int, device: object) -> bool:
        tried.append(batch)
        return batch <= limit

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loss_learners, "fits", fit)
        found = loss_learners.largest_batch(plan("transformer"), CPU)
    assert found <= limit <= found + max(found // 8, 1)
    assert len(tried) < 20


@pytest.mark.parametrize("model", ["phase8", "phase7", "transformer"])
def test_a_curve_begins_at_the_untrained_model_and_falls(text, model):
    """What is compiled or captured before the clock runs leaves no trace in weights or optimizer."""
    untrained = held_out_loss(make_learner(plan(model), CPU), text["held_out"], plan(model))
    curve = learn(plan(model), 4, 1e-2, 40.0, text, StepClock(CPU))
    first, *_, last = curve["points"]
    assert first == {"elapsed_s": 0.0, "steps": 0, "loss": pytest.approx(untrained, rel=1e-6)}
    assert last["loss"] < first["loss"] - 0.5
    assert (last["elapsed_s"], last["steps"], len(curve["points"])) == (40.0, 40, 17)
    assert (curve["tokens"], curve["tokens_per_s"]) == (40 * 4 * 16, 4 * 16)
    assert not curve["has_diverged"]


def test_rows_are_the_same_for_every_model(text):
    first, second = (Stream(text["train"], plan(model), 3) for model in ("phase8", "transformer"))
    for _ in range(3):
        batch = first.next()
        assert torch.equal(batch, second.next())
        assert (batch.shape, batch.dtype) == ((3, 17), torch.int64)
        assert ((batch[:, 1:] - batch[:, :-1]) % 290).eq(1).all()


def test_the_best_of_several_rates_is_one_that_did_not_diverge():
    curves = [
        {"has_diverged": True, "points": [{"elapsed_s": 0.0, "loss": 1.0}]},
        {"has_diverged": False, "points": [{"elapsed_s": 0.0, "loss": 4.0}, {"elapsed_s": 2.0, "loss": 2.0}]},
        {"has_diverged": False, "points": [{"elapsed_s": 0.0, "loss": 4.0}, {"elapsed_s": 2.0, "loss": 3.0}]},
    ]
    assert best_of(curves) is curves[1]
    assert loss_at(curves[1], 0.5) == 3.5


def call(monkeypatch: pytest.MonkeyPatch, output: Path, *arguments: str) -> None:
    tiny = ["--sizes", "64x1", "--rates", "1e-3", "--seq", "16", "--vocab", "300", "--batch", "2"]
    line = ["loss_at_time", *tiny, "--text-mb", "0.05", "--output", str(output), *arguments]
    monkeypatch.setattr(sys, "argv", line)
    loss_at_time.main()


@pytest.mark.skipif(torch.cuda.is_available(), reason="batches and precision are those of a GPU there")
def test_the_same_command_goes_on_where_it_was_stopped(monkeypatch, tmp_path, capsys):
    call(monkeypatch, tmp_path, "--seconds", "0.2", "--models", "transformer")
    assert [path.name for path in (tmp_path / "curves").iterdir()] == ["64x1-transformer-0.001.json"]
    trained: list[str] = []

    def in_this_process(request: dict[str, Any]) -> dict[str, Any]:
        trained.append(request["plan"]["model"])
        return loss_at_time_curve.run(json.loads(json.dumps(request)))

    monkeypatch.setattr(loss_at_time, "train", in_this_process)
    call(monkeypatch, tmp_path, "--seconds", "0.2")
    assert trained == ["phase8", "phase7"]
    results = json.loads((tmp_path / "results.json").read_text())
    assert [curve["plan"]["model"] for curve in results["curves"]] == ["phase8", "phase7", "transformer"]
    assert results["missing"] == 0
    report = (tmp_path / "report.md").read_text()
    assert "| Phase 8 64x1" in report
    assert "![held-out loss over time](loss.png)" in report
    assert (tmp_path / "loss.png").stat().st_size > 5000
    assert json.loads((tmp_path / "environment.json").read_text())["torch"] == torch.__version__

    monkeypatch.setattr(loss_at_time, "train", lambda request: None)  # as where its process failed
    call(monkeypatch, tmp_path, "--seconds", "0.2", "--rates", "1e-3", "2e-3")
    assert "3 curves that were asked for are missing." in (tmp_path / "report.md").read_text()
    with pytest.raises(SystemExit, match="was trained with other settings or text; name another --output"):
        call(monkeypatch, tmp_path, "--seconds", "0.4")
    capsys.readouterr()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU says the batch")
def test_without_a_gpu_a_batch_is_asked_for(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["loss_at_time", "--output", str(tmp_path)])
    with pytest.raises(SystemExit):
        loss_at_time.main()
    assert "--batch: expected a batch, as there is no GPU" in capsys.readouterr().err
