"""Asks child processes: torch and Triton may crash or hang there, and that is an answer like any other."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from pydantic import ValidationError

from ..machine.installation import find_unreadable
from ..values.measurement import Border
from .answers import FailedAnswer, SegmentsAnswer, TorchAnswer, TritonAnswer

A = TypeVar("A", bound=Border)
TIMEOUT_S = 120.0  # importing torch from a cold disk under WSL takes tens of seconds
_TAIL_CHARACTERS = 8192


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply(Generic[A]):
    """The child's answer, or None with one line that says why; `errors` ends its standard error."""

    answer: A | None
    failure: str = ""
    errors: str = ""


def ask_child(
    command: Sequence[str],
    expected: type[A],
    *,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Reply[A]:
    """Run `command` and read its answer; it is killed with all it started when the time is up.

    `environment` is added to this process's own.
    """
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        return Reply(answer=None, failure=f"it could not be started ({error.strerror})")
    try:
        out, err = child.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        _kill(child)
        return Reply(answer=None, failure=f"no answer within {timeout_s:g} s")
    except BaseException:  # an interrupt: nothing is left running
        _kill(child)
        raise
    err = err[-_TAIL_CHARACTERS:]
    line = next((line for line in reversed(out.splitlines()) if line.strip()), "")
    if child.returncode != 0:
        return Reply(answer=None, failure=_end(child.returncode, err), errors=err)
    try:
        return Reply(answer=expected.model_validate_json(line), errors=err)
    except ValidationError:
        pass  # then it is the other answer, or none
    try:
        return Reply(answer=None, failure=FailedAnswer.model_validate_json(line).error, errors=err)
    except ValidationError:
        return Reply(answer=None, failure=f"it answered {line[:80]!r}", errors=err)


def _kill(child: subprocess.Popen[str]) -> None:
    """End a child that was not yet waited for, with the compilers it started, which hold its pipes open."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.communicate()


def _end(returncode: int, err: str) -> str:
    last = next((line.strip() for line in reversed(err.splitlines()) if line.strip()), "")
    said = f"; its last line: {last}" if last else ""
    if returncode > 0:
        return f"it ended with code {returncode}{said}"
    try:
        return f"it was ended by {signal.Signals(-returncode).name}{said}"
    except ValueError:  # real-time signals have numbers but no names
        return f"it was ended by signal {-returncode}{said}"


def _module(name: str) -> tuple[str, ...]:
    return (sys.executable, "-m", f"{__package__}.{name}")


class Children:
    """The doctor's three questions to torch and Triton, each in a process of its own.

    `environment` chooses the card (CUDA_VISIBLE_DEVICES).
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = dict(environment or {})

    def ask_torch(self) -> Reply[TorchAnswer]:
        reply = ask_child(_module("torch_probe"), TorchAnswer, environment=self._environment)
        lack = find_unreadable() if reply.answer is None else None
        return reply if lack is None else replace(reply, failure=f"{reply.failure}; {lack}")

    def ask_triton(self) -> Reply[TritonAnswer]:
        """With an empty cache, so that the kernel and its launcher are really compiled."""
        import tempfile

        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache:
            environment = {**self._environment, "TRITON_CACHE_DIR": cache}
            return ask_child(_module("triton_probe"), TritonAnswer, environment=environment)

    def ask_segments(self) -> Reply[SegmentsAnswer]:
        # Both names: the second is the first's before torch 2.9.
        setting = dict.fromkeys(("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"), "expandable_segments:True")
        return ask_child(
            _module("segments_probe"), SegmentsAnswer, environment={**self._environment, **setting}
        )
