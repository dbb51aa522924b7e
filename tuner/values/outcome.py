"""How a measurement can end: a closed list, each with its rule and a sentence for the user."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """The closed list of outcomes. An outcome is data in a record, never an exception that ends a study."""

    OK = "ok"
    PREDICTED_OVER_BUDGET = "predicted_over_budget"
    OOM = "oom"
    OVER_BUDGET = "over_budget"
    SPILLED = "spilled"
    SHARED_MEMORY = "shared_memory"
    WRONG_RESULT = "wrong_result"
    COMPILE_ERROR = "compile_error"
    ILLEGAL_ACCESS = "illegal_access"
    TIMEOUT = "timeout"
    KILLED = "killed"
    INTERFERENCE = "interference"
    OWN_ERROR = "own_error"
    ERROR = "error"

    @property
    def is_memory(self) -> bool:
        """Does not fit: the trial is PRUNED and carries the constraint."""
        return self in _MEMORY

    @property
    def is_retried(self) -> bool:
        """May be chance (another process moved, one crash): measured again a bounded number of times."""
        return self in _RETRIED

    @property
    def advice(self) -> str:
        """What happened and what the user can do, in one sentence."""
        return _ADVICE[self]


_MEMORY = frozenset({Outcome.PREDICTED_OVER_BUDGET, Outcome.OOM, Outcome.OVER_BUDGET, Outcome.SPILLED})
_RETRIED = frozenset({Outcome.INTERFERENCE, Outcome.ILLEGAL_ACCESS, Outcome.KILLED, Outcome.ERROR})
_ADVICE = {
    Outcome.OK: "measured.",
    Outcome.PREDICTED_OVER_BUDGET: "predicted not to fit and not launched; raise --vram to try it.",
    Outcome.OOM: "ran out of memory under the budget; a smaller batch or gradient checkpointing may fit.",
    Outcome.OVER_BUDGET: "ran, but took more than the budget; use a smaller batch or raise --vram.",
    Outcome.SPILLED: "fitted only by spilling to system memory; use a smaller batch, or turn off the "
    "driver's system-memory fallback.",
    Outcome.SHARED_MEMORY: "this kernel version needs more shared memory a block than this GPU has; "
    "use another version.",
    Outcome.WRONG_RESULT: "this kernel version failed its correctness check on this GPU and is "
    "not used here.",
    Outcome.COMPILE_ERROR: "a kernel did not compile on this GPU; see the worker's log in the run folder.",
    Outcome.ILLEGAL_ACCESS: "a kernel crashed; the worker was replaced; see its log in the run folder.",
    Outcome.TIMEOUT: "did not finish in time and was stopped; raise --timeout if it is only slow.",
    Outcome.KILLED: "the worker was killed from outside, often by the system for want of host memory; "
    "close other programs.",
    Outcome.INTERFERENCE: "another program's memory moved during the measurement; close it and resume.",
    Outcome.OWN_ERROR: "the workload's own code raised an error, at the file and line in the message; "
    "correct it there.",
    Outcome.ERROR: "the worker failed; see its log in the run folder.",
}
