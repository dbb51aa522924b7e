"""Every message of a failure has its outcome."""

from __future__ import annotations

import pytest

from phase8_tune.tuner.measuring.failures import (
    classify_chain,
    classify_exception,
    classify_exit,
    exception_chain,
)
from phase8_tune.tuner.values.outcome import Outcome

OOM, CRASH, COMPILE = Outcome.OOM, Outcome.ILLEGAL_ACCESS, Outcome.COMPILE_ERROR
EXCEPTIONS = [
    ("OutOfMemoryError", "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has …", OOM),
    ("torch.OutOfMemoryError", "Allocation on device", OOM),
    ("RuntimeError", "CUDA out of memory. Tried to allocate 2.00 GiB", OOM),
    ("AcceleratorError", "CUDA error: out of memory\nCUDA kernel errors might be asynchronously", OOM),
    ("RuntimeError", "CUDA driver error: out of memory", OOM),
    ("RuntimeError", "CUDA driver error: CUDA_ERROR_OUT_OF_MEMORY", OOM),
    ("RuntimeError", "Triton Error [CUDA]: out of memory", OOM),
    ("RuntimeError", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", OOM),
    ("RuntimeError", "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`", OOM),
    ("RuntimeError", "cuDNN error: CUDNN_STATUS_ALLOC_FAILED", OOM),
    ("RuntimeError", "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED", OOM),
    ("RuntimeError", "cusolver error: CUSOLVER_STATUS_ALLOC_FAILED", OOM),
    ("RuntimeError", "cuFFT error: CUFFT_ALLOC_FAILED", OOM),
    ("DistBackendError", "NCCL error in: …\nncclUnhandledCudaError: Cuda failure 2 'out of memory'", OOM),
    ("InductorError", "OutOfMemoryError: CUDA out of memory. Tried to allocate", OOM),
    ("MemoryError", "", OOM),
    ("RuntimeError", "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory", OOM),
    ("RuntimeError", "DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes", OOM),
    ("RuntimeError", "std::bad_alloc", OOM),
    ("OSError", "[Errno 12] Cannot allocate memory", OOM),
    (
        "OutOfResources",
        "out of resource: shared memory, Required: 147456, Hardware limit: 101376.",
        Outcome.SHARED_MEMORY,
    ),
    (
        "InductorError",
        "OutOfResources: out of resource: shared memory, Required: 1, Hardware limit: 0",
        Outcome.SHARED_MEMORY,
    ),
    ("AcceleratorError", "CUDA error: too many resources requested for launch", Outcome.SHARED_MEMORY),
    ("AcceleratorError", "CUDA error: device-side assert triggered", CRASH),
    ("AcceleratorError", "CUDA error: an illegal memory access was encountered", CRASH),
    ("RuntimeError", "Triton Error [CUDA]: an illegal memory access was encountered", CRASH),
    ("RuntimeError", "CUDA error: unspecified launch failure", CRASH),
    ("RuntimeError", "CUDA error: misaligned address", CRASH),
    ("RuntimeError", "CUDA error: an illegal instruction was encountered", CRASH),
    ("RuntimeError", "CUDA driver error: CUDA_ERROR_ILLEGAL_ADDRESS", CRASH),
    ("AcceleratorError", "CUDA error: the launch timed out and was terminated", Outcome.TIMEOUT),
    ("CompilationError", "at 12:8: cannot convert", COMPILE),
    ("triton.compiler.errors.CompilationError", "at 1:1", COMPILE),
    ("PTXASError", "PTXAS error: Internal Triton PTX codegen error", COMPILE),
    ("RuntimeError", "PassManager::run failed", COMPILE),
    ("InductorError", "LoweringException: AssertionError", COMPILE),
    ("AcceleratorError", "CUDA error: no kernel image is available for execution on the device", COMPILE),
    ("ValueError", "expected a multiple of 4", Outcome.ERROR),
    ("AcceleratorError", "CUDA error: unknown error", Outcome.ERROR),
    ("RuntimeError", "CUDA error: uncorrectable ECC error encountered", Outcome.ERROR),
]


@pytest.mark.parametrize(("name", "message", "outcome"), EXCEPTIONS)
def test_exception(name: str, message: str, outcome: Outcome) -> None:
    assert classify_exception(name, message).outcome is outcome


@pytest.mark.parametrize(
    ("name", "message", "is_usable"),
    [
        ("OutOfMemoryError", "CUDA out of memory. Tried to allocate", True),
        ("MemoryError", "", True),
        ("RuntimeError", "DefaultCPUAllocator: can't allocate memory", True),
        ("AcceleratorError", "CUDA error: out of memory", False),
        ("RuntimeError", "CUBLAS_STATUS_ALLOC_FAILED", False),
        ("AcceleratorError", "CUDA error: an illegal memory access was encountered", False),
        ("ValueError", "no", False),
    ],
)
def test_only_a_refusal_of_the_allocator_leaves_the_worker_usable(
    name: str, message: str, is_usable: bool
) -> None:
    assert classify_exception(name, message).worker_usable is is_usable


class OutOfMemoryError(RuntimeError):
    """Classified by its name, as torch's own."""


class AcceleratorError(RuntimeError):
    """As torch's own."""


class InductorError(RuntimeError):
    """As torch's own."""


REFUSED = "CUDA out of memory. Tried to allocate 20.00 MiB"
CAPTURE_ERRORS = [
    "CUDA error: operation failed due to a previous error during capture",
    "CUDA error: operation would make the legacy stream depend on a capturing blocking stream",
    "cudaErrorStreamCaptureInvalidated",
    "cudaErrorStreamCaptureUnjoined: capture was not joined",
]


def raised_while_handling(outer: BaseException, inner: BaseException, *, is_cause: bool) -> BaseException:
    """`outer` as Python leaves it: raised from `inner`, or only while `inner` was handled."""
    try:
        try:
            raise inner
        except type(inner) as handled:
            if is_cause:
                raise outer from handled
            raise outer  # noqa: B904 - without a cause, as a context manager's exit raises it
    except type(outer) as caught:
        return caught


@pytest.mark.parametrize("is_cause", [True, False])
@pytest.mark.parametrize("said", CAPTURE_ERRORS)
@pytest.mark.parametrize("kind", [AcceleratorError, RuntimeError])
@pytest.mark.parametrize("refusal", [REFUSED, "Allocation on device"])
def test_an_allocation_refused_inside_a_capture(
    kind: type[RuntimeError], said: str, refusal: str, is_cause: bool
) -> None:
    error = raised_while_handling(kind(said), OutOfMemoryError(refusal), is_cause=is_cause)
    failure, decisive = classify_chain(exception_chain(error))
    assert (failure.outcome, failure.worker_usable) == (OOM, False)
    assert str(decisive) == refusal  # what the user is told


@pytest.mark.parametrize("is_cause", [True, False])
@pytest.mark.parametrize("said", CAPTURE_ERRORS)
def test_a_refusal_after_a_broken_capture_does_not_keep_the_worker(said: str, is_cause: bool) -> None:
    error = raised_while_handling(OutOfMemoryError(REFUSED), AcceleratorError(said), is_cause=is_cause)
    failure, _ = classify_chain(exception_chain(error))
    assert (failure.outcome, failure.worker_usable) == (OOM, False)


def test_a_refusal_while_something_harmless_was_handled_keeps_the_worker() -> None:
    error = raised_while_handling(OutOfMemoryError(REFUSED), KeyError("not cached"), is_cause=False)
    failure, _ = classify_chain(exception_chain(error))
    assert (failure.outcome, failure.worker_usable) == (OOM, True)


def test_a_refusal_noted_to_be_inside_a_capture_does_not_keep_the_worker() -> None:
    error = OutOfMemoryError(REFUSED)
    assert classify_chain(exception_chain(error))[0].worker_usable
    error.add_note("refused during capture of a CUDA graph")
    failure, _ = classify_chain(exception_chain(error))
    assert (failure.outcome, failure.worker_usable) == (OOM, False)


def test_a_capture_that_fails_by_itself_is_an_error() -> None:
    failure, _ = classify_chain(exception_chain(AcceleratorError(CAPTURE_ERRORS[0])))
    assert (failure.outcome, failure.worker_usable) == (Outcome.ERROR, False)


def test_cause_and_context_both_count() -> None:
    error = raised_while_handling(InductorError("compiling"), OutOfMemoryError(REFUSED), is_cause=False)
    error.__cause__ = ValueError("a lowering")
    assert [type(part) for part in exception_chain(error)] == [InductorError, ValueError, OutOfMemoryError]
    assert classify_chain(exception_chain(error))[0].outcome is OOM


def test_a_chain_that_ends_in_itself() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__context__, second.__context__ = second, first
    assert exception_chain(first) == [first, second]


@pytest.mark.parametrize(
    ("returncode", "last_line", "outcome", "said"),
    [
        (-9, "", Outcome.KILLED, "SIGKILL"),
        (-15, "", Outcome.KILLED, "SIGTERM"),
        (-11, "", CRASH, "SIGSEGV"),
        (-7, "", CRASH, "SIGBUS"),
        (-6, "", Outcome.ERROR, "SIGABRT"),
        (-6, "terminate called after throwing an instance of 'std::bad_alloc'", OOM, "bad_alloc"),
        (-6, "CUDA error: an illegal memory access was encountered", CRASH, "SIGABRT"),
        (-40, "", Outcome.ERROR, "signal 40"),
        (0, "all is well, out of memory", Outcome.ERROR, "code 0"),
        (1, "torch.OutOfMemoryError: CUDA out of memory.", OOM, "code 1"),
        (1, "ImportError: no torch", Outcome.ERROR, "no torch"),
        (None, "", Outcome.ERROR, "closed its pipe"),
    ],
)
def test_exit(returncode: int | None, last_line: str, outcome: Outcome, said: str) -> None:
    found, message = classify_exit(returncode, last_line)
    assert found is outcome
    assert said in message
