"""A headless Chromium, spoken to over two pipes in its DevTools protocol; needs no package."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_ANSWER_S = 60  # a machine that is busy; a browser that hangs still ends the test

_START = """
import fcntl, os, sys
pipes = [fcntl.fcntl(int(text), fcntl.F_DUPFD, 10) for text in sys.argv[1:3]]
for place, pipe in zip((3, 4), pipes):
    os.dup2(pipe, place)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""The browser reads commands from descriptor 3 and answers on 4."""


class Chromium:
    """One tab. `events` are all that the browser told of, in order."""

    def __init__(self, read: int, write: int) -> None:
        self._read, self._write = read, write
        self._buffer, self._last, self._session = b"", 0, None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The browser's answer to a command. Raises: RuntimeError with what it says is wrong."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._last:
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        found: dict[str, Any] = answer["result"]
        return found

    def open(self, url: str, *, width: int = 1400, height: int = 1000) -> None:
        """Show a page in a window of that size, and wait until it has loaded."""
        self.resize(width, height)
        self.call("Page.navigate", url=url)
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def resize(self, width: int, height: int = 1000) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            **{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )

    def media(self, scheme: str, kind: str = "") -> None:
        """Prefer a colour scheme, light or dark; kind: "print" for how it would be printed."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=kind, features=features)

    def run(self, script: str) -> Any:
        """What an expression comes to; a promise is waited for. Raises: RuntimeError as it throws."""
        found = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True, userGesture=True
        )
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"])
        return found["result"].get("value")

    def mouse(self, kind: str, x: float, y: float, *, is_down: bool = False) -> None:
        """A mouseMoved, mousePressed or mouseReleased at a place of the window."""
        button = "none" if kind == "mouseMoved" and not is_down else "left"
        self.call(
            "Input.dispatchMouseEvent",
            **{"type": kind, "x": x, "y": y, "button": button, "buttons": int(is_down), "clickCount": 1},
        )

    def click(self, x: float, y: float) -> None:
        self.mouse("mouseMoved", x, y)
        self.mouse("mousePressed", x, y, is_down=True)
        self.mouse("mouseReleased", x, y)

    def key(self, name: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name)

    def middle(self, selector: str) -> tuple[float, float]:
        """The middle of the first element of a selector, scrolled to."""
        x, y = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect();"
            "return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        return x, y

    def scroll_to_plot(self, name: str) -> None:
        """Scroll to a plot of the page below its first screen, and wait until it is drawn."""
        self.middle(f"#{name}")
        self.run(
            "new Promise(r => { const look = () => "
            f"later.due.has('{name}') ? requestAnimationFrame(look) : r(1); look(); }})"
        )

    def screenshot(self, path: Path, *, height: int | None = None) -> None:
        """A picture of the window; height: of the page from its top instead."""
        if height is not None:
            self.run("scrollTo(0, 0)")
            self.resize(self.run("innerWidth"), height)
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def complaints(self) -> list[str]:
        """Errors and warnings of the page, whoever reported them."""
        told = []
        for event in self.events:
            method, found = event["method"], event["params"]
            if method == "Runtime.exceptionThrown":
                told.append(json.dumps(found["exceptionDetails"]))
            elif (
                method == "Runtime.consoleAPICalled" and found["type"] in ("error", "warning", "assert")
            ) or (method == "Log.entryAdded" and found["entry"]["level"] in ("error", "warning")):
                told.append(json.dumps(found))
        return told

    def requests(self) -> list[str]:
        """Addresses of all that was asked for, but what lies in the page itself."""
        asked = [
            e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in asked if not url.startswith(("data:", "blob:"))]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._read], [], [], _ANSWER_S)[0]:
                raise TimeoutError("Chromium: expected an answer, got none")
            part = os.read(self._read, 1 << 20)
            if not part:
                raise EOFError("Chromium: expected an answer, but it has ended")
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(line)
        return found


@contextmanager
def chromium(profile: Path) -> Iterator[Chromium]:
    """A browser with a new profile; the test is skipped where none is installed."""
    program = next((found for name in _NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip(
            f"no browser: expected {', '.join(_NAMES)} on the PATH; on Debian: apt-get install chromium"
        )
    theirs_read, write = os.pipe()
    read, theirs_write = os.pipe()
    options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-pipe")
    quiet = ("--disable-background-networking", "--disable-component-update", "--disable-sync")
    command = [program, *options, *quiet, "--hide-scrollbars", f"--user-data-dir={profile}", "about:blank"]
    start = [sys.executable, "-c", _START, str(theirs_read), str(theirs_write), *command]
    process = subprocess.Popen(
        start, pass_fds=(theirs_read, theirs_write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    os.close(theirs_read)
    os.close(theirs_write)
    try:
        opened = Chromium(read, write)
        yield opened
        opened.call("Browser.close")  # killed, it would leave processes that still write into the profile
        process.wait(_ANSWER_S)
    finally:
        process.kill()
        process.wait()
        os.close(read)
        os.close(write)


@contextmanager
def opened_page(page: str, folder: Path) -> Iterator[Chromium]:
    """A page in a browser, which has nothing to complain of until the end."""
    path = folder / "page.html"
    path.write_text(page, encoding="utf-8")
    with chromium(folder / "profile") as opened:
        opened.open(path.as_uri())
        yield opened
        assert opened.complaints() == []
