"""`phase8-train` end to end: trains, resumes exactly, and refuses what it does not understand in one line."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from pathlib import Path

import pytest
import torch

from phase8_tune.phase8.config import preset
from phase8_tune.phase8.training import Trainer
from phase8_tune.tests.tuner.report_records import make_candidate, make_record
from phase8_tune.tuner.machine.lock import ProcessLock
from phase8_tune.tuner.records.frontier import to_points
from phase8_tune.tuner.training.checkpoint import read_weights
from phase8_tune.tuner.training.loop import Training
from phase8_tune.tuner.training.places import lock_path
from phase8_tune.tuner.training.recommended import settings_of
from phase8_tune.tuner.training.room import promised_peak_bytes, staying_bytes

from .training_runs import SETTINGS, Run, losses, refused


def test_trains_and_leaves_weights_a_curve_and_metrics(run: Run, folder: Path) -> None:
    result = run("--steps", 5, "--evaluate-every", 3)
    assert result.exit_code == 0
    assert set(losses(result.stdout)) == set("12345")
    assert "tokens/s" in result.stdout
    assert "held-out loss" in result.stdout
    weights = read_weights(folder / "tiny.safetensors")
    assert weights.settings.d_model == 32
    assert weights.tokenizer.name == "bytes"
    assert "embedding.core1" in weights.tensors
    assert "<svg" in (folder / "tiny.svg").read_text()
    lines = [json.loads(line) for line in (folder / "tiny.metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4, 5]
    assert [line["step"] for line in lines if "held_out_loss" in line] == [3, 5]
    left = {path.name for path in folder.iterdir() if path.name.startswith("tiny")}
    assert left == {"tiny.yaml", "tiny.svg", "tiny.metrics.jsonl"} | {
        f"tiny{part}.safetensors" for part in ("", ".best", ".resume")
    }
    assert not list(folder.glob(".*"))


def test_settings_for_a_gpu_train_on_a_cpu_with_the_reference_kernels(run: Run, folder: Path) -> None:
    fast = SETTINGS + "use_triton_kernel: true\ntriton_kernel_version: fast\n"
    (folder / "fast.yaml").write_text(fast)
    result = run("--steps", 2, settings="fast.yaml")
    assert result.exit_code == 0
    assert "the fast kernels need a GPU" in result.stdout
    assert losses(result.stdout) == losses(run("--steps", 2).stdout)


def test_a_signal_at_any_step_saves_it_and_the_run_that_goes_on_is_the_uninterrupted_one(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--steps", 8, "--save-every", 100, "--evaluate-every", 100)
    whole = run(*options, "--output", folder / "whole.safetensors")
    take_step, ends = Training._take_step, {2: signal.SIGTERM, 5: signal.SIGHUP, 6: signal.SIGINT}

    def step(training: Training) -> None:
        take_step(training)
        if (number := ends.pop(training.step, None)) is not None:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Training, "_take_step", step)
    seen: dict[str, str] = {}
    for after, code in ((2, 143), (5, 129), (6, 130)):
        part = run(*options, "--output", folder / "half.safetensors")
        refused(part, f"interrupted at step {after}; saved", code=code)
        seen |= losses(part.stdout)
    last = run(*options, "--output", folder / "half.safetensors")
    assert "resumed at step 6" in last.stdout
    assert seen | losses(last.stdout) == losses(whole.stdout)
    for name, tensor in read_weights(folder / "whole.safetensors").tensors.items():
        assert torch.equal(tensor, read_weights(folder / "half.safetensors").tensors[name]), name
    steps = [json.loads(line) for line in (folder / "half.metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in steps if "loss" in line] == list(range(1, 9))


def test_gradients_of_several_batches_are_one_update(run: Run, folder: Path) -> None:
    result = run("--steps", 2, "--tokens-per-update", 100)
    assert "4 batches of 32 tokens an update: 128 tokens" in result.stdout
    first = run("--steps", 3, "--tokens-per-update", 100, "--output", folder / "all.safetensors")
    again = run("--steps", 3, "--tokens-per-update", 100)
    assert losses(first.stdout)["1"] == losses(result.stdout)["1"]
    assert set(losses(again.stdout)) == {"3"}


def test_settings_of_several_batches_are_trained_so(run: Run, folder: Path) -> None:
    settings = folder / "tiny.yaml"
    said = run("--steps", 2, "--tokens-per-update", 64, "--output", folder / "asked.safetensors")
    settings.write_text(settings.read_text() + "gradient_accumulation: 2\n")
    result = run("--steps", 2)
    assert "2 batches of 32 tokens an update: 64 tokens" in result.stdout
    assert losses(result.stdout) == losses(said.stdout)


def test_what_gradients_that_stay_take_is_said(folder: Path) -> None:
    """Beside the promise of a file that was found without, and not of one that was found with them."""
    candidate = make_candidate(model="medium")
    record = make_record(candidate, peak_bytes=1000)
    settings = settings_of(to_points([record])[0])
    assert settings is not None
    gradients = 4 * preset("medium", n_seq=candidate.n_seq).parameter_count()
    assert staying_bytes(settings, 1) == 0
    assert staying_bytes(settings, 2) == gradients == settings.gradient_bytes()
    assert promised_peak_bytes(settings, 2) == promised_peak_bytes(settings, 1) + gradients
    assert staying_bytes(settings.model_copy(update={"gradient_accumulation": 2}), 4) == 0


def test_time_ends_it_with_a_checkpoint(run: Run, folder: Path) -> None:
    result = run("--steps", 10000, "--max-time", "0.5s")
    assert result.exit_code == 0
    assert (folder / "tiny.resume.safetensors").exists()


def test_a_loss_that_is_no_number_ends_it_at_its_step(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Trainer.step
    calls = []

    def diverge(trainer: Trainer, tokens: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return step(trainer, tokens) * (float("nan") if len(calls) == 5 else 1)

    monkeypatch.setattr(Trainer, "step", diverge)
    result = run("--steps", 9, "--save-every", 3, "--log-every", 4)
    refused(result, "became nan at step 5", "has step 3", "--learning-rate", code=1)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("learning: 3\n", "learning"),
        ("batch_size: -2\n", "batch_size"),
        ("batch_size: 2\nmixed_precision: int3\n", "mixed_precision"),
        ("d_model: [\n", "expected valid YAML"),
        ("batch_size: 1:30\n", "batch_size"),
        ("batch_size: 2\nmodel: nanoo\n", "nano"),
    ],
)
def test_settings_that_are_not_understood_are_refused(
    run: Run, folder: Path, change: str, expected: str
) -> None:
    kept = SETTINGS if change.startswith("learning") else SETTINGS.replace("batch_size: 2\n", "")
    (folder / "bad.yaml").write_text(kept + change)
    refused(run(settings="bad.yaml"), expected)


def test_a_free_name_for_a_model_stays_possible(run: Run, folder: Path) -> None:
    (folder / "mine.yaml").write_text(SETTINGS + "model: my-model\n")
    assert run("--steps", 1, settings="mine.yaml").exit_code == 0


def test_a_text_that_cannot_be_trained_on_is_refused(run: Run, folder: Path) -> None:
    (folder / "short.txt").write_text("too short")
    (folder / "photo.txt").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(4000))
    refused(run(data="none.txt"), "none.txt")
    refused(run(data="short.txt"), "tokens")
    refused(run(data="photo.txt"), "PNG", "--force")
    assert run("--steps", 1, "--force", data="photo.txt").exit_code == 0


def test_a_foreign_or_damaged_checkpoint_is_refused(run: Run, folder: Path) -> None:
    run("--steps", 1)
    (folder / "other.yaml").write_text(SETTINGS.replace("n_layers: 1", "n_layers: 2"))
    damaged = folder / "damaged.resume.safetensors"
    damaged.write_bytes(b"not a checkpoint")
    refused(run("--output", folder / "tiny.safetensors", settings="other.yaml"), "n_layers: expected 2")
    refused(run("--output", folder / "damaged.safetensors"), "damaged")
    assert damaged.read_bytes() == b"not a checkpoint"
    refused(run("--output", folder / "old.pt"), ".safetensors")


def test_a_second_training_of_the_same_output_is_refused_with_the_firsts_process(
    run: Run, folder: Path
) -> None:
    lock = ProcessLock.take(lock_path(folder / "tiny.safetensors"))
    refused(run("--steps", 1), f"process {os.getpid()}", "--output")
    lock.close()  # its file stays, as that of a process that was killed
    assert run("--steps", 1).exit_code == 0
    assert not list(folder.glob(".*.lock"))


def test_tokens_outside_the_vocabulary_are_refused(run: Run, folder: Path) -> None:
    (folder / "small.yaml").write_text(SETTINGS.replace("vocab_size: 256", "vocab_size: 64"))
    refused(run(settings="small.yaml"), "vocab_size")


@pytest.mark.parametrize("batch", [10**13, 10**6])
def test_a_batch_that_no_memory_holds_names_the_largest(run: Run, folder: Path, batch: int) -> None:
    preset = f"d_model: 128\nn_layers: 4\nn_seq: 32\nbatch_size: {batch}\n"
    (folder / "huge.yaml").write_text(preset)
    (folder / "text.txt").write_text("words and words " * 100)
    result = run("--steps", 1, settings="huge.yaml")
    refused(result, "batch_size: expected at most")
    largest = int(re.findall(r"at most (\d+)", result.stderr)[0])
    assert 100 < largest < batch


def test_a_disk_without_room_is_refused_before_the_first_step(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: full)
    refused(run("--steps", 1), "MB of room for a checkpoint")


@pytest.mark.parametrize("captured", [False, True], ids=["eager", "captured"])
def test_running_out_of_memory_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch, captured: bool) -> None:
    def refuse(trainer: Trainer, tokens: torch.Tensor) -> torch.Tensor:
        error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        if captured:
            raise RuntimeError("operation failed due to a previous error during capture") from error
        raise error

    monkeypatch.setattr(Trainer, "step", refuse)
    refused(run("--steps", 1), "batch_size 2 × 16", code=4)
