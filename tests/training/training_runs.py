"""What a run of `phase8-train` in a test says, and how it is read."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

SETTINGS = """\
d_model: 32
n_layers: 1
n_seq: 16
batch_size: 2
n_heads: 2
htt_rank: 4
vocab_size: 256
"""


@dataclass
class Result:
    exit_code: int
    stdout: str
    stderr: str


Run = Callable[..., Result]


def losses(output: str) -> dict[str, str]:
    return dict(re.findall(r"step (\d+)/\d+  loss (\S+)", output))


def refused(result: Result, *expected: str, code: int = 2) -> None:
    """One line, with these words."""
    assert result.exit_code == code, result
    assert result.stderr.count("\n") == 1, result.stderr
    for text in expected:
        assert text in result.stderr
