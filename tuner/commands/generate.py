"""`phase8-generate CHECKPOINT --prompt TEXT`: continues a text with a trained model as it comes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..values.errors import DeviceError, UserInputError
from . import options
from .entry import Unheard, enter

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..training.checkpoint import Weights
    from ..training.tokenizer import Tokenizer
    from ..workloads.trainer import Generator


class StopTexts:
    """Ends a text that comes in pieces before the first of some stop texts, wherever the pieces are cut.

    Of several it is the one that is complete first. What may be the beginning of one is held back.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.is_done = False

    def feed(self, piece: str) -> str:
        """What is certain to stand before a stop text; sets `is_done` where one is complete."""
        self._held += piece
        found = [(at + len(stop), at) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        self.is_done = self.is_done or bool(found)
        certain = min(found)[1] if found else len(self._held) - self._begun()
        told, self._held = self._held[:certain], self._held[certain:]
        return told

    def finish(self) -> str:
        """What was held back of a text that ended by itself."""
        return "" if self.is_done else self._held

    def _begun(self) -> int:
        """Characters at the end that a stop text begins with: the most of all."""
        return max(
            (n for stop in self._stops for n in range(1, len(stop)) if self._held.endswith(stop[:n])),
            default=0,
        )


def _number(context: click.Context, option: click.Parameter, value: float | None) -> float | None:
    """Callback: click's ranges take "nan" and "inf" for numbers within."""
    if value is not None and not math.isfinite(value):
        raise UserInputError(f"{option.opts[0]}: expected a number, got {value}")
    return value


@click.command(context_settings=options.HELP)
@click.argument("checkpoint", type=click.Path(path_type=Path), metavar="CHECKPOINT")
@click.option("--prompt", required=True, metavar="TEXT", help="What to continue.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="At most. [what n_seq has room for]")
@click.option("--top-k", type=click.IntRange(min=1), help="Draw from the k likeliest tokens. [all]")
@click.option(
    "--top-p",
    type=click.FloatRange(min=0, min_open=True, max=1),
    callback=_number,
    help="Draw from the likeliest that together reach this probability. [1]",
)
@click.option(
    "--temperature",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    callback=_number,
    help="Below 1 likelier tokens more often; 0 only the likeliest.",
)
@click.option(
    "--seed", type=click.IntRange(min=0, max=2**63 - 1), help="For the same draws. [others each time]"
)
@click.option("--stop", "stops", multiple=True, metavar="TEXT", help="End before this text; repeatable.")
@click.option("--device", type=click.Choice(["auto", "cuda", "cpu"]), default="auto", show_default=True)
def generate(
    checkpoint: Path,
    prompt: str,
    max_tokens: int | None,
    top_k: int | None,
    top_p: float | None,
    temperature: float,
    seed: int | None,
    stops: tuple[str, ...],
    device: str,
) -> None:
    """Continue a text with the model of CHECKPOINT, a file of phase8-train (NAME.safetensors).

    Prints the continuation, without the prompt, as it comes. It ends after --max-tokens, before a --stop, at
    the tokenizer's end of text, or where the model's n_seq positions are full.

    Exit codes: 0 done; 2 wrong input; 4 the GPU failed or ran out of memory; 128 + signal when ended by one,
    after what was printed until then.
    """
    for option, text in [("--prompt", prompt), *(("--stop", stop) for stop in stops)]:
        if not text:
            raise UserInputError(f"{option}: expected at least one character, got an empty text")
    import torch

    from ..builtin.drawing import sample

    if device == "cuda" and not torch.cuda.is_available():
        raise UserInputError("--device cuda: no CUDA GPU is visible to PyTorch; use --device cpu or auto")
    where = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    weights, tokenizer = load(checkpoint)
    ids = _encoded(prompt, tokenizer, weights)
    count = _count(max_tokens, len(ids), weights)
    generator = torch.Generator(where)
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)

    def draw(logits: Tensor) -> Tensor:
        if bool(logits.isnan().any()):
            raise UserInputError(
                f"{checkpoint}: expected a model that gives numbers, got NaN: its training diverged; "
                "take a checkpoint of before"
            )
        known = logits[:, : tokenizer.vocab_size]
        return sample(known, temperature=temperature, top_k=top_k, top_p=top_p, generator=generator)

    try:
        continued = _generator(weights, where, checkpoint)
        _print_until_stopped(_pieces(continued, torch.tensor([ids]), draw, count, tokenizer), stops)
    except torch.OutOfMemoryError as error:
        raise DeviceError(
            f"{where}: out of memory for a model of {weights.settings.parameter_count():,} "
            "parameters; close other programs, or use --device cpu"
        ) from error


def load(path: Path) -> tuple[Weights, Tokenizer]:
    """A checkpoint's model, and the tokenizer that it was trained with.

    Raises: UserInputError, one line, where it is no checkpoint, or its tokenizer cannot be had.
    """
    from ..training.checkpoint import read_weights
    from ..training.tokenizer import load_tokenizer, tokenizer_from_json

    weights = read_weights(path)
    kept = weights.tokenizer
    if kept.json is None:
        return weights, load_tokenizer(kept.name)
    return weights, tokenizer_from_json(kept.json, name=kept.name)


def _encoded(prompt: str, tokenizer: Tokenizer, weights: Weights) -> list[int]:
    """The prompt's tokens. Raises: UserInputError where there are none, or the model lacks one."""
    ids = [int(token) for token in tokenizer.encode(prompt)]
    vocab_size = weights.settings.vocab_size
    if not ids:
        raise UserInputError(f"--prompt: expected at least one token of {tokenizer.name}, got none")
    if max(ids) >= vocab_size:
        raise UserInputError(
            f"--prompt: expected tokens below the model's vocab_size={vocab_size}, got {max(ids)} from the "
            f"tokenizer {tokenizer.name}"
        )
    return ids


def _count(max_tokens: int | None, prompted: int, weights: Weights) -> int:
    """Tokens to generate at most. Raises: UserInputError where n_seq has no room for them."""
    from ..builtin.drawing import room_after

    n_seq = weights.settings.n_seq
    room = room_after(n_seq, prompted)
    if not room:
        raise UserInputError(
            f"--prompt: expected at most n_seq={n_seq} tokens, as the model was trained, got {prompted}; "
            "shorten it"
        )
    if max_tokens is not None and max_tokens > room:
        raise UserInputError(
            f"--max-tokens: expected at most {room} after {prompted} tokens of the prompt, as the model has "
            f"n_seq={n_seq} positions, got {max_tokens}"
        )
    return room if max_tokens is None else max_tokens


def _generator(weights: Weights, device: torch.device, path: Path) -> Generator:
    """The model, ready to continue texts.

    Raises: UserInputError where the tensors are not those of the settings.
    """
    import torch

    try:
        return weights.settings.make_generator(weights.tensors, device)
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise UserInputError(
            f"{path}: expected the weights of the model that its settings describe, got others; "
            "take another checkpoint"
        ) from error


def _pieces(
    generate_tokens: Generator,
    prompt: Tensor,
    draw: Callable[[Tensor], Tensor],
    count: int,
    tokenizer: Tokenizer,
) -> Iterator[str]:
    """The continuation of prompt [1, N], whole characters at a time, until the end of the text."""
    from ..training.tokenizer import decode_stream

    stream = decode_stream(tokenizer)
    for tokens in generate_tokens(prompt, draw, max_tokens=count):
        token = int(tokens[0])
        if token == tokenizer.end_of_text:
            break
        yield stream.feed([token])
    yield stream.finish()


def _print_until_stopped(pieces: Iterator[str], stops: Sequence[str]) -> None:
    """Print as it comes; the line is ended, also where the user ends it all."""
    text, has_begun = StopTexts(stops), False
    try:
        for piece in pieces:
            has_begun = True
            click.echo(text.feed(piece), nl=False)  # which flushes
            if text.is_done:
                break
        click.echo(text.finish(), nl=False)
    finally:
        if has_begun:
            click.echo()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, by default that of the process."""
    enter("phase8-generate", generate, arguments, Unheard.ENDS)


if __name__ == "__main__":
    main()
