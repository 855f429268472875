"""What only the simulation knows does not reach a tracker: a real run's MLflow store is searched for it, cell by cell.

Searched for are numbers of tables under oracle/ that no public table has, how many items the devices hold, true votes,
and texts of devices, in every cell of every table of the database and in every artifact. The search is shown to find
each kind where it is.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from device_poll.town.build import build_town
from experiments.compare.page import write_page
from experiments.run import run_job
from experiments.trackers import tracking
from experiments.trackers.run_folder import read_rows, read_truth
from tests.experiments.tracker_readers import skip_without

WINDOW = 8  # true votes in a row
DIGITS = range(6, 18)  # of a number that is looked for; shorter ones are everywhere
NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
SHAPE = ("experiment=smoke", "devices.devices=900", "rounds=2", "arms=[no_privacy]", "watch=resident-000007")


@dataclass(frozen=True)
class Truth:
    """What to look for: numbers by how many digits they are written with, items, votes in a row, texts of devices."""

    numbers: dict[int, set[float]]
    items: int
    votes: tuple[tuple[int, ...], ...]
    texts: tuple[bytes, ...]

    @classmethod
    def of(cls, run: Path) -> Truth:
        tables = [path for path in run.rglob("*.csv") if path.name != "timings.csv"]
        public = {value for path in tables if "oracle" not in path.parts for value in cells(path)}
        known = {value for path in tables if "oracle" in path.parts for value in cells(path)}
        told = {value for value in known - public if digits(repr(value)) >= min(DIGITS)}
        votes = [np.load(path).tolist() for path in run.rglob("oracle/votes.npy")]
        rows = [tuple(each[i : i + WINDOW]) for each in votes for i in range(len(each) - WINDOW + 1)]
        return cls(
            numbers={n: {float(f"{value:.{n}g}") for value in told} for n in DIGITS},
            items=json.loads((run / "oracle/devices.json").read_text())["items"],
            votes=tuple(row for row in rows if len(set(row)) > WINDOW // 2),
            texts=tuple(text.encode() for text in build_town(900, 2, 0).texts),
        )

    def in_(self, content: bytes | float) -> set[str]:
        """Which kinds are in the content of a file or a cell."""
        if isinstance(content, float):
            return {"numbers"} if float(f"{content:.6g}") in self.numbers[6] else set()
        tokens = NUMBER.findall(content)
        row = b"," + b",".join(tokens) + b","
        kinds = {
            "numbers": any(float(token) in self.numbers.get(digits(token.decode()), ()) for token in tokens),
            "items": str(self.items).encode() in tokens,
            "votes": any(written(votes) in row or np.array(votes).tobytes() in content for votes in self.votes),
            "texts": any(text in content for text in self.texts),
        }
        return {kind for kind, there in kinds.items() if there}


def digits(number: str) -> int:
    """How many significant digits a number is written with."""
    return len(re.sub(r"[eE].*|\.|-", "", number).lstrip("0"))


def written(votes: tuple[int, ...]) -> bytes:
    return f",{','.join(map(str, votes))},".encode()


def cells(path: Path) -> Iterator[float]:
    for row in csv.reader(path.open()):
        for cell in row:
            try:
                yield float(cell)
            except ValueError:
                continue


def contents_of(place: Path) -> Iterator[bytes | float]:
    """Every file below a folder, whole, and every cell of every table of a database."""
    for path in place.rglob("*"):
        if path.is_file():
            yield path.read_bytes()
        if path.suffix == ".db":
            with sqlite3.connect(path) as store:
                for (table,) in store.execute("select name from sqlite_master where type = 'table'").fetchall():
                    for row in store.execute(f"select * from {table}"):
                        for cell in row:
                            if cell is not None and not isinstance(cell, int):
                                yield cell.encode() if isinstance(cell, str) else cell


def found(truth: Truth, place: Path) -> set[str]:
    """Which kinds of the truth there are anywhere below a folder."""
    return {kind for content in contents_of(place) for kind in truth.in_(content)}


@pytest.fixture(scope="module")
def play(tmp_path_factory):
    """Plays the run, or gives its command again, with a tracker whose store is the folder that it returns."""
    skip_without("mlflow")
    from hydra import compose, initialize_config_module

    from experiments.launch import load_job

    place = tmp_path_factory.mktemp("played")

    def played(store: str, *overrides: str) -> Path:
        places = (f"runs={place / store}", f"out={place / 'run'}", f"cache={place / 'cache'}")
        with initialize_config_module("conf", version_base="1.3"):
            job = load_job(compose("config", overrides=[*SHAPE, "tracker=mlflow", *places, *overrides]))
        run_job(*job, Console(file=io.StringIO(), width=150))
        return place / store

    return played


def test_a_default_run_s_store_holds_nothing_that_only_the_simulation_knows(play):
    store = play("default")
    run = store.parent / "run"
    truth = Truth.of(run)
    assert len(truth.numbers[6]) > 30 and len(truth.votes) > 20 and len(truth.texts) == truth.items == 1800
    assert (store / "mlflow.db").is_file()
    assert {path.name for path in (store / "mlartifacts").rglob("*") if path.is_file()} == {
        "README.md", "privacy.md", "report.html",
    }  # fmt: skip
    assert found(truth, store) == set()
    # The store holds what the server knows: the same search finds the public numbers there.
    known = {value for value in cells(run / "metrics.csv") if digits(repr(value)) >= 6}
    assert found(replace(truth, numbers={n: {float(f"{v:.{n}g}") for v in known} for n in DIGITS}), store) == {
        "numbers"
    }


def test_asked_for_the_truth_is_found_in_the_store_and_in_its_own_experiment_alone(play):
    store = play("asked", "tracker.oracle=true")
    truth = Truth.of(store.parent / "run")
    assert found(truth, store) == {"numbers"}
    with sqlite3.connect(store / "mlflow.db") as database:
        rows = database.execute(
            "select experiments.name, metrics.key, metrics.value from metrics "
            "join runs using (run_uuid) join experiments using (experiment_id)"
        ).fetchall()
    assert {(name, key.startswith("oracle/")) for name, key, _ in rows} == {("smoke", False), ("smoke.oracle", True)}
    assert {name for name, _, value in rows if truth.in_(value)} == {"smoke.oracle"}


def test_negative_control_a_tracker_that_is_told_everything_is_caught(play, monkeypatch):
    """As before: the truth among the public numbers, without being asked for."""

    def everything(folder: Path) -> dict[int, dict[str, float]]:
        known = read_truth(folder)
        return {number: row | known.get(number, {}) for number, row in read_rows(folder).items()}

    monkeypatch.setattr(tracking, "read_rows", everything)
    store = play("everything")
    assert found(Truth.of(store.parent / "run"), store) == {"numbers"}


def test_negative_control_the_search_finds_each_kind_where_it_is(play, tmp_path):
    run = play("default").parent / "run"
    truth = Truth.of(run)
    votes = run / "rounds/000/oracle/votes.npy"
    for name, content, kinds in (
        ("votes.npy", votes.read_bytes(), {"votes"}),
        ("votes.json", json.dumps({"votes": np.load(votes).tolist()}).encode(), {"votes"}),
        ("metrics.csv", (run / "oracle/metrics.csv").read_bytes(), {"numbers"}),
        ("devices.json", (run / "oracle/devices.json").read_bytes(), {"items"}),
        ("report.md", b"It said: " + truth.texts[7] + b".", {"texts"}),
    ):
        place = tmp_path / name.replace(".", "-")
        place.mkdir()
        (place / name).write_bytes(content)
        assert found(truth, place) == kinds, name
    # As a text in a database, too.
    with sqlite3.connect(tmp_path / "kept.db") as database:
        database.execute("create table kept (note text)")
        database.execute("insert into kept values (?)", [truth.texts[3].decode()])
    assert truth.in_(next(c for c in contents_of(tmp_path) if isinstance(c, bytes) and b"SQLite" in c[:16])) == {
        "texts"
    }


def test_what_a_device_has_spent_in_a_shared_ledger_is_not_in_the_store(play):
    """The most is what two runs cost; the second, which is tracked, knows its own cost alone."""
    ledger = play("none", "tracker=none").parent / "ledger.db"
    play("first", "tracker=none", f"ledger={ledger}", "epsilon=1.23456", f"out={ledger.parent / 'run-1'}")
    store = play("second", f"ledger={ledger}", f"out={ledger.parent / 'run-2'}")

    def told(content: bytes | float) -> bool:
        # Rounded up to four digits, as a statement does, it is looked for where no page's coordinates are.
        sought = (b"5.23456",) if isinstance(content, bytes) and b"<html" in content else (b"5.23456", b"5.235")
        return isinstance(content, bytes) and any(most in NUMBER.findall(content) for most in sought)

    assert not any(told(content) for content in contents_of(store))
    # Negative controls: where it is, and how the statement once told it.
    assert told((ledger.parent / "run-2/rounds/000/oracle/ledger.json").read_bytes())
    assert told(b"the most that any one device has spent over everything in the ledger is 5.235.")


def test_the_page_that_a_tracker_keeps_is_that_of_a_run_without_truth(play, tmp_path):
    """It rounds to four digits, too few to search for; so it is made again where there is nothing under oracle/."""
    store = play("default")
    (page,) = (store / "mlartifacts").rglob("report.html")
    bare = shutil.copytree(store.parent / "run", tmp_path / "run", ignore=shutil.ignore_patterns("oracle"))
    again = write_page(bare).read_text()
    data = re.compile(r'<script[^>]*type="application/json"[^>]*>.*?</script>', re.DOTALL)
    assert data.findall(page.read_text()) == data.findall(again) != []
    # Negative control: the page with the truth has other data.
    assert data.findall((store.parent / "run/oracle/report.html").read_text()) != data.findall(again)
