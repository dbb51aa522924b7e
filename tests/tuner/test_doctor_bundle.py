"""`phase8-tune doctor --bundle`: what goes into the zip, and that nothing in it says whose it was."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phase8_tune.tests.exit_codes import exit_code
from phase8_tune.tuner.cli import main
from phase8_tune.tuner.doctor import bundle as bundles
from phase8_tune.tuner.doctor import gather
from phase8_tune.tuner.doctor.bundle import LOG_END_BYTES
from phase8_tune.tuner.doctor.diagnosis import diagnose
from phase8_tune.tuner.doctor.facts import Facts
from phase8_tune.tuner.doctor.redaction import Redaction

from .doctors import find_facts, make_plain
from .report_records import make_record
from .test_compare import write_run

USER, HOST, UUID = "hanako", "yamada-desktop", "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
OTHER_UUID, SERIAL = "GPU-11111111-2222-3333-4444-555555555555", "0324518041234"
SECRETS = (USER, "taro", "yamada", HOST, UUID, OTHER_UUID, SERIAL)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's home, where a run lies whose records and logs say a lot of its user."""
    place = tmp_path / "home" / USER
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.setenv("USER", USER)
    monkeypatch.setenv("PHASE8_TUNE_CACHE", str(place / ".cache"))
    monkeypatch.setattr(socket, "gethostname", lambda: f"{HOST}.local")
    record = make_record()
    found = record.measurement.model_copy(
        update={
            "message": f"OSError: {place}/data/Hanako.txt on {HOST.upper()}, by taro",
            "device": record.measurement.device.model_copy(update={"uuid": UUID}),  # type: ignore[union-attr]
        }
    )
    run = write_run(place / "runs" / "mine", [record.model_copy(update={"measurement": found})])
    torn = '{"message": "C:\\\\Users\\\\taro\\\\train.py'
    with (run / "records.jsonl").open("a") as journal:
        journal.write(torn)
    beginning = "the beginning\n" + "a line of the log\n" * (LOG_END_BYTES // 16)
    end = f"{USER}@{HOST}: /mnt/c/Users/taro/x.py, Serial Number : {SERIAL}, {OTHER_UUID.lower()}\n"
    (run / f"worker-{UUID}.log").write_text(beginning + end)
    (run / "compiler.log").write_text(f'File "{place}/venv/triton.py", user_{USER}_1\n')
    calibrations = place / ".cache" / "calibrations"
    calibrations.mkdir(parents=True)
    (calibrations / "fake-card-torch-2.13.0.json").write_text(json.dumps({"title": f"card of {USER}"}))
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def facts(home: Path, monkeypatch: pytest.MonkeyPatch) -> Facts:
    """What the doctor finds, without the time that it takes; with names wherever a text is."""
    make_plain(monkeypatch)
    plain = find_facts(home, torch=("exits", f"ImportError: {home}/venv/lib/libcudnn.so.9"))
    nvml = plain.nvml.model_copy(update={"cards": (f"fake card ({UUID})", f"fake card ({OTHER_UUID})")})
    folder = plain.runs_folder.model_copy(update={"path": str(home / "runs")})
    facts = plain.model_copy(update={"nvml": nvml, "runs_folder": folder, "visible_devices": UUID[:12]})
    monkeypatch.setattr(gather, "gather_facts", lambda **options: facts)
    return facts


def doctor(*arguments: str) -> int:
    return exit_code(lambda: main(["doctor", *arguments]))


def read(path: Path) -> dict[str, str]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_nothing_says_whose_computer_it_was(
    home: Path, facts: Facts, capsys: pytest.CaptureFixture[str]
) -> None:
    before = facts.model_dump_json() + "".join(p.read_text() for p in (home / "runs" / "mine").iterdir())
    assert [secret for secret in SECRETS if secret.lower() not in before.lower()] == []
    assert doctor("--bundle", "report.zip", "--run", "mine") == 4
    files = read(home / "report.zip")
    assert sorted(files) == [
        "calibrations/fake-card-torch-2.13.0.json",
        "contents.txt",
        "doctor.json",
        "run/compiler.log",
        "run/records.jsonl",
        "run/run.json",
        "run/worker-gpu-1.log",
    ]
    for secret in (*SECRETS, str(home), "Users", UUID[:12]):
        assert [name for name, text in files.items() if secret.lower() in (name + text).lower()] == [], secret
    shown = capsys.readouterr().err
    assert all(f"  {name}: " in shown for name in files if name != "contents.txt")
    assert f"  {UUID} by <gpu-" in shown
    assert "<gpu-1>" in files["contents.txt"]
    assert shown.index("by <gpu-1>") < shown.index("Written: report.zip")


def test_the_same_has_the_same_placeholder_in_every_file(home: Path, facts: Facts) -> None:
    doctor("--bundle", "report.zip", "--run", "mine", "--json")
    files = read(home / "report.zip")
    records = files["run/records.jsonl"].splitlines()
    uuid = json.loads(records[0])["measurement"]["device"]["uuid"]
    found = json.loads(files["doctor.json"])
    assert found["facts"]["nvml"]["cards"][0] == f"fake card ({uuid})"
    assert found["facts"]["runs_folder"]["path"].endswith("/runs")
    assert len(records) == 2
    user = json.loads(files["calibrations/fake-card-torch-2.13.0.json"])["title"].removeprefix("card of ")
    assert f"user_{user}_1" in files["run/compiler.log"]
    assert f"{user}@" in files["run/worker-gpu-1.log"]


def test_what_is_measured_stays(home: Path, facts: Facts) -> None:
    doctor("--bundle", "report.zip", "--run", "mine")
    files = read(home / "report.zip")
    kept = json.loads(files["run/records.jsonl"].splitlines()[0])
    original = json.loads((home / "runs" / "mine" / "records.jsonl").read_text().splitlines()[0])
    for one in (kept, original):
        del one["measurement"]["message"], one["measurement"]["device"]["uuid"]
    assert kept == original
    assert json.loads(files["run/run.json"]) == json.loads((home / "runs/mine/run.json").read_text())
    log = files["run/worker-gpu-1.log"]
    assert len(log) <= LOG_END_BYTES
    assert log.startswith("a line of the log\n")
    told = json.loads(diagnose(facts).model_dump_json())
    assert json.loads(files["doctor.json"]).keys() == told.keys()


def test_nothing_is_overwritten(
    home: Path, facts: Facts, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "report.zip").write_text("precious")
    assert doctor("--bundle", "report.zip") == 2
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert "--bundle: report.zip: expected a new file, got one that is there" in shown.err
    assert shown.out == ""  # before anything was asked
    # One that came while the doctor was at work
    monkeypatch.setattr(bundles, "check_bundle_path", lambda path: None)
    assert doctor("--bundle", "report.zip") == 2
    assert (home / "report.zip").read_text() == "precious"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--run", "mine"), "--run: expected together with --bundle FILE"),
        (("--bundle", "report.zip", "--run", "none"), "--run: expected a run, got runs/none"),
        (("--bundle", "nowhere/report.zip"), "expected a folder that is there"),
    ],
)
def test_wrong_options(
    home: Path, facts: Facts, arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert doctor(*arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (home / "report.zip").exists()


def test_a_run_that_lacks_files_is_bundled(
    home: Path, facts: Facts, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(home / "runs" / "mine")
    (home / "runs" / "mine").mkdir()
    assert doctor("--bundle", "report.zip", "--run", "runs/mine") == 4
    assert "Not there: run/records.jsonl" in capsys.readouterr().err
    assert "Not there: run/run.json" in read(home / "report.zip")["contents.txt"]


NAMES = st.text(st.sampled_from("abcdefgäöü山"), min_size=3, max_size=9)


@given(st.lists(NAMES, min_size=1, max_size=3), st.sampled_from('/_-. :"\n@'), st.integers(0, 2))
def test_no_known_name_is_left(names: list[str], between: str, capitals: int) -> None:
    redaction = Redaction()
    redaction.know("user", *names)
    write = (str, str.upper, str.title)[capitals]
    text = between.join(["The", *map(write, names), "end"])
    left = redaction.text(text)
    assert [part for part in left.split(between) if part.lower() in names] == []
    assert left.startswith(f"The{between}")
    assert redaction.text(left) == left  # a placeholder is not replaced again
    assert sum(one.count for one in redaction.replaced) == len(names)


@pytest.mark.parametrize(
    "text",
    [
        "/home/hanako/x",
        "/Users/hanako",
        "C:\\Users\\hanako\\x",
        "C:\\\\Users\\\\hanako\\\\x",
        "/mnt/d/Users/hanako/x",
        "/var/home/hanako: no such folder",
    ],
)
def test_homes_are_known_by_their_form(text: str) -> None:
    redaction = Redaction()
    redaction.find(text)
    assert redaction.text(text).startswith("<home-1>")
    assert redaction.text("by Hanako") == "by <user-1>"


def test_a_name_with_a_space_and_a_path_into_wsl() -> None:
    redaction = Redaction()
    for text in ("C:\\Users\\Hanako Yamada\\x", "\\\\wsl$\\Ubuntu\\home\\kim\\x"):
        redaction.find(text)
        assert not {"hanako", "yamada", "kim"} & set(re.split(r"\W", redaction.text(text).lower()))
    assert redaction.text("Kim, not kimono; Hanako Yamada") == "<user-1>, not kimono; <user-2>"


def test_an_account_that_is_nobodys_is_left() -> None:
    redaction = Redaction()
    redaction.find("/root/x and /home/ubuntu/x")
    redaction.know("user", "root", "ubuntu")
    redaction.know("home", "/", "/root")
    assert redaction.text("root on Ubuntu 24.04, /root/x, /home/ubuntu/x, kimono") == (
        "root on Ubuntu 24.04, <home-1>/x, <home-2>/x, kimono"
    )
    redaction.know("user", "kim")
    assert redaction.text("kimono of kim_1") == "kimono of <user-1>_1"


def test_the_bundle_says_nothing_of_this_process(home: Path, facts: Facts) -> None:
    made = bundles.make_bundle(diagnose(facts), None)
    assert [file.name for file in made.files] == ["doctor.json", "calibrations/fake-card-torch-2.13.0.json"]
    assert os.fsencode(home) not in b"".join(file.data for file in made.files)
