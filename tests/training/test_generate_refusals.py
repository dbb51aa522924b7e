"""What `phase8-generate` cannot do is one line that says what was expected, and exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from .generating import SETTINGS, Result, Run, generated, model_of, write


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write(tmp_path / "tiny.safetensors")


@pytest.fixture
def run(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object, path: Path = checkpoint, prompt: str = "hello") -> Result:
        return generated(capsys, path, prompt, arguments)

    return call


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompt", ""], "--prompt: expected at least one character, got an empty text"),
        (["--stop", ""], "--stop: expected at least one character, got an empty text"),
        (
            ["--prompt", "x" * 33],
            "--prompt: expected at most n_seq=32 tokens, as the model was trained, got 33; shorten it",
        ),
        (
            ["--max-tokens", "29"],
            "--max-tokens: expected at most 28 after 5 tokens of the prompt, as the model has n_seq=32 "
            "positions, got 29",
        ),
        (["--temperature", "nan"], "--temperature: expected a number, got nan"),
        (["--temperature", "inf"], "--temperature: expected a number, got inf"),
        (["--top-p", "nan"], "--top-p: expected a number, got nan"),
        (
            ["--top-p", "0"],
            "Invalid value for '--top-p': 0.0 is not in the range 0<x<=1; see phase8-generate --help",
        ),
        (
            ["--top-k", "0"],
            "Invalid value for '--top-k': 0 is not in the range x>=1; see phase8-generate --help",
        ),
    ],
    ids=lambda value: " ".join(value)[:20] if isinstance(value, list) else None,
)
def test_what_cannot_be_is_refused_in_one_line(run: Run, arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"phase8-generate: {message}\n"


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_refused(run: Run) -> None:
    result = run("--device", "cuda")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no CUDA GPU is visible to PyTorch; use --device cpu or auto" in result.stderr


def test_files_that_are_no_checkpoint_are_refused(tmp_path: Path, run: Run) -> None:
    (tmp_path / "text.safetensors").write_text("no tensors")
    for name in ("missing.safetensors", "text.safetensors", "."):
        result = run(path=tmp_path / name)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith(f"phase8-generate: {tmp_path / name}: expected a checkpoint")
        assert result.stderr.count("\n") == 1
        assert "remove" not in result.stderr  # it may be anything


def test_weights_of_another_model_are_refused(tmp_path: Path, run: Run) -> None:
    other = model_of(SETTINGS.model_copy(update={"n_layers": 1}))
    result = run(path=write(tmp_path / "other.safetensors", SETTINGS, other))
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "expected the weights of the model that its settings describe, got others" in result.stderr


def test_a_model_that_gives_no_numbers_is_refused(tmp_path: Path, run: Run) -> None:
    model = model_of(SETTINGS)
    with torch.no_grad():
        model.norm.weight[3] = float("nan")
    result = run(path=write(tmp_path / "diverged.safetensors", SETTINGS, model))
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "expected a model that gives numbers, got NaN: its training diverged" in result.stderr


def test_tokens_that_the_model_lacks_are_refused(tmp_path: Path, run: Run) -> None:
    small = SETTINGS.model_copy(update={"vocab_size": 128})
    path = write(tmp_path / "small.safetensors", small)
    result = run(path=path, prompt="é")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert (
        "expected tokens below the model's vocab_size=128, got 195 from the tokenizer bytes" in result.stderr
    )
