"""The address of a study's database, and its password, which nobody sees."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from phase8_tune.tuner.records import storage_address
from phase8_tune.tuner.values.errors import UserInputError


@pytest.fixture(autouse=True)
def no_password_is_kept() -> Iterator[None]:
    yield
    storage_address._taken = None


@pytest.mark.parametrize(
    "text", ["postgresql://me:hunter2@host/db", "postgresql://me@host/db?password=hunter2"]
)
def test_a_password_in_the_address_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(UserInputError, match=storage_address.PASSWORD) as told:
        storage_address.check_address(text)
    assert "hunter2" not in str(told.value)


def test_an_address_that_is_none_is_refused_and_not_repeated() -> None:
    with pytest.raises(UserInputError, match="expected the URL") as told:
        storage_address.check_address("hunter2")
    assert "hunter2" not in str(told.value)


def test_no_process_started_from_here_inherits_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_address, "_taken", None)
    monkeypatch.setenv(storage_address.PASSWORD, "hunter2")
    assert storage_address._password() == "hunter2"
    assert storage_address.PASSWORD not in os.environ
    assert storage_address._password() == "hunter2"


def test_a_password_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_address, "_taken", None)
    (tmp_path / "secret").write_text("hunter2\n")
    monkeypatch.setenv(storage_address.PASSWORD_FILE, str(tmp_path / "secret"))
    assert storage_address._password() == "hunter2"
    monkeypatch.setenv(storage_address.PASSWORD_FILE, str(tmp_path / "none"))
    with pytest.raises(UserInputError, match="cannot be read"):
        storage_address._password()
