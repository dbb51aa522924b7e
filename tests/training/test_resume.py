"""Going on from a checkpoint: what differs is said, and an end in mid-evaluation leaves nothing out."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest
import torch

from phase8_tune.phase8.training import Trainer
from phase8_tune.tuner.training.checkpoint import Progress, read_checkpoint, read_weights
from phase8_tune.tuner.training.settings import load_settings
from phase8_tune.tuner.training.windows import WindowSampler

from .training_runs import SETTINGS, Run, losses, refused


def progress(folder: Path, name: str = "tiny") -> Progress:
    return read_checkpoint(
        folder / f"{name}.resume.safetensors", load_settings(folder / "tiny.yaml")
    ).progress


def evaluations(output: str) -> list[str]:
    return re.findall(r"^step .* held-out loss .*$", output, re.M)


def test_what_would_silently_be_ignored_is_refused_and_what_changes_is_said(run: Run, folder: Path) -> None:
    run("--steps", 3, "--seed", 3)
    refused(run("--steps", 2), "--steps: expected at least the 3")
    refused(run("--steps", 5, "--seed", 7), "--seed: expected 3")
    done = run("--steps", 3)
    assert done.exit_code == 0
    assert "nothing to do" in done.stdout
    (folder / "other.txt").write_text("another text altogether " * 40)
    (folder / "wide.yaml").write_text(SETTINGS.replace("batch_size: 2", "batch_size: 3"))
    changed = run(
        "--steps", 5, "--output", folder / "tiny.safetensors", data="other.txt", settings="wide.yaml"
    )
    assert changed.exit_code == 0
    for text in ("batch_size: 2 until now, goes on with 3", "another text", "--steps: 3 until now"):
        assert text in changed.stdout
    anew = run("--steps", 2, "--seed", 7, "--no-resume")
    assert set(losses(anew.stdout)) == {"1", "2"}


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ((), ("--learning-rate", "5e-4"), "--learning-rate: 0.001 until now, goes on with 0.0005"),
        ((), ("--warmup", "2"), "--warmup: 1 steps until now, goes on with 2"),
        (("--warmup", "2"), (), "--warmup: 2 steps until now, goes on with 1"),
        (
            (),
            ("--tokens-per-update", "100"),
            "--tokens-per-update: 32 tokens until now, goes on with 128",
        ),
        (
            ("--tokens-per-update", "100"),
            (),
            "--tokens-per-update: 128 tokens until now, goes on with 32",
        ),
    ],
)
def test_another_rate_or_update_is_said_and_wins(
    run: Run, folder: Path, before: tuple[str, ...], after: tuple[str, ...], told: str
) -> None:
    run("--steps", 2, *before)
    changed = run("--steps", 4, *after)
    assert changed.exit_code == 0
    assert told in changed.stdout.splitlines()
    again = run("--steps", 5, *after)  # which is how it was now
    assert [line for line in again.stdout.splitlines() if "until now" in line] == [
        "--steps: 4 until now; the learning rate now falls until step 5"
    ]


def test_the_same_command_has_nothing_to_say(run: Run, folder: Path) -> None:
    options = ("--steps", 4, "--warmup", 3, "--learning-rate", "2e-3", "--tokens-per-update", 64)
    run(*options)
    assert "until now" not in run(*options).stdout


def test_another_batch_size_alone_is_one_line(run: Run, folder: Path) -> None:
    run("--steps", 2)
    (folder / "wide.yaml").write_text(SETTINGS.replace("batch_size: 2", "batch_size: 3"))
    changed = run("--steps", 2, "--output", folder / "tiny.safetensors", settings="wide.yaml")
    assert "--tokens-per-update" not in changed.stdout


def test_batches_go_on_where_they_were_whatever_an_update_is(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    batch = WindowSampler.batch

    def note(sampler: WindowSampler, number: int) -> object:
        taken.append(number)
        return batch(sampler, number)

    run("--steps", 3, "--tokens-per-update", 100)
    monkeypatch.setattr(WindowSampler, "batch", note)
    run("--steps", 5)
    run("--steps", 6, "--tokens-per-update", 64)
    # Each session begins with a step that is forgotten, on the batch that it goes on with.
    assert taken == [12, 12, 13, 14, 14, 15]
    assert progress(folder).batches == 16


def test_the_best_of_another_text_is_not_the_best_of_this_one(run: Run, folder: Path) -> None:
    (folder / "easy.txt").write_text("a" * 4000)
    run("--steps", 3, "--learning-rate", "1e-2", data="easy.txt")
    easy = progress(folder).best_loss
    assert easy is not None
    changed = run("--steps", 4)
    assert "another text than until now" in changed.stdout
    assert "tiny.best.safetensors is replaced" in changed.stdout
    hard = progress(folder).best_loss
    assert hard is not None
    assert hard > easy
    last = read_weights(folder / "tiny.safetensors").tensors
    best = read_weights(folder / "tiny.best.safetensors").tensors
    assert all(torch.equal(last[name], tensor) for name, tensor in best.items())
    assert "another text" not in run("--steps", 5).stdout  # it is this one until now
    done = run("--steps", 5, data="easy.txt").stdout
    assert "nothing to do" in done
    assert "goes on with" not in done


def test_a_signal_in_an_evaluation_ends_it_and_it_is_made_up_for(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--steps", 4, "--evaluate-every", 2)
    whole = run(*options, "--output", folder / "whole.safetensors")
    evaluate, calls = Trainer.evaluate, 0
    ends = {1: signal.SIGTERM, 7: signal.SIGINT}  # in the first of the 5 batches of each evaluation

    def interrupt(trainer: Trainer, tokens: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if (number := ends.get(calls)) is not None:
            os.kill(os.getpid(), number)
        return evaluate(trainer, tokens)

    monkeypatch.setattr(Trainer, "evaluate", interrupt)
    part = run(*options, "--output", folder / "half.safetensors")
    refused(part, "interrupted at step 2; saved", code=143)
    assert calls == 1
    last = run(*options, "--output", folder / "half.safetensors")
    refused(last, "interrupted at step 4; saved", code=130)
    assert calls == 7
    end = run(*options, "--output", folder / "half.safetensors")  # all steps are done, an evaluation is owed
    assert end.exit_code == 0
    assert calls == 12
    assert evaluations(last.stdout + end.stdout) == evaluations(whole.stdout)
    assert "nothing to do" in run(*options, "--output", folder / "half.safetensors").stdout
    for name in ("{}.safetensors", "{}.best.safetensors", "{}.resume.safetensors"):
        assert (folder / name.format("half")).read_bytes() == (folder / name.format("whole")).read_bytes()
    lines = [json.loads(line) for line in (folder / "half.metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "held_out_loss" in line] == [2, 4]
