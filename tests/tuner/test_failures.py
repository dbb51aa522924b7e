"""Every message of a failure has its outcome."""

from __future__ import annotations

import pytest

from phase8_tune.tuner.failures import classify_exception, classify_exit
from phase8_tune.tuner.outcome import Outcome

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
