"""Bad input, end to end: one line on standard error, the right exit code, no traceback, nothing lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BROKEN = {
    "bracket.yaml": "name: [x\n",
    "unknown_key.yaml": "name: x\naxis: {}\n",
    "batch.yaml": "name: x\nrows:\n  - {model: small, n_seq: 256, batch_size: 0}\n",
    "empty_axis.yaml": "name: x\naxes:\n  model: []\n  n_seq: [16]\n  batch_size: [1]\n"
    "  kernel_version: [reference]\n  gradient_checkpointing: [false]\n  mixed_precision: [none]\n",
    "empty.yaml": "",
    "binary.yaml": "\udcff\udcfe",
}
TINY = """
name: tiny
rows:
  - {model: nano, n_seq: 16, batch_size: 1, kernel_version: reference, gradient_checkpointing: false,
     mixed_precision: none}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in BROKEN.items():
        (tmp_path / name).write_text(text, encoding="utf-8", errors="surrogateescape")
    (tmp_path / "tiny.yaml").write_text(TINY)
    (tmp_path / "a_file").write_text("kept")
    return tmp_path


def run(folder: Path, *arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "phase8_tune.tuner.cli", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "--vram: expected the memory budget, for example --vram 8GB, got nothing"),
        ("--vram", "Option '--vram' requires an argument"),
        ("--vram banana", "--vram: expected a size such as 8GB, 7.5GB or 8192MB, got 'banana'"),
        ("--vram 0", "--vram: expected a size such as 8GB, 7.5GB or 8192MB, got '0'"),
        ("--vram -1GB", "--vram: expected a size such as 8GB, 7.5GB or 8192MB, got '-1GB'"),
        (
            "--vram 8GB --reserve lots",
            "--reserve: expected a size such as 8GB, 7.5GB or 8192MB, got 'lots'; give a size, 0 or auto",
        ),
        ("--vram 8GB --time soon", "--time: expected a length of time such as 90s"),
        ("--vram 8GB --timeout 0", "--timeout: expected a length of time such as 90s"),
        ("--vram 8GB --gpus nonsense", "--gpus: expected "),
        ("--vram 8GB --trials 0", "Invalid value for '--trials'"),
        (
            "--vram 8GB --device tpu",
            "Invalid value for '--device': 'tpu' is not one of",
        ),
        ("--vram 8GB --bogus", "No such option"),
        ("tune", "No such command 'tune'"),
    ],
)
def test_bad_options(folder: Path, arguments: str, message: str) -> None:
    code, out, err = run(folder, *arguments.split())
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith(f"phase8-tune: {message}")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ("--study nope", ["study 'nope'", "default", "or the path of a YAML file"]),
        ("--study missing.yaml", ["missing.yaml", "no such file"]),
        ("--study bracket.yaml", ["bracket.yaml", "line", "YAML"]),
        ("--study unknown_key.yaml", ["unknown_key.yaml", "axis"]),
        ("--study batch.yaml", ["batch.yaml", "rows[0].batch_size", "greater than 0"]),
        ("--study empty_axis.yaml", ["empty_axis.yaml", "axes.model", "non-empty"]),
        ("--study empty.yaml", ["empty.yaml", "expected"]),
        ("--study binary.yaml", ["binary.yaml", "UTF-8"]),
        ("--study .", ["directory"]),
        ("--device cpu --reserve 8GB --vram 4GB", ["--reserve", "less than the budget"]),
        ("--device cpu --study tiny.yaml --run a/b", ["--run", "plain folder name", "'a/b'"]),
        ("--device cpu --study tiny.yaml --runs-dir a_file", ["a_file", "Not a directory"]),
        ("--device cpu --study tiny.yaml --runs-dir . --run a_file", ["a_file", "got a file"]),
    ],
)
def test_bad_files_and_folders(folder: Path, arguments: str, parts: list[str]) -> None:
    before = sorted(folder.rglob("*"))
    code, _, err = run(folder, "--vram", "1GB", *arguments.split())
    assert code == 2
    assert "Traceback" not in err
    message = err.splitlines()[-1]
    assert [part for part in parts if part not in message] == []
    assert sum(line.startswith("phase8-tune: ") for line in err.splitlines()) == len(err.splitlines())
    assert sorted(folder.rglob("*")) == before
    assert (folder / "a_file").read_text() == "kept"


def test_a_gpu_that_is_not_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    code, _, err = run(folder, "--vram", "1GB", "--device", "cuda", "--study", "tiny.yaml")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "--device: expected an NVIDIA GPU for 'cuda', found none" in err


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (None, ["expected a run directory"]),
        ("{}", ["run.json", "format_version"]),
        ("not json", ["run.json"]),
    ],
)
def test_frontier_of_what_is_no_run(folder: Path, content: str | None, parts: list[str]) -> None:
    if content is not None:
        (folder / "runs" / "mine").mkdir(parents=True)
        (folder / "runs" / "mine" / "run.json").write_text(content)
    code, out, err = run(folder, "frontier", "mine")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert [part for part in parts if part not in err] == []


def test_help_imports_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "phase8_tune.tuner.cli", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "click" in imported
    assert not imported & {"torch", "triton", "optuna", "sqlalchemy", "numpy", "pydantic", "yaml", "tqdm"}
    assert "--vram" in done.stdout
