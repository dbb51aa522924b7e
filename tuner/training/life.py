"""A session of a training in a process of its own, for who watches it from outside.

Run as `python -m phase8_tune.tuner.training.life`: a request comes as JSON on standard input, and what
came of it goes as JSON to standard output, whose other lines go to standard error.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..values.errors import Phase8TuneError
from .session import Request, run_session


def main() -> int:
    """Serve the one request; the exit code is that of the session's error, whose line is the answer then."""
    data: dict[str, Any] = json.load(sys.stdin)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    for key in ("settings_file", "output"):
        data[key] = Path(data[key])
    try:
        with contextlib.redirect_stdout(sys.stderr):
            result = run_session(Request(**data))
    except Phase8TuneError as error:
        answers.write(json.dumps({"error": str(error), "exit_code": error.exit_code}) + "\n")
        return error.exit_code
    answers.write(json.dumps(None if result is None else asdict(result)) + "\n")
    answers.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
