"""How quickly the page of a study of 20,000 candidates answers, in a headless Chromium without a GPU.

    python -m phase8_tune.benchmarks.page [--candidates 20000] [--repeats 7] [--output DIR]

The records are made up: six models at ten sequences, two kernel versions, with and without checkpointing, at
as many batches as it takes, a twentieth of them measured. What is timed begins with the input and ends when
the browser has drawn a frame after all that follows from it; other programs can only make it longer. Prints a
table, and writes results.json and report.md into DIR.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from tabulate import tabulate

from ..tests.html.chromium import Chromium, chromium
from ..tests.html.pages import FACTS, page_run, with_details
from ..tests.tuner.report_records import BUDGET_BYTES, make_candidate, make_record
from ..tuner.html.page import render_html
from ..tuner.records.results import Results
from ..tuner.values.outcome import Outcome
from ..tuner.values.record import Record
from .environment import environment

LARGEST_BYTES: Final = 6_000_000
_MODELS = {"nano": 6e6, "small": 1.7e6, "base": 8e5, "medium": 4.8e5, "large": 2.6e5, "xl": 1.6e5}
"""Tokens a second of the best batch."""
_LENGTHS = tuple(256 * 2**power for power in range(10))
_VERSIONS = {"fast": 1.0, "v1": 0.6}
_DRAWN = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
_BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
_DRAGS_PX = (-20, -60, -100, -140, -180, -220, -260, -300)


def make_records(count: int) -> list[Record]:
    """So many settled records, whose rates rise with the batch and whose peaks follow it."""
    lines = list(itertools.product(_MODELS.items(), _LENGTHS, _VERSIONS.items(), (0, 1)))
    records = []
    for number in range(count):
        (model, best), n_seq, (version, share), spared = lines[number % len(lines)]
        batch = 1 + number // len(lines)
        tokens = batch * n_seq
        peak_bytes = int(600e6 + tokens * 4e9 / best * (0.4 if spared else 1) + 3e3 * best**-0.1)
        fits = peak_bytes <= BUDGET_BYTES
        record = make_record(
            make_candidate(model=model, n_seq=n_seq, batch_size=batch, kernel_version=version),
            tokens_per_s=best * share * (0.75 if spared else 1) * tokens / (tokens + 4000 + math.sqrt(n_seq)),
            peak_bytes=peak_bytes,
            outcome=Outcome.OK if fits else Outcome.OOM,
        )
        # Digests name what was measured; those of made records only have to differ.
        changes: dict[str, Any] = {
            "digest": f"{number:016x}",
            "attempt": int(number % 20 == 0),
            "trial_number": number,
            "started_at": (_BEGAN + timedelta(seconds=number / 10)).isoformat(),
        }
        records.append(with_details(record, energy_j=10.0).model_copy(update=changes))
    return records


class Timer:
    """What the browser took for something, several times."""

    def __init__(self, browser: Chromium, repeats: int) -> None:
        self._browser, self._repeats = browser, repeats
        self.rows: list[dict[str, Any]] = []

    def time(self, what: str, script: Callable[[int], str]) -> None:
        """script: what is done in the page, given how often it was before."""
        found = [
            self._browser.run(
                f"(async () => {{ const from = performance.now(); {script(turn)}; await {_DRAWN};"
                "return performance.now() - from; })()"
            )
            for turn in range(self._repeats)
        ]
        self.add(what, found)

    def drag(self, what: str) -> None:
        """The budget's line, by a mouse: each of its moves until the frame after it."""
        browser, found = self._browser, []
        x, y = browser.middle("#plot .shapelayer path")
        browser.mouse("mouseMoved", x, y)
        browser.mouse("mousePressed", x, y, is_down=True)
        for step in _DRAGS_PX:
            began_s = time.perf_counter()
            browser.mouse("mouseMoved", x + step, y, is_down=True)
            browser.run(_DRAWN)
            found.append(1000 * (time.perf_counter() - began_s))
        self.add(f"{what}, each move", found)
        began_s = time.perf_counter()
        browser.mouse("mouseReleased", x + _DRAGS_PX[-1], y)
        browser.run(_DRAWN)
        self.add(f"{what}, letting go", [1000 * (time.perf_counter() - began_s)])

    def add(self, what: str, found_ms: list[float]) -> None:
        """Times of something, in milliseconds."""
        self.rows.append(
            {
                "what": what,
                "least_ms": round(min(found_ms), 1),
                "median_ms": round(statistics.median(found_ms), 1),
                "worst_ms": round(max(found_ms), 1),
                "times": len(found_ms),
            }
        )


def measure(browser: Chromium, path: Path, repeats: int) -> list[dict[str, Any]]:
    """Times of everything that a reader does with the page."""
    timer = Timer(browser, repeats)
    loads = []
    for _ in range(repeats):
        browser.events.clear()
        began_s = time.perf_counter()
        browser.open(path.as_uri(), width=1400, height=900)
        browser.run(_DRAWN)
        loads.append(1000 * (time.perf_counter() - began_s))
    timer.add("opened, until all plots are drawn", loads)
    choose = (
        "const select = document.getElementById('filters').elements.{name};"
        "select.selectedIndex = {index}; select.dispatchEvent(new Event('change', {{ bubbles: true }}))"
    )
    timer.time("a model chosen", lambda turn: choose.format(name="model", index=1 + turn % len(_MODELS)))
    timer.time("all models again", lambda turn: choose.format(name="model", index=0))
    timer.time("what did not fit shown, and hidden", lambda turn: "$('filters').elements.unfit.click()")
    timer.time("a configuration kept", lambda turn: f"keep(page.rows[{turn}], true)")
    slide = "const s = $('budget'); s.value = {mb}; s.dispatchEvent(new Event('input'))"
    timer.time("the slider moved", lambda turn: slide.format(mb=7000 - 200 * turn))
    timer.time("the slider let go", lambda turn: "$('budget').dispatchEvent(new Event('change'))")
    timer.time(
        "another order of the table",
        lambda turn: f"$('table').tHead.rows[0].cells[{1 + turn % 8}].firstChild.click()",
    )
    browser.run("scrollTo(0, 0); tryBudget(page.largest_mb)")
    timer.drag("the budget's line dragged")
    if complaints := browser.complaints():
        raise RuntimeError(f"expected a page without complaints, got {complaints}")
    return timer.rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--candidates", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    results = Results.of(make_records(options.candidates))
    began_s = time.perf_counter()
    page = render_html([page_run(results)], FACTS)
    made_s, size_bytes = time.perf_counter() - began_s, len(page.encode())
    with tempfile.TemporaryDirectory() as folder, chromium(Path(folder) / "profile") as browser:
        path = Path(folder) / "report.html"
        path.write_text(page, encoding="utf-8")
        rows = measure(browser, path, options.repeats)
        version = browser.call("Browser.getVersion")["product"]
    head = (
        f"{options.candidates:,} candidates, {len(results.points):,} of them fit, {len(results.frontier):,} "
        f"on the frontier; a page of {size_bytes:,} bytes, made in {made_s:.1f} s; {version}, without a GPU; "
        f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors."
    )
    table = tabulate(rows, headers="keys", tablefmt="github")
    print(f"{head}\n\n{table}")
    if size_bytes >= LARGEST_BYTES:
        raise SystemExit(f"expected a page of less than {LARGEST_BYTES:,} bytes, got {size_bytes:,}")
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
        found = {
            "candidates": options.candidates,
            "page_bytes": size_bytes,
            "made_s": round(made_s, 2),
            "browser": version,
            "load_average": round(os.getloadavg()[0], 2),
            "times": rows,
        }
        for name, value in (("results", found), ("environment", environment())):
            text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
            (options.output / f"{name}.json").write_text(text, encoding="utf-8")
        text = f"# The page of {options.candidates:,} candidates, in a browser\n\n{head}\n\n{table}\n"
        (options.output / "report.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
