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
_CLUSTERS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Whether nodes are to reach each other: by Ray's own account everywhere but under Windows and macOS."""
_MESSAGES_BYTES = 128 * 2**20
"""Of shared memory for what Ray's processes hand on: by default it takes a third of the computer's."""


@contextmanager
def connected(asked: str) -> Iterator[str]:
    """Be a driver of the cluster; yields how it is called. Ends what was started for it.

    asked: the address of a cluster that this computer is a node of, or auto: the one that `ray start` made
    here, else one of this computer alone, which is started.
    Raises: UserInputError.
    """
    if asked != AUTO and (":" not in asked or "://" in asked):
        raise UserInputError(
            f"--cluster: expected auto, or HOST:PORT of a Ray cluster of which this computer is a node, "
            f"got {asked!r}"
        )
    try:
        import ray
        from ray._private import ray_constants, worker
    except ImportError as error:
        raise UserInputError(
            f"--cluster: expected Ray to be installed, got: {error}; pip install 'phase8-tune[cluster]'"
        ) from None
    address = asked if asked != AUTO else os.environ.get("RAY_ADDRESS") or _address_of_started()
    if address is not None and not answers(address):
        raise UserInputError(_unreachable(address, "no answer"))
    worker.print_to_stdstream = lambda *args, **kwargs: None  # else its warnings go to standard output
    logging.getLogger("ray").setLevel(logging.ERROR)
    handlers = {number: signal.getsignal(number) for number in ENDING_SIGNALS}
    before = ray_constants.ENABLE_RAY_CLUSTER, os.environ.get(_CLUSTERS)
    quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            if address is None:
                # So that nothing of it, in this process or below it, resolves this computer to its address.
                ray_constants.ENABLE_RAY_CLUSTER, os.environ[_CLUSTERS] = False, "0"
                quiet |= {"include_dashboard": False, "object_store_memory": _MESSAGES_BYTES}
                ray.init(address="local", _node_ip_address=_LOOPBACK, **quiet)
            else:
                try:
                    ray.init(address=address, **quiet)
                except (ConnectionError, RuntimeError, ValueError) as error:
                    raise UserInputError(_unreachable(address, " ".join(str(error).split()))) from error
        for number, handler in handlers.items():  # Ray has a handler of its own
            signal.signal(number, handler)
        yield "Ray on this computer" if address is None else f"Ray cluster at {address}"
    finally:
        ray.shutdown()
        ray_constants.ENABLE_RAY_CLUSTER = before[0]
        if before[1] is None:
            os.environ.pop(_CLUSTERS, None)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _address_of_started() -> str | None:
    """Of the cluster that `ray start` made here, None where there is none.

    Not as Ray finds one, which takes any: one that another command has started, and ends with it.
    """
    from ray._private import utils

    address: str | None = utils.read_ray_address()
    return address if address is not None and answers(address) else None


def answers(address: str, within_s: float = 10.0) -> bool:
    """Whether somebody listens there; Ray itself would wait for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), within_s).close()
    except (OSError, ValueError, OverflowError):
        return False
    return True


def _unreachable(address: str, said: str) -> str:
    if "ersion mismatch" in said:
        return f"--cluster {address}: expected the cluster's Ray and Python here too, got: {said}"
    return (
        f"--cluster {address}: expected a Ray cluster of which this computer is a node, got: {said}; "
        "see docs/scaling.md"
    )
