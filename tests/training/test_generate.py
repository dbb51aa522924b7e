"""`phase8-generate` end to end: continues a text as the model does, as it comes, until it is to end."""

from __future__ import annotations

import io
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from phase8_tune.phase8.decoding import Decoder, DecodingState
from phase8_tune.phase8.model import Phase8Model
from phase8_tune.tuner.builtin import drawing
from phase8_tune.tuner.commands.generate import main
from phase8_tune.tuner.training.checkpoint import Tokenization

from .generating import SETTINGS, Result, Run, generated, model_of, write


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write(tmp_path / "tiny.safetensors")


@pytest.fixture
def run(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object, path: Path = checkpoint, prompt: str = "hello") -> Result:
        return generated(capsys, path, prompt, arguments)

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
        monkeypatch.setattr(drawing, "sample", lambda logits, **choices: torch.tensor([next(draws)]))

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
    first, again, other = (run("--seed", seed, "--temperature", 1e6).stdout for seed in (1, 1, 2))
    assert first == again != other
    assert run("--temperature", 1e6).stdout != run("--temperature", 1e6).stdout


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
