"""Page and report of a study of several workloads: each with its own unit, and its batch alone."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from phase8_tune.tuner.records.results import Results
from phase8_tune.tuner.report.markdown import render_report
from phase8_tune.tuner.report.page import render_page
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.record import Record

from ..tuner.report_records import make_candidate, make_record
from ..tuner.test_report import make_facts, section, table
from ..workloads.test_several_workloads import IMAGES
from .chromium import Chromium, opened_page
from .pages import GB, with_details

FACTS = make_facts(workloads=("phase8", "transformer", IMAGES.name))


def records() -> list[Record]:
    """A study of Phase 8, a transformer and images, whose batch counts alone."""
    asked = [
        (make_candidate(model="nano"), 440_000, 4000.0),
        (make_candidate(model="small", batch_size=2), 10_500_000, 1000.0),
        (Candidate(workload="transformer", model="nano", n_seq=512, batch_size=4), 1_000_000, 3000.0),
        (Candidate(workload="transformer", model="small", n_seq=512, batch_size=4), 25_000_000, 900.0),
        (Candidate(workload=IMAGES.name, model="small", batch_size=8, size=32), 500_000, 70.0),
        (Candidate(workload=IMAGES.name, model="small", batch_size=16, size=64), 500_000, 50.0),
    ]
    return [
        with_details(
            make_record(candidate, parameters=size, tokens_per_s=rate, peak_bytes=GB, trial_number=number),
            energy_j=1.0,
        )
        for number, (candidate, size, rate) in enumerate(asked)
    ]


@pytest.fixture(scope="module")
def page() -> str:
    return render_page(Results.of(records()), FACTS)


def test_a_batch_without_a_length_stands_alone(page: str) -> None:
    body = page.partition('<table id="table">')[2].partition("</table>")[0]
    cells = [line.split("<td>")[1:] for line in re.findall(r"<tr data-i=\d+>(.*)", body)]
    images = {tuple(line[2:4]) for line in cells if "Classifier" in line[0]}
    assert images == {("32", "8"), ("64", "16")}
    assert {line[2] for line in cells if "Classifier" not in line[0]} == {"512"}
    assert "8×1" not in page
    assert "×1 " not in render_report(Results.of(records()), FACTS)


def test_alone_it_has_its_own_words() -> None:
    results = Results.of(records()[4:])
    facts = make_facts(workloads=(IMAGES.name,))
    page, report = render_page(results, facts), render_report(results, facts)
    assert "sequence" not in page.partition("<script")[0].lower()
    assert "sequence" not in report.lower()
    assert "70.0 images/s" in report
    assert "tokens/s" not in report.replace("the most tokens/s", "").replace("The most tokens/s", "")
    assert "Best throughput of each model and size" in page
    assert "Energy of each image " in page
    goals = [row[0] for row in table(section(report, "## The answers to"))[1:]]
    assert goals == ["throughput", "model-size", "memory"]  # no loss is expected of images, and no length


def test_models_are_called_as_in_the_report(page: str) -> None:
    """Of several workloads which; of one alone, whichever it is, the model's own name."""

    def names(text: str) -> set[str]:
        body = text.partition('<table id="table">')[2].partition("</table>")[0]
        return {cell.lstrip("★◆ ") for cell in re.findall(r"<tr data-i=\d+><td>([^<]*)", body)}

    found = {
        "Phase 8 nano",
        "Phase 8 small",
        "Transformer nano",
        "Transformer small",
        "Classifier small depth18",
    }
    assert names(page) == found
    told = section(render_report(Results.of(records()), FACTS), "### Throughput")
    assert {line.split("**")[1].partition(",")[0] for line in told.splitlines() if "**" in line} == found
    alone = make_facts(workloads=("transformer",))
    assert names(render_page(Results.of(records()[2:4]), alone)) == {"nano", "small"}


def test_models_are_matched_by_their_parameters() -> None:
    text = section(render_report(Results.of(records()), FACTS), "## Workloads matched by parameters")
    rows = [row[:4] for row in table(text)[1:] if row[0] != "Classifier"]
    assert rows == [
        ["Phase 8", "nano", "0.44M", ""],
        ["Transformer", "nano", "1.00M", "2.27×"],
        ["Phase 8", "small", "10.50M", ""],
        ["Transformer", "small", "25.00M", "2.38×"],
    ]
    assert "matched by" not in render_report(Results.of(records()[:2]), make_facts())


@pytest.fixture(scope="module")
def browser(page: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with opened_page(page, tmp_path_factory.mktemp("several")) as opened:
        yield opened


def test_a_workload_is_chosen_and_a_point_says_its_own_unit(browser: Chromium) -> None:
    title = "document.getElementById('plot').layout.yaxis.title.text"
    assert browser.run(title) == "Items/s, larger is better"
    browser.run(
        "{ const s = document.getElementById('filters').elements.workload; s.value = 'Classifier';"
        "s.dispatchEvent(new Event('change', {bubbles: true})); }"
    )
    assert browser.run("page.shown.map(r => [r.batch, r.cell, r.length, r.unit])") == [
        [8, "32", None, "images/s"],
        [16, "64", None, "images/s"],
    ]
    hover = browser.run("hoverOf(page.shown[0])")
    assert "batch 8, size 32, train" in hover
    assert "70 images/s" in hover
    browser.run("keep(page.shown[0], true)")
    assert browser.run("document.getElementById('chosen-title').textContent").startswith("Classifier small")
    assert "mJ/image" in browser.run("document.getElementById('chosen-facts').textContent")
    browser.scroll_to_plot("heat")
    assert browser.run("document.getElementById('heat').data[0].x") == ["32", "64"]
