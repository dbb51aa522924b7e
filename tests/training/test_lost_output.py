"""`phase8-train` whose standard output is lost: it says so and trains to its end."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import IO

SETTINGS = """\
{d_model: 32, n_layers: 1, n_seq: 16, batch_size: 2, n_heads: 2, htt_rank: 4, vocab_size: 256}
"""
STEPS = 4


def trained(folder: Path, stdout: int | IO[str]) -> subprocess.CompletedProcess[str]:
    (folder / "tiny.yaml").write_text(SETTINGS)
    (folder / "text.txt").write_text("".join(random.Random(0).choices("abcdefgh ", k=4000)))
    command = [sys.executable, "-m", "phase8_tune.tuner.commands.train", "tiny.yaml", "--data", "text.txt"]
    command += ["--device", "cpu", "--steps", str(STEPS), "--log-every", "1"]
    return subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PHASE8_TUNE_CACHE": str(folder / "cache")},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )


def is_whole(folder: Path) -> bool:
    lines = (folder / "tiny.metrics.jsonl").read_text().splitlines()
    steps = [line["step"] for line in map(json.loads, lines) if "loss" in line]
    made = {path.name for path in folder.glob("tiny.*")}
    return steps == [1, 2, 3, 4] and {"tiny.safetensors", "tiny.resume.safetensors", "tiny.svg"} <= made


def test_a_reader_that_left_ends_no_training(tmp_path: Path) -> None:
    """`phase8-train … | head`"""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = trained(tmp_path, writing)
    finally:
        os.close(writing)
    assert done.stderr == (
        "phase8-train: standard output: nobody reads it any more; goes on to its end without it\n"
    )
    assert done.returncode == 0
    assert is_whole(tmp_path)


def test_a_log_on_a_full_disk_ends_no_training(tmp_path: Path) -> None:
    """`phase8-train … > log`, and the disk of the log is full."""
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = trained(tmp_path, full)
    first, last = done.stderr.splitlines()
    assert first.endswith("standard output: No space left on device; goes on to its end without it")
    assert last.endswith("got: No space left on device; all else is done")
    assert done.returncode == 2
    assert is_whole(tmp_path)
