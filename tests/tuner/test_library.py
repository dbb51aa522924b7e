"""What `from phase8_tune import …` gives: on runs that earlier versions left, silent and without torch."""

from __future__ import annotations

import base64
import inspect
import re
import shutil
import subprocess
import sys
import textwrap
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest

import phase8_tune
from phase8_tune import Phase8TuneError, load_run, load_settings, recommend, verify
from phase8_tune.tuner import library
from phase8_tune.tuner.goals.goals import Goal
from phase8_tune.tuner.records.results import Results
from phase8_tune.tuner.report.run import Environment, Run
from phase8_tune.tuner.report.shown import RunAnswer
from phase8_tune.tuner.training.settings import load_settings as read_settings
from phase8_tune.tuner.training.verification import Verification
from phase8_tune.tuner.values.errors import NothingFitsError, UserInputError

from .report_records import GPU, VERSIONS, make_candidate, make_record

EARLIER = Path(__file__).parent.parent / "formats" / "2026-11-main"
PAGE = Path(phase8_tune.__file__).parent / "docs" / "library.md"
RUNS = ("finished", "interrupted", "planned", "../2026-11-records-2/finished")


def made_run(model: str = "small") -> Run:
    """A run of one record, whose model is called that."""
    record = make_record(make_candidate(model=model), parameters=1000)
    results = Results.of([record])
    environment = Environment(device=GPU, versions=VERSIONS)
    return Run(
        path=Path("runs/x"), study="<b>", budget_bytes=8 * 2**30, environment=environment, results=results
    )


@pytest.mark.parametrize("name", RUNS)
def test_a_run_shows_itself_and_prints_nothing(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    run = load_run(EARLIER / name)
    device, versions = run.environment.device, run.environment.versions
    assert device is not None
    assert versions is not None
    assert (device.kind == "predicted") == (name == "planned")
    assert all(point in run.frontier for point in run.recommended)
    assert all(point in run.points for point in run.frontier)
    assert len(run.recommended) == 1
    text, page = str(run), run._repr_html_()
    assert text.startswith("Frontier ")
    assert repr(run) == text
    assert f"{run.recommended[0].candidate.model} " in text
    assert page.count("<tr>") == len(text.partition("\n\n")[2].splitlines()) - 1  # but for the rule
    [data] = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page)
    assert b"</svg>" in base64.b64decode(data)
    with pytest.raises(FrozenInstanceError):
        run.study = "another"  # type: ignore[misc]
    assert capfd.readouterr() == ("", "")


def test_texts_of_a_run_are_escaped() -> None:
    page = made_run("<script>")._repr_html_()
    assert "<td" in page
    assert ">&lt;script&gt;</td>" in page
    assert "<script" not in page
    answer = recommend(made_run(), "memory")
    shown = RunAnswer(
        goal="memory", point=answer.point, next_best=None, why=(), settings=None, text="<script>&"
    )
    assert "&lt;script&gt;&amp;" in shown._repr_html_()
    assert "<script" not in shown._repr_html_()


def test_a_run_in_which_nothing_fits_says_so() -> None:
    run = Run(
        path=Path("runs/x"),
        study="<b>",
        budget_bytes=4 * 2**30,
        environment=Environment(device=None, versions=None),
        results=Results.of([]),
    )
    assert str(run) == "<b>: nothing that was measured in this run fits 4GB"
    assert run._repr_html_() == "<p>&lt;b&gt;: nothing that was measured in this run fits 4GB</p>"
    with pytest.raises(NothingFitsError, match="fits its budget"):
        recommend(run)


@pytest.mark.parametrize("goal", Goal)
def test_an_answer_is_that_of_the_command(goal: Goal, capfd: pytest.CaptureFixture[str]) -> None:
    answer = recommend(EARLIER / "finished", goal.value)
    assert answer == recommend(load_run(EARLIER / "finished"), goal.value)
    assert answer.why[0] == f"goal {goal}: {goal.sentence}"
    assert str(answer).startswith(f"{goal}: {answer.point.candidate.describe()}: ")
    assert repr(answer) == str(answer)
    assert answer.settings is not None
    assert answer.settings.to_candidate() == answer.point.candidate
    assert not (EARLIER / "finished" / "recommended" / f"goal-{goal}.yaml").exists()
    assert capfd.readouterr() == ("", "")


def test_an_answer_is_held_to_what_is_asked() -> None:
    point = make_record(make_candidate(n_seq=1024, batch_size=1), tokens_per_s=10, peak_bytes=2**30)
    run = made_run()
    both = Results.of([*run.results.records, point])
    run = Run(
        path=run.path, study="s", budget_bytes=run.budget_bytes, environment=run.environment, results=both
    )
    assert recommend(run, "throughput").point.candidate.n_seq == 512
    conditions: list[dict[str, Any]] = [
        {"min_seq": 1024},
        {"vram": "1GB"},
        {"vram": 2**30},
        {"tokens_per_update": 1024},
    ]
    for asked in conditions:
        assert recommend(run, "throughput", **asked).point.candidate.n_seq == 1024
    assert recommend(run, "throughput", models="small") == recommend(run, "throughput", models=["small"])


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"goal": "contxt"}, "goal: expected one of balanced, .* did you mean context"),
        ({"law": "chinchilla"}, "law: expected one of besiroglu, hoffmann, got 'chinchilla'"),
        ({"vram": "much"}, "vram: expected a size such as 8GB"),
        ({"vram": -1}, "vram: expected a size such as 8GB"),
        ({"models": "smal"}, "--model: expected one of those that fit here"),
        ({"train_time_s": 0}, "train_time_s: expected a number above 0, got 0"),
        ({"min_seq": 10**6}, "--min-seq 1000000: nothing that fits here has it"),
    ],
)
def test_what_cannot_be_asked_of_a_run_is_said_in_a_line(asked: dict[str, Any], expected: str) -> None:
    with pytest.raises(Phase8TuneError, match=f"^{expected}"):
        recommend(made_run(), **asked)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="expected a run directory"):
        load_run(tmp_path)


def test_settings_are_read_and_verified_by_their_path(monkeypatch: pytest.MonkeyPatch) -> None:
    path = EARLIER / "finished" / "recommended" / "nano.yaml"
    settings = load_settings(str(path))
    assert settings == read_settings(path)
    seen: list[object] = []

    def verified(*given: object, **options: object) -> Verification:
        seen.extend((given, options))
        return Verification(
            path=path,
            promised_tokens_per_s=(90.0, 110.0),
            promised_peak_bytes=2**30,
            budget_bytes=2**31,
            tokens_per_s=100.0,
            peak_bytes=2**30,
            peak_source="VmHWM",
            reserved_bytes=None,
            held_out_loss=1.5,
            problems=(),
            differences=("<b> for <i>",),
        )

    monkeypatch.setattr(library, "verify_one", verified)
    found = verify(str(path), steps=3, seconds=1.5, device="cpu")
    assert seen == [(path, settings), {"data": None, "steps": 3, "steady_s": 1.5, "device": "cpu"}]
    assert found.held
    assert str(found).splitlines()[2].split()[:3] == ["nano", "100", "90–110"]
    assert "differs: &lt;b&gt; for &lt;i&gt;" in found._repr_html_()
    with pytest.raises(UserInputError, match="seconds: expected a number above 0, got 0"):
        verify(path, seconds=0)


def test_a_file_without_a_promise_is_not_verified(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("d_model: 128\nn_layers: 4\nn_seq: 32\nbatch_size: 1\n")
    with pytest.raises(UserInputError, match="expected a recommended file"):
        verify(path)


@pytest.mark.skipif(not PAGE.exists(), reason="phase8_tune is installed without its pages")
def test_the_page_names_every_call_with_what_it_takes() -> None:
    text = PAGE.read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)\(.*?(\|.*)$", text, re.M))
    calls = set(phase8_tune.__all__) - {"Phase8TuneError"}
    assert set(rows) == calls
    for name in calls:
        line = next(line for line in text.splitlines() if line.startswith(f"| `{name}("))
        for parameter in inspect.signature(getattr(phase8_tune, name)).parameters:
            assert re.search(rf"\b{parameter}\b", line), (name, parameter)


@pytest.mark.skipif(not PAGE.exists(), reason="phase8_tune is installed without its pages")
def test_the_example_of_the_page_that_reads_a_run_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(EARLIER / "planned", tmp_path / "runs" / "default-8GB-rtx-3080-laptop")
    monkeypatch.chdir(tmp_path)
    code = PAGE.read_text(encoding="utf-8").split("```python\n")[2].partition("```")[0]
    for there, here in (("small.yaml", "nano.yaml"), ("min_seq=1024", "min_seq=64"), ("6GB", "2GB")):
        assert there in code
        code = code.replace(there, here)  # an earlier run of few small configurations
    exec(code, {})
    assert "context: nano " in capsys.readouterr().out


def test_the_names_are_there_and_are_imported_when_used() -> None:
    assert set(phase8_tune.__all__) <= set(library.__all__) & set(dir(phase8_tune))
    with pytest.raises(AttributeError, match="module 'phase8_tune' has no attribute 'tune_all'"):
        phase8_tune.tune_all  # noqa: B018
    code = f"""
        import sys
        import phase8_tune
        print("torch" in sys.modules, "optuna" in sys.modules, "phase8_tune.tuner.library" in sys.modules)
        from phase8_tune import load_run, load_settings, predict, recommend, verify
        run = load_run({str(EARLIER / "finished")!r})
        recommend(run)
        str(run), run._repr_html_()
        print("torch" in sys.modules, "triton" in sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False", "False", "False", "False"]
    assert done.stderr == ""
