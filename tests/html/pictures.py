"""The pictures of pages that README and docs/ show, from recorded runs.

    python -m phase8_tune.tests.html.pictures

makes them anew with the page as it is now. It needs a Chromium, as the tests of the page do, and no GPU.
"""

from __future__ import annotations

import gzip
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from PIL import Image

from phase8_tune.tuner.records.journal import read_records
from phase8_tune.tuner.records.results import Results
from phase8_tune.tuner.records.run_directory import RunPaths, read_run_info
from phase8_tune.tuner.report.comparison_page import render_comparison_page
from phase8_tune.tuner.report.comparison_tables import ComparedRun
from phase8_tune.tuner.report.kept_facts import read_facts
from phase8_tune.tuner.report.page import render_page
from phase8_tune.tuner.search.estimates import FILE

from .chromium import Chromium, chromium

_ROOT = Path(__file__).resolve().parents[2]
_RESULTS = _ROOT / "studies" / "results"
RUNS = tuple(_RESULTS / f"2026-11-{day}-h200-default-study" for day in (28, 29))
PICTURES = _ROOT / "docs" / "pictures"


def page_of(root: Path) -> str:
    """The page of a recorded run of the study `default`, with what was predicted for other budgets since."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(shutil.copytree(root, folder, dirs_exist_ok=True))
        (run / FILE).write_bytes(gzip.decompress((root / f"{FILE}.gz").read_bytes()))
        results = Results.of(read_records(RunPaths(root=run).journal))
        facts = read_facts(run, read_run_info(run), results)
    return render_page(
        results, replace(facts, run_root=Path("runs/default-8GB-cuda"), command="phase8-tune --vram 8GB")
    )


def comparison_of(first: Path, second: Path) -> str:
    """The page of two recorded runs, named as their folders."""
    one, other = (
        ComparedRun(
            name=root.name, info=read_run_info(root), records=read_records(RunPaths(root=root).journal)
        )
        for root in (first, second)
    )
    return render_comparison_page(one, other, f"phase8-tune compare {first.name} {second.name}")


def _take(
    browser: Chromium, page: str, path: Path, *, scheme: str, width: int, height: int, script: str = "1"
) -> None:
    """script: what is done on the page before; it may be a promise."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "page.html"
        file.write_text(page, encoding="utf-8")
        browser.media(scheme)
        browser.events.clear()  # or the page before counts as loaded
        browser.open(file.as_uri(), width=width, height=height)
        browser.run("new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))")
        browser.run(script)
        browser.run("new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))")
        browser.screenshot(path)
    if complaints := browser.complaints():
        raise RuntimeError(f"{path.name}: expected a page without complaints, got {complaints}")
    Image.open(path).convert("RGB").save(path, optimize=True)


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    page = page_of(RUNS[1])
    chosen = "keep(page.answering[0], true); $('chosen').scrollIntoView({ block: 'start' }); scrollBy(0, -20)"
    with tempfile.TemporaryDirectory() as profile, chromium(Path(profile)) as browser:
        _take(browser, page, _ROOT / "docs" / "report.png", scheme="light", width=1400, height=900)
        dark = PICTURES / "report-dark.png"
        _take(browser, page, dark, scheme="dark", width=1400, height=900, script=chosen)
        narrow = PICTURES / "report-narrow.png"
        _take(browser, page, narrow, scheme="light", width=360, height=1200)
        compared = PICTURES / "compared.png"
        _take(browser, comparison_of(*RUNS), compared, scheme="light", width=1400, height=900)


if __name__ == "__main__":
    main()
