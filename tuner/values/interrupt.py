"""Signals that ask the process to end: the first lets it keep what it has, a second does not wait."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FrameType

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, `kill` and the end of a batch job's time, a terminal that was closed."""


POLL_S = 0.2
"""How long a wait may keep a signal waiting: one that comes while it begins does not end it."""


@dataclass(slots=True)
class EndRequest:
    """What of `ENDING_SIGNALS` came so far; number: of the first, None where none did.

    is_repeated: whether another came after it.
    """

    number: int | None = None
    is_repeated: bool = False

    def exit_code(self) -> int:
        """128 + the signal's number, by the convention of shells; 130, as for Ctrl-C, where none came."""
        return 128 + (signal.SIGINT if self.number is None else self.number)


@contextmanager
def end_requests() -> Iterator[EndRequest]:
    """In the block every one of `ENDING_SIGNALS` raises KeyboardInterrupt, as Ctrl-C does.

    From the second on a further one ends the process at once. A signal that was ignored when the process
    began (`nohup`) stays ignored. Outside the main thread, where Python delivers no signals, it does nothing.
    """
    request = EndRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def end(number: int, frame: FrameType | None) -> None:
        if request.number is None:
            request.number = number
        else:
            request.is_repeated = True
            for each in ENDING_SIGNALS:
                signal.signal(each, signal.SIG_DFL)
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in ENDING_SIGNALS}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, end)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


class _Hold:
    """Keeps a first signal for later; a second one is passed on at once."""

    def __init__(self) -> None:
        self.previous = {number: signal.getsignal(number) for number in ENDING_SIGNALS}
        self.held: list[tuple[int, FrameType | None]] = []

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.held.append((number, frame))
        if len(self.held) > 1:
            self.pass_on()

    def pass_on(self) -> None:
        number, frame = self.held[0]
        handler = self.previous[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)


@contextmanager
def interrupt_deferred() -> Iterator[None]:
    """Hold back a first signal that asks to end until the block is done; a second one interrupts at once.

    Keeps a write from being torn in two. A signal that came is passed on even where the block fails: who
    catches the failure shall not go on. In another such block, and outside the main thread, it does nothing.
    """
    hold = _Hold()
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or any(isinstance(handler, _Hold) for handler in hold.previous.values()):
        yield
        return
    try:
        with ExitStack() as restored:
            for number, handler in hold.previous.items():
                if callable(handler):
                    signal.signal(number, hold)
                    restored.callback(signal.signal, number, handler)
            yield
    finally:
        if hold.held:
            hold.pass_on()
