"""A run with records of format 2, without `body_parameters`, and with its study of format 1.

2026-11-records-2 is what the version of then wrote on a machine without a GPU:

    finished       phase8-tune --vram 4GB --device cpu --study study.yaml
"""

from __future__ import annotations

import shutil
from pathlib import Path

from phase8_tune.tuner.records.database import StudyStore, open_sqlite
from phase8_tune.tuner.records.journal import read_records
from phase8_tune.tuner.records.knowledge import Knowledge
from phase8_tune.tuner.study.definition import parse_definition
from phase8_tune.tuner.study.space import SearchSpace

WRITTEN = Path(__file__).parent / "2026-11-records-2" / "finished"
PARAMETERS, BODY = 444_555, 444_555 - 32 * 128  # of nano at a sequence of 32


def test_its_records_have_their_body_parameters() -> None:
    records = read_records(WRITTEN / "records.jsonl")
    assert [r.format_version for r in records] == [2, 2]
    assert {(r.measurement.parameters, r.measurement.body_parameters) for r in records} == {
        (PARAMETERS, BODY)
    }


def test_its_study_is_made_again_from_the_journal_once(tmp_path: Path) -> None:
    path = Path(shutil.copy(WRITTEN / "study.db", tmp_path))
    definition = parse_definition((WRITTEN / "study.yaml").read_text(), "study.yaml")
    knowledge = Knowledge(read_records(WRITTEN / "records.jsonl"))
    for _ in range(2):
        store = StudyStore(open_sqlite(path), SearchSpace(definition), name="tiny", seed=0, startup_trials=1)
        store.replay(knowledge)
        told = [(trial.user_attrs["digest"], trial.values[2]) for trial in store.trials]
        assert told == [(record.digest, BODY) for record in knowledge.settled]
