"""The journal of a run, `records.jsonl`: one finished measurement a line, on the disk before anyone is told.

Appended and fsynced, never rewritten: whatever kills the driver, every whole line is a record that counts,
and a torn last line is one that was never acknowledged.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import ValidationError

from ..values.candidate import Candidate
from ..values.errors import UserInputError
from ..values.format_versions import later_json_format
from ..values.record import RECORD_FORMAT_VERSION, Record


def read_records(path: Path) -> tuple[Record, ...]:
    """All records of a journal in the order they were made; a missing file has none.

    A last line without its newline was torn by a crash and is left out.

    Raises: UserInputError, naming the line, where a whole line is not a record (it was edited by hand) or
    is one of a later version of this program, or the file cannot be read.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise UserInputError(f"{path}: expected a readable journal, got: {error.strerror}") from None
    lines = data.split(b"\n")[:-1]
    return tuple(_parse(line, f"{path}: line {number}") for number, line in enumerate(lines, start=1))


def _whole_bytes(data: bytes) -> int:
    return data.rfind(b"\n") + 1


def _parse(line: bytes, where: str) -> Record:
    try:
        record = Record.model_validate_json(line)
        digest = record.to_candidate().digest()
    except (ValidationError, TypeError) as error:
        if later := later_json_format(line, RECORD_FORMAT_VERSION):
            raise UserInputError(f"{where}: {later}") from None
        first = str(error).splitlines()[0]
        raise UserInputError(
            f"{where}: expected a record as it was written, got something else ({first}); "
            "restore the file, or start a new run directory"
        ) from None
    if digest != record.digest:
        raise UserInputError(
            f"{where}: expected the digest {digest} of its candidate, got {record.digest}; "
            "the line was edited: restore the file, or start a new run directory"
        )
    return _completed(record)


def _completed(record: Record) -> Record:
    """A record with what its format did not hold: before 3 the parameters without the position table's."""
    measurement, candidate = record.measurement, record.to_candidate()
    if measurement.parameters is None or measurement.body_parameters is not None:
        return record
    body = measurement.parameters - _position_count(candidate)
    found = measurement.model_copy(update={"body_parameters": body})
    return record.model_copy(update={"measurement": found})


def _position_count(candidate: Candidate) -> int:
    """Parameters of the position table; 0 for a workload, or a model, of which none is known."""
    count = candidate.spec.position_parameters
    try:
        return 0 if count is None else count(candidate.model, candidate.axes)
    except ValueError:
        return 0


def _line(record: Record) -> bytes:
    line = record.as_written().model_dump_json().encode()
    try:
        Record.model_validate_json(line)
    except ValidationError as error:
        raise ValueError(f"the record of {record.digest} would not be readable again") from error
    return line + b"\n"


class Journal:
    """Appends records to a run's journal. One driver at a time (the run directory's lock sees to that)."""

    def __init__(self, path: Path) -> None:
        """Open for appending; a torn last line is cut off, so that the next record starts a line of its own.

        Raises: UserInputError where the file cannot be written.
        """
        self._path = path
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            self._size_bytes = _whole_bytes(path.read_bytes())
            os.ftruncate(self._fd, self._size_bytes)
            # The name of a new file is on the disk only once its folder is.
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise UserInputError(f"{path}: expected a writable journal, got: {error.strerror}") from None

    def append(self, *records: Record) -> None:
        """Write records and wait once until all are on the disk.

        Raises: UserInputError where they could not be written (disk full, for one): the file then ends with
        the last whole record of before. ValueError for a record that could not be read back (a NaN where none
        may be).
        """
        line = b"".join(_line(record) for record in records)
        try:
            written = 0
            while written < len(line):
                written += os.pwrite(self._fd, line[written:], self._size_bytes + written)
            os.fsync(self._fd)
        except OSError as error:
            os.ftruncate(self._fd, self._size_bytes)
            raise UserInputError(
                f"{self._path}: expected room for {len(line)} more bytes, got: {error.strerror}; "
                "every earlier record is kept: make room, and start again with the same run directory"
            ) from None
        self._size_bytes += len(line)

    def close(self) -> None:
        """May be called more than once."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
