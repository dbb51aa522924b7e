"""Takes out of texts who and where their computer is: the same by the same placeholder in all of them."""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["home", "user", "host", "gpu", "serial", "uuid"]

_IMPERSONAL = {
    *(
        "admin",
        "cuda",
        "debian",
        "default",
        "dev",
        "docker",
        "gpu",
        "jupyter",
        "linux",
        "localhost",
        "nobody",
    ),
    *("public", "root", "runner", "test", "torch", "ubuntu", "user", "users", "vscode", "windows"),
}
"""Names of accounts that say nobody's, and stand in half of all texts."""
_LONG = 6
"""A name of so many letters is taken out of longer words too; a shorter one is not: `kim` is in `kimono`."""

_UNIX_HOME = re.compile(r"(?:/var|/export)?[\\/]+(?:home|Users)[\\/]+(?P<user>[^\s/\\:\"'<>,;()\[\]{}]+)")
_WINDOWS_HOME = re.compile(
    r"(?:[A-Za-z]:|/mnt/[a-z])[\\/]+Users[\\/]+(?P<user>[^\\/:\"'<>|*?\n]+(?=[\\/])|[^\s\\/:\"'<>|*?,;]+)",
    re.IGNORECASE,
)
_FOUND: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    ("gpu", re.compile(r"\b(?:GPU|MIG)-[0-9a-f][0-9a-f-]{3,}(?![0-9a-z])", re.IGNORECASE)),
    ("uuid", re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.IGNORECASE)),
    (
        "serial",
        re.compile(
            r"(?<=serial)[\s_-]*(?:number|no\.?)?\s*[\"']?\s*[:=]\s*[\"']?(?P<it>(?=\w*\d)\w{4,})",
            re.IGNORECASE,
        ),
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Replaced:
    """What was taken out: by what, and how often."""

    original: str
    placeholder: str
    count: int


@dataclass(kw_only=True, slots=True)
class Redaction:
    """What is to be taken out, known beforehand (`know`) or found in the texts (`find`), and then taken out.

    Large and small letters are alike. All texts are looked through before the first is changed, as a name
    that one of them shows in a path may stand alone in another.
    """

    _kinds: dict[str, Kind] = field(default_factory=dict)  # by what is taken out, in small letters
    _placeholders: dict[str, str] = field(default_factory=dict)
    _originals: dict[str, str] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)
    _pattern: re.Pattern[str] | None = None

    def know(self, kind: Kind, *values: str | None) -> None:
        """What is to be taken out, as far as it tells anything."""
        for value in values:
            text = (value or "").strip().rstrip("/\\" if kind == "home" else "")
            if len(text) > 1 and text.lower() not in _IMPERSONAL:
                self._kinds.setdefault(text.lower(), kind)
                self._pattern = None

    def find(self, text: str) -> None:
        """Know what a text shows by its form: homes and whose they are, UUIDs, serial numbers."""
        for pattern in (_UNIX_HOME, _WINDOWS_HOME):
            for match in pattern.finditer(text):
                self.know("home", match[0])
                self.know("user", match["user"])
        for kind, pattern in _FOUND:
            for match in pattern.finditer(text):
                self.know(kind, match["it"] if "it" in pattern.groupindex else match[0])

    def find_in(self, value: Any) -> None:
        """The same of all texts of what JSON holds."""
        for text in _texts(value):
            self.find(text)

    def text(self, text: str) -> str:
        """The text without what is known."""
        if not self._kinds:
            return text
        if self._pattern is None:
            ordered = sorted(self._kinds, key=lambda name: (-len(name), name))
            self._pattern = re.compile("|".join(map(self._searched, ordered)), re.IGNORECASE)
        return self._pattern.sub(lambda match: self._placeholder(match[0]), text)

    def value(self, value: Any) -> Any:
        """What JSON holds, without what is known."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(key): self.value(item) for key, item in value.items()}
        return [self.value(item) for item in value] if isinstance(value, list) else value

    @property
    def replaced(self) -> tuple[Replaced, ...]:
        """What was taken out so far, by placeholder."""
        return tuple(
            Replaced(original=self._originals[key], placeholder=placeholder, count=self._counts[key])
            for key, placeholder in sorted(self._placeholders.items(), key=lambda item: item[1])
        )

    def _searched(self, name: str) -> str:
        if self._kinds[name] == "home":
            return rf"{re.escape(name)}(?![A-Za-z0-9])"
        is_long = len(name) >= _LONG
        return re.escape(name) if is_long else rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])"

    def _placeholder(self, original: str) -> str:
        key = original.lower()
        if key not in self._placeholders:
            kind = self._kinds[key]
            number = 1 + sum(self._kinds[other] == kind for other in self._placeholders)
            self._placeholders[key], self._originals[key] = f"<{kind}-{number}>", original
        self._counts[key] = self._counts.get(key, 0) + 1
        return self._placeholders[key]


def know_this_computer(redaction: Redaction) -> None:
    """Homes and names of whoever runs this process, and of the computer."""
    environ = os.environ
    redaction.know("home", *(environ.get(name) for name in ("HOME", "USERPROFILE")))
    redaction.know("user", *(environ.get(name) for name in ("USER", "LOGNAME", "USERNAME", "SUDO_USER")))
    with contextlib.suppress(OSError, KeyError, ImportError):  # a number without a name, as in containers
        redaction.know("user", getpass.getuser())
    with contextlib.suppress(KeyError, ImportError):
        import pwd

        account = pwd.getpwuid(os.getuid())
        redaction.know("home", account.pw_dir)
        redaction.know("user", account.pw_name, account.pw_gecos.partition(",")[0])
    host = socket.gethostname()
    names = (host, environ.get("HOSTNAME"), environ.get("COMPUTERNAME"))
    redaction.know("host", *names, *((name or "").partition(".")[0] for name in names))


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield key
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
