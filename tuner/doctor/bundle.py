"""What a report of a problem needs, as one zip without names, homes and numbers of the computer."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..machine.cache_folder import cache_folder
from ..values.errors import UserInputError
from .facts import Diagnosis
from .redaction import Redaction, Replaced, know_this_computer

LOG_END_BYTES = 64 * 2**10
"""Of each log so much of its end: what failed stands there."""
CONTENTS = "contents.txt"
_OF_RUN = ("run.json", "records.jsonl")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Source:
    """A file as it is before anything is taken out. values: what each line holds, or the whole; a line that
    is no JSON, and a log, is a text."""

    name: str
    what: str
    parts: tuple[Any, ...]
    is_json: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class BundleFile:
    """A file of the zip, ready to be written."""

    name: str
    what: str
    data: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """All that goes in, what was replaced, and what was looked for and is not there."""

    files: tuple[BundleFile, ...]
    replaced: tuple[Replaced, ...]
    missing: tuple[str, ...]

    def describe(self, *, with_originals: bool) -> str:
        """What goes in and what was replaced, a line each.

        with_originals: for whom they belong to; never in the zip itself.
        """
        lines = ["In the bundle:"]
        lines += [f"  {file.name}: {file.what}, {len(file.data):,} bytes" for file in self.files]
        lines += [f"Not there: {name}" for name in self.missing]
        lines.append("Replaced in all of them:" if self.replaced else "Nothing was found to be replaced.")
        lines += [
            f"  {f'{one.original} by ' if with_originals else ''}{one.placeholder}, {_times(one.count)}"
            for one in self.replaced
        ]
        return "\n".join(lines)

    def write(self, path: Path) -> None:
        """Write the zip, with a page that says what is in it.

        Raises: UserInputError where the file is there already, or cannot be written.
        """
        contents = self.describe(with_originals=False) + "\n"
        try:
            with path.open("xb") as stream:
                try:
                    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
                        archive.writestr(CONTENTS, contents)
                        for file in self.files:
                            archive.writestr(file.name, file.data)
                except BaseException:
                    path.unlink(missing_ok=True)
                    raise
        except FileExistsError:
            raise _is_there(path) from None
        except OSError as error:
            raise UserInputError(
                f"--bundle: {path}: expected a file that can be written, got: {error.strerror}; name another"
            ) from None


def check_bundle_path(path: Path) -> None:
    """See early, before anything is asked, that a bundle may be written there.

    Raises: UserInputError where it may not.
    """
    if path.exists() or path.is_symlink():
        raise _is_there(path)
    if not path.parent.is_dir():
        raise UserInputError(f"--bundle: {path}: expected a folder that is there, got none; make it first")


def make_bundle(diagnosis: Diagnosis, run: Path | None) -> Bundle:
    """The bundle of a diagnosis, the card's calibrations and, where one is named, a run's records and logs.

    Raises: UserInputError where a file cannot be read.
    """
    sources = [_json("doctor.json", "what doctor --json says", diagnosis.model_dump_json().encode())]
    sources += _calibrations()
    missing: list[str] = []
    if run is not None:
        sources += _of_run(run, missing)
    redaction = Redaction()
    know_this_computer(redaction)
    if run is not None:
        redaction.find(str(run.absolute()))
    for source in sources:
        redaction.find(source.name)
        redaction.find_in(list(source.parts))
        for uuid in _uuids(source.parts):
            redaction.know("gpu", uuid)
    files = tuple(
        BundleFile(
            name=_file_name(source.name, redaction), what=source.what, data=_written(source, redaction)
        )
        for source in sources
    )
    return Bundle(
        files=files, replaced=redaction.replaced, missing=tuple(redaction.text(name) for name in missing)
    )


def _calibrations() -> Iterator[_Source]:
    for path in sorted((cache_folder() / "calibrations").glob("*.json")):
        yield _json(f"calibrations/{path.name}", "figures of the card, measured here", _read(path))


def _of_run(run: Path, missing: list[str]) -> Iterator[_Source]:
    for name in _OF_RUN:
        path = run / name
        if not path.exists():
            missing.append(f"run/{name}")
        elif path.suffix == ".jsonl":
            lines = tuple(map(_parsed, _read(path).splitlines()))
            yield _Source(name=f"run/{name}", what=f"{len(lines):,} records", parts=lines, is_json=True)
        else:
            yield _json(f"run/{name}", "study, budget and device of the run", _read(path))
    for path in sorted(run.glob("*.log")):
        end = _end(_read(path)).decode(errors="replace")
        yield _Source(name=f"run/{path.name}", what="the end of a log", parts=(end,), is_json=False)


def _json(name: str, what: str, data: bytes) -> _Source:
    return _Source(name=name, what=what, parts=(_parsed(data),), is_json=True)


def _parsed(data: bytes) -> Any:
    """What JSON holds; the text of what is none, such as a line that was torn: also that is worth a look."""
    text = data.decode(errors="replace")
    try:
        return json.loads(text)
    except ValueError:
        return text


def _written(source: _Source, redaction: Redaction) -> bytes:
    if not source.is_json:
        return "".join(redaction.text(part) for part in source.parts).encode(errors="replace")
    indent = None if len(source.parts) > 1 or source.name.endswith(".jsonl") else 2
    lines = (json.dumps(redaction.value(part), indent=indent, ensure_ascii=False) for part in source.parts)
    return "".join(f"{line}\n" for line in lines).encode(errors="replace")


def _uuids(value: Any) -> Iterator[str]:
    """What stands under `uuid`, at whatever depth: also where it has not the usual form."""
    if isinstance(value, dict):
        if isinstance(uuid := value.get("uuid"), str):
            yield uuid
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _uuids(item)


def _file_name(name: str, redaction: Redaction) -> str:
    """Without the signs of placeholders, which a file on Windows may not have."""
    return redaction.text(name).replace("<", "").replace(">", "")


def _end(data: bytes) -> bytes:
    """The last lines."""
    if len(data) <= LOG_END_BYTES:
        return data
    _, _, whole_lines = data[-LOG_END_BYTES:].partition(b"\n")
    return whole_lines


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserInputError(f"{path}: expected a file that can be read, got: {error.strerror}") from None


def _is_there(path: Path) -> UserInputError:
    return UserInputError(f"--bundle: {path}: expected a new file, got one that is there; name another")


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"
