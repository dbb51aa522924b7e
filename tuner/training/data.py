"""Text files as token streams, and the random windows a training step reads from them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

Tokenizer = Literal["bytes", "gpt2"]


class DataError(ValueError):
    """A text that cannot be trained on: one line with the file and what to do."""


def load_tokens(path: Path, tokenizer: Tokenizer = "bytes") -> Tensor:
    """All tokens of a text file, int64 [count]: its bytes, or GPT-2's byte-pair tokens.

    Raises: DataError where the file cannot be read, or GPT-2's tokens are asked for and tiktoken or its
    vocabulary files are not at hand.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give --data a text file") from error
    if tokenizer == "bytes":
        return torch.frombuffer(bytearray(raw), dtype=torch.uint8).long() if raw else torch.empty(0).long()
    try:
        import tiktoken

        encoding = tiktoken.get_encoding("gpt2")
    except ImportError as error:
        raise DataError("--tokenizer gpt2: tiktoken is not installed; install it or use bytes") from error
    except Exception as error:  # tiktoken fetches its files with requests, whose errors it does not wrap
        raise DataError(
            "--tokenizer gpt2: tiktoken's vocabulary files are not at hand and could not be fetched "
            f"({type(error).__name__}); set TIKTOKEN_CACHE_DIR to where they are, or use bytes"
        ) from error
    return torch.tensor(encoding.encode_ordinary(raw.decode("utf-8", errors="replace")), dtype=torch.long)


def split_tokens(tokens: Tensor, n_seq: int, held_out: float = 0.05) -> tuple[Tensor, Tensor]:
    """(training part, held-out tail), each at least one window of n_seq + 1 tokens.

    Raises: DataError where the text is too short for both.
    """
    tail = max(int(len(tokens) * held_out), n_seq + 1)
    if len(tokens) < tail + n_seq + 1:
        raise DataError(
            f"--data: expected at least {2 * (n_seq + 1)} tokens for n_seq={n_seq}, got {len(tokens)}; "
            "give a longer text or settings with a smaller n_seq"
        )
    return tokens[:-tail], tokens[-tail:]


class WindowSampler:
    """Random windows of a token stream, reproducible and resumable."""

    def __init__(self, tokens: Tensor, *, batch_size: int, n_seq: int, seed: int) -> None:
        self.tokens = tokens
        self.batch_size = batch_size
        self.n_seq = n_seq
        self.generator = torch.Generator().manual_seed(seed)

    def batch(self) -> Tensor:
        """The next batch, int64 [batch_size, n_seq + 1] on the CPU."""
        last = len(self.tokens) - self.n_seq
        starts = torch.randint(0, last, (self.batch_size, 1), generator=self.generator)
        return self.tokens[starts + torch.arange(self.n_seq + 1)]


def unigram_entropy(tokens: Tensor) -> float:
    """Entropy of the token frequencies in nats: the best loss of a model that ignores context."""
    counts = torch.bincount(tokens).double()
    p = counts[counts > 0] / counts.sum()
    return float(-(p * p.log()).sum()) if len(p) > 1 else 0.0


def warmup_factor(step: int, warmup_steps: int, total_steps: int) -> float:
    """Learning-rate factor: linear warm-up, then half a cosine down to a tenth."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = min((step - warmup_steps) / max(total_steps - warmup_steps, 1), 1.0)
    return 0.55 + 0.45 * math.cos(math.pi * progress)
