"""Devices that lie in a whole run: they are refused, counted in public, and change nothing but what passes changes.

The negative control is a front door that accepts everything.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import aggregate.trust
from aggregate.intake import PermutedSum
from benchmarks.poisoning import maximal_reports
from device_poll.events.fleet import EventFleet
from device_poll.fleet import SimulatedFleet
from privacy.poll import ReportBatch
from tests.experiments.use_case_files import play, write_files

LIARS = 7


@pytest.fixture
def liars(monkeypatch):
    """From now on every poll has envelopes of reports that no honest device sends: for all answers at once, or of no
    shape at all (`garbled`). `crafted`: and some that pass.
    """

    def lie(fleet: type, crafted: int = 0, garbled: bool = False) -> None:
        honest = fleet.answer

        def answer(self, asks, advance=None):
            yield from honest(self, asks, advance)
            for ask in asks if asks[0].shares is None else ():
                rng, none = np.random.default_rng(1), ask.mechanism.no_reports()
                if garbled:
                    wrong = np.frombuffer(b"\xff" * LIARS * none.itemsize * int(np.prod(none.shape[1:])), none.dtype)
                    wrong = wrong.reshape(LIARS, *none.shape[1:])
                else:
                    width = getattr(ask.mechanism, "columns", None)  # of a sketch: values enough to be in every column
                    every = (
                        rng.integers(0, 2**64, 20 * width, dtype=np.uint64)
                        if width
                        else np.arange(ask.mechanism.domain_size)
                    )
                    wrong = maximal_reports(ask.mechanism, every, LIARS, rng, checked=False)
                yield ReportBatch(ask.use_case, np.arange(LIARS), wrong)
                if crafted:
                    reports = maximal_reports(ask.mechanism, np.array([0]), crafted, rng, checked=True)
                    yield ReportBatch(ask.use_case, np.arange(crafted), reports)

        monkeypatch.setattr(fleet, "answer", answer)

    return lie


class OpenDoor(PermutedSum):
    """Negative control: whatever arrives is a report."""

    def add(self, reports) -> None:
        self._waiting.append(np.atleast_1d(reports))
        self.reports += len(reports)


@pytest.fixture
def open_door(monkeypatch) -> None:
    monkeypatch.setattr(aggregate.trust, "PermutedSum", OpenDoor)


def public(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "metrics.csv").read_text(encoding="utf-8").splitlines()))


def refused_and_without_effect(lied: list[dict[str, str]], honest: list[dict[str, str]]) -> None:
    """Every poll tells of the liars' reports, and all other public numbers are those of a run without liars."""
    polled = [row for row, before in zip(lied, honest, strict=True) if before["refused_reports"]]
    assert polled and {row["refused_reports"] for row in polled} == {str(LIARS)}
    assert without(lied) == without(honest)


def without(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{key: value for key, value in row.items() if key != "refused_reports"} for row in rows]


SHORT = ("rounds=2", "evaluation.sample=20")


@pytest.mark.parametrize("garbled", [False, True])
def test_a_refinement(smoke, liars, garbled):
    honest = public(smoke("honest", *SHORT))
    assert [row["refused_reports"] for row in honest] == ["0", "0", ""], "the last corpus is not polled"
    liars(SimulatedFleet, garbled=garbled)
    screen = Console(file=io.StringIO(), width=200)
    folder = smoke("lied", *SHORT, console=screen)
    assert screen.file.getvalue().count(", 7 reports refused") == 2
    assert [row["refused_reports"] for row in public(folder)] == ["7", "7", ""]
    refused_and_without_effect(public(folder), honest)
    line = "refused and counted (`refused_reports` in metrics.csv; an honest one with probability at most 1e-09)"
    statement = json.loads((folder / "privacy.json").read_text())
    influence = statement["fabrication"]["largest_influence"]
    page = (folder / "privacy.md").read_text()
    assert line in page and f"moves a count is at most {np.ceil(influence * 1000) / 1000:g}, in devices" in page


def test_what_passes_moves_a_count_as_far_as_the_statement_says(smoke, liars):
    folder = smoke("honest", "rounds=1", "evaluation.sample=20")
    influence = json.loads((folder / "privacy.json").read_text())["fabrication"]["largest_influence"]
    before = np.load(folder / "rounds/000/tally.npz")
    liars(SimulatedFleet, crafted=3)
    after = np.load(smoke("lied", "rounds=1", "evaluation.sample=20") / "rounds/000/tally.npz")
    assert moved(before, after) == (3, pytest.approx(3 * influence, rel=1e-6))


def moved(before, after) -> tuple[int, float]:
    """How many reports more there are, and by how much the estimate of the first candidate is higher for them."""
    more = int(after["reports"] - before["reports"])
    # Of the optimized unary encoding that the smoke run has at epsilon 4.
    q = 1 / (np.exp(4) + 1)
    return more, (after["sums"][0] - before["sums"][0] - more * q) / (0.5 - q)


def test_negative_control_an_open_door_lets_all_candidates_rise(smoke, liars, open_door):
    honest = smoke("honest", "rounds=1", "evaluation.sample=20")
    liars(SimulatedFleet, crafted=3)
    lied = smoke("lied", "rounds=1", "evaluation.sample=20")
    with pytest.raises(AssertionError):
        refused_and_without_effect(public(lied), public(honest))
    influence = json.loads((lied / "privacy.json").read_text())["fabrication"]["largest_influence"]
    before, after = (np.load(folder / "rounds/000/tally.npz") for folder in (honest, lied))
    assert moved(before, after) == (3 + LIARS, pytest.approx((3 + LIARS) * influence, rel=1e-6))
    # What passes here is one candidate's for an honest device, and each one's for these.
    assert (after["sums"] - before["sums"] >= LIARS).all()


def test_shares_tell_nothing(smoke):
    folder = smoke("shared", "trust=secure_aggregation", *SHORT)
    assert [row["refused_reports"] for row in public(folder)] == ["", "", ""]
    page = (folder / "privacy.md").read_text()
    assert "no proof of validity is sent with the shares" in page and "can move every count by any amount" in page
    fabrication = json.loads((folder / "privacy.json").read_text())["fabrication"]
    assert fabrication == {"largest_influence": None, "false_refusal": None}


@pytest.mark.parametrize(
    ("experiment", "garbled"), [("emoji", False), ("health_types", False), ("emoji", True), ("new_words", True)]
)
def test_a_count(tmp_path, liars, experiment, garbled):
    files = write_files(tmp_path / "files")
    honest = public(play(tmp_path / "honest", files, experiment))
    assert {row["refused_reports"] for row in honest} == {"0"}
    liars(EventFleet, garbled=garbled)
    folder = play(tmp_path / "lied", files, experiment)
    refused_and_without_effect(public(folder), honest)
    assert "refused and counted" in (folder / "privacy.md").read_text()


@pytest.mark.parametrize("experiment", ["emoji", "health_types"])
def test_negative_control_an_open_door_counts_them(tmp_path, liars, open_door, experiment):
    files = write_files(tmp_path / "files")
    honest = public(play(tmp_path / "honest", files, experiment))
    liars(EventFleet)
    lied = public(play(tmp_path / "lied", files, experiment))
    with pytest.raises(AssertionError):
        refused_and_without_effect(lied, honest)
    with pytest.raises(AssertionError):
        assert without(lied) == without(honest)
    assert [int(row["reports"]) for row in lied] == [int(row["reports"]) + LIARS for row in honest]


def test_a_tally_that_is_drawn_has_seen_no_report(tmp_path):
    files = write_files(tmp_path / "files")
    folder = play(tmp_path / "drawn", files, "emoji", "exact_above=3999", "days=2")
    assert {row["refused_reports"] for row in public(folder)} == {""}
