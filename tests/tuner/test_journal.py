"""The journal: what was acknowledged is there, whatever happened after."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phase8_tune.tuner.records.journal import Journal, read_records
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.errors import UserInputError
from phase8_tune.tuner.values.measurement import Measurement
from phase8_tune.tuner.values.outcome import Outcome
from phase8_tune.tuner.values.record import Record


def make_record(number: int, message: str = "", **found: object) -> Record:
    candidate = Candidate(
        model="nano",
        n_seq=64,
        batch_size=number + 1,
        kernel_version="reference",
        gradient_checkpointing=False,
        mixed_precision="none",
    )
    measurement = Measurement.model_validate({"outcome": Outcome.OK, "message": message} | found)
    return Record(
        digest=candidate.digest(),
        candidate=candidate.identity(),
        trial_number=number,
        attempt=1,
        started_at="2026-01-01T00:00:00+00:00",
        budget_bytes=2**30,
        measurement=measurement,
    )


def write(path: Path, records: list[Record]) -> None:
    with Journal(path) as journal:
        for record in records:
            journal.append(record)


def test_records_come_back_equal_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    records = [
        make_record(0, samples_s=(0.1, 0.2), peak_bytes=5),
        make_record(1, "größer\nals \u2028 gedacht\r"),
    ]
    write(path, records)
    assert read_records(path) == tuple(records)


def test_a_start_to_the_second_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    old = make_record(0)
    new = make_record(1).model_copy(update={"started_at": "2026-01-01T00:00:00.250+00:00"})
    write(path, [old, new])
    assert [r.started_at for r in read_records(path)] == [old.started_at, new.started_at]
    starts = [r.started() for r in read_records(path)]
    assert starts[0] is not None
    assert starts[1] == starts[0] + timedelta(milliseconds=250)


def test_a_start_that_is_no_time_is_named(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    write(path, [make_record(0)])
    path.write_bytes(path.read_bytes().replace(b"2026-01-01T00", b"yesterday at 7"))
    with pytest.raises(UserInputError, match="line 1: expected a record as it was written"):
        read_records(path)


def test_a_missing_journal_has_no_records(tmp_path: Path) -> None:
    assert read_records(tmp_path / "records.jsonl") == ()


MESSAGES = st.lists(st.text(max_size=8), min_size=1, max_size=4)


@given(messages=MESSAGES, data=st.data())
def test_any_prefix_of_the_bytes_gives_a_prefix_of_the_records(
    tmp_path_factory: pytest.TempPathFactory, messages: list[str], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("run") / "records.jsonl"
    records = [make_record(i, m) for i, m in enumerate(messages)]
    write(path, records)
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    kept = whole[:cut].count(b"\n")
    assert read_records(path) == tuple(records[:kept])
    # What is appended after the crash is a line of its own.
    late = make_record(99)
    write(path, [late])
    assert read_records(path) == (*records[:kept], late)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"garbage\n", "line 2: expected a record as it was written"),
        (b"\n", "line 2: expected a record as it was written"),
        (b"{}\n", "line 2: expected a record as it was written"),
        (b"\xff\xfe\n", "line 2: expected a record as it was written"),
    ],
)
def test_a_whole_line_that_is_no_record_is_named(tmp_path: Path, line: bytes, expected: str) -> None:
    path = tmp_path / "records.jsonl"
    write(path, [make_record(0)])
    path.write_bytes(path.read_bytes() + line + b"{")
    with pytest.raises(UserInputError, match=expected) as caught:
        read_records(path)
    assert "\n" not in str(caught.value)


def test_a_candidate_edited_by_hand_no_longer_has_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    write(path, [make_record(0)])
    path.write_bytes(path.read_bytes().replace(b'"batch_size":1', b'"batch_size":8'))
    with pytest.raises(UserInputError, match=r"line 1: expected the digest [0-9a-f]{16}"):
        read_records(path)
    path.write_bytes(path.read_bytes().replace(b'"batch_size"', b'"batch"'))
    with pytest.raises(UserInputError, match=r"line 1: expected a record"):
        read_records(path)


def test_a_full_disk_keeps_every_earlier_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "records.jsonl"
    first, second = make_record(0), make_record(1)
    real_pwrite = os.pwrite

    def write_half_then_fail(fd: int, data: bytes, offset: int) -> int:
        if len(data) < 100:
            raise OSError(28, "No space left on device")
        return real_pwrite(fd, data[: len(data) // 2], offset)

    with Journal(path) as journal:
        journal.append(first)
        monkeypatch.setattr(os, "pwrite", write_half_then_fail)
        with pytest.raises(UserInputError, match=r"No space left on device; every earlier record is kept"):
            journal.append(second)
        assert path.read_bytes().endswith(b"\n")
        monkeypatch.undo()
        assert read_records(path) == (first,)
        journal.append(second)
    assert read_records(path) == (first, second)


def test_a_record_that_could_not_be_read_back_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    with Journal(path) as journal, pytest.raises(ValueError, match="would not be readable again"):
        journal.append(make_record(0, samples_s=(float("nan"),)))
    assert path.read_bytes() == b""


def test_a_journal_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="expected a writable journal"):
        Journal(tmp_path / "no_such_folder" / "records.jsonl")
    with pytest.raises(UserInputError, match="expected a readable journal"):
        read_records(tmp_path)
