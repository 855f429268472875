"""Killed at any moment and given again, a command ends with the same bytes as if nothing had happened.

Kills are real (SIGKILL) and come before a change on disk that is chosen by number or by name (fault_children.py), or
after a random time. Which moment a clock hits is left open; what must hold does not depend on it.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.experiments.fault_driver import Driver, Outcome, shared_driver, small_generation, small_job

KILLED = -int(signal.SIGKILL)


@dataclass(frozen=True)
class Whole:
    """An uninterrupted run, and where to put others like it."""

    driver: Driver
    place: Path
    outcome: Outcome
    contents: dict[str, str]

    def run(self, name: str, *more: str, **faults: object) -> Outcome:
        return self.driver.run(*small_job(self.place, name, f"{name}-cache"), *more, **faults)

    def is_equal(self, name: str) -> bool:
        return self.driver.contents(self.place / name) == self.contents


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    driver, place = shared_driver(), tmp_path_factory.mktemp("crash")
    outcome = driver.run(*small_job(place, "whole", "whole-cache"))
    assert outcome.code == 0, outcome.error
    contents = driver.contents(place / "whole")
    assert {"rounds/001/round.json", "dataset/README.md", "report.html", "oracle/rounds.png"} <= set(contents)
    yield Whole(driver, place, outcome, contents)


def test_an_uninterrupted_run_repeats(whole: Whole) -> None:
    assert whole.run("again").code == 0
    assert whole.is_equal("again")


@pytest.mark.soak
def test_twenty_kills_at_random_steps(whole: Whole) -> None:
    rng = random.Random(7)
    steps, kills = len(whole.outcome.steps), 0
    while kills < 20:
        name = f"random{kills}"
        for attempt in range(4):  # a resumed run has fewer steps left
            killed = whole.run(name, kill=rng.randrange(steps >> attempt), tear=rng.random() < 0.5)
            assert killed.code in (KILLED, 0), killed.error
            kills += killed.code == KILLED
        resumed = whole.run(name)
        assert resumed.code == 0, resumed.error
        assert whole.is_equal(name), name


def test_kills_at_random_times(whole: Whole) -> None:
    rng = random.Random(8)
    for _ in range(4):
        killed = whole.run("timed", after=rng.uniform(0, whole.outcome.seconds))
        assert killed.code in (KILLED, 0), killed.error
    resumed = whole.run("timed")
    assert resumed.code == 0, resumed.error
    assert whole.is_equal("timed")


STEPS = (
    "open .*config.yaml",
    "flush .*config.yaml",
    "open .*kinds.log",
    "link .*/devices.secret",
    "link .*/devices.sqlite",
    "database insert",
    "database commit",
    "database committed",
    "flush .*run.json",
    "flush .*privacy.json",
    "rename .*privacy.md",
    "a chunk is written",
    "rename .*/generation/",
    "rename .*/seed_corpus.json",
    "flush rounds/000/.*corpus.parquet",
    "flush rounds/000/.*tally.npz",
    "open 000/oracle/.*votes.npy",
    "rename rounds/001/corpus.parquet",
    "rename rounds/000/next_weights.npy",
    "flush rounds/000/.*round.json",
    "rename rounds/000/round.json",
    "rename .*/metrics.csv",
    "rename rounds/001/estimate.parquet",
    "flush rounds/002/.*corpus.parquet",
    "flush kinds/oracle/.*report.html",
    "flush rounds/002/.*embeddings.npy",
    "flush dataset/data/.*train",
    "rename kinds/dataset/README.md",
    "rename kinds/oracle/rounds.png",
    "rename .*/kinds/report.html",
)


@pytest.mark.parametrize("stride", [6, pytest.param(1, marks=pytest.mark.soak)])
def test_a_kill_in_every_kind_of_write(whole: Whole, stride: int) -> None:
    """One run that is killed five or thirty times, each time a little later."""
    place = f"kinds{stride}"
    for name in STEPS[::stride]:
        killed = whole.run(place, kill=[name.replace("kinds", place)], tear=True)
        assert killed.code == KILLED, (name, killed.code, killed.error)
    resumed = whole.run(place)
    assert resumed.code == 0, resumed.error
    assert whole.is_equal(place)


@pytest.mark.parametrize(
    ("sabotage", "step", "found"),
    [
        ("write in place", "flush .*config.yaml", "another configuration"),
        ("write in place", "flush rounds/000/corpus.parquet", "corpus.parquet cannot be read (damaged: "),
        ("trust every round", "rename rounds/000/round.json", ""),
    ],
)
def test_negative_control_broken_resume_is_noticed(whole: Whole, sabotage: str, step: str, found: str) -> None:
    """With a writer that is not atomic, or a resume that trusts unfinished rounds, the comparison fails."""
    name = f"{sabotage} {len(step)}".replace(" ", "-")
    killed = whole.run(name, kill=[step], tear=True, sabotage=sabotage)
    assert killed.code == KILLED, killed.error
    resumed = whole.run(name, sabotage=sabotage)
    assert not (resumed.code == 0 and whole.is_equal(name))
    assert found in resumed.error


def test_kills_with_a_ledger_on_disk(whole: Whole) -> None:
    """The ledger outlives the run folder: what was debited before a kill is not debited again after it."""
    ledger = whole.place / "ledger.db"
    more = (f"ledger={ledger}", "caps.lifetime=4", "caps.daily=4")  # enough for one report of each device, not two
    whole_run = whole.run("ledger-whole", *more)
    assert whole_run.code == 0, whole_run.error
    expected = whole.driver.contents(whole.place / "ledger-whole")
    for file in whole.place.glob("ledger.db*"):
        file.unlink()
    kills = [
        ["insert into meta"], ["insert into polls"], ["insert into pages", 1], ["insert into pages", 3],
        ["insert into pages"], ["rounds/000/.*tally.npz"], ["insert into polls"], ["rounds/001/.*tally.npz"],
        ["rounds/001/.*round.json"],
    ]  # fmt: skip
    codes = [whole.run("ledger", *more, kill=kill).code for kill in kills]
    assert set(codes) <= {KILLED, 0}
    assert codes.count(KILLED) >= 6, codes
    resumed = whole.run("ledger", *more)
    assert resumed.code == 0, resumed.error
    assert whole.driver.contents(whole.place / "ledger") == expected


def test_a_killed_comparison_leaves_no_page_or_a_whole_one(whole: Whole) -> None:
    page = whole.place / "page.html"
    arguments = ("compare", str(whole.place / "whole"), "--to", str(page))
    for step in ("open", "rename"):
        assert whole.driver.run(*arguments, kill=[f"{step}.*page.html"]).code == KILLED
        assert not page.exists()
    assert whole.driver.run(*arguments).code == 0
    first = page.read_bytes()
    assert whole.driver.run(*arguments, kill=["rename .*page.html"]).code == KILLED
    assert page.read_bytes() == first
    assert whole.is_equal("whole")


# Generation without a poll


def test_a_generation_that_was_killed_twice_repeats_no_kept_work(whole: Whole) -> None:
    n, chunks, chunk = 60, "a chunk is written", "rename two-cache/generation/"
    plain = whole.driver.run(*small_generation(whole.place, "one", n, "one-cache"))
    assert plain.code == 0, plain.error
    written = plain.count(chunks)
    assert written >= 8 and plain.count("database insert") >= 8

    arguments = small_generation(whole.place, "two", n, "two-cache")
    places = [number for number, step in enumerate(plain.steps) if step == chunks]
    first = whole.driver.run(*arguments, kill=places[3])
    assert first.code == KILLED
    # The second dies when its second chunk is written but not kept yet: that one, and only that one, is lost.
    second = whole.driver.run(*arguments, kill=[chunk, 1])
    assert second.code == KILLED
    third = whole.driver.run(*arguments)
    assert third.code == 0, third.error
    assert [run.count(chunks) for run in (first, second, third)] == [3, 2, written - 4]
    assert whole.driver.contents(whole.place / "two") == whole.driver.contents(whole.place / "one")
    again = whole.driver.run(*arguments)
    assert again.code == 0 and again.count(chunks) == 0 and again.count("database insert") == 0


def test_two_generations_share_the_caches_while_both_write(whole: Whole) -> None:
    """Equal work at the same time, by the scheduler's order and by an order that makes each overtake the other."""
    alone = small_generation(whole.place, "alone", 40, "alone-cache")
    assert whole.driver.run(*alone).code == 0
    expected = whole.driver.contents(whole.place / "alone")

    def start(name: str, cache: str, **faults: object) -> int:
        return whole.driver.start(*small_generation(whole.place, name, 40, cache), **faults)

    def end(child: int) -> None:
        outcome = whole.driver.wait(child)
        assert outcome.code == 0, outcome.error

    for child in [start("together-a", "together"), start("together-b", "together")]:
        end(child)
    for cache, step in (("kept", "rename kept/generation/"), ("listed", "database insert")):
        first = start(f"{cache}-a", cache, stop=[step])
        whole.driver.stopped(first)
        end(start(f"{cache}-b", cache))
        whole.driver.signal(first, signal.SIGCONT)
        end(first)
    for name in [f"{cache}-{which}" for cache in ("together", "kept", "listed") for which in "ab"]:
        assert whole.driver.contents(whole.place / name) == expected, name
    # What they left in the caches is complete and right.
    for cache in ("together", "kept", "listed"):
        later = whole.driver.run(*small_generation(whole.place, f"{cache}-later", 40, cache))
        assert later.code == 0 and later.count("a chunk is written") == 0 and later.count("database insert") == 0
        assert whole.driver.contents(whole.place / f"{cache}-later") == expected


def test_the_second_process_on_a_run_folder_is_refused(whole: Whole) -> None:
    """It changes nothing, not even the half-written file of the first, which ends as if it had been alone."""
    arguments = small_job(whole.place, "shared", "shared-cache")
    first = whole.driver.start(*arguments, stop=["flush rounds/001/.*tally.npz"])
    whole.driver.stopped(first)
    before = whole.driver.contents(whole.place / "shared")
    assert "rounds/001/.writing-tally.npz" in before
    second = whole.driver.run(*arguments)
    assert second.code == 2
    assert second.error == (
        f"synthpoll: another process is using the run folder {whole.place / 'shared'}; wait for it or use out=DIR\n"
    )
    assert whole.driver.contents(whole.place / "shared") == before
    whole.driver.signal(first, signal.SIGCONT)
    ended = whole.driver.wait(first)
    assert ended.code == 0, ended.error
    assert whole.is_equal("shared")
