"""privacy.json, privacy.md and the pages of use cases: computed from the configuration and from what happened."""

from __future__ import annotations

import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from experiments.count.drawing import draw_intervals, name_of
from privacy.accounting import amplify_by_shuffling, group_epsilon
from privacy.count_mean_sketch import CountMeanSketch
from privacy.hadamard_sketch import HadamardCountMeanSketch
from tests.experiments.chromium import FOUND, Browser
from tests.experiments.use_case_files import play, write_files


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("files"))


def statement(folder):
    return json.loads((folder / "privacy.json").read_text())


def test_epsilon_per_report_day_run_and_life(tmp_path, files):
    folder = play(tmp_path / "run", files, "new_words", "days=3", "caps.daily=16", "caps.lifetime=100")
    one, page = statement(folder), (folder / "privacy.md").read_text()
    assert one["spent"] == {"report": 8.0, "round": 8.0, "day": 16.0, "run": 48.0, "delta": 0.0, "lifetime": 100}
    assert "| one report | 8 | 0 |" in page and "| one day, at most | 16 | 0 |" in page
    assert "| the whole run | 48 | 0 |" in page
    # No other run knows of a cap without a file.
    assert "| lifetime cap in this run, of which others do not know | 100 |  |" in page and "over all runs" not in page
    assert "debit one ledger file (ledger=FILE), a device stays silent for good after 6 such days" in page
    assert one["ledger"] == {
        "kept": "memory", "shared_with_other_runs": False, "caps": {"lifetime": 100, "daily": 16}, "first_day": 0,
        "cost_of_a_report": 8.0, "polls_paid": 1, "devices_charged": None,
    }  # fmt: skip
    assert one["run"]["configuration_sha256"] == hashlib.sha256((folder / "config.yaml").read_bytes()).hexdigest()
    assert one["headline"] in (folder / "report.html").read_text()


@pytest.mark.parametrize("experiment", ["health_types", "genmoji_fragments"])
def test_a_cap_over_runs_is_that_of_one_id_in_one_file(tmp_path, files, experiment):
    """Mail and use cases do not add up over each other: no page says that a cap is over all use cases."""
    folder = play(
        tmp_path / "run", files, experiment, f"ledger={tmp_path / 'ledger.db'}", "caps.lifetime=100", "minimum_batch=10"
    )
    page = (folder / "privacy.md").read_text()
    assert "| lifetime cap over all runs that debit its account in one file | 100 |  |" in page
    assert "is 100 over all runs and use cases that debit the ledger file for the same id: a device stays" in page
    assert "account is that of its number, 'device 0' and so on" in page
    assert "for equal ids only" in page and "a user of mail and a use case's device never share an account" in page
    brought = experiment == "genmoji_fragments"
    assert ("accounts are of these devices, and of no prompt and nobody who typed one" in page) is brought


def test_without_a_cap_the_statement_says_what_a_year_costs(tmp_path, files):
    folder = play(tmp_path / "run", files, "safari_energy")
    assert "spends 240 in 30 days and 2920 in a year, without end" in (folder / "privacy.md").read_text()


def test_several_reports_of_a_device_are_a_group_behind_a_shuffler(tmp_path, files):
    """Two reports a device may be in one shuffle: the claim is that of a group, not of one report, nor of none."""
    one = statement(play(tmp_path / "run", files, "safari_energy", "delta=1e-5"))
    (reports,) = one["composition"]["reports_by_key"].values()
    sketch = HadamardCountMeanSketch(epsilon=4.0, rows=64, columns=256, hash_seed=0)
    rows = {row["model"]: row for row in one["trust_models"]}
    alone = amplify_by_shuffling(sketch, reports, 1e-5)
    group = group_epsilon(lambda delta: amplify_by_shuffling(sketch, reports, delta), 2, 1e-5)
    assert rows["shuffled"]["epsilon"] == group and "not_possible" not in rows["shuffled"]
    assert 2 * alone < group < rows["local"]["epsilon"] == 8.0


def test_reports_are_those_that_came_and_the_shuffled_row_is_the_accountant_s(tmp_path, files):
    folder = play(tmp_path / "run", files, "emoji", "segments=[en]", "delta=1e-5")
    one = statement(folder)
    (reports,) = one["composition"]["reports_by_key"].values()
    assert reports == json.loads((folder / "segments/emoji.en/segment.json").read_text())["reports"]
    local, shuffled, summed, central = one["trust_models"]
    assert (local["model"], local["in_force"], local["epsilon"], local["delta"]) == ("local", True, 4.0, 0.0)
    sketch = CountMeanSketch(epsilon=4.0, rows=64, columns=256, hash_seed=0)
    assert shuffled["epsilon"] == amplify_by_shuffling(sketch, reports, 1e-5)
    assert not shuffled["in_force"]
    # What the same budget would claim in a sum: never more than it is calibrated for, and less with more reports.
    assert [row["model"] for row in (summed, central)] == ["secure_aggregation", "central"]
    assert summed["epsilon"] < summed["epsilon_at_minimum_batch"] <= 4.0 >= central["epsilon"] > 0
    assert central["baseline"] and "| central (baseline) |" in (folder / "privacy.md").read_text()


# What the statement of a run says in which devices report, and which is false where tallies are drawn.
OF_REPORTS = [
    "AES-256-CTR", "before a report leaves", "Report by report", "Every report satisfies",
    "single reports, tallies", "all roles run in one process", " no seed repeats it",
]  # fmt: skip
# What may be said of a deployment only, in the same sentence.
OF_DEPLOYMENTS = [
    "64-bit words",
    "adds the noise",
    "is refused and counted",
    "each noisy report",
    "nobody sees a single",
]


def sentences(folder) -> list[str]:
    """All words of privacy.json, privacy.md, and run.json's part about privacy."""

    def words(node):
        if isinstance(node, dict | list):
            for each in node.values() if isinstance(node, dict) else node:
                yield from words(each)
        elif isinstance(node, str):
            yield node

    run = json.loads((folder / "run.json").read_text())["privacy"]
    page = (folder / "privacy.md").read_text()
    return [each for text in (*words(statement(folder)), *words(run), page) for each in re.split(r"\.\s|\n", text)]


def false_of_drawn(folder) -> list[str]:
    """Sentences that are true of devices' reports, and not of a tally that was drawn."""
    told = sentences(folder)
    found = [each for each in told if any(phrase in each for phrase in OF_REPORTS)]
    return found + [
        each for each in told if any(phrase in each for phrase in OF_DEPLOYMENTS) and "n a deployment" not in each
    ]


LAWS = {
    "local": ("emoji",),
    "system": ("emoji", "noise=system"),
    "shuffled": ("health_types", "trust=shuffled", "nulls=never", "noise=system"),
    "sums": ("health_types", "trust=secure_aggregation", "noise=system"),
    "central": ("health_types", "trust=central"),
    "fragments": ("genmoji_fragments", "noise=system"),
    "ledger": ("emoji", "ledger=LEDGER", "caps.lifetime=100"),
}


@pytest.mark.parametrize("law", LAWS)
def test_where_tallies_are_drawn_nothing_is_said_of_reports_that_do_not_exist(tmp_path, files, law):
    experiment, *given = (each.replace("LEDGER", str(tmp_path / "ledger.db")) for each in LAWS[law])
    folder = play(tmp_path / "run", files, experiment, *given, "exact_above=0")
    assert false_of_drawn(folder) == []
    one, page = statement(folder), (folder / "privacy.md").read_text()
    run = json.loads((folder / "run.json").read_text())
    assert one["noise"]["exact_law"] and one["noise"]["words"] == run["privacy"]["randomness"]
    assert one["noise"]["words"].startswith(one["trust"]["randomness"]) and one["noise"]["words"] in page
    assert "PCG64" in one["trust"]["randomness"] and "drawn from their law in floats" in one["trust"]["floating_point"]
    assert one["summary"].startswith("SIMULATION: no device reports") and "\n" + one["summary"] + "\n" in page
    assert "Nothing is sent in this run" in page and "no device reports, and one process draws the tallies" in page
    of_keys = len(one["composition"]["reports_by_key"])
    assert (one["ledger"]["kept"], one["ledger"]["polls_paid"]) == (
        ("file", of_keys) if law == "ledger" else ("none", 0)
    )
    assert ("before the tally is drawn" if law == "ledger" else "no ledger was kept") in page


def test_the_words_that_are_looked_for_are_said_of_reports(tmp_path, files):
    """Negative control: each of them is in the statement of some run in which devices report."""
    told = []
    for law in ("system", "sums"):
        experiment, *given = LAWS[law]
        told += false_of_drawn(play(tmp_path / law, files, experiment, *given))
    assert [each for each in [*OF_REPORTS, *OF_DEPLOYMENTS] if not any(each in sentence for sentence in told)] == []


class _Links(HTMLParser):
    """Everything that a page would load or run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag in ("script", "img", "link", "iframe"):
            self.found.append(tag)
        self.found += [value for name, value in attrs if name in ("src", "onclick", "onload") and value]


@pytest.mark.parametrize("experiment", ["emoji", "genmoji_fragments", "new_words"])
def test_the_pages_load_and_run_nothing(tmp_path, files, experiment):
    folder = play(tmp_path / "run", files, experiment)
    for page in (folder / "report.html", folder / "oracle" / "report.html"):
        text = page.read_text(encoding="utf-8")
        links = _Links()
        links.feed(text)
        assert links.found == []
        assert "default-src 'none'" in text and "<svg" in text


@pytest.mark.skipif(FOUND is None, reason="no Chromium")
def test_the_pages_in_a_browser(tmp_path, files):
    folder = play(tmp_path / "run", files, "emoji")
    with Browser(tmp_path / "profile", width=1000, height=700) as browser:
        for page in (folder / "report.html", folder / "oracle" / "report.html"):
            browser._call("Page.navigate", {"url": page.resolve().as_uri()})
            browser.until("document.readyState === 'complete' && document.querySelectorAll('section').length >= 3")
            assert browser.run("document.documentElement.scrollWidth <= window.innerWidth")
            assert browser.run(
                "[...document.querySelectorAll('svg')].every(s => s.getBoundingClientRect().height > 50)"
            )
            assert browser.problems == []


def test_a_plot_draws_every_interval_and_the_truth():
    drawn = draw_intervals(["a<b", "c"], [100.0, 20.0], [50.0, -5.0], [200.0, 60.0], [90, 0], title="t")
    assert "a&lt;b" in drawn and "a<b" not in drawn
    assert drawn.count("<circle") == 2 and drawn.count("var(--oracle)") == 2
    assert len(re.findall("<circle", draw_intervals(["a"], [1.0], [1.0], [1.0], None, title="t"))) == 1
    assert draw_intervals([], [], [], [], None, title="t")


def test_symbols_are_named_for_fonts_that_lack_them():
    assert name_of("😂") == "face with tears of joy"
    assert name_of("❤️") == "heavy black heart"
    assert name_of("lol") == name_of("été") == ""
