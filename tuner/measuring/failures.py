"""From what went wrong to its outcome: pure rules over exception names, messages and exit statuses.

The order of the rules matters: Inductor and Triton wrap an allocation failure in a compile error, and NCCL
wraps it in "unhandled cuda error", so memory is looked for first.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from ..values.outcome import Outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """How a failure ends an attempt, and whether the worker may be kept (if its memory is back where it was).

    Only a refusal of torch's own allocator leaves the CUDA context and the libraries' handles untouched.
    in_doubt: whether something says that the device, or a library on it, may be to blame.
    """

    outcome: Outcome
    worker_usable: bool = False
    in_doubt: bool = False


_RULES: tuple[tuple[Outcome, re.Pattern[str]], ...] = tuple(
    (outcome, re.compile(pattern, re.IGNORECASE | re.DOTALL))
    for outcome, pattern in (
        (
            Outcome.OOM,
            r"\bout of memory\b|OUT_OF_MEMORY|cudaErrorMemoryAllocation|STATUS_ALLOC_FAILED"
            r"|CUFFT_ALLOC_FAILED|ALLOCATION_FAILED|CUSPARSE_STATUS_INSUFFICIENT_RESOURCES"
            # cuBLAS's handle is created on first use and reports this when its workspace does not fit
            r"|CUBLAS_STATUS_NOT_INITIALIZED.*cublasCreate"
            r"|DefaultCPUAllocator: (can't allocate|not enough) memory"
            r"|not enough memory: you tried to allocate"
            r"|std::bad_alloc|cannot allocate memory",
        ),
        (
            Outcome.SHARED_MEMORY,
            r"out of resources?\b|OutOfResources|too many resources requested for launch"
            r"|shared memory.*Hardware limit|CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES",
        ),
        (
            Outcome.ILLEGAL_ACCESS,
            r"illegal memory access|device-side assert|unspecified launch failure|misaligned address"
            r"|illegal instruction|illegal address|invalid program counter|hardware stack error"
            r"|operation not supported on global/shared address space|invalid address space"
            r"|CUDA_ERROR_(ILLEGAL_ADDRESS|ILLEGAL_INSTRUCTION|MISALIGNED_ADDRESS|LAUNCH_FAILED|ASSERT)",
        ),
        (Outcome.TIMEOUT, r"launch timed out and was terminated|CUDA_ERROR_LAUNCH_TIMEOUT"),
        (
            Outcome.COMPILE_ERROR,
            r"\bptxas\b|PTXASError|PassManager::run failed|no kernel image is available|CompilationError"
            r"|failed to translate module|Cannot find a working triton installation|unsupported PTX",
        ),
    )
)
_MEMORY_TYPES = frozenset({"OutOfMemoryError", "MemoryError"})
_ALLOCATOR_TYPES = frozenset({"OutOfMemoryError"})
_SHARED_MEMORY_TYPES = frozenset({"OutOfResources"})
_COMPILE_TYPES = frozenset(
    {
        "CompilationError",
        "CompileTimeAssertionFailure",
        "UnsupportedLanguageConstruct",
        "PTXASError",
        "MLIRCompilationError",
        "BackendCompilerFailed",
        "InductorError",
        "LoweringException",
        "CppCompileError",
        "InvalidCxxCompiler",
        "TorchRuntimeError",
        "Unsupported",
    }
)
_HOST_REFUSAL = re.compile(r"DefaultCPUAllocator|not enough memory: you tried to allocate", re.IGNORECASE)
# What says that the device or a library on it is in doubt, whatever else was refused in the same attempt. A
# stream capture that an allocation ended leaves the stream, the graph and its pool behind.
_DEVICE_DOUBT = re.compile(
    r"CUDA (driver )?error|cudaError|CUDA_ERROR|Triton Error|C(UBLAS|UDNN|USOLVER|USPARSE)_STATUS|CUFFT_|NCCL"
    r"|during capture|captur(e|ing) (was|is) |stream.?captur",
    re.IGNORECASE,
)
_PRECEDENCE = (*(outcome for outcome, _ in _RULES), Outcome.ERROR)
_CRASH_SIGNALS = frozenset({"SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE"})


def classify_exception(type_name: str, message: str) -> Failure:
    """The failure an exception stands for.

    `type_name` is the exception's class name, with or without its module; `message` its text.
    """
    name = type_name.rpartition(".")[2]
    outcome = _outcome_of(name, message)
    plain_refusal = name in _ALLOCATOR_TYPES or name == "MemoryError" or bool(_HOST_REFUSAL.search(message))
    return Failure(outcome=outcome, worker_usable=outcome is Outcome.OOM and plain_refusal)


def exception_chain(error: BaseException) -> list[BaseException]:
    """The exception and all that it was raised from or while handling, outermost first."""
    chain: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        current = waiting.pop(0)
        if current is None or any(current is known for known in chain):
            continue
        chain.append(current)
        waiting += (current.__cause__, current.__context__)
    return chain


def classify_chain(chain: Sequence[BaseException]) -> tuple[Failure, BaseException]:
    """The failure a whole chain stands for, and the exception in it that decides.

    An allocation refused while a step is captured surfaces as an error of the capture, and Inductor and
    Triton wrap theirs in an error of the compiler: so memory decides wherever in the chain it stands. The
    worker may be kept only where the outermost is a plain refusal and nothing else puts the device in doubt.
    """
    found = [classify_exception(type(part).__name__, str(part)) for part in chain]
    first = min(range(len(found)), key=lambda i: _PRECEDENCE.index(found[i].outcome))
    in_doubt = any(
        _DEVICE_DOUBT.search("\n".join(getattr(part, "__notes__", ())))
        or (
            not failure.worker_usable
            and (failure.outcome is not Outcome.ERROR or _DEVICE_DOUBT.search(str(part)))
        )
        for part, failure in zip(chain, found, strict=True)
    )
    usable = found[0].worker_usable and not in_doubt
    return Failure(outcome=found[first].outcome, worker_usable=usable, in_doubt=in_doubt), chain[first]


def _outcome_of(name: str, message: str) -> Outcome:
    if name in _MEMORY_TYPES:
        return Outcome.OOM
    if name in _SHARED_MEMORY_TYPES:
        return Outcome.SHARED_MEMORY
    for outcome, pattern in _RULES:
        if pattern.search(message):
            return outcome
    return Outcome.COMPILE_ERROR if name in _COMPILE_TYPES else Outcome.ERROR


def classify_exit(returncode: int | None, last_line: str) -> tuple[Outcome, str]:
    """Outcome and message for a worker that went away without an answer.

    `returncode` is as `subprocess` gives it, minus the signal's number where a signal ended the process, and
    None where the process closed its pipe but lives. `last_line` is the last line of its standard error.
    """
    said = f"; its last line: {last_line}" if last_line else ""
    if returncode is None:
        return Outcome.ERROR, f"the worker closed its pipe without an answer{said}"
    if returncode < 0:
        name = _signal_name(-returncode)
        message = f"the worker was ended by {name}{said}"
        if name in ("SIGKILL", "SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT"):
            return Outcome.KILLED, message
        if name in _CRASH_SIGNALS:
            return Outcome.ILLEGAL_ACCESS, message
        return _outcome_of("", last_line), message
    outcome = Outcome.ERROR if returncode == 0 else _outcome_of("", last_line)
    return outcome, f"the worker exited with code {returncode} without an answer{said}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # real-time signals have numbers but no names
        return f"signal {number}"
