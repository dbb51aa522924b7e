"""`phase8-generate` end to end: continues a text as the model does, refuses what cannot be in one line."""

from __future__ import annotations

import io
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from phase8_tune.phase8 import decoding
from phase8_tune.phase8.decoding import Decoder, DecodingState
from phase8_tune.phase8.model import Phase8Model
from phase8_tune.tuner.commands.generate import main
from phase8_tune.tuner.training.checkpoint import Checkpoint, Progress, Tokenization, write_weights
from phase8_tune.tuner.training.settings import TrainingSettings

SETTINGS = TrainingSettings(
    d_model=32, n_layers=2, n_seq=32, batch_size=2, n_heads=2, htt_rank=4, vocab_size=256, window=8
)


def model_of(settings: TrainingSettings, seed: int = 0) -> Phase8Model:
    """A model that is sure of what it says: an untrained one's logits are all nearly 0."""
    torch.manual_seed(seed)
    model = Phase8Model(settings.to_config())
    with torch.no_grad():
        model.embedding.core1.mul_(12)
    return model


def write(
    path: Path,
    settings: TrainingSettings = SETTINGS,
    model: Phase8Model | None = None,
    tokenizer: Tokenization | None = None,
) -> Path:
    model = model_of(settings) if model is None else model
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tokenizer = Tokenization(name="bytes") if tokenizer is None else tokenizer
    write_weights(
        path, Checkpoint(settings=settings, tensors=tensors, tokenizer=tokenizer, progress=Progress(step=1))
    )
    return path


@dataclass
class Result:
    exit_code: object
    stdout: str
    stderr: str


Run = Callable[..., Result]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write(tmp_path / "tiny.safetensors")


@pytest.fixture
def run(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object, path: Path = checkpoint, prompt: str = "hello") -> Result:
        capsys.readouterr()
        code: object = 0
        try:
            main([str(path), "--prompt", prompt, "--device", "cpu", *map(str, arguments)])
        except SystemExit as end:
            code = end.code
        return Result(code, *capsys.readouterr())

    return call


def likeliest(prompt: str, count: int, model: Phase8Model | None = None) -> bytes:
    """The likeliest continuation by whole forward passes."""
    model = model_of(SETTINGS) if model is None else model
    ids = list(prompt.encode())
    for _ in range(count):
        ids.append(int(model.next_token_logits(torch.tensor([ids])).argmax()))
    return bytes(ids[len(prompt.encode()) :])


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[int]], None]:
    """Makes every model say these tokens, whatever its weights."""

    def install(ids: Sequence[int]) -> None:
        draws = itertools.cycle(ids)
        monkeypatch.setattr(decoding, "sample", lambda logits, **choices: torch.tensor([next(draws)]))

    return install


def test_the_likeliest_continuation_is_the_models(run: Run) -> None:
    result = run("--temperature", 0, "--max-tokens", 20)
    assert result.exit_code == 0
    assert result.stdout == likeliest("hello", 20).decode("utf-8", "replace") + "\n"
    assert result.stderr == ""


def test_without_a_number_of_tokens_it_fills_n_seq(run: Run, say: Callable[[Sequence[int]], None]) -> None:
    say(b"a")
    assert run().stdout == "a" * (32 - 5 + 1) + "\n"
    assert run(prompt="x" * 32).stdout == "a\n"


def test_the_same_seed_says_the_same(run: Run) -> None:
    first, again, other = (run("--seed", seed, "--temperature", 2).stdout for seed in (1, 1, 2))
    assert first == again != other
    assert run("--temperature", 2).stdout != run("--temperature", 2).stdout


def test_one_likeliest_token_is_the_likeliest_at_any_temperature(run: Run) -> None:
    expected = run("--temperature", 0).stdout
    assert run("--top-k", 1, "--temperature", 5).stdout == expected
    assert run("--top-p", 1e-9, "--temperature", 5).stdout == expected


def test_only_tokens_of_the_tokenizer_are_drawn(tmp_path: Path, run: Run) -> None:
    settings = SETTINGS.model_copy(update={"vocab_size": 50257})
    model = model_of(settings)
    result = run(
        "--temperature", 0, "--max-tokens", 8, path=write(tmp_path / "wide.safetensors", settings, model)
    )
    ids = list(b"hello")
    for _ in range(8):
        ids.append(int(model.next_token_logits(torch.tensor([ids]))[:, :256].argmax()))
    assert result.stdout == bytes(ids[5:]).decode("utf-8", "replace") + "\n"


def test_characters_of_several_bytes_come_whole(
    run: Run, say: Callable[[Sequence[int]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces: list[str] = []
    monkeypatch.setattr("click.echo", lambda text="", nl=True, **_: pieces.append(text + "\n" * nl))
    say("né€😀".encode())
    run("--max-tokens", 10)
    assert "".join(pieces) == "né€😀\n"
    assert {"n", "é", "€", "😀"} <= set(pieces)


@pytest.mark.parametrize(
    ("stops", "expected"),
    [
        (["cde"], "ab"),
        (["xyz", "d"], "abc"),
        (["a"], ""),
        (["zz"], "abcdefgh"),
        (["hab"], "abcdefg"),  # complete in the second round
        (["€"], "abcdefgh"),
    ],
)
def test_it_ends_before_a_stop_text(
    run: Run, say: Callable[[Sequence[int]], None], stops: list[str], expected: str
) -> None:
    say(b"abcdefgh")
    arguments = [text for stop in stops for text in ("--stop", stop)]
    tokens = 10 if expected == "abcdefg" else 8
    assert run("--max-tokens", tokens, *arguments).stdout == expected + "\n"


def test_what_a_stop_text_held_back_comes_at_the_end(run: Run, say: Callable[[Sequence[int]], None]) -> None:
    say(b"abcabc")
    assert run("--max-tokens", 5, "--stop", "abcd").stdout == "abcab\n"


def test_it_ends_at_the_end_of_text(tmp_path: Path, run: Run, say: Callable[[Sequence[int]], None]) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    words = {"<|endoftext|>": 0, "a": 1, "b": 2}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(words, []))
    made.add_special_tokens(["<|endoftext|>"])
    kept = Tokenization(name="mine.json", json=made.to_str())
    path = write(tmp_path / "own.safetensors", tokenizer=kept)
    say([2, 1, 1, 0, 1])
    result = run("--max-tokens", 20, path=path, prompt="ab")
    assert (result.exit_code, result.stdout.replace(" ", "")) == (0, "baa\n")
    unknown = run(path=path, prompt="?")
    assert unknown.exit_code == 2
    assert unknown.stderr == (
        "phase8-generate: --prompt: expected at least one token of mine.json, got none\n"
    )


class Flushed(io.StringIO):
    """A stream that knows what was flushed: a pipe's reader sees no more."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = ""

    def flush(self) -> None:
        self.seen = self.getvalue()


def test_each_piece_is_flushed_before_the_next_token_is_computed(
    checkpoint: Path, say: Callable[[Sequence[int]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, seen, plain_step = Flushed(), [], Decoder.step

    def step(self: Decoder, tokens: Tensor, state: DecodingState) -> tuple[Tensor, DecodingState]:
        seen.append(stream.seen)
        return plain_step(self, tokens, state)

    say(b"abcd")
    monkeypatch.setattr(Decoder, "step", step)
    monkeypatch.setattr(sys, "stdout", stream)
    main([str(checkpoint), "--prompt", "x", "--device", "cpu", "--max-tokens", "4"])
    assert seen == ["a", "ab", "abc"]
    assert stream.seen == "abcd\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_what_was_printed(
    run: Run, say: Callable[[Sequence[int]], None], monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    plain_step, steps = Decoder.step, itertools.count(1)

    def step(self: Decoder, tokens: Tensor, state: DecodingState) -> tuple[Tensor, DecodingState]:
        if next(steps) == 3:
            os.kill(os.getpid(), number)
        return plain_step(self, tokens, state)

    say(b"abcdef")
    monkeypatch.setattr(Decoder, "step", step)
    result = run()
    assert result.exit_code == 128 + number
    assert result.stdout == "abc\n"
    assert result.stderr == "phase8-generate: interrupted; what was done until then is kept\n"


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


def test_its_help_loads_no_torch() -> None:
    code = (
        "import sys\n"
        "from phase8_tune.tuner.commands.generate import main\n"
        "main(['--help'])\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    for option in ("--prompt", "--max-tokens", "--top-k", "--top-p", "--temperature", "--seed", "--stop"):
        assert option in done.stdout
