"""The order of the rooms: contracts that notice an import turned round, and a driver that loads no torch."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import phase8_tune

ROOT = Path(phase8_tune.__file__).resolve().parent
LINT = Path(sys.executable).with_name("lint-imports")
FINISHED = ROOT / "tests" / "formats" / "2026-11-main" / "finished"

# contract's id: file, and an import that it must not have
TURNED_ROUND = {
    "houses": ("kernels/linear.py", "from ..phase8 import config"),
    "rooms": ("tuner/values/sizes.py", "from ..commands import options"),
    "predict": ("tuner/predict/trace/events.py", "from ..rate import profiles"),
    "kernels": ("kernels/linear.py", "from .block import composed"),
    "phase8": ("tuner/search/strategy.py", "from ...phase8 import config"),
}


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages' sources in a folder of their own."""
    root = tmp_path_factory.mktemp("house") / "phase8_tune"
    for folder in ("kernels", "phase8", "studies", "tuner"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("results", "__pycache__"))
    for name in ("__init__.py", "pyproject.toml"):
        shutil.copy(ROOT / name, root / name)
    return root


def lint(root: Path, contract: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LINT, "pyproject.toml", "--no-cache", "--contract", contract],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root.parent)},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("contract", TURNED_ROUND)
def test_an_import_turned_round_breaks_its_contract(copied: Path, contract: str) -> None:
    assert lint(copied, contract).returncode == 0
    path, line = TURNED_ROUND[contract]
    before = (copied / path).read_text(encoding="utf-8")
    try:
        (copied / path).write_text(f"{before}\n{line}\n", encoding="utf-8")
        broken = lint(copied, contract)
    finally:
        (copied / path).write_text(before, encoding="utf-8")
    assert broken.returncode == 1
    assert path.removesuffix(".py").replace("/", ".").rpartition(".")[0] in broken.stdout


def test_every_room_says_what_it_holds_in_at_most_five_lines() -> None:
    for init in (ROOT / "tuner").rglob("__init__.py"):
        text = init.read_text(encoding="utf-8")
        assert text.startswith('"""'), init
        if init.parent.name not in ("tuner", "workloads"):
            assert len(text.strip().splitlines()) <= 5, init


def test_only_the_room_of_places_knows_ray() -> None:
    knowing = {
        path.parent.name
        for folder in ("kernels", "phase8", "studies", "tuner")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"^\s*(?:import|from) ray\b", path.read_text(encoding="utf-8"), re.M)
    }
    assert knowing == {"places"}


_RUN = """
import sys
from {module} import main
try:
    main({arguments!r})
except SystemExit as end:
    assert end.code in (0, None, 2, 3, 4), end.code
print([name for name in ("torch", "triton", "ray", "psycopg") if name in sys.modules])
"""


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("phase8_tune.tuner.cli", ["--help"]),
        ("phase8_tune.tuner.cli", ["frontier", "none"]),
        ("phase8_tune.tuner.cli", ["recommend", "finished", "--what-if"]),
        ("phase8_tune.tuner.cli", ["report", "finished"]),
        ("phase8_tune.tuner.cli", ["compare", "finished", "other"]),
        ("phase8_tune.tuner.cli", ["gpus", "--json"]),
        ("phase8_tune.tuner.cli", ["doctor", "--json"]),
        ("phase8_tune.tuner.cli", ["predict", "--model", "64x1", "--seq", "32", "--kernel", "reference"]),
        ("phase8_tune.tuner.cli", ["predict", "--workload", "transformer", "--model", "64x1", "--seq", "32"]),
        ("phase8_tune.tuner.cli", ["workload", "check", "own_model.py:build"]),
        ("phase8_tune.tuner.cli", ["--vram", "4GB", "--gpu", "rtx-3060", "--study", "study.yaml"]),
        ("phase8_tune.tuner.cli", ["--vram", "4GB", "--device", "cpu", "--study", "study.yaml"]),
        ("phase8_tune.tuner.commands.train", ["--help"]),
    ],
    ids=lambda value: None if isinstance(value, str) else " ".join(value[:3]),
)
def test_the_driver_loads_no_torch(tmp_path: Path, module: str, arguments: list[str]) -> None:
    (tmp_path / "study.yaml").write_text(
        "name: tiny\nrows: [{model: 64x1, n_seq: 32, batch_size: 1}]\n"
        "defaults: {kernel_version: reference, gradient_checkpointing: false, mixed_precision: none}\n"
        "timing: {warmup: 0, iterations: 1}\n"
    )
    for run in ("finished", "other"):
        shutil.copytree(FINISHED, tmp_path / "runs" / run)
    shutil.copy(ROOT / "tests" / "workloads" / "own_model.py", tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", _RUN.format(module=module, arguments=arguments)],
        cwd=tmp_path,
        env={**os.environ, "PHASE8_TUNE_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
