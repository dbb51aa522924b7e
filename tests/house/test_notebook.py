"""docs/phase8-tune.ipynb was executed, shows what came out, and its cells run with what there is now."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import phase8_tune

NOTEBOOK = Path(phase8_tune.__file__).parent / "docs" / "phase8-tune.ipynb"
LARGEST_BYTES = 500_000
STUDY = """\
name: tiny
axes:
  model: [nano]
  n_seq: [64]
  batch_size: [1, 2]
  kernel_version: [reference]
  gradient_checkpointing: [false]
  mixed_precision: [none]
"""
CHEAPER = {  # in the notebook → of the tiny study, on one card alone
    'models=["nano", "small"]': 'study="tiny.yaml"',
    'models="small"': 'models="nano"',
    'model="small"': 'model="nano"',
    "min_seq=4096": "min_seq=64",
    "seq=1024, batch=32": 'seq=64, batch=2, axes={"kernel_version": "reference", "mixed_precision": "none"}',
    'gpu="rtx-3060",': 'gpu="rtx-3060-ti",',
}

pytestmark = pytest.mark.skipif(not NOTEBOOK.exists(), reason="phase8_tune is installed without its pages")


@pytest.fixture(scope="module")
def cells() -> list[dict[str, Any]]:
    found = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert isinstance(found, list)
    return found


def sources(cells: list[dict[str, Any]], kind: str) -> list[str]:
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == kind]


def test_it_was_executed_from_first_to_last_and_shows_what_came(cells: list[dict[str, Any]]) -> None:
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    kinds = {output["output_type"] for cell in code for output in cell["outputs"]}
    assert kinds == {"execute_result", "stream"}
    assert all(cell["outputs"] for cell in code)
    streams = {output.get("name") for cell in code for output in cell["outputs"]}
    assert "stderr" not in streams
    [run, *_] = (output for cell in code for output in cell["outputs"])
    shown = "".join(run["data"]["text/html"])
    assert "data:image/svg+xml;base64," in shown
    assert "<table>" in shown
    assert NOTEBOOK.stat().st_size < LARGEST_BYTES


def test_it_says_that_all_is_predicted_and_names_no_folder_of_this_computer(
    cells: list[dict[str, Any]],
) -> None:
    assert "every figure in it is predicted" in sources(cells, "markdown")[0]
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert re.findall(r"/(?:tmp|root|home|work)/\w+", text) == []


def test_its_links_and_those_to_it_exist(cells: list[dict[str, Any]]) -> None:
    links = re.findall(r"\]\(([^)#]+)", "\n".join(sources(cells, "markdown")))
    assert len(links) > 3
    assert [link for link in links if not (NOTEBOOK.parent / link).exists()] == []
    for page in (NOTEBOOK.parent / "library.md", NOTEBOOK.parent.parent / "README.md"):
        assert "phase8-tune.ipynb)" in page.read_text(encoding="utf-8")


@pytest.mark.slow
def test_its_cells_run_as_a_script_without_a_guard_on_a_smaller_study(
    cells: list[dict[str, Any]], tmp_path: Path
) -> None:
    """What they start does not begin the script again, and torch stays out of its process."""
    script = "\n".join(sources(cells, "code"))
    for there, here in CHEAPER.items():
        assert there in script
        script = script.replace(there, here)
    script = f'print("begun")\n{script}\nimport sys\nprint("torch" in sys.modules)'
    (tmp_path / "tiny.yaml").write_text(STUDY, encoding="utf-8")
    (tmp_path / "script.py").write_text(script, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env={**os.environ, "PHASE8_TUNE_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    said = done.stdout.splitlines()
    assert said[0] == "begun"
    assert said.count("begun") == 1
    assert said[-1] == "False"
    goals = re.findall(r"^([a-z-]+) +nano \d×\d+ reference none train ", done.stdout, re.M)
    assert goals == ["balanced", "throughput", "model-size", "context", "memory", "compute-optimal"]
