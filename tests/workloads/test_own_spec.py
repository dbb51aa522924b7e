"""Workloads of the user's own: what is read of them without torch, and what is told of their mistakes."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from phase8_tune.tuner.builtin.phase8.spec import SPEC as PHASE8
from phase8_tune.tuner.cli import main
from phase8_tune.tuner.predict.prediction import Predictor
from phase8_tune.tuner.predict.rate.profiles import gpu_profile
from phase8_tune.tuner.predict.store import PredictionStore
from phase8_tune.tuner.search.plan_summary import basis_of
from phase8_tune.tuner.values.axes import Axis
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.errors import UserInputError
from phase8_tune.tuner.values.workload_spec import SPECS, WorkloadSpec, known_spec
from phase8_tune.tuner.workloads import loading, spec
from phase8_tune.tuner.workloads.reading import describe
from phase8_tune.tuner.workloads.sources import workload_sources
from phase8_tune.tuner.workloads.spec import from_json, kept_specs, note_kept_specs, spec_of, to_json

OWN = Path(__file__).with_name("own_model.py")
NAME = f"{OWN}:build"


def test_every_built_in_spec_is_read_without_torch() -> None:
    text = (
        "import sys\nfrom phase8_tune.tuner.workloads.spec import spec_of\n"
        f"print([spec_of(name).name for name in {list(SPECS)}], 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{list(SPECS)} False"
    assert SPECS.keys() == loading.WORKLOADS.keys()


def test_a_file_s_spec_is_read_in_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "phase8_tune_own_own_model", raising=False)
    found = spec_of(NAME)
    assert (found.name, found.title, found.items) == (NAME, "Small classifier", "images")
    assert [axis.name for axis in found.axes] == ["size", "precision", "smooth"]
    assert "phase8_tune_own_own_model" not in sys.modules
    candidate = Candidate(workload=NAME, model="narrow", batch_size=6, smooth=True)
    assert candidate.items_per_step == 6
    assert candidate.describe() == f"{NAME} narrow 6 8 none smooth train"
    assert Candidate.from_dict({"workload": NAME, "model": "narrow", "batch_size": 6, "mode": "train"}) == (
        candidate.changed(smooth=False)
    )
    assert spec_of(NAME) is found  # read once


def test_a_spec_survives_its_json() -> None:
    axes = (
        Axis(name="a", kind=int, minimum=2, maximum=9, default=4, searched=(2, 4), is_ordered=True),
        Axis(name="b", kind=float, values=(0.5, 1.0), default=0.5, is_of_model=True, word="b{}"),
        Axis(name="c", kind=bool, default=True, phrase="with c"),
        Axis(name="d", values=("x", "y"), title="The d", plain="x", is_cell_key=True),
    )
    own = WorkloadSpec(
        name="n",
        title="t",
        axes=axes,
        items="images",
        version_axis="d",
        reference="x",
        is_checked=True,
        models=("m",),
    )
    assert from_json(json.loads(json.dumps(to_json(own)))) == own
    with pytest.raises(ValueError, match="expected one without functions"):
        to_json(PHASE8)


def test_a_run_keeps_what_was_known_of_own_workloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = WorkloadSpec(name="gone.py:build", axes=(Axis(name="size", kind=int, default=8),), items="images")
    text = kept_specs([PHASE8, own])
    assert text is not None
    assert kept_specs([PHASE8]) is None
    (tmp_path / spec.SPECS_FILE).write_text(text)
    note_kept_specs(tmp_path)
    assert known_spec("gone.py:build") == own
    (tmp_path / spec.SPECS_FILE).write_text(text.replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(UserInputError, match=r"workloads\.json: made by a later version of phase8-tune"):
        note_kept_specs(tmp_path)
    (tmp_path / spec.SPECS_FILE).write_text(text[:-9])
    with pytest.raises(UserInputError, match=r"workloads\.json: expected what was known"):
        note_kept_specs(tmp_path)


@pytest.mark.parametrize(
    ("text", "attribute", "told"),
    [
        ("x = 1\n", "build", "does not exist"),
        ("build = 1\n", "build", "expected .* to be a factory, or to have prepare"),
        ("def build(b): ...\nSPEC = {}\n", "build", "expected SPEC in the module of .* got dict"),
        ("\n\nraise OSError('no disk')\n", "build", r"OSError: no disk \(.*broken\.py:3\)"),
        ("import sys\nsys.exit('enough')\n", "build", r"SystemExit: enough \(.*broken\.py:2\)"),
        ("def build(:\n", "build", r"SyntaxError: .*broken\.py:1\)"),
        ("import no_such_module_anywhere\n", "build", r"No module named .* \(.*broken\.py:1\)"),
    ],
)
def test_what_is_wrong_with_a_module_is_one_line_with_its_place(
    tmp_path: Path, text: str, attribute: str, told: str
) -> None:
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(UserInputError, match=told) as caught:
        describe(f"{path}:{attribute}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("transfomer", r"got 'transfomer'; did you mean transformer\?; your own is FILE\.py:FACTORY"),
        ("no/such/file.py:build", "expected a Python file, got no/such/file.py, which is none"),
        ("no_such_module_anywhere:build", "cannot be imported .* put its folder on PYTHONPATH"),
    ],
)
def test_a_name_that_is_none_says_what_a_name_is(name: str, told: str) -> None:
    with pytest.raises(UserInputError, match=told):
        describe(name)


def test_a_module_that_ends_the_process_is_told(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("import os\nos._exit(5)\n")
    with pytest.raises(UserInputError, match=r"ended the process \(exit code 5\)"):
        spec_of(f"{path}:build")


def test_a_module_may_be_called_like_one_of_python_s(tmp_path: Path) -> None:
    path = tmp_path / "json.py"
    path.write_text("def build(b): ...\n")
    assert describe(f"{path}:build")["title"] == "json"
    assert sys.modules["json"] is json


def test_an_entry_point_names_a_workload(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint(name="mine", value="tests_own:build", group=loading.GROUP)
    monkeypatch.setattr(loading, "entry_points", lambda group, name: [entry] if name == "mine" else [])
    with pytest.raises(UserInputError, match=r"'mine' cannot be imported .*No module named 'tests_own'"):
        loading.load_named("mine")


@pytest.mark.parametrize(
    "change",
    [
        {"axes": (Axis(name="a", default="x"), Axis(name="a", default="y"))},
        {"axes": (Axis(name="mode", default="x"),)},
        {"items_axis": "none"},
        {"file_order": ("workload",)},
    ],
)
def test_a_spec_that_contradicts_itself_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        replace(WorkloadSpec(name="w"), **change)  # type: ignore[arg-type]


def test_a_plan_is_not_taken_for_one_of_other_code(tmp_path: Path) -> None:
    """Whoever changes the model that is planned gets another plan, or is told."""
    own = tmp_path / "mine.py"
    own.write_text(OWN.read_text(encoding="utf-8"), encoding="utf-8")
    with PredictionStore(tmp_path) as store:
        predictor = Predictor(profile=gpu_profile("rtx-3080-laptop"), store=store)
        before = basis_of(predictor, [f"{own}:build"])
        assert basis_of(predictor, [f"{own}:build"]) == before
        own.write_text(f"{own.read_text(encoding='utf-8')}\n# changed\n", encoding="utf-8")
        workload_sources.cache_clear()  # another command is another process
        assert basis_of(predictor, [f"{own}:build"]) != before
        assert basis_of(predictor, ["phase8"]) == basis_of(predictor, [])


@pytest.mark.parametrize(
    "arguments",
    [
        ["--vram", "8GB", "--gpu", "rtx-4060", "--workload", "hf", "--model", "gpt2"],
        ["predict", "--workload", "hf", "--model", "gpt2", "--seq", "64", "--gpu", "rtx-4060"],
    ],
)
def test_what_a_workload_needs_is_asked_for_before_anything_begins(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "transformers" else found(name)
    )
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "phase8-tune: --workload hf: expected transformers to be installed, found none; "
        "pip install 'phase8-tune[hf]'"
    )
    assert not list(tmp_path.iterdir())
