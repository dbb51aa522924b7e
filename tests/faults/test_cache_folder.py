"""A cache is a convenience: where it cannot be kept, that is said once, and what was asked for is done."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from phase8_tune.tuner.machine import cache_folder as module
from phase8_tune.tuner.machine.cache_folder import cache_folder, compiler_caches, writable_cache_folder


def test_a_folder_that_can_be_written_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PHASE8_TUNE_CACHE", str(tmp_path / "mine"))
    assert writable_cache_folder("predictions") == tmp_path / "mine" / "predictions"
    assert list((tmp_path / "mine" / "predictions").iterdir()) == []
    assert capsys.readouterr().err == ""


def unwritable(tmp_path: Path) -> dict[str, str]:
    """Homes that even root cannot write: a file in its place, and what is no disk."""
    (tmp_path / "file").touch()
    return {"a file": str(tmp_path / "file"), "no disk": "/proc/none"}


@pytest.mark.parametrize("kind", ["a file", "no disk"])
def test_another_is_replaced_for_now_and_that_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    for name in ("PHASE8_TUNE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", unwritable(tmp_path)[kind])
    module._writable.cache_clear()
    folder = writable_cache_folder("predictions")
    assert folder == writable_cache_folder("predictions")
    (folder / "answer").write_text("kept for now", encoding="utf-8")
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(
        f"phase8-tune: warning: {cache_folder() / 'predictions'}: nothing can be kept there"
    )


def test_without_a_temporary_folder_either_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(prefix: str) -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "mkdtemp", fail)
    monkeypatch.setenv("PHASE8_TUNE_CACHE", "/proc/none")
    module._writable.cache_clear()
    assert writable_cache_folder("predictions") == Path("/proc/none/predictions")


def test_a_user_without_a_home_has_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a container that is run as some number; `~` must not become a folder of that name."""

    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    for name in ("PHASE8_TUNE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert os.fspath(cache_folder()) == "/nonexistent/.cache/phase8-tune"


def test_triton_is_given_a_folder_where_its_own_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TRITON_CACHE_DIR", "TRITON_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PHASE8_TUNE_CACHE", str(tmp_path / "ours"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert compiler_caches() == {}
    monkeypatch.setenv("HOME", "/proc/none")
    assert compiler_caches() == {"TRITON_CACHE_DIR": str(tmp_path / "ours" / "triton")}
    monkeypatch.setenv("TRITON_HOME", str(tmp_path))
    assert compiler_caches() == {}
