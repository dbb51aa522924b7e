"""A wait for a measurement ends with a signal, whichever thread of the process it comes to."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

import pytest

from phase8_tune.tuner.measuring.pool import LocalExecutor


@pytest.fixture
def interrupting() -> Iterator[signal.Signals]:
    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    yield signal.SIGUSR1
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.timeout(20)
def test_a_signal_that_wakes_another_thread_ends_the_wait(interrupting: signal.Signals) -> None:
    """As one that comes while the wait begins: the system call goes on, and Python has a handler to run."""

    def signal_itself() -> None:
        time.sleep(0.3)
        signal.pthread_kill(threading.get_ident(), interrupting)

    other = threading.Thread(target=signal_itself)
    other.start()
    with pytest.raises(KeyboardInterrupt):
        LocalExecutor({}, on_loss=print).wait()
    other.join()
