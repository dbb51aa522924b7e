"""README.md and its Japanese twin say the same in the same order; what any page links is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import phase8_tune

ROOT = Path(phase8_tune.__file__).resolve().parent
README, TWIN = ROOT / "README.md", ROOT / "README.ja.md"
FOLDERS = ("benchmarks", "docs", "kernels", "phase8", "studies", "tests", "tuner")
LINK = re.compile(r"\]\(([^()\s]+)\)")

pytestmark = pytest.mark.skipif(
    not TWIN.exists(), reason="phase8_tune is installed from a wheel, without its pages"
)


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def pages() -> list[Path]:
    below = [page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md")]
    return sorted([*ROOT.glob("*.md"), *below])


def prose(path: Path) -> str:
    """A page without what stands between fences, where a # is no heading."""
    return "".join(re.split(r"^```.*$", read(path), flags=re.M)[::2])


def headings(path: Path) -> list[tuple[int, str]]:
    """The level and the text of every heading."""
    return [(len(marks), text) for marks, text in re.findall(r"^(#+) (.+)$", prose(path), re.M)]


def anchors(path: Path) -> set[str]:
    """What a link to a heading of this page may name, as GitHub makes it of the heading."""
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for _, text in headings(path)}


def links(path: Path) -> list[str]:
    return LINK.findall(prose(path))


def fenced(path: Path) -> list[str]:
    return re.split(r"^```.*$", read(path), flags=re.M)[1::2]


def commands(path: Path) -> list[str]:
    """The indented lines, without the comments, which are in the page's language."""
    found = re.findall(r"^    (.+)$", prose(path), re.M)
    return [line.partition("#")[0].rstrip() for line in found]


def figures(path: Path) -> set[str]:
    """Every number of a page."""
    return set(re.findall(r"\d[\d,.×^]*\d|\d", prose(path)))


def test_the_readme_is_short_and_opens_with_the_report() -> None:
    lines = read(README).splitlines()
    assert len(lines) < 150
    assert lines[2].startswith("![")
    assert lines[2].endswith("](docs/report.png)")


def test_the_twin_has_the_same_headings() -> None:
    assert [level for level, _ in headings(TWIN)] == [level for level, _ in headings(README)]
    assert len(headings(README)) > 5


def test_the_twin_has_the_same_links() -> None:
    ours, theirs = links(README), links(TWIN)
    assert ours.index(TWIN.name) == theirs.index(README.name)
    for text, found in ((README, ours), (TWIN, theirs)):
        own = [target for target in found if target.startswith("#")]
        assert {target.lstrip("#") for target in own} <= anchors(text)
    apart = (README.name, TWIN.name)
    ours, theirs = (
        [target for target in found if target not in apart and not target.startswith("#")]
        for found in (ours, theirs)
    )
    assert ours == theirs
    assert len(ours) > 20


def test_the_twin_has_the_same_code() -> None:
    assert fenced(TWIN) == fenced(README) != []
    assert commands(TWIN) == commands(README) != []


def test_the_twin_has_the_same_figures() -> None:
    assert figures(TWIN) ^ figures(README) == set()
    assert len(figures(README)) > 30


def test_the_twin_has_the_same_tables() -> None:
    ours, theirs = (
        [line.count("|") for line in read(page).splitlines() if line.startswith("|")]
        for page in (README, TWIN)
    )
    assert ours == theirs != []


def test_every_relative_link_of_every_page_exists() -> None:
    checked = 0
    for page in pages():
        for target in links(page):
            if re.match(r"[a-z]+:", target):
                continue
            file, _, anchor = target.partition("#")
            there = page.parent / file if file else page
            assert there.exists(), f"{page.relative_to(ROOT)}: {target}"
            if anchor and there.suffix == ".md":
                assert anchor in anchors(there), f"{page.relative_to(ROOT)}: {target}"
            checked += 1
    assert checked > 100
