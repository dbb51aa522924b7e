"""How a probe answers, inside the child process: its result or what it raised, as the last line it writes."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable

from ..values.measurement import Border
from .answers import FailedAnswer


def describe(error: BaseException) -> str:
    """Type and first line of an exception; CUDA's errors have several lines of general advice after it."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def answer(probe: Callable[[], Border]) -> None:
    """Run the probe and write what it found to standard output."""
    found: Border
    try:
        found = probe()
    # The border of the child: whatever a broken installation raises is the answer.
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        found = FailedAnswer(error=describe(error))
    # In one write after a line's end: libraries may have printed before.
    os.write(1, b"\n" + found.model_dump_json().encode() + b"\n")
