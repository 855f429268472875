"""The page as a file: what is in it, that nothing can break out of it, that it is small, and that it repeats."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from experiments.compare.find import find_runs
from experiments.compare.groups import group_runs
from experiments.compare.load import load_run
from experiments.compare.metrics import find_metric
from experiments.compare.page import TIMINGS_LINE, render, write_comparison, write_page
from experiments.compare.payload import build_payload, size, to_json
from experiments.folder.reader import CompareError
from experiments.page.markup import Markup, join, tag
from tests.experiments.run_folders import make_run, put, similarity

# What a language model might write, and what would hurt if it were HTML, JSON or a template.
NASTY = (
    "</script><script>alert(1)</script> <!-- <img src=x onerror=alert(2)> & \u2028 \u2029 ${x} $title \\u003c ]]> "
    "'quoted\""
)


def nasty(rng: np.random.Generator, words: int) -> str:
    return f"{NASTY} {rng.integers(1000)}"


class Page(HTMLParser):
    """The elements of a page, and the content of its scripts and styles by id or name."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, str] = {}
        self.text: list[str] = []
        self._inside: str | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        self._inside = (attributes.get("id") or tag) if tag in ("script", "style") else None

    def handle_endtag(self, tag: str) -> None:
        self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.raw[self._inside] = self.raw.get(self._inside, "") + data
        else:
            self.text.append(data)


def page_of(*folders, **options) -> str:
    return render(group_runs([load_run(folder, **options) for folder in folders])[0], None, live=False)


def data_of(page: str):
    return json.loads(Page(page).raw["data"])


def test_texts_stay_texts(tmp_path):
    config = {"name": NASTY, "devices": {"path": NASTY, "<b>": "<i>"}}
    page = page_of(make_run(tmp_path / "a", text=nasty, config=config), make_run(tmp_path / "b", text=nasty, epsilon=2))
    parsed = Page(page)
    assert [tag for tag, _ in parsed.elements if tag in ("script", "img", "style", "b", "i")].count("script") == 3
    assert not {"img", "iframe", "object", "link", "base"} & {tag for tag, _ in parsed.elements}
    assert not [name for _, attributes in parsed.elements for name in attributes if name.startswith("on")]
    data = json.loads(parsed.raw["data"])
    assert any(text.startswith(NASTY) for text in data["strings"])
    assert data["title"] == f"{NASTY}, made"
    assert NASTY in "".join(parsed.text)
    # The control: without escaping, the parser would have seen another script.
    bare = page.replace("\\u003c", "<").replace("\\u003e", ">")
    assert len([tag for tag, _ in Page(bare).elements if tag == "script"]) > 3


def test_markup_escapes_everything_but_markup():
    assert (
        tag("td", "<&>", class_='a"b', data_x=1, hidden=True, id=None)
        == '<td class="a&quot;b" data-x="1" hidden>&lt;&amp;&gt;</td>'
    )
    assert join("<", Markup("<br>")) == "&lt;<br>"


def test_the_policy_allows_this_script_and_nothing_else(tmp_path):
    page = page_of(make_run(tmp_path / "a"))
    parsed = Page(page)
    (policy,) = [
        a["content"] for t, a in parsed.elements if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy is not None
    assert "default-src 'none'" in policy
    for name in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(parsed.raw[name].encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    assert set(re.findall(r"https?://[^\s'\"<>)]+", page)) == {"http://www.w3.org/2000/svg"}  # a name, not an address
    assert not re.search(
        r"\bsrc=|@import|url\(|\bfetch\(|XMLHttpRequest|WebSocket|innerHTML|insertAdjacentHTML|\beval\(", page
    )


def test_the_numbers_of_the_page_are_those_of_the_runs(tmp_path):
    folders = [make_run(tmp_path / f"{e}{s}", epsilon=e, seed=s, arms=["no_privacy"]) for e in (2, 8) for s in (0, 1)]
    data = data_of(page_of(*folders))
    assert [(group["label"], group["epsilon"], group["seeds"]) for group in data["groups"]] == [
        ("epsilon 2", 2, [0, 1]),
        ("epsilon 8", 8, [0, 1]),
    ]
    metrics = {metric["name"]: metric for metric in data["metrics"]}
    assert metrics["similarity"]["oracle"] is True
    assert metrics["none_share"]["oracle"] is False
    last = metrics["similarity"]["series"][1][-1]
    low, high = similarity(8, 0, 3), similarity(8, 1, 3)
    assert last == pytest.approx([3, (low + high) / 2, low, high, 0.0005, 2])
    assert metrics["similarity"]["arms"][0]["no_privacy"][0] == pytest.approx([0, similarity(2, 0.5, 0)])
    assert metrics["none_share"]["arms"] == [{}, {}]
    assert metrics["similarity"]["best"] == [[2, 0, [], 0], [8, 1, [], 0]]
    run = data["runs"][0]
    assert [len(round["ids"]) for round in run["rounds"]] == [12] * 4
    assert "votes" in run["rounds"][0]
    assert "count" not in run["rounds"][3]
    child = run["rounds"][1]["ids"][-1]
    assert run["rounds"][0]["ids"].count(run["parents"][child][0]) == 1
    assert data["strings"][run["change"][child]] == "tennis -> soccer"
    assert data["cost"][0]["down"] == [1000, 1001, 1002]


def test_released_and_simulation_only_numbers_are_apart(tmp_path):
    page = page_of(make_run(tmp_path / "a"))
    cells = [attributes.get("class") or "" for name, attributes in Page(page).elements if name in ("th", "td")]
    assert any("oracle" in kind for kind in cells)
    assert any("oracle" not in kind for kind in cells)
    assert 'id="oracle"' in page
    released = page_of(tmp_path / "a", oracle=False)
    assert 'id="oracle"' not in released
    assert all(not metric["oracle"] for metric in data_of(released)["metrics"])


def test_the_pages_of_a_run(tmp_path):
    folder = make_run(tmp_path / "a")
    assert write_page(folder) == folder / "report.html"
    released, whole = (folder / "report.html").read_text(), (folder / "oracle/report.html").read_text()
    assert '"votes":' not in released
    assert '"similarity"' not in released
    assert '"votes":' in whole
    assert 'href="oracle/report.html"' in released
    assert 'href="../report.html"' in whole
    assert not list(folder.rglob(".writing-*"))


def test_a_run_without_truth_has_one_page(tmp_path):
    folder = make_run(tmp_path / "a", oracle=False)
    write_page(folder)
    assert not (folder / "oracle/report.html").exists()
    assert "oracle/report.html" not in (folder / "report.html").read_text()


def test_equal_runs_have_equal_pages_and_comparisons_differ_in_timings(tmp_path):
    def lines(name: str, seconds: float) -> list[str]:
        folder = make_run(tmp_path / name / "run", seconds=seconds)
        write_page(folder)
        pages.add((folder / "oracle/report.html").read_bytes())
        write_comparison(group_runs([load_run(folder)])[0], folder.parent / "page.html")
        return (folder.parent / "page.html").read_text().splitlines()

    pages: set[bytes] = set()
    first, second, other = lines("a", 1.0), lines("b", 2.0), lines("c", 1.0)
    assert first == other
    differing = [a for a, b in zip(first, second, strict=True) if a != b]
    assert len(differing) == 1
    assert differing[0].startswith(TIMINGS_LINE)
    assert len(pages) == 1, "a run's own page has no timings"


def test_a_page_at_work_says_so_and_reloads(tmp_path):
    folder = make_run(tmp_path / "a", complete=1)
    write_page(folder)
    page = (folder / "report.html").read_text()
    assert "1 of 3 polls are complete" in page
    assert data_of(page)["live"] is True
    write_page(make_run(tmp_path / "b"))
    assert data_of((tmp_path / "b/report.html").read_text())["live"] is False
    with pytest.raises(CompareError, match="no complete round yet"):
        write_page(make_run(tmp_path / "c", complete=0))


def test_runs_at_work_among_others_are_named(tmp_path):
    page = page_of(make_run(tmp_path / "whole"), make_run(tmp_path / "young", complete=2, epsilon=2))
    assert "Not finished, compared as far as they are: young (2 of 3)." in page


def test_the_page_shrinks_to_its_limit_and_says_how(tmp_path):
    folders = [make_run(tmp_path / f"{seed}", seed=seed, words=80, candidates=40) for seed in range(3)]
    groups, _ = group_runs([load_run(folder) for folder in folders])
    by = find_metric(groups, None)
    whole = build_payload(groups, by, live=False)
    assert whole["reduced"] == {"longest": None, "every_seed": True}
    full = size(whole)
    smaller = build_payload(groups, by, live=False, limit=int(full * 0.85))
    assert smaller["reduced"]["longest"] is not None
    assert smaller["reduced"]["every_seed"]
    assert size(smaller) <= full * 0.85 + 1000
    winner = smaller["runs"][0]["rounds"][0]["rank"].index(0)
    text = smaller["strings"][smaller["runs"][0]["text"][smaller["runs"][0]["rounds"][0]["ids"][winner]]]
    assert not text.endswith("…")
    assert any(string.endswith("…") for string in smaller["strings"])
    smallest = build_payload(groups, by, live=False, limit=full // 3)
    assert smallest["reduced"]["every_seed"] is False
    assert ["rounds" in run for run in smallest["runs"]] == [True, False, False]
    # Numbers of rounds are never left out.
    assert smallest["metrics"] == whole["metrics"]


def test_json_in_a_script_element():
    assert json.loads(to_json({"a": NASTY})) == {"a": NASTY}
    assert not set(to_json(NASTY)) & set("<>&\u2028\u2029")
    with pytest.raises(ValueError, match="JSON"):
        to_json(float("nan"))


def test_privacy_under_two_trust_models(tmp_path):
    held = {"epsilon": 0.7, "delta": 1e-6, "trust_model": "shuffled"}
    page = page_of(make_run(tmp_path / "a", central=held), make_run(tmp_path / "b", epsilon=2))
    data = data_of(page)
    assert [group["central"] for group in data["groups"]] == [
        {"epsilon": 0.7, "delta": 1e-6, "model": "shuffled"},
        None,
    ]
    assert "ε central" in page


def test_where_a_page_can_be_written(tmp_path):
    groups, _ = group_runs([load_run(make_run(tmp_path / "a"))])
    write_comparison(groups, tmp_path / "page.html")
    first = (tmp_path / "page.html").read_text()
    write_comparison(groups, tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == first
    with pytest.raises(CompareError, match=r"--to is .*a; expected a file name that ends in .html"):
        write_comparison(groups, tmp_path / "a")
    with pytest.raises(CompareError, match=r"there is no folder .*/nowhere; create it"):
        write_comparison(groups, tmp_path / "nowhere" / "page.html")
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(CompareError, match="expected a file name"):
        write_comparison(groups, tmp_path / "folder.html")
    (tmp_path / ".writing-x.html").mkdir()
    with pytest.raises(CompareError, match=r"cannot write .*x\.html"):
        write_comparison(groups, tmp_path / "x.html")


def test_an_unusual_run_still_has_a_page(tmp_path):
    """One poll, one candidate kept, no reports of cost, attributes of another kind."""
    folder = make_run(tmp_path / "a", rounds=1, candidates=3, keep=1, dimension=1, oracle=False)
    put(folder / "metrics.csv", "round,reports,none_share,strange\n0,30,0.5,inf\n1,,,7\n")
    put(folder / "timings.csv", "round,stage,seconds\n")
    data = data_of(page_of(folder))
    assert data["cost"][0]["down"] == []
    assert {metric["name"] for metric in data["metrics"]} == {"reports", "none_share", "strange"}
    assert find_runs([str(folder)]).folders == (folder,)
