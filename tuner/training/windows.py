"""Random windows of a token stream: each batch follows from the seed and its number alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.unsignedinteger]


class WindowSampler:
    """Windows of n_seq + 1 tokens. Batch k is the same in every process, so that nothing is kept to resume.

    tokens: [count], more than n_seq of them, possibly mapped from a file.
    """

    def __init__(self, tokens: Tokens, *, batch_size: int, n_seq: int, seed: int) -> None:
        self._tokens, self._batch_size, self._n_seq, self._seed = tokens, batch_size, n_seq, seed

    def batch(self, number: int) -> NDArray[np.int64]:
        """The batch of this number, from 0: int64 [batch_size, n_seq + 1]."""
        # One key, and the batch's number in the counter's highest word: streams that never meet.
        random = np.random.Generator(np.random.Philox(key=self._seed, counter=[0, 0, 0, number]))
        starts = random.integers(0, len(self._tokens) - self._n_seq, size=self._batch_size)
        return np.stack([self._tokens[start : start + self._n_seq + 1] for start in starts]).astype(np.int64)


def held_out_batches(tokens: Tokens, *, batch_size: int, n_seq: int, limit: int) -> list[NDArray[np.int64]]:
    """The windows of a held-out stream one after the other, int64 [B, n_seq + 1], in at most `limit` batches.

    B is batch_size, or less where the stream has fewer windows than one batch holds.
    """
    count = len(tokens) // (n_seq + 1)
    batch_size = min(batch_size, count)
    batches = min(limit, count // batch_size)
    windows = np.asarray(tokens[: batches * batch_size * (n_seq + 1)]).astype(np.int64)
    return list(windows.reshape(batches, batch_size, n_seq + 1))
