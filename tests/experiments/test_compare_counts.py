"""Runs of use cases side by side: what is read of them, which is best, the table, the page, and what is refused."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from experiments.compare.command import compare
from experiments.compare.count_metrics import HEADLINES, ORACLE, RELEASED, totals
from experiments.compare.find import find_runs
from experiments.compare.groups import KindsError, group_runs
from experiments.compare.load import load_run
from experiments.compare.load_counts import load_elements
from experiments.compare.metrics import best_per_epsilon, find_metric, metric, metrics_of
from experiments.compare.page import render
from experiments.folder.damage import StoreError
from experiments.folder.layout import SHOWN
from experiments.folder.reader import CompareError, RunFiles
from tests.experiments.chromium import FOUND, Browser
from tests.experiments.run_folders import make_run
from tests.experiments.test_compare_page import Page
from tests.experiments.use_case_files import EMOJI, play, write_files


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Two budgets, two seeds each, one more way to decide, and two use cases of another shape."""
    place = tmp_path_factory.mktemp("runs")
    files = write_files(place / "files")
    for epsilon in (1, 4):
        for seed in (0, 1):
            name = f"sweep/e{epsilon}s{seed}"
            play(place / name, files, "emoji", f"epsilon={epsilon}", f"seed={seed}", "population=20000")
    play(place / "strict", files, "emoji", "release.minimum_count=500", "population=20000")
    play(place / "words", files, "new_words", "population=20000")
    play(place / "fragments", files, "genmoji_fragments")
    return place


def groups_of(*folders: Path, oracle: bool = True):
    return group_runs([load_run(folder, oracle=oracle) for folder in folders])[0]


def rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open() as file:
        return {row["key"]: row for row in csv.DictReader(file)}


def said(*arguments: object, width: int = 200) -> str:
    screen = io.StringIO()
    compare([str(argument) for argument in arguments], Console(file=screen, width=width))
    return screen.getvalue()


def data_of(page: str):
    return json.loads(Page(page).raw["data"])


def test_a_count_has_its_numbers_by_key_and_together(place):
    run = load_run(place / "sweep" / "e4s0")
    assert (run.kind, run.keys, run.complete, run.planned, run.finished) == (
        "count", ("emoji.en", "emoji.fr"), 2, 2, True,
    )  # fmt: skip
    (row,), (truth,) = run.metrics, run.truth
    written = rows(run.path / "metrics.csv")
    for key, of_key in written.items():
        assert row[f"{key}: released"] == float(of_key["released"]) > 0
    assert row["released"] == sum(int(of_key["released"]) for of_key in written.values())
    assert row["stderr"] == max(float(of_key["stderr"]) for of_key in written.values())
    recalls = [float(of_key["recall"]) for of_key in rows(run.path / "oracle" / "metrics.csv").values()]
    assert truth["recall"] == pytest.approx(sum(recalls) / 2)
    assert run.epsilon == 4
    assert "rule" not in row
    assert {timing.stage for timing in run.timings} == {"load", "en: play", "fr: play"}


def test_epsilon_of_a_count_is_that_of_all_reports_of_a_device(tmp_path):
    files = write_files(tmp_path / "files")
    assert load_run(play(tmp_path / "local", files, "emoji", "days=3", "epsilon=2")).epsilon == 6
    central = load_run(play(tmp_path / "central", files, "health_types", "trust=central"))
    assert central.epsilon is None
    assert central.central is not None and central.central.epsilon > 0
    assert central.fact("privacy.guarantee").startswith("central differential privacy")


def test_every_metric_that_a_use_case_writes_is_known(place):
    """Each column has a title and a meaning, and says how those of several keys are put together."""
    for name in ("sweep/e4s0", "words", "fragments"):
        for table, columns in (("metrics.csv", RELEASED), ("oracle/metrics.csv", ORACLE)):
            known = {column[0] for column in columns} | {"key", "use_case", "segment", "post_processing", "rule"}
            for row in rows(place / name / table).values():
                assert {column for column, value in row.items() if value} - known == set()
    assert set(HEADLINES) <= {column[0] for column in (*RELEASED, *ORACLE)}
    assert metric("emoji.en: recall", True, "count").title == "emoji.en: Recall"
    assert metric("recall", True, "count").meaning != metric("recall", True).meaning


def test_what_only_some_keys_have_is_not_put_together():
    assert totals([{"released": 1, "no_match": 0.1}, {"released": 2}], oracle=False) == {"released": 3}


def test_the_best_count_releases_most(place):
    folders = sorted((place / "sweep").iterdir())
    groups = groups_of(*(folder for folder in folders if folder.is_dir()), place / "strict")
    assert [(group.epsilon, len(group.runs)) for group in groups] == [(1, 2), (4, 2), (4, 1)]
    by = find_metric(groups, None)
    assert (by.name, by.oracle) == ("released", False)
    best = [one for one in best_per_epsilon(groups, by) if one.others]
    assert [(one.epsilon, len(one.group.runs), one.close) for one in best] == [(4, 2, ())]
    assert find_metric(groups, "emoji.en: recall").oracle
    with pytest.raises(CompareError, match="expected a metric of these runs, such as released"):
        find_metric(groups, "similarity")


def test_counts_of_other_keys_are_no_rivals(place):
    groups = groups_of(place / "sweep" / "e4s0", place / "fragments")
    assert [one.others for one in best_per_epsilon(groups, find_metric(groups, None))] == [0, 0]


def test_metrics_of_one_key_alone_are_said_once(place):
    names = [found.name for found in metrics_of(groups_of(place / "words"))]
    assert "new_words" in names and not [name for name in names if ": " in name]


def test_the_table_has_a_line_for_each_key(place):
    screen = said(place / "sweep", place / "strict")
    assert "5 runs, each after its last key" in screen
    lines = [[cell.strip() for cell in line.split("│")] for line in screen.splitlines() if line.startswith("│")]
    assert [line[5] for line in lines if line[5]] == ["emoji.en", "emoji.fr", "all"] * 3
    assert "Best per epsilon by released after the last key (higher is better):" in screen
    assert "epsilon 4: epsilon 4, minimum count 100" in screen and "apart from all others over 2 seeds" in screen
    assert "Charts and the released elements: add --to PAGE.html" in screen
    assert "recall" not in screen and "recall*" in said(place / "sweep", "--oracle")


def test_nothing_under_oracle_is_opened_if_not_asked_for(place, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(place / "sweep" / "e4s0", folder)
    for path in folder.rglob("oracle/*"):
        if path.is_file():
            path.write_text("damaged")
    said(folder, f"--to={tmp_path}/page.html")
    page = (tmp_path / "page.html").read_text()
    assert "oracle" not in {kind for _, given in Page(page).elements for kind in (given.get("class") or "").split()}
    with pytest.raises(CompareError, match="oracle"):  # the control
        said(folder, "--oracle", f"--to={tmp_path}/page.html")
    for place_of_truth in list(folder.rglob("oracle")):
        shutil.rmtree(place_of_truth)
    said(folder, f"--to={tmp_path}/again.html")
    assert (tmp_path / "again.html").read_text() == page


def test_the_page_has_what_was_released_and_nothing_of_candidates(place):
    page = render(_sweep(place), None, live=False)
    parsed = Page(page)
    sections = [given["id"] for name, given in parsed.elements if name == "section"]
    assert sections == ["runs", "keys", "frontier", "elements", "cost", "settings"]
    assert [given["href"] for name, given in parsed.elements if name == "a"] == ["#runs", *(f"#{s}" for s in sections)]
    text = "".join(parsed.text)
    for key in ("emoji.en", "emoji.fr"):
        released = load_elements(load_run(place / "sweep" / "e4s0"), key)
        assert list(released.counts) and all(element in text for element in released.counts)
    assert "not released" in text and "language model" not in text
    data = data_of(page)
    assert [run["rounds"] for run in data["runs"]] == [[]] * 4
    assert {"released", "emoji.fr: recall"} <= {found["name"] for found in data["metrics"]}
    assert data["groups"][1]["label"] == "epsilon 4"


def _sweep(place: Path, *, oracle: bool = True):
    return groups_of(*(place / "sweep" / f"e{e}s{s}" for e in (1, 4) for s in (0, 1)), oracle=oracle)


def test_withheld_elements_are_on_no_page(place):
    runs = [run for group in _sweep(place) for run in group.runs]
    released = {e for run in runs for key in run.keys for e in load_elements(run, key).counts}
    assert 0 < len(released) < len(EMOJI)
    for oracle in (True, False):
        page = render(_sweep(place, oracle=oracle), None, live=False)
        assert {element for element in EMOJI if element in page} == released


def test_a_count_of_which_some_keys_are_complete(place, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(place / "sweep" / "e4s0", folder)
    (folder / "segments" / "emoji.fr" / "segment.json").unlink()
    run = load_run(folder)
    assert (run.keys, run.complete, run.planned, run.finished) == (("emoji.en",), 1, 2, False)
    assert run.metrics[0]["released"] == run.metrics[0]["emoji.en: released"]
    assert "1 of 2" in said(folder)
    assert "Not finished, compared as far as they are: run (1 of 2)." in render(groups_of(folder), None, live=False)
    (folder / "segments" / "emoji.en" / "segment.json").unlink()
    assert find_runs([str(folder), str(place / "words")]).left_out == (f"{folder}: no complete key yet",)
    with pytest.raises(CompareError, match="has no complete key yet"):
        load_run(folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("run.json", '{"keys": {"emoji.en": {}}}', "run.json cannot be read .its keys have no place.; delete it, then"),
        ("metrics.csv", "key,released\nemoji.en,\0\xff", "metrics.csv cannot be read"),
        (
            "segments/emoji.en/histogram.parquet",
            "PAR1",
            r"histogram.parquet cannot be read .*; delete the folder .*emoji",
        ),
    ],
)
def test_damaged_files_are_said_in_one_line(place, tmp_path, name, content, message):
    folder = tmp_path / "run"
    shutil.copytree(place / "sweep" / "e4s0", folder)
    (folder / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(CompareError, match=message) as error:
        said(folder, f"--to={tmp_path}/page.html")
    assert "\n" not in str(error.value)


def test_a_count_of_an_earlier_version_is_refused_in_one_line(place, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(place / "sweep" / "e4s0", folder)
    config = (folder / "config.yaml").read_text()
    old = config.replace("experiments.count.job.CountJob", "experiments.use_cases.job.UseCaseJob")
    assert old != config
    (folder / "config.yaml").write_text(old)
    with pytest.raises(StoreError, match="run is the run of an earlier version; give its run command again") as error:
        said(folder, f"--to={tmp_path}/page.html")
    assert "\n" not in str(error.value)


def test_an_element_s_table_without_its_counts_is_damaged(place, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(place / "sweep" / "e4s0", folder)
    table = pq.read_table(folder / "segments/emoji.en/histogram.parquet").drop_columns(["count"])
    pq.write_table(table, folder / "segments/emoji.en/histogram.parquet")
    with pytest.raises(CompareError, match="no column count"):
        load_elements(load_run(folder), "emoji.en")


def test_runs_of_two_kinds_are_not_compared(place, tmp_path):
    folder = make_run(tmp_path / "made")
    with pytest.raises(KindsError) as error:
        said(place / "words", folder)
    assert str(error.value) == (
        f"runs of different kinds cannot be compared: {folder} refines a corpus, {place / 'words'} counts what devices "
        "hold; name runs of one kind at a time"
    )


def test_what_may_be_read_of_a_key():
    assert SHOWN.fullmatch("segments/emoji.en/histogram.parquet")
    assert SHOWN.fullmatch("segments/emoji.en/oracle/truth.parquet")
    for name in ("segments/../histogram.parquet", "segments/emoji.en/oracle/by_frequency.csv", "oracle/devices.json"):
        with pytest.raises(ValueError, match="here only these are read"):
            RunFiles(Path()).has(name)


@pytest.mark.browser
@pytest.mark.skipif(FOUND is None, reason="no Chromium: install the package chromium to run this test")
def test_the_pages_of_counts_in_a_browser(place, tmp_path):
    words = place / "words"
    pages = {"sweep": _sweep(place), "one": groups_of(words), "odd": groups_of(words, place / "fragments")}
    with Browser(tmp_path / "profile") as browser:
        for name, groups in pages.items():
            page = tmp_path / f"{name}.html"
            page.write_text(render(groups, None, live=False))
            for width in (1400, 400):
                size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
                browser._call("Emulation.setDeviceMetricsOverride", size)
                browser.open(page)
                assert browser.run("document.documentElement.scrollWidth") <= width
            assert browser.run("document.querySelectorAll('#elements svg, #elements tbody tr').length") > 0
            points = len(groups) if len(groups) > 1 else 0
            assert browser.run("document.querySelectorAll('#frontier [data-point]').length") == points
            browser.run("document.getElementById('oracle').click()")
            amber = "[...document.querySelectorAll('main .oracle')].filter((e) => e.getClientRects().length).length"
            assert browser.run(amber) == 0
        assert browser.problems == []
        assert all(url.startswith("file:///") for url in browser.requests)
