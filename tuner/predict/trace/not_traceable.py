"""The one way a model that is not ours says that it cannot be followed: no forecast, never a wrong one."""

from __future__ import annotations

import sys
import sysconfig
import traceback
from pathlib import Path
from types import FrameType

import torch

_LIBRARIES = (str(Path(torch.__file__).parent), str(Path(__file__).parents[2]), sysconfig.get_path("stdlib"))
"""Frames below these folders are torch's, ours or Python's, and not the user's."""


class NotTraceable(Exception):
    """A step does what only data can decide, or what hides its memory. One line: the operation, its reason,
    and the file and line of the code that asked for it.
    """

    def __init__(self, operation: str, reason: str, place: str) -> None:
        super().__init__(operation, reason, place)
        self.operation, self.reason, self.place = operation, reason, place

    def __str__(self) -> str:
        return f"{self.operation} at {self.place} cannot be predicted: {self.reason}"


def not_traceable(operation: str, reason: str) -> NotTraceable:
    """The error of an operation that is at work now; its place is the nearest frame of the user's code."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if _is_users(frame.f_code.co_filename):
            return NotTraceable(operation, reason, f"{frame.f_code.co_filename}:{frame.f_lineno}")
        frame = frame.f_back
    return NotTraceable(operation, reason, "an unknown place")


def as_not_traceable(error: BaseException) -> NotTraceable:
    """What any error of a trace says: the place is the last frame of the user's code that it came through."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{frame.filename}:{frame.lineno}" for frame in frames if _is_users(frame.filename)]
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return NotTraceable(type(error).__name__, first_line, places[-1] if places else "an unknown place")


def _is_users(filename: str) -> bool:
    return "site-packages" not in filename and not filename.startswith(("<", *_LIBRARIES))
