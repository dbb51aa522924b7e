"""What earlier versions left on the disk is read, shown, gone on with; what a later one made is refused.

Each folder here holds what the version of that date wrote on a machine without a GPU:

    finished       phase8-tune --vram 4GB --device cpu --study study.yaml
    interrupted    the same with --run interrupted, killed while the second row was measured
    planned        phase8-tune --vram 4GB --gpu rtx-3080-laptop --study study.yaml
    checkpoint.pt  phase8-train settings.yaml --data text.txt --device cpu --steps 3

and 2026-11-checkpoint-2, of a later date, the checkpoint and weights that the last of these left then, with
`--evaluate-every 2 --output checkpoint.safetensors`, on the text of 2026-11-main.
"""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
import safetensors
import safetensors.numpy
import torch
import yaml
from optuna.trial import TrialState

from phase8_tune.tests.exit_codes import exit_code
from phase8_tune.tuner.cli import main
from phase8_tune.tuner.commands.train import main as train
from phase8_tune.tuner.measuring.testing import FormulaMeasurer
from phase8_tune.tuner.places import here
from phase8_tune.tuner.records.journal import read_records
from phase8_tune.tuner.records.run_directory import read_run_info
from phase8_tune.tuner.training.checkpoint import read_checkpoint, read_weights
from phase8_tune.tuner.training.settings import load_settings
from phase8_tune.tuner.values.measurement import DeviceInfo

EARLIER = sorted(path.parent for path in Path(__file__).parent.glob("*/checkpoint.pt"))
CHECKPOINT_2 = Path(__file__).parent / "2026-11-checkpoint-2"
RUNS = ("finished", "interrupted", "planned")
LATER = r"made by a later version of phase8-tune \(format {}, this one reads up to {}\); update phase8-tune\n"


class Device(FormulaMeasurer):
    """The formula in the worker's place."""

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@pytest.fixture(params=EARLIER, ids=lambda path: path.name)
def earlier(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what an earlier version left, where a command would look for it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(request.param, tmp_path / "runs"))


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> list[Device]:
    """Every measurer that a command made: a device of the name that the run was begun on."""
    made: list[Device] = []

    def make(*, budget_bytes: int, log_dir: Path, **others: object) -> Device:
        name = read_run_info(log_dir).device_name
        made.append(Device(budget_bytes, device=DeviceInfo(kind="cpu", name=name, total_bytes=2**40)))
        return made[-1]

    monkeypatch.setattr(here, "WorkerMeasurer", make)
    return made


def tune(run: str, *options: str) -> int:
    return exit_code(
        lambda: main(["--vram", "4GB", "--study", f"runs/{run}/study.yaml", "--run", run, *options])
    )


def train_on(settings: Path, steps: int, output: Path, text: Path) -> int:
    options = ["--device", "cpu", "--log-every", "1", "--steps", str(steps), "--output", str(output)]
    return exit_code(lambda: train([str(settings), "--data", str(text), *options]))


def database(run: Path) -> optuna.Study:
    return optuna.load_study(study_name=None, storage=f"sqlite:///{run / 'study.db'}")


@pytest.mark.parametrize("run", RUNS)
def test_frontier_shows_every_earlier_run(
    earlier: Path, run: str, capsys: pytest.CaptureFixture[str]
) -> None:
    records = read_records(earlier / run / "records.jsonl")
    assert [r.to_candidate().digest() for r in records] == [r.digest for r in records]
    main(["frontier", run])
    shown = capsys.readouterr().out
    kind = "predicted for" if run == "planned" else "on"
    assert f"Frontier {kind} {read_run_info(earlier / run).device_name}" in shown
    assert re.search(r"^nano .*\d", shown, re.MULTILINE)


def test_an_interrupted_run_goes_on_with_the_same_command(earlier: Path, devices: list[Device]) -> None:
    journal = earlier / "interrupted" / "records.jsonl"
    before = journal.read_bytes()
    assert tune("interrupted", "--device", "cpu") == 0
    first, second = read_records(journal)
    assert journal.read_bytes().startswith(before)
    assert devices[0].measured == [second.digest]
    assert {first.digest, second.digest} == {
        record.digest for record in read_records(earlier / "finished" / "records.jsonl")
    }
    trials = database(earlier / "interrupted").get_trials()
    done = {trial.user_attrs["digest"] for trial in trials if trial.state == TrialState.COMPLETE}
    assert done == {first.digest, second.digest}
    assert TrialState.RUNNING not in {trial.state for trial in trials}
    assert (earlier / "interrupted" / "recommended" / "nano.yaml").exists()


def test_a_finished_run_measures_nothing_again(earlier: Path, devices: list[Device]) -> None:
    before = (earlier / "finished" / "records.jsonl").read_bytes()
    assert tune("finished", "--device", "cpu") == 0
    assert devices[0].measured == []
    assert (earlier / "finished" / "records.jsonl").read_bytes() == before


def test_a_plan_of_other_figures_says_what_to_do(earlier: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tune("planned", "--gpu", "rtx-3080-laptop") == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "expected a plan of this version" in last
    assert "remove it to plan again" in last


@pytest.mark.parametrize("run", ["finished", "planned"])
def test_what_was_recommended_trains(
    earlier: Path, run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = earlier / run / "recommended" / "nano.yaml"
    settings = load_settings(path)
    assert (settings.measured is None) == (run == "planned")
    # As it is but for its precision: two steps in bf16 take a processor without it more than a minute.
    path.write_text(path.read_text().replace("mixed_precision: bf16", "mixed_precision: none"))
    assert train_on(path, 2, tmp_path / "nano.safetensors", earlier / "text.txt") == 0
    assert "step 2/2" in capsys.readouterr().out


def test_a_checkpoint_of_format_1_is_read_whole(earlier: Path) -> None:
    state = torch.load(earlier / "checkpoint.pt", weights_only=True)
    read = read_checkpoint(earlier / "checkpoint.pt", load_settings(earlier / "settings.yaml"))
    assert read.progress.step == state["step"] == 3
    weights = state["trainer"]["model"]
    for name, tensor in weights.items():
        assert torch.equal(read.tensors[f"model.{name}"], tensor)
        for kind in ("exp_avg", "exp_avg_sq"):
            assert read.tensors[f"optimizer.{kind}.{name}"].shape == tensor.shape
    kept = [moments["exp_avg"] for moments in state["trainer"]["optimizer"].values()]
    assert len(kept) == len(weights)
    assert all(any(torch.equal(t, read.tensors[f"optimizer.exp_avg.{n}"]) for n in weights) for t in kept)


def test_a_checkpoint_of_format_1_is_gone_on_with(earlier: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = earlier / "checkpoint.safetensors"
    assert train_on(earlier / "settings.yaml", 5, output, earlier / "text.txt") == 0
    told = capsys.readouterr().out
    assert "resumed at step 3" in told
    assert re.findall(r"step (\d)/5  loss", told) == ["4", "5"]
    assert (earlier / "checkpoint.resume.safetensors").exists()


def test_a_checkpoint_of_format_2_is_gone_on_with(earlier: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(shutil.copytree(CHECKPOINT_2, earlier / "format-2"))
    weights = read_weights(folder / "checkpoint.safetensors").tensors
    read = read_checkpoint(folder / "checkpoint.resume.safetensors", load_settings(folder / "settings.yaml"))
    assert all(torch.equal(tensor, weights[name]) for name, tensor in read.weights().items())
    assert read.progress.step == 3
    assert read.progress.best_loss == pytest.approx(5.6424, abs=1e-4)
    assert train_on(folder / "settings.yaml", 5, folder / "checkpoint.safetensors", earlier / "text.txt") == 0
    told = capsys.readouterr().out.splitlines()
    assert told[:2] == ["resumed at step 3", "--steps: 3 until now; the learning rate now falls until step 5"]
    steps = [line[:8] for line in told if " loss " in line and line.startswith("step")]
    assert steps == ["step 4/5", "step 5/5", "step 5/5"]


def test_what_is_written_now_says_its_format(earlier: Path, devices: list[Device]) -> None:
    run = earlier / "interrupted"
    assert tune("interrupted", "--device", "cpu") == 0
    train_on(earlier / "settings.yaml", 4, earlier / "checkpoint.safetensors", earlier / "text.txt")
    with safetensors.safe_open(earlier / "checkpoint.resume.safetensors", framework="np") as file:
        checkpoint = json.loads(file.metadata()["phase8_tune"])
    written = [
        json.loads((run / "run.json").read_text()),
        json.loads((run / "records.jsonl").read_text().splitlines()[-1]),
        database(run).user_attrs,
        yaml.safe_load((run / "recommended" / "nano.yaml").read_text()),
        checkpoint,
    ]
    assert [content["format_version"] for content in written] == [1, 3, 3, 2, 3]
    assert list(written[3])[:5] == ["d_model", "n_layers", "n_seq", "batch_size", "format_version"]


def later_record(earlier: Path) -> None:
    path = earlier / "interrupted" / "records.jsonl"
    line = json.loads(path.read_text()) | {"format_version": 7, "new_key": 1}
    path.write_text(json.dumps(line) + "\n")


def later_run(earlier: Path) -> None:
    path = earlier / "interrupted" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 2, "new_key": 1}))


def later_database(earlier: Path) -> None:
    with sqlite3.connect(earlier / "interrupted" / "study.db") as connection:
        connection.execute(
            "INSERT INTO study_user_attributes (study_id, key, value_json) VALUES (1, 'format_version', '4')"
        )
    connection.close()


def later_plan(earlier: Path) -> None:
    path = earlier / "planned" / "plan.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 2, "basis": {}}))


@pytest.mark.parametrize(
    ("change", "run", "options"),
    [
        (later_record, "interrupted", ["--device", "cpu"]),
        (later_run, "interrupted", ["--device", "cpu"]),
        (later_database, "interrupted", ["--device", "cpu"]),
        (later_plan, "planned", ["--gpu", "rtx-3080-laptop"]),
    ],
)
def test_a_run_of_a_later_version_is_refused(
    earlier: Path,
    devices: list[Device],
    change: Callable[[Path], None],
    run: str,
    options: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    change(earlier)
    before = (earlier / run / "records.jsonl").read_bytes()
    assert tune(run, *options) == 2
    refused = LATER.format(
        *((7, 6) if change is later_record else (4, 3) if change is later_database else (2, 1))
    )
    assert re.search(f"^phase8-tune: .*: {refused}\\Z", capsys.readouterr().err, re.MULTILINE)
    assert (earlier / run / "records.jsonl").read_bytes() == before
    assert not any(device.measured for device in devices)


@pytest.mark.parametrize("change", [later_record, later_run])
def test_frontier_refuses_a_run_of_a_later_version(
    earlier: Path, change: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    change(earlier)
    with pytest.raises(SystemExit, match="2"):
        main(["frontier", "interrupted"])
    refused = LATER.format(*((7, 6) if change is later_record else (2, 1)))
    assert re.fullmatch(f"phase8-tune: .*: {refused}", capsys.readouterr().err)


def test_settings_of_a_later_version_are_refused(
    earlier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = earlier / "settings.yaml"
    settings.write_text(settings.read_text() + "format_version: 5\nnew_key: 1\n")
    assert train_on(settings, 1, tmp_path / "new.safetensors", earlier / "text.txt") == 2
    told = capsys.readouterr().err
    assert re.fullmatch(f"phase8-train: .*settings.yaml: {LATER.format(5, 4)}", told)


def test_a_checkpoint_of_a_later_version_is_refused(
    earlier: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = earlier / "checkpoint.safetensors"
    train_on(earlier / "settings.yaml", 4, output, earlier / "text.txt")
    path = earlier / "checkpoint.resume.safetensors"
    with safetensors.safe_open(path, framework="np") as file:
        metadata = json.loads(file.metadata()["phase8_tune"]) | {"format_version": 6}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    safetensors.numpy.save_file(tensors, path, metadata={"phase8_tune": json.dumps(metadata)})
    before = path.read_bytes()
    capsys.readouterr()
    assert train_on(earlier / "settings.yaml", 5, output, earlier / "text.txt") == 2
    told = capsys.readouterr().err
    assert re.fullmatch(f"phase8-train: .*resume.safetensors: {LATER.format(6, 5)}", told)
    assert path.read_bytes() == before
