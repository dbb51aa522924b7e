"""The worker process: one device, one candidate after the other, until its driver goes away.

Run as `python -m phase8_tune.tuner.worker.main` by the driver. Requests come on standard input; replies go
to a private copy of standard output, which itself is joined to standard error so that no library's print can
break the protocol.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import queue
import signal
import sys
import threading
import traceback
from typing import TYPE_CHECKING

from ... import __version__
from ..machine.environment import host_memory_bytes, installed_version, os_name, processor_name
from ..measuring.protocol import (
    CheckRequest,
    Failed,
    MeasureRequest,
    Ready,
    Reply,
    StartRequest,
    decode_request,
    encode,
)
from ..values.measurement import DeviceInfo, Versions

if TYPE_CHECKING:
    import torch

    from .accounting import Account

_PR_SET_PDEATHSIG = 1  # prctl(2)


def main() -> int:
    """Serve requests until standard input ends; the exit code."""
    die_with_parent()
    requests_fd, replies_fd = _take_standard_streams()

    def reply(message: Reply) -> None:
        _write_all(replies_fd, encode(message))

    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read_requests, args=(requests_fd, lines), daemon=True).start()
    start = decode_request(lines.get())
    if not isinstance(start, StartRequest):
        raise ValueError(f"expected a start request first, got {start.type}")
    try:
        device, account, ready = _take_device(start)
    # Whatever keeps the device from being used (no driver, no memory, a broken installation) is told as such.
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        reply(Failed(message=f"{type(error).__name__}: {error}"))
        return 1
    from .attempt import run_attempt
    from .kernel_check import check_kernels

    reply(ready)
    if start.device == "cuda":
        # Custom operators and optimizers import it when they are first called, for seconds: meanwhile the
        # driver foresees and compiles.
        import torch._dynamo  # noqa: F401

    while True:
        request = decode_request(lines.get())
        if isinstance(request, CheckRequest):
            reply(check_kernels(request, device))
        elif isinstance(request, MeasureRequest):
            reply(run_attempt(request, device, account, reply))
        else:
            raise ValueError(f"expected a request to check or to measure, got {request.type}")


def die_with_parent() -> None:
    """Have the kernel end this process when the thread that started it ends. Linux only; elsewhere the end of
    standard input does it, which needs the interpreter to be free."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")


def _take_standard_streams() -> tuple[int, int]:
    """Private copies of standard input and output; children inherit neither, so none can hold them open."""
    requests_fd, replies_fd = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests_fd, replies_fd


def _read_requests(fd: int, lines: queue.SimpleQueue[bytes]) -> None:
    with os.fdopen(fd, "rb", buffering=0) as stream:
        while line := stream.readline():
            lines.put(line)
    # The driver closed the pipe or is gone: end at once, whatever the main thread is doing, and with it the
    # compilers it may have started.
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def _write_all(fd: int, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):  # the driver is gone; the reading thread ends this process
        while data:
            data = data[os.write(fd, data) :]


def _take_device(start: StartRequest) -> tuple[torch.device, Account, Ready]:
    import torch

    if start.device == "cuda":
        from .cuda_accounting import CudaAccount, open_cuda

        opened = open_cuda()
        account = CudaAccount(opened)
        ready = Ready(
            pid=os.getpid(),
            device=opened.info,
            versions=_versions(opened.driver),
            context_bytes=opened.context_bytes,
            context_source=opened.context_source,
        )
        return torch.device("cuda", 0), account, ready
    from .accounting import HostAccount

    # Loads the matrix and autograd libraries, so that the first attempt is not charged for them.
    warm = torch.ones(64, 64, requires_grad=True)
    (warm @ warm).sum().backward()  # type: ignore[no-untyped-call]
    info = DeviceInfo(kind="cpu", name=processor_name(), total_bytes=host_memory_bytes())
    return torch.device("cpu"), HostAccount(), Ready(pid=os.getpid(), device=info, versions=_versions(None))


def _versions(driver: str | None) -> Versions:
    import torch

    return Versions(
        phase8_tune=__version__,
        python=sys.version.split()[0],
        torch=torch.__version__,
        triton=installed_version("triton"),
        cuda=torch.version.cuda,
        driver=driver,
        os=os_name(),
    )


if __name__ == "__main__":
    sys.exit(main())
