"""The settings file of the built-in transformer: written, read, trained by, gone on with, generated from."""

from __future__ import annotations

import functools
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from phase8_tune.tuner.builtin.transformer.config import FAMILIES
from phase8_tune.tuner.builtin.transformer.model import Transformer
from phase8_tune.tuner.builtin.transformer.settings import TransformerSettings
from phase8_tune.tuner.commands.generate import main as generate
from phase8_tune.tuner.commands.train import main as train
from phase8_tune.tuner.records.frontier import to_points
from phase8_tune.tuner.records.recommend import recommend
from phase8_tune.tuner.training import verification
from phase8_tune.tuner.training.checkpoint import read_weights
from phase8_tune.tuner.training.loop import Training
from phase8_tune.tuner.training.recommended import settings_of, to_yaml, write_recommendations
from phase8_tune.tuner.training.session import Request, run_session
from phase8_tune.tuner.training.settings import load_settings
from phase8_tune.tuner.training.verification import Life, verify
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.errors import UserInputError

from ..training.training_runs import losses
from ..tuner.report_records import make_record

TINY = {
    **{"workload": "transformer", "d_model": 32, "n_layers": 2, "n_heads": 2, "n_seq": 16},
    **{"batch_size": 2, "vocab_size": 256},
}


def candidate(**changes: Any) -> Candidate:
    return Candidate(workload="transformer", model="64x2h2", batch_size=2, n_seq=16, **changes)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PHASE8_TUNE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "text.txt").write_text("she sells sea shells by the sea shore\n" * 60)
    return tmp_path


def trained(
    folder: Path, capsys: pytest.CaptureFixture[str], steps: int, name: str = "tiny", **changes: Any
) -> str:
    """What `phase8-train` says of the settings with these changes."""
    path = folder / "settings.yaml"
    path.write_text(yaml.safe_dump(TINY | changes))
    output = ["--output", str(folder / f"{name}.safetensors"), "--device", "cpu", "--log-every", "1"]
    capsys.readouterr()
    train([str(path), "--data", str(folder / "text.txt"), *output, "--steps", str(steps)])
    return capsys.readouterr().out


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": "linear_cross_entropy", "gradient_checkpointing": True},
        {"queries_per_kv": 2, "mixed_precision": "bf16"},
        {"kernel_version": "compiled"},
        {"kernel_version": "compiled", "loss": "chunked"},
    ],
    ids=lambda changes: " ".join(map(str, changes.values())),
)
def test_it_learns(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    if changes.get("loss") == "linear_cross_entropy" and not hasattr(torch.nn, "LinearCrossEntropyOptions"):
        pytest.skip("this PyTorch has no linear_cross_entropy")
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    found = losses(trained(folder, capsys, 4, n_layers=1, **changes))
    assert float(found["4"]) < float(found["1"])


@pytest.mark.parametrize(
    "changes", [{}, {"loss": "chunked", "family": "gpt2", "mixed_precision": "bf16"}], ids=["dense", "other"]
)
def test_a_training_that_goes_on_is_the_uninterrupted_one(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    whole = losses(trained(folder, capsys, 6, "whole", **changes))
    take_step = Training._take_step

    def step(training: Training) -> None:
        take_step(training)
        if training.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Training, "_take_step", step)
    with pytest.raises(SystemExit):
        trained(folder, capsys, 6, "half", **changes)
    monkeypatch.setattr(Training, "_take_step", take_step)
    said = trained(folder, capsys, 6, "half", **changes)
    assert "resumed at step 3" in said
    assert losses(said) == {step: loss for step, loss in whole.items() if step in "456"}
    one, other = (read_weights(folder / f"{name}.safetensors").tensors for name in ("whole", "half"))
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def test_several_batches_are_one_update(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "settings.yaml"
    trained(folder, capsys, 1, "one", batch_size=4)
    path.write_text(yaml.safe_dump(TINY))
    request = ["--data", str(folder / "text.txt"), "--device", "cpu", "--steps", "1", "--log-every", "1"]
    train([str(path), *request, "--tokens-per-update", "64", "--output", str(folder / "two.safetensors")])
    assert "2 batches of 32 tokens an update: 64 tokens" in capsys.readouterr().out
    one, two = (read_weights(folder / f"{name}.safetensors").tensors for name in ("one", "two"))
    assert not torch.equal(one["tokens.weight"], two["tokens.weight"])  # other windows of the text
    assert {name: t.shape for name, t in one.items()} == {name: t.shape for name, t in two.items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_it_generates_what_whole_forward_passes_say(
    folder: Path, capsys: pytest.CaptureFixture[str], family: str
) -> None:
    trained(folder, capsys, 12, family=family, queries_per_kv=2, n_seq=32)
    path = folder / "tiny.safetensors"
    weights = read_weights(path)
    model = Transformer(weights.settings.to_config())
    model.load_state_dict(weights.tensors)
    ids = list(b"she ")
    with torch.no_grad():
        for _ in range(29):  # the last is drawn where no position is left
            ids.append(int((model(torch.tensor([ids]))[0, -1] @ model.head.T)[:256].argmax()))
    capsys.readouterr()
    generate([str(path), "--prompt", "she ", "--temperature", "0", "--device", "cpu"])
    assert capsys.readouterr().out == bytes(ids[4:]).decode("utf-8", "replace") + "\n"


def test_a_checkpoint_of_another_workload_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(folder, capsys, 1)
    phase8 = "d_model: 32\nn_layers: 2\nn_seq: 16\nbatch_size: 2\nn_heads: 2\nhtt_rank: 4\nvocab_size: 256\n"
    (folder / "other.yaml").write_text(phase8)
    with pytest.raises(SystemExit, match="2"):
        train(
            [
                *(str(folder / "other.yaml"), "--data", str(folder / "text.txt")),
                *("--output", str(folder / "tiny.safetensors"), "--device", "cpu"),
            ]
        )
    told = capsys.readouterr().err
    assert "workload: expected phase8 as in the settings, got a checkpoint of transformer" in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"loss": "chunked", "kernel_version": "compiled"},
        {"family": "gpt2", "queries_per_kv": 2, "vocab_size": 8192, "gradient_checkpointing": True},
    ],
)
def test_a_candidate_and_its_file_are_the_same(tmp_path: Path, changes: dict[str, Any]) -> None:
    record = make_record(candidate(**changes), parameters=1000)
    (point,) = recommend(to_points([record]))
    (path,) = write_recommendations([point], tmp_path)
    assert path.name.startswith("transformer-64x2h2")
    settings = load_settings(path)
    assert settings == settings_of(point)
    assert settings.to_candidate() == record.to_candidate()
    assert settings.measured is not None
    assert settings.measured.digest == record.digest
    assert path.read_text().splitlines()[:4] == ["d_model: 64", "n_layers: 2", "n_seq: 16", "batch_size: 2"]
    assert "format_version: 3\nworkload: transformer\n" in path.read_text()
    write_recommendations([], tmp_path)
    assert not path.exists()


def test_four_keys_and_the_workload_are_enough(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text("workload: transformer\nd_model: 512\nn_layers: 8\nn_seq: 512\nbatch_size: 4\n")
    settings = load_settings(path)
    found = settings.to_candidate()
    assert found == Candidate(
        workload="transformer", model="small", batch_size=4, n_seq=512, mixed_precision="none"
    )


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("workload: transfromer", "workload: expected 'phase8' or 'transformer', got 'transfromer'"),
        ("workload: hf", "workload: expected 'phase8' or 'transformer', got 'hf'"),
        ("workload: 3", "workload: expected 'phase8' or 'transformer', got 3"),
        ("loss: dens", "loss: expected 'dense', 'chunked', 'linear_cross_entropy' or 'liger', got 'dens'"),
        ("queries_per_kv: 3", "queries_per_kv: expected a divisor of the 2 heads, got 3"),
        ("htt_rank: 4", "htt_rank: unknown key; expected one of d_model"),
        ("model: small", "d_model: expected 512 for model: small (or another name for model), got 32"),
        ("model: nanoo", "model: expected nano, or a name unlike a preset's, got 'nanoo'; correct it"),
    ],
)
def test_nonsense_is_one_line_with_file_and_key(tmp_path: Path, line: str, told: str) -> None:
    path = tmp_path / "t.yaml"
    key, _, value = line.partition(": ")
    path.write_text(yaml.safe_dump(TINY | {key: yaml.safe_load(value)}))
    with pytest.raises(UserInputError) as caught:
        load_settings(path)
    assert str(caught.value).startswith(f"{path}: {told}")


def test_liger_s_kernel_is_not_asked_for_on_a_cpu() -> None:
    settings, told = TransformerSettings.model_validate(TINY | {"loss": "liger"}).for_cpu()
    assert settings.loss == "chunked"
    assert told is not None
    assert settings.for_cpu() == (settings, None)


def test_what_it_promises_can_be_verified(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sessions of a life, in this process."""

    def live(path: Path, request: dict[str, Any]) -> Life:
        paths = {key: Path(request[key]) for key in ("settings_file", "output")}
        found = run_session(Request(**(request | paths)))
        assert found is not None
        assert found.peak_bytes is not None
        answer = {
            "tokens_per_s": found.tokens_per_s,
            "held_out_loss": found.held_out_loss,
            "reserved_bytes": None,
        }
        return Life(answer=answer, peak_bytes=found.peak_bytes, peak_source="in this process")

    monkeypatch.setattr(verification, "live", live)
    record = make_record(candidate(vocab_size=256), parameters=1000, tokens_per_s=10.0)
    (point,) = to_points([record])
    path = folder / "t.yaml"
    settings = settings_of(point)
    assert settings is not None
    path.write_text(to_yaml(settings))
    found = verify(path, settings, data=str(folder / "text.txt"), steps=4, steady_s=0.2, device="cpu")
    assert found.held_out_loss is not None
    assert [problem for problem in found.problems if "tokens/s, where" not in problem] == []
