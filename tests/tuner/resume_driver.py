"""A driver to be killed: `python resume_driver.py RUN MEASURED KILL_AT COUNT` searches a study of formulas.

Every measured digest goes to the file MEASURED (fsynced) before the search sees the measurement. The process
kills itself with SIGKILL the COUNT-th time it comes to KILL_AT: "measure" (in the middle of a measurement),
"append" (half a record written), "recorded" (in the journal, not yet told), "told" (half told, in memory),
"writing" (all written to the database, and not committed), "never".
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from sqlalchemy import Engine, event

from phase8_tune.tuner.measuring.pool import LocalExecutor
from phase8_tune.tuner.measuring.testing import FormulaMeasurer
from phase8_tune.tuner.records import journal
from phase8_tune.tuner.records.journal import Journal
from phase8_tune.tuner.search.search import run_search
from phase8_tune.tuner.study.definition import parse_definition
from phase8_tune.tuner.study.space import SearchSpace
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.measurement import Measurement
from phase8_tune.tuner.values.outcome import Outcome

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

BUDGET_BYTES = 2**30
DEFINITION = parse_definition(
    """\
name: resume
axes:
  model: [nano, small]
  n_seq: [64]
  batch_size: [1, 2, 8]
  kernel_version: [reference]
  gradient_checkpointing: [false, true]
  mixed_precision: [none]
search: {startup_trials: 3}
""",
    "resume",
)
CANDIDATES = list(SearchSpace(DEFINITION).enumerate())
# Every third candidate is interfered with once, so that a driver dies between two attempts as well.
OUTCOMES = {c.digest(): [Outcome.INTERFERENCE, Outcome.OK] for c in CANDIDATES[::3]}


class NotingMeasurer(FormulaMeasurer):
    """Writes down what it has measured, where no search can lose it."""

    noted: int

    def measure(self, candidate: Candidate) -> Measurement:
        measurement = super().measure(candidate)
        os.write(self.noted, f"{candidate.digest()}\n".encode())
        os.fsync(self.noted)
        return measurement


def kill_after(calls: int, function: Callable[..., Any], *, before: bool) -> Callable[..., Any]:
    """The function, with a SIGKILL before or after its `calls`-th call."""
    left = [calls]

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if left[0] == 0 and before:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*args, **kwargs)
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return wrapped


def write_half_and_die(calls: int) -> Callable[[int, Buffer, int], int]:
    """`os.pwrite`, which writes half and dies at its `calls`-th call."""
    left, real = [calls], os.pwrite

    def pwrite(fd: int, data: Buffer, offset: int) -> int:
        left[0] -= 1
        if left[0] == 0:
            whole = bytes(data)
            real(fd, whole[: len(whole) // 2], offset)
            os.kill(os.getpid(), signal.SIGKILL)
        return real(fd, data, offset)

    return pwrite


def main() -> None:
    run, measured, kill_at, count = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    measurer = NotingMeasurer(BUDGET_BYTES, outcomes=OUTCOMES)
    measurer.noted = os.open(measured, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    # A resumed measurer goes on with the attempts that its dead one has used up.
    measurer.measured.extend(measured.read_text().split())
    if kill_at == "measure":
        measurer.before = kill_after(count, measurer.before, before=True)
    elif kill_at == "append":
        # The lock's process id is the first thing written with pwrite.
        os.pwrite = write_half_and_die(count + 1)
    elif kill_at == "recorded":
        Journal.append = kill_after(count, journal.Journal.append, before=False)  # type: ignore[method-assign]
    elif kill_at == "told":
        optuna.Trial.set_constraint = kill_after(  # type: ignore[method-assign]
            count, optuna.Trial.set_constraint, before=False
        )
    elif kill_at == "writing":
        event.listen(Engine, "commit", kill_after(count, lambda connection: None, before=True))
    with LocalExecutor({"one": measurer}, on_loss=print) as pool:
        result = run_search(DEFINITION, pool, run, budget_bytes=BUDGET_BYTES, on_event=lambda _: None)
    print(result.stop_reason, result.launched_now)


if __name__ == "__main__":
    main()
