"""`phase8-tune dashboard`: the run's study in optuna-dashboard, and nothing of it beyond this computer."""

from __future__ import annotations

import json
import shutil
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from phase8_tune.tests.html.chromium import chromium
from phase8_tune.tuner.cli import main
from phase8_tune.tuner.commands.dashboard import application_of, serving, storage_of
from phase8_tune.tuner.machine.lock import ProcessLock
from phase8_tune.tuner.records.journal import read_records
from phase8_tune.tuner.records.study_format import METRIC_NAMES

EARLIER = Path(__file__).parent.parent / "formats" / "2026-11-main"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of an earlier version, one record of which ran out of memory."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    shutil.copytree(EARLIER / "finished", folder)
    path = folder / "records.jsonl"
    *others, last = path.read_text(encoding="utf-8").splitlines()
    record = json.loads(last)
    record["measurement"] |= {"outcome": "oom", "message": "out of memory", "samples_s": []}
    path.write_text("\n".join([*others, json.dumps(record)]) + "\n", encoding="utf-8")
    (folder / "study.db").unlink()
    return folder


@pytest.fixture(scope="module")
def address(root: Path) -> Iterator[str]:
    with serving(application_of(storage_of(root)), 0) as server:
        assert server.server_address[0] == "127.0.0.1"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def get(address: str, **headers: str) -> Any:
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers)) as answer:
        return json.load(answer)


def test_trials_have_their_values_states_constraints_and_times(address: str, root: Path) -> None:
    [summary] = get(f"{address}/api/studies")["study_summaries"]
    study = get(f"{address}/api/studies/{summary['study_id']}")
    assert study["objective_names"] == METRIC_NAMES
    assert study["directions"] == ["maximize", "minimize", "maximize"]
    records = {record.trial_number: record for record in read_records(root / "records.jsonl")}
    trials = {trial["number"]: trial for trial in study["trials"]}
    assert trials.keys() == records.keys()
    states = {number: trial["state"] for number, trial in trials.items()}
    assert states == {number: "Complete" if record.fits else "Pruned" for number, record in records.items()}
    assert set(states.values()) == {"Complete", "Pruned"}
    for number, trial in trials.items():
        told = {item["key"]: item["value"] for item in trial["user_attrs"]}
        assert told["configuration"].strip('"') == records[number].to_candidate().describe()
        began = datetime.fromisoformat(trial["datetime_start"]).astimezone()
        assert began == records[number].started()


def test_a_page_of_elsewhere_cannot_call_it(address: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="403"):
        get(f"{address}/api/studies", Host="example.org")


def test_it_shows_a_pareto_plot_of_named_objectives(address: str, tmp_path: Path) -> None:
    with chromium(tmp_path / "profile") as browser:
        browser.open(f"{address}/dashboard/studies/1", width=1500)
        browser.run(
            "new Promise(r => { const look = () => document.querySelectorAll('.scatterlayer .point').length "
            "? r() : requestAnimationFrame(look); look(); })"
        )
        text = browser.run("document.body.innerText")
        assert "Pareto Front" in text
        assert set(METRIC_NAMES[:2]) <= set(text.split())
        assert browser.complaints() == []
        assert all(url.startswith(address) for url in browser.requests())


def test_a_search_that_goes_on_is_left_alone(root: Path) -> None:
    before = (root / "study.db").read_bytes()
    lock = ProcessLock.take(root / "lock")
    try:
        storage = storage_of(root)
        [study] = storage.get_all_studies()
        assert len(storage.get_all_trials(study._study_id)) == len(read_records(root / "records.jsonl"))
    finally:
        lock.close()
    assert (root / "study.db").read_bytes() == before


def told(*arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        main(["dashboard", *arguments])
    assert end.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    return shown.err


def test_what_is_missing_is_one_line(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "expected a run directory (with run.json), got none" in told("nowhere", capsys=capsys)
    shutil.copy(root / "run.json", tmp_path)
    assert "study.yaml" in told(str(tmp_path), capsys=capsys)
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    error = told(str(root), capsys=capsys)
    assert "expected the extra dashboard, found none of it: pip install 'phase8-tune[dashboard]'" in error


def test_a_port_that_is_taken_is_one_line(
    address: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = address.rpartition(":")[2]
    assert f"--port: expected one that is free, got {port}" in told(str(root), "--port", port, capsys=capsys)
