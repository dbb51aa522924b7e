"""The page in a headless Chromium: nothing it complains of, nothing it asks for, and it does what it says."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from .chromium import Chromium, chromium
from .pages import EVIL, write_page

ALL = 20  # of the records that fit


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    folder = tmp_path_factory.mktemp("browser")
    with chromium(folder / "profile") as browser:
        browser.open(write_page(folder).as_uri())
        yield browser


@pytest.fixture
def browser(opened: Chromium) -> Iterator[Chromium]:
    """The page as it is when it has been opened."""
    opened.resize(1400)
    opened.media("light")
    opened.run(
        "document.getElementById('filters').reset(); tryBudget(page.largest_mb); show(); scrollTo(0, 0)"
    )
    yield opened
    assert opened.complaints() == []


def expect(browser: Chromium, event: str, value: str) -> None:
    """Have `told` hold what an event of the main plot says, from now on."""
    browser.run(
        "void (window.told = new Promise(r => "
        f"document.getElementById('plot').once('{event}', e => r({value}))))"
    )


def first_point(browser: Chromium) -> tuple[float, float]:
    return browser.middle("#plot .points path")


def shown(browser: Chromium) -> int:
    count = browser.run("document.querySelectorAll('#table tbody tr:not([hidden])').length")
    assert isinstance(count, int)
    return count


def test_it_opens_without_a_complaint_or_a_request(browser: Chromium) -> None:
    assert len(browser.requests()) == 1
    assert browser.requests()[0].endswith("/report.html")
    assert browser.run("document.title") == f"study {EVIL}"
    drawn = "document.querySelectorAll('#charts .main-svg').length"
    before = browser.run(drawn)
    browser.scroll_to_plot("energy")  # plots further down are drawn when they come into view
    assert browser.run(drawn) > before
    assert EVIL in browser.run("document.querySelector('#plot .legend').textContent")


def test_pointing_at_a_point_shows_its_whole_configuration(browser: Chromium) -> None:
    x, y = first_point(browser)
    expect(browser, "plotly_hover", "e.points[0].hovertext")
    browser.mouse("mouseMoved", x - 5, y)
    browser.mouse("mouseMoved", x, y)
    text = browser.run("window.told")
    for part in (
        "<b>Phase 8 nano</b>",
        "batch ",
        ", sequence 1024, train<br>",
        " tokens/s ",
        "MB",
        "<br>fast, bf16<br>",
    ):
        assert part in text


def test_a_click_keeps_a_point_with_its_settings_and_ledger(browser: Chromium) -> None:
    x, y = first_point(browser)
    expect(browser, "plotly_click", "page.rows[e.points[0].customdata]")
    browser.click(x, y)
    row = browser.run("window.told")
    assert browser.run("document.getElementById('chosen').hidden") is False
    settings = browser.run("document.getElementById('yaml').textContent")
    assert f"batch_size: {row['batch']}\n# throughput: ~" in settings
    assert f"model: {row['model'].split()[-1]}\n" in settings
    assert "measured on Example GPU (device: cuda), training, under a budget of 8GB\n" in settings
    assert browser.run("document.getElementById('chosen-ledger').data.map(t => t.name)") == [
        "context",
        "reserved",
    ]


def test_copy_puts_the_settings_on_the_clipboard(browser: Chromium) -> None:
    browser.call("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    browser.run("keep(page.rows[0], true)")
    browser.run(
        "void (window.told = new Promise(r => new MutationObserver((_, o) => {"
        "if (document.getElementById('copied').textContent) { o.disconnect(); r(1); } })"
        ".observe(document.getElementById('copied'), {childList: true, subtree: true})))"
    )
    browser.click(*browser.middle("#copy"))
    browser.run("window.told")
    assert browser.run("document.getElementById('copied').textContent") == "Copied"
    assert browser.run("navigator.clipboard.readText()") == browser.run(
        "document.getElementById('yaml').textContent"
    )


@pytest.mark.parametrize(
    ("name", "value", "left"),
    [("model", "Phase 8 nano", 9), ("cell", "1024", 6), ("version", "reference", 6), ("workload", EVIL, 1)],
)
def test_a_filter_leaves_what_has_its_value(browser: Chromium, name: str, value: str, left: int) -> None:
    assert shown(browser) == ALL
    select = f"document.getElementById('filters').elements.{name}"
    browser.run(
        f"{select}.value = {json.dumps(value)};{select}.dispatchEvent(new Event('change', {{bubbles: true}}))"
    )
    assert shown(browser) == left
    points = (
        "document.getElementById('plot').data.filter(t => t.customdata).flatMap(t => t.customdata).length"
    )
    assert browser.run(points) == left


def test_lines_of_batches_say_what_not_all_of_them_share(browser: Chromium) -> None:
    browser.scroll_to_plot("batches")
    names = browser.run("document.getElementById('batches').data.map(t => t.name)")
    assert "Phase 8 nano, 512, reference" in names
    assert len(set(names)) == len(names) == 6
    assert "bf16" not in " ".join(names)
    browser.run("{ const s = $('filters').elements.model; s.value = 'Phase 8 small'; show(); }")
    browser.scroll_to_plot("batches")
    lines = browser.run("document.getElementById('batches').data.map(t => [t.name, t.line.color])")
    assert [name for name, _ in lines] == ["512, fast", "512, reference", "1024, fast"]
    assert len({colour for _, colour in lines}) == 3  # one model has one colour, its lines have their own


def test_what_did_not_fit_is_shown_on_demand(browser: Chromium) -> None:
    browser.click(*browser.middle("#filters [name=unfit]"))
    assert shown(browser) == ALL + 1
    assert "did not fit, or failed" in browser.run("document.getElementById('plot').data.map(t => t.name)")


def test_the_budget_is_dragged(browser: Chromium) -> None:
    x, y = browser.middle("#plot .shapelayer path")
    expect(browser, "plotly_relayout", "1")
    browser.mouse("mouseMoved", x, y)
    browser.mouse("mousePressed", x, y, is_down=True)
    for step in (-60, -150, -300):
        browser.mouse("mouseMoved", x + step, y, is_down=True)
    browser.mouse("mouseReleased", x - 300, y)
    browser.run("window.told")
    assert browser.run("page.budget_mb < 0.9 * page.largest_mb")
    assert browser.run("document.getElementById('budget').value") != browser.run("String(page.largest_mb)")
    assert "(this run's)" not in browser.run("document.getElementById('budget-text').textContent")


def test_the_budget_is_moved_by_keys_and_says_what_fits(browser: Chromium) -> None:
    browser.run("document.getElementById('budget').focus()")
    browser.key("Home")
    assert browser.run("page.budget_mb") == browser.run("Number(document.getElementById('budget').min)")
    assert "Nothing that the plot shows fits" in browser.run("document.getElementById('what-if').textContent")
    browser.run("tryBudget(2100)")
    assert browser.run("document.querySelectorAll('#what-if tbody tr').length") == 2
    faint = browser.run(
        "$('plot').data.filter(t => t.ids).flatMap(t => t.customdata.map((i, n) =>"
        "[page.rows[i].needs_mb > 2100, t.marker.opacity[n] < 0.2]))"
    )
    assert len(faint) == ALL
    assert all(beyond == is_faint for beyond, is_faint in faint)
    assert {beyond for beyond, _ in faint} == {True, False}


def test_of_many_points_only_the_words_follow_the_slider(browser: Chromium) -> None:
    """A plot of thousands of points stands still until the slider is let go."""
    slider = "document.getElementById('budget')"
    browser.run(
        "window.drawn = 0; document.getElementById('plot').on('plotly_afterplot', () => { drawn += 1; });"
        "page.shown = Array(600).fill(page.rows.find(r => r.fits));"
        f"{slider}.value = 3000; {slider}.dispatchEvent(new Event('input')); 1"
    )
    frames = "new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))"
    browser.run(frames)
    assert browser.run("[drawn, Math.round(page.budget_mb)]") == [0, 3000]
    assert "3,000 MB" in browser.run("document.getElementById('what-if').textContent")
    browser.run(f"{slider}.dispatchEvent(new Event('change')); 1")
    browser.run(frames)
    assert browser.run("drawn") > 0


def test_a_goal_is_chosen_and_its_answer_said_and_marked(browser: Chromium) -> None:
    words = (
        "[...document.querySelectorAll('#words article')].filter(a => a.offsetHeight).map(a => a.innerText)"
    )
    ring = "document.getElementById('plot').data.find(t => (t.name ?? '').startsWith('ring'))"
    assert [text.splitlines()[0] for text in browser.run(words)] == ["nano 4×1024 fast bf16 train"]
    fastest = browser.run("Math.max(...page.rows.map(r => r.rate))")
    assert browser.run(f"{ring}.y") == [fastest]
    browser.run("document.querySelector('#goals input').focus()")
    browser.key("ArrowRight")
    [text] = browser.run(words)
    assert f"What {EVIL} is best for." in text
    assert browser.run(f"{ring}.name") == "ring: " + EVIL.replace("<", "&lt;").replace(">", "&gt;")
    assert browser.run(f"{ring}.y") != [fastest]
    button = "document.querySelector('#words article:not(.other) button')"
    browser.run(f"{button}.click()")
    assert browser.run("page.kept === page.answering[0]")
    assert not browser.run("document.getElementById('chosen').hidden")
    browser.run("document.querySelector('#goals input').click()")
    browser.media("light", "print")
    assert len(browser.run(words)) == 2


def test_the_table_is_sorted_and_walked_through_by_keys(browser: Chromium) -> None:
    head = '#table th[data-key="rate"] button'
    lines = "[...document.querySelectorAll('#table tbody tr:not([hidden])')]"
    rates = f"{lines}.map(l => page.rows[l.dataset.i].rate)"
    browser.run(f"document.querySelector({json.dumps(head)}).click()")
    assert browser.run(rates) == sorted(browser.run(rates))
    browser.run(f"document.querySelector({json.dumps(head)}).click()")
    assert browser.run(rates) == sorted(browser.run(rates), reverse=True)
    browser.run("document.querySelector('#table tbody tr[tabindex=\"0\"]').focus()")
    browser.key("ArrowDown")
    browser.key("Enter")
    assert browser.run("page.kept.index") == browser.run(
        "Number(document.querySelector('#table tr[aria-current=\"true\"]').dataset.i)"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_window_has_nothing_beside_it(browser: Chromium, scheme: str) -> None:
    browser.media(scheme)
    browser.resize(360, 800)
    assert browser.run("document.documentElement.scrollWidth") == 360
    paper = browser.run("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 23, 26)")


def test_a_long_table_goes_on_as_one_scrolls_or_walks(browser: Chromium) -> None:
    browser.run("page.most_lines = 5; showTable()")
    assert shown(browser) == 5
    text = "document.getElementById('count').textContent"
    assert browser.run(text) == f"{ALL} shown, the first of them at once and more as you scroll."
    browser.run("document.querySelectorAll('#table tbody tr:not([hidden])')[4].focus()")
    browser.key("ArrowDown")
    assert shown(browser) == ALL
    assert browser.run("document.activeElement === page.ordered[5]")
    assert browser.run(text) == f"{ALL} shown."
    browser.run("page.most_lines = 5; showTable()")
    browser.run(
        "void (window.told = new Promise(r => new MutationObserver((_, o) => { o.disconnect(); r(1); })"
        ".observe(document.getElementById('count'), {childList: true, subtree: true})));"
        "document.querySelector('.scroll.high').dispatchEvent(new Event('scroll'))"
    )
    browser.run("window.told")
    assert shown(browser) == ALL


def test_every_plot_is_on_paper(browser: Chromium) -> None:
    browser.run("page.most_lines = 5; dispatchEvent(new Event('beforeprint'))")
    assert browser.run(
        "[...document.querySelectorAll('#charts figure:not([hidden]) .chart')].every(e => e.on)"
    )
    assert shown(browser) == ALL
    browser.run("dispatchEvent(new Event('afterprint'))")


def test_every_control_and_plot_has_a_name_for_those_who_do_not_see_it(browser: Chromium) -> None:
    browser.run("keep(page.rows[0], true)")
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    wanted = {"button", "combobox", "checkbox", "radio", "slider", "image", "link", "region", "form"}
    named = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node.get("ignored") and node["role"]["value"] in wanted
    ]
    assert {role for role, _ in named} >= {"button", "combobox", "checkbox", "radio", "slider", "image"}
    assert [role for role, name in named if not name.strip()] == []


def test_in_print_the_table_is_whole(browser: Chromium) -> None:
    browser.media("dark", "print")
    assert browser.run("getComputedStyle(document.querySelector('.scroll.high')).maxHeight") == "none"
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.run("getComputedStyle(document.getElementById('filters')).display") == "none"
    browser.media("light", "")
