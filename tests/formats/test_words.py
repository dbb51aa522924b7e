"""A run of which checkpointing was a truth, and small state was not known.

2026-11-words is what the version of then wrote on a machine without a GPU:

    finished       phase8-tune --vram 4GB --device cpu --study study.yaml
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from phase8_tune.tuner.builtin.phase8.spec import SPEC
from phase8_tune.tuner.records.journal import Journal, read_records
from phase8_tune.tuner.study.definition import parse_definition
from phase8_tune.tuner.training.settings import load_settings
from phase8_tune.tuner.values.candidate import Candidate

WRITTEN = Path(__file__).parent / "2026-11-words" / "finished"


def test_its_records_are_read_and_written_again_as_they_were(tmp_path: Path) -> None:
    path = WRITTEN / "records.jsonl"
    records = read_records(path)
    assert [record.to_candidate().gradient_checkpointing for record in records] == ["none", "full"]
    assert {record.to_candidate().optimizer_state for record in records} == {"fp32"}
    with Journal(tmp_path / "records.jsonl") as journal:
        journal.append(*records)
    assert (tmp_path / "records.jsonl").read_bytes() == path.read_bytes()


def test_its_study_is_the_study_that_it_was() -> None:
    study = parse_definition((WRITTEN / "study.yaml").read_text(), "study.yaml")
    assert study.digest() == json.loads((WRITTEN / "run.json").read_text())["definition_digest"]


def test_its_settings_are_read() -> None:
    settings = load_settings(WRITTEN / "recommended" / "nano.yaml")
    assert settings.gradient_checkpointing == "full"


def test_what_it_would_not_read_says_so(tmp_path: Path) -> None:
    """In the number of its format, which its reader refuses in one line."""
    record = read_records(WRITTEN / "records.jsonl")[0]
    later = [
        {"optimizer_state": "8bit"},
        {"master_weights": "bf16_sr"},
        {"gradient_checkpointing": "selective"},
    ]
    candidates = [record.to_candidate().changed(**change) for change in later]
    with Journal(tmp_path / "records.jsonl") as journal:
        for candidate in candidates:
            update = {"candidate": candidate.identity(), "digest": candidate.digest()}
            journal.append(record.model_copy(update=update))
    written = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    assert [line["format_version"] for line in written] == [6, 6, 6]
    for line, change in zip(written, later, strict=True):
        assert line["candidate"] == record.candidate | change
    assert [read.to_candidate() for read in read_records(tmp_path / "records.jsonl")] == candidates
    assert len({candidate.digest() for candidate in candidates} | {record.digest}) == 4
    assert [Candidate.from_dict(candidate.to_dict()) for candidate in candidates] == candidates


AXES = {axis.name: axis for axis in SPEC.axes}
VALUES = {name: axis.values for name, axis in AXES.items() if axis.values}


@given(
    st.fixed_dictionaries({name: st.sampled_from(values) for name, values in VALUES.items()}),
    st.integers(1, 9),
    st.booleans(),
)
def test_a_candidate_is_the_same_however_it_is_written(
    axes: dict[str, str], batch_size: int, as_truth: bool
) -> None:
    """From its words, from truths where they were truths, and from what a record has of it."""
    spelled: dict[str, Any] = dict(axes)
    if as_truth and axes["gradient_checkpointing"] != "selective":
        spelled["gradient_checkpointing"] = axes["gradient_checkpointing"] == "full"
    own: dict[str, Any] = {"model": "nano", "n_seq": 64, "batch_size": batch_size}
    candidate = Candidate(**own, axes=axes)
    for other in (
        Candidate(**own, **spelled),
        Candidate.from_dict(json.loads(json.dumps(candidate.identity()))),
    ):
        assert (other, other.digest()) == (candidate, candidate.digest())
    later = {name for name, axis in AXES.items() if axis.is_later and candidate.axes[name] != axis.default}
    assert candidate.identity().keys() == SPEC.counted | later
