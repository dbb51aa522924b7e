"""`phase8-train` end to end: trains, resumes exactly, and refuses what it does not understand in one line."""

import random
import re

import pytest
import torch
from click.testing import CliRunner

from phase8_tune.phase8.training import Trainer
from phase8_tune.tuner.commands.train import main
from phase8_tune.tuner.training import checkpoint
from phase8_tune.tuner.training.checkpoint import save_checkpoint

SETTINGS = """\
d_model: 32
n_layers: 1
n_seq: 16
batch_size: 2
n_heads: 2
htt_rank: 4
vocab_size: 256
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "tiny.yaml").write_text(SETTINGS)
    (tmp_path / "text.txt").write_text("".join(random.Random(0).choices("abcdefgh ", k=4000)))
    return tmp_path


def run(folder, *arguments, data="text.txt", settings="tiny.yaml"):
    command = [str(folder / settings), "--data", str(folder / data), "--log-every", "1", *map(str, arguments)]
    return CliRunner().invoke(main, command, catch_exceptions=False)


def losses(output):
    return dict(re.findall(r"step (\d+)/\d+  loss (\S+)", output))


def test_trains_and_reports(folder):
    result = run(folder, "--steps", 5)
    assert result.exit_code == 0
    assert set(losses(result.stdout)) == set("12345")
    assert "tokens/s" in result.stdout
    assert "held-out loss" in result.stdout
    assert (folder / "tiny.pt").exists()


def test_settings_for_a_gpu_train_on_a_cpu_with_the_reference_kernels(folder):
    fast = SETTINGS + "use_triton_kernel: true\ntriton_kernel_version: fast\n"
    (folder / "fast.yaml").write_text(fast)
    result = run(folder, "--steps", 2, "--device", "cpu", settings="fast.yaml")
    assert result.exit_code == 0
    assert "the fast kernels need a GPU" in result.stdout
    plain = run(folder, "--steps", 2, "--device", "cpu")
    assert losses(result.stdout) == losses(plain.stdout)


def test_a_resumed_run_is_the_uninterrupted_run(folder, monkeypatch):
    whole = run(folder, "--steps", 8, "--save-every", 4, "--output", folder / "whole.pt")
    stops = [KeyboardInterrupt()]

    def save_then_stop_once(path, **state):
        save_checkpoint(path, **state)
        if stops:
            raise stops.pop()

    # The rate's schedule depends on the total: the first half must aim at the same total and be interrupted.
    monkeypatch.setattr(checkpoint, "save_checkpoint", save_then_stop_once)
    first = run(folder, "--steps", 8, "--save-every", 4, "--output", folder / "half.pt")
    assert first.exit_code == 130
    assert "interrupted at step 4" in first.stderr
    second = run(folder, "--steps", 8, "--save-every", 4, "--output", folder / "half.pt")
    assert "resumed" in second.stdout
    assert losses(first.stdout) | losses(second.stdout) == losses(whole.stdout)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("learning: 3\n", "learning"),
        ("batch_size: -2\n", "batch_size"),
        ("batch_size: 2\nmixed_precision: int3\n", "mixed_precision"),
        ("d_model: [\n", "not valid YAML"),
    ],
)
def test_settings_that_are_not_understood_are_refused(folder, change, expected):
    kept = SETTINGS if change.startswith("learning") else SETTINGS.replace("batch_size: 2\n", "")
    (folder / "bad.yaml").write_text(kept + change)
    result = run(folder, settings="bad.yaml")
    assert result.exit_code == 2
    assert expected in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_missing_or_short_text_is_refused(folder):
    (folder / "short.txt").write_text("too short")
    for data in ("none.txt", "short.txt"):
        result = run(folder, data=data)
        assert result.exit_code == 2
        assert result.stderr.count("\n") == 1


def test_a_foreign_or_damaged_checkpoint_is_refused(folder):
    run(folder, "--steps", 1)
    (folder / "other.yaml").write_text(SETTINGS.replace("n_layers: 1", "n_layers: 2"))
    (folder / "damaged.pt").write_bytes(b"not a checkpoint")
    foreign = run(folder, "--output", folder / "tiny.pt", settings="other.yaml")
    damaged = run(folder, "--output", folder / "damaged.pt")
    for result in (foreign, damaged):
        assert result.exit_code == 2
        assert result.stderr.count("\n") == 1
    assert (folder / "damaged.pt").read_bytes() == b"not a checkpoint"


def test_tokens_outside_the_vocabulary_are_refused(folder):
    (folder / "small.yaml").write_text(SETTINGS.replace("vocab_size: 256", "vocab_size: 64"))
    result = run(folder, settings="small.yaml")
    assert result.exit_code == 2
    assert "vocab_size=64" in result.stderr


@pytest.mark.parametrize("captured", [False, True], ids=["eager", "captured"])
def test_running_out_of_memory_is_one_line(folder, monkeypatch, captured):
    def refuse(self, tokens):
        error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        if captured:
            raise RuntimeError("operation failed due to a previous error during capture") from error
        raise error

    monkeypatch.setattr(Trainer, "step", refuse)
    result = run(folder, "--steps", 1)
    assert result.exit_code == 4
    assert result.stderr.count("\n") == 1
    assert "batch 2 × 16" in result.stderr
