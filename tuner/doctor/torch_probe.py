"""Child process: what torch sees of the first visible card, and whether a product runs on it."""

from __future__ import annotations

from .answering import answer, describe
from .answers import TorchAnswer


def probe() -> TorchAnswer:
    """Raises: ImportError for a broken torch."""
    import torch

    version, cuda = str(torch.__version__), torch.version.cuda
    if cuda is None:
        return TorchAnswer(torch=version, cuda=None, reason=f"torch {version} is a build without CUDA")
    if not torch.cuda.is_available():
        return TorchAnswer(torch=version, cuda=cuda, reason=_why_not())
    from ..worker.cuda_accounting import describe_card

    failure = ""
    free_bytes: int | None = None
    try:
        free_bytes, _ = torch.cuda.mem_get_info()
        ones = torch.ones(64, 64, device="cuda")
        total = float((ones @ ones).sum())
        if total != 64**3:
            failure = f"a product of ones summed to {total:g} instead of {64**3}"
    except RuntimeError as error:
        failure = describe(error)
    return TorchAnswer(
        torch=version,
        cuda=cuda,
        device=describe_card(),
        free_bytes=free_bytes,
        failure=failure,
        fitted_shared_memory_bytes=_fitted(),
    )


def _why_not() -> str:
    import torch

    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        return describe(error).partition(": ")[2] or describe(error)
    return "torch sees no CUDA device"


def _fitted() -> int | None:
    try:
        from ...kernels.device_limits import SMALLEST_SHARED_MEMORY_BYTES
    except ImportError:  # without Triton there are no kernels to be fitted
        return None
    return SMALLEST_SHARED_MEMORY_BYTES


if __name__ == "__main__":
    answer(probe)
