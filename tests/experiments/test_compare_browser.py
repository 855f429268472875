"""The page in a real Chromium, opened from disk: it draws, hovers, hides and keeps quiet; and it stays small.

Skipped where no Chromium is installed (Debian: the package chromium). Times are reported, never asserted.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.compare.groups import group_runs
from experiments.compare.load import load_run
from experiments.compare.page import write_comparison, write_page
from tests.experiments.chromium import FOUND, Browser
from tests.experiments.run_folders import make_run
from tests.experiments.test_compare_page import NASTY, nasty

browser_test = pytest.mark.browser
needs_chromium = pytest.mark.skipif(FOUND is None, reason="no Chromium: install the package chromium to run this test")


READY = "document.documentElement?.dataset.ready === '1'"
SEEN = "[...document.querySelectorAll('main .oracle, main .of-truth')].filter((e) => e.getClientRects().length).length"
UNNAMED = (
    "[...document.querySelectorAll('svg')].filter((s) => !s.ariaLabel && !s.ariaHidden).length"
    " + [...document.querySelectorAll('input, select, button')]"
    ".filter((c) => !c.labels?.length && !c.innerText.trim() && !c.ariaLabel).length"
)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A page of a sweep, and of a run in which a model wrote what looks like HTML."""
    place = tmp_path_factory.mktemp("pages")
    for epsilon in (1, 2, 4, 8):
        for seed in (0, 1):
            central = {"epsilon": epsilon / 4, "delta": 1e-6, "trust_model": "shuffled"}
            make_run(place / "sweep" / f"e{epsilon}s{seed}", epsilon=epsilon, seed=seed, candidates=40, central=central)
    folders = sorted((place / "sweep").iterdir())
    write_comparison(group_runs([load_run(folder) for folder in folders])[0], place / "sweep.html")
    write_page(make_run(place / "nasty", text=nasty, config={"name": NASTY}, arms=["no_privacy"]))
    write_page(make_run(place / "young", complete=1))
    return place


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """One process for all tests of this file."""
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def browser(chromium):
    """The browser with nothing on its conscience."""
    chromium.problems.clear()
    chromium.requests.clear()
    return chromium


def colours(picture: Path) -> int:
    """How many different colours a PNG has."""
    from matplotlib.image import imread

    image = (imread(picture) * 255).astype(np.int64)
    return len(np.unique((image[..., 0] << 16) + (image[..., 1] << 8) + image[..., 2]))


def quiet(browser: Browser) -> None:
    """No console error, and nothing was loaded but the file itself."""
    assert browser.problems == []
    assert [url for url in browser.requests if not url.startswith("file:///")] == []
    assert len(set(browser.requests)) == 1


@browser_test
@needs_chromium
def test_the_page_of_a_sweep_draws_and_is_quiet(browser, pages, tmp_path):
    browser.open(pages / "sweep.html")
    for section, least in (("metrics", 10), ("frontier", 1), ("poll", 1), ("map", 2), ("drift", 4)):
        assert browser.run(f"document.querySelectorAll('#{section} svg').length") >= least, section
    assert browser.run("document.querySelectorAll('#frontier [data-point]').length") == 4
    assert browser.run("document.querySelector('#metrics .band') !== null")
    # Neither blank nor of one colour: text, lines and the amber of simulation-only numbers are there.
    assert colours(browser.screenshot(tmp_path / "shot.png")) > 100
    quiet(browser)


@browser_test
@needs_chromium
def test_a_blank_page_would_be_noticed(browser, tmp_path):
    """The control of the test above."""
    page = tmp_path / "blank.html"
    page.write_text("<!doctype html><html data-ready=1><body><script>console.error('x')</script>")
    browser.open(page)
    assert colours(browser.screenshot(tmp_path / "shot.png")) < 100
    with pytest.raises(AssertionError):
        quiet(browser)


@browser_test
@needs_chromium
def test_hover_tells_values_and_texts(browser, pages):
    browser.open(pages / "sweep.html")
    for selector, across, expected in (
        ("#metrics .oracle svg", 0.9, "Similarity to real items"),
        ("#poll svg", 0.1, "votes, winner"),
        ("#frontier [data-point='0']", 0.5, "epsilon 1"),
    ):
        box = browser.box(selector)
        browser.mouse(2, 300)
        browser.mouse(box["x"] + box["width"] * across, box["y"] + box["height"] / 2)
        browser.until("!document.getElementById('tip').hidden")
        assert expected in browser.run("document.getElementById('tip').innerText"), selector
    box = browser.box("#map .mapbox svg")
    centre = "(() => { const c = document.querySelector('#map svg g:nth-of-type(2) circle').getBoundingClientRect();"
    x, y = browser.run(f"{centre} return [c.x + c.width / 2, c.y + c.height / 2]; }})()")
    browser.mouse(x, y)
    said = browser.run("document.getElementById('tip').innerText")
    assert "votes" in said
    assert any(word in said for word in ("meeting", "tennis", "soccer", "garden", "budget"))
    assert "selected=" not in browser.run("location.hash")
    browser.click(x, y)
    assert "selected=" in browser.run("location.hash")
    assert said.splitlines()[0] in browser.run("document.querySelector('#map .reader').innerText")
    quiet(browser)


@browser_test
@needs_chromium
def test_the_legend_shows_and_hides_and_the_address_remembers(browser, pages):
    browser.open(pages / "sweep.html")
    lines = "document.querySelectorAll('#metrics .card:first-of-type [data-line]').length"
    count = browser.run(lines)
    box = browser.box("#overview .key[data-group='1']")
    browser.click(box["x"] + 20, box["y"] + 8)
    browser.until(f"{lines} < {count}")
    assert (
        browser.run("document.querySelector(\"#overview .key[data-group='1']\").getAttribute('aria-pressed')")
        == "false"
    )
    assert browser.run("document.querySelectorAll('#frontier [data-point]').length") == 3
    state = browser.run("location.hash")
    assert "hidden=1" in state
    browser.run("location.reload()")
    browser.until(f"{READY} && document.querySelectorAll('#frontier [data-point]').length === 3")
    quiet(browser)


@browser_test
@needs_chromium
def test_simulation_only_numbers_can_be_hidden(browser, pages):
    browser.open(pages / "sweep.html")
    assert browser.run(SEEN) > 10
    browser.run("document.getElementById('oracle').click()")
    assert browser.run(SEEN) == 0
    assert "Similarity" not in browser.run("document.querySelector('#frontier select').innerText")
    quiet(browser)


@browser_test
@needs_chromium
def test_everything_works_with_keys(browser, pages):
    browser.open(pages / "sweep.html")
    browser.run("document.querySelector('#metrics svg').focus()")
    browser.key("ArrowLeft")
    assert "epsilon 8" in browser.run("document.getElementById('said').textContent")
    browser.run("document.querySelector('#map .mapbox svg').focus()")
    browser.key("ArrowRight")
    assert "About" in browser.run("document.getElementById('said').textContent")
    browser.key("Enter")
    assert "selected=" in browser.run("location.hash")
    # Every picture says what it shows, every control has a name.
    assert browser.run(UNNAMED) == 0
    quiet(browser)


@browser_test
@needs_chromium
def test_budgets_polls_and_runs_can_be_chosen(browser, pages):
    browser.open(pages / "sweep.html")
    browser.run("document.querySelector(\"#frontier input[value='central']\").click()")
    assert "central" in browser.run("document.querySelector('#frontier svg').getAttribute('aria-label')")
    first = browser.run("document.querySelector('#poll .texts').innerText")
    browser.run("document.querySelector(\"#poll input[value='0']\").click()")
    assert browser.run("document.querySelector('#poll .texts').innerText") != first
    browser.enter("#map select", "3")
    assert "epsilon 2, seed 1" in browser.run("document.querySelector('#poll select').selectedOptions[0].innerText")
    browser.run("document.querySelectorAll('#map fieldset input').forEach((box) => box.click())")
    assert "Choose at least one slate" in browser.run("document.querySelector('#map .panel').innerText")
    browser.enter("#drift input[type=search]", "tennis")
    assert "with “tennis” in text" in browser.run("document.querySelector('#drift').innerText")
    browser.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    browser.until("document.querySelectorAll('#metrics details table').length === 1")
    quiet(browser)


@browser_test
@needs_chromium
@pytest.mark.parametrize("name", ["nasty/report.html", "nasty/oracle/report.html", "young/report.html"])
def test_what_models_write_is_never_run(browser, pages, name):
    browser.open(pages / name)
    browser.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    if "nasty" in name:
        assert "<script>alert(1)</script>" in browser.run("document.querySelector('#poll .texts').innerText")
    assert browser.run("document.querySelectorAll('img').length") == 0
    quiet(browser)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Ten runs of ten rounds with 300 candidates of some 60 words, and their page."""
    place = tmp_path_factory.mktemp("large")
    runs = [
        load_run(make_run(place / f"r{i}", rounds=10, candidates=300, keep=150, words=60, epsilon=1 + i // 2, seed=i))
        for i in range(10)
    ]
    write_comparison(group_runs(runs)[0], place / "page.html")
    return place / "page.html"


def test_ten_runs_of_ten_rounds_stay_under_five_megabytes(large):
    assert 1e6 < large.stat().st_size < 5e6
    page = large.read_text()
    assert "To keep the page small, " in page
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert all(len(run["rounds"]) == 11 for run in data["runs"])


@browser_test
@needs_chromium
def test_ten_runs_of_ten_rounds_load(browser, large, capsys):
    seconds, size = browser.open(large), large.stat().st_size / 1e6
    with capsys.disabled():
        sys.stdout.write(f"\na page of 10 runs x 10 rounds: {size:.2f} MB, opened and drawn in {seconds:.2f} s\n")
    assert browser.run("document.querySelectorAll('#poll .texts li').length") == 8
    quiet(browser)
