"""The page as a text: nothing breaks out of it, it can be read without scripts, and it stays small."""

from __future__ import annotations

import html
import json
import re
from dataclasses import fields, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from phase8_tune.tuner.html import rows as rows_module
from phase8_tune.tuner.html.escaping import inline, script_json
from phase8_tune.tuner.html.page import render_html
from phase8_tune.tuner.html.rows import Row, pack, to_rows
from phase8_tune.tuner.html.selection import LARGEST, select_records
from phase8_tune.tuner.records.frontier import to_points
from phase8_tune.tuner.records.results import Results
from phase8_tune.tuner.records.wording import namer
from phase8_tune.tuner.training.recommended import settings_of, to_yaml
from phase8_tune.tuner.values.record import Record

from ..tuner.report_records import make_candidate, make_record
from .pages import EVIL, EVIL_MESSAGE, FACTS, GB, make_facts, make_records, page_run

CANDIDATES = 20_000


class Reader(HTMLParser):
    """What a browser finds: the elements, and texts by the element that begins before them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)

    def handle_data(self, data: str) -> None:
        if self.elements:
            self.texts.append((self.elements[-1], data))


@pytest.fixture(scope="module")
def page() -> str:
    results = Results.of(make_records())
    return render_html([page_run(results)], make_facts(results))


@pytest.fixture(scope="module")
def huge() -> Results:
    """Many candidates, a tenth of them measured, as results that cost the test no search of a frontier."""
    first = make_record(make_candidate(kernel_version="fast"))
    (point,) = to_points([first])
    points = []
    for number in range(CANDIDATES):
        changes: dict[str, Any] = {"batch_size": 1 + number % 500, "n_seq": 512 + 16 * (number // 500)}
        record = first.model_copy(
            update={
                "digest": f"{number:016x}",
                "candidate": first.candidate | changes,
                "attempt": int(number % 20 == 0),
            }
        )
        points.append(
            replace(
                point,
                record=record,
                candidate=replace(point.candidate, **changes),
                tokens_per_s=1000.0 + number % 977,
                peak_bytes=GB + number % 499 * 1_000_000,
            )
        )
    records = tuple(point.record for point in points)
    return Results(
        records=records,
        settled=records,
        points=tuple(points),
        frontier=tuple(points[7::100]),
        recommended=tuple(points[5:6]),
    )


def test_texts_of_others_are_shown_as_they_are(page: str) -> None:
    assert EVIL not in page
    reader = Reader(page)
    assert reader.elements.count("script") == 3  # data, plotly, and ours
    assert any(tag == "td" and EVIL in text for tag, text in reader.texts)
    assert ("h1", f"study {EVIL}") in reader.texts
    held = "".join(text for tag, text in reader.texts if tag == "td")
    assert " ".join(EVIL_MESSAGE.split()) in held


def test_the_data_of_the_page_reads_back(page: str) -> None:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    assert not re.search("[<>&\u2028\u2029]", text)
    data = json.loads(text)
    rows = to_rows(Results.of(make_records()).settled, Results.of(make_records()), namer([]))
    assert data["columns"] == pack(rows)["columns"]
    assert len(data["rows"]) == len(rows) == 21
    assert EVIL in data["texts"]


@pytest.mark.parametrize("text", ["</script>", "<!--", "\u2028", "a&b", "]]>", "\ud800"])
def test_json_in_a_script_ends_nothing(text: str) -> None:
    written = script_json({text: [text]})
    assert written.isascii()
    assert not set("<>&") & set(written)
    assert json.loads(written) == {text: [text]}


def test_marks_of_the_report_are_made_after_escaping() -> None:
    assert inline("**a** `b` <i>&") == "<strong>a</strong> <code>b</code> &lt;i&gt;&amp;"
    assert inline("**<b>**") == "<strong>&lt;b&gt;</strong>"


def test_every_answer_stands_in_the_page_with_its_configuration(page: str) -> None:
    results = Results.of(make_records())
    facts = make_facts(results)
    told = dict(re.findall(r'<article data-goal="(.*?)" data-run="" data-digest="(\w+)">', page))
    assert told == {html.escape(words.goal): words.digest for words in facts.goals}
    digests = {point.record.digest for point in results.points}
    assert set(told.values()) <= digests
    texts = [text for _, text in Reader(page).texts]
    for words in facts.goals:
        assert {words.configuration, *words.notes} <= set(texts)


def test_without_scripts_every_configuration_can_be_read(page: str) -> None:
    table = page.partition('<table id="table">')[2].partition("</table>")[0]
    lines = re.findall(r"<tr data-i=\d+>(.*)", table)
    cells = [[re.sub(r"<.*?>", "", cell) for cell in line.split("<td>")[1:]] for line in lines]
    assert len(cells) == 21
    assert ["★ Phase 8 nano", "512", "4", "fast", "bf16", "none", "train", "16,000"] in [
        [c[0], *c[2:9]] for c in cells
    ]
    (foreseen,) = [c for c in cells if "base" in c[0]]
    assert foreseen[8:10] == ["~900", "600–1,300"]
    assert foreseen[-1] == "predicted to fit"


def test_settings_are_those_of_the_file_but_for_what_was_measured() -> None:
    results = Results.of(make_records())
    rows = {row.digest: row for row in to_rows(results.settled, results, namer([]))}
    for point in results.points:
        text = rows[point.record.digest].settings
        if point.candidate.workload != "phase8":
            assert text == ""
            continue
        settings = settings_of(point)
        assert settings is not None
        whole = to_yaml(settings)
        written = text.replace("batch_size: {}", f"batch_size: {point.candidate.batch_size}")
        ours = [line for line in whole.splitlines() if not line.startswith("#")]
        assert written.splitlines() == ours[: len(written.splitlines())]
        assert ours[len(written.splitlines())] in ("measured:", "predicted:")


def test_a_page_names_nothing_to_load_but_itself(page: str) -> None:
    ours = page.partition("<script>")[0] + page.rpartition("<script>")[2]
    assert re.findall(r'(?:src|href)="(?!data:,|#)', ours) == []
    assert "default-src &#x27;none&#x27;" in page


def test_twenty_thousand_candidates_stay_under_six_megabytes(huge: Results) -> None:
    page = render_html([page_run(huge)], FACTS)
    assert len(page.encode()) < 6_000_000
    assert f"{LARGEST:,} of {CANDIDATES:,} configurations" in page


def test_what_matters_is_never_left_out(huge: Results) -> None:
    kept = {record.digest for record in select_records(huge)}
    assert len(kept) == LARGEST
    measured = [record for record in huge.settled if record.attempt > 0]
    matters: list[Record] = [*measured, *(point.record for point in huge.frontier + huge.recommended)]
    assert {record.digest for record in matters} <= kept
    assert len(measured) < LARGEST


def test_a_page_of_nothing_is_still_a_page() -> None:
    page = render_html([page_run(Results.of([]))], FACTS)
    assert "All 0 configurations of the run." in page


def test_the_script_knows_which_columns_are_texts() -> None:
    """Texts travel as their places in one list; a column that the script does not know of shows a number."""
    script = (Path(rows_module.__file__).parent / "page.js").read_text(encoding="utf-8")
    known = re.search(r"isText = new Set\(\[(.*?)\]\)", script)
    assert known is not None
    texts = {field.name for field in fields(Row) if field.type == "str"} - {"digest", "settings"}
    assert set(re.findall(r'"(\w+)"', known[1])) == texts
