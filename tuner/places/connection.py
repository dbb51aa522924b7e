"""The way into a Ray cluster and out of it again: one that runs, or one that is started for this command.

What is started here listens on the loopback only. Ray is imported here and in the modules that this room's
`cluster.py` loads, and nowhere else.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..values.errors import UserInputError
from ..values.interrupt import ENDING_SIGNALS

AUTO = "auto"
_LOOPBACK = "127.0.0.1"
_ANSWERS_S = 10.0
_MESSAGES_BYTES = 128 * 2**20
"""Of shared memory for what Ray's processes hand on: by default it takes a third of the computer's."""


@contextmanager
def connected(address: str) -> Iterator[str]:
    """Be a driver of the cluster; yields how it is called. Ends what was started for it.

    address: of a cluster that this computer is a node of, or auto: the one that runs here, else one of this
    computer alone, which is started.
    Raises: UserInputError.
    """
    if address != AUTO and (":" not in address or "://" in address):
        raise UserInputError(
            f"--cluster: expected auto, or HOST:PORT of a Ray cluster of which this computer is a node, "
            f"got {address!r}"
        )
    if address != AUTO:
        _check_answers(address)
    try:
        import ray
        from ray._private import ray_constants, worker
    except ImportError as error:
        raise UserInputError(
            f"--cluster: expected Ray to be installed, got: {error}; pip install 'phase8-tune[cluster]'"
        ) from None
    worker.print_to_stdstream = lambda *args, **kwargs: None  # else its warnings go to standard output
    logging.getLogger("ray").setLevel(logging.ERROR)
    quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    handlers = {number: signal.getsignal(number) for number in ENDING_SIGNALS}
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            try:
                ray.init(address=address, **quiet)
                name = f"Ray cluster at {ray.get_runtime_context().gcs_address}"
            except (ConnectionError, RuntimeError, ValueError) as error:
                if address != AUTO or not isinstance(error, ConnectionError):
                    raise UserInputError(_unreachable(address, error)) from error
                # So that nothing of it, in this process or below it, resolves this computer to its address.
                os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
                ray_constants.ENABLE_RAY_CLUSTER = False
                ray.init(
                    address="local",
                    include_dashboard=False,
                    object_store_memory=_MESSAGES_BYTES,
                    _node_ip_address=_LOOPBACK,
                    **quiet,
                )
                name = "Ray on this computer"
        for number, handler in handlers.items():  # Ray has a handler of its own
            signal.signal(number, handler)
        yield name
    finally:
        ray.shutdown()
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _check_answers(address: str) -> None:
    """Ray itself would wait for minutes.

    Raises: UserInputError.
    """
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWERS_S).close()
    except (OSError, ValueError, OverflowError) as error:
        raise UserInputError(_unreachable(address, error)) from error


def _unreachable(address: str, error: Exception) -> str:
    first = " ".join(str(error).split())
    if "ersion mismatch" in first:
        return f"--cluster {address}: expected the cluster's Ray and Python here too, got: {first}"
    return (
        f"--cluster {address}: expected a Ray cluster of which this computer is a node, got: {first}; "
        "see docs/scaling.md"
    )
