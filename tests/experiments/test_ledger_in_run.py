"""The main job debits its devices: before they report, over runs, once under kill -9, and whatever the trust model."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hydra.errors import InstantiationException

import experiments.refine.refinement
import experiments.run
from device_poll.device_ledger import DeviceLedger
from device_poll.population import PopulationError
from device_poll.town.build import build_town
from experiments.folder.store import StoreError
from privacy import ledger_stores
from privacy.accounting import amplify_by_shuffling
from privacy.budget import MICRO, Budget, LedgerError, Token
from privacy.ledger import Ledger
from privacy.mechanism import Tally
from privacy.unary_encoding import OptimizedUnaryEncoding
from tests.experiments.conftest import contents

DEVICES = 900
CAP_4, CAP_64 = Budget.of(lifetime=4.0, daily=4.0), Budget.of(lifetime=64.0, daily=64.0)
LOOSE = ("rounds=1", "evaluation.sample=20", "candidates=20")
"""A run of one poll that is quick."""


@pytest.fixture(autouse=True)
def speed(monkeypatch):
    """No waiting for the disk: what a process wrote outlives its SIGKILL in the system's cache. And no pictures."""
    monkeypatch.setattr(ledger_stores, "_PRAGMAS", (*ledger_stores._PRAGMAS, "synchronous = OFF"))
    monkeypatch.setattr(experiments.refine.refinement, "write_plots", lambda *_: None)


@cache
def residents() -> tuple[str, ...]:
    return tuple(sorted(set(build_town(DEVICES, 2, 0).users)))


@contextlib.contextmanager
def ledger_of(path: Path, budget: Budget = CAP_4):
    with contextlib.closing(DeviceLedger(path, device_ids=residents(), budget=budget)) as ledger:
        ledger.verify()
        yield ledger


def everyone(ledger: Ledger) -> np.ndarray:
    return ledger.spent(np.arange(DEVICES))


def of(folder: Path, name: str) -> dict:
    return json.loads((folder / name).read_text())


def test_two_runs_share_a_ledger(smoke, tmp_path):
    path = tmp_path / "ledger.db"
    shared = (*LOOSE, f"ledger={path}", "caps.lifetime=4")
    first = smoke("first", *shared)
    with ledger_of(path) as ledger:
        assert (everyone(ledger) == 4 * MICRO).all()
        assert (ledger.spent_on(0, np.arange(DEVICES)) == 4 * MICRO).all()
    # Another run over the same devices finds nobody with budget, and says so before any work.
    with pytest.raises(PopulationError, match=r"round 0 has 0 devices that can report, .* lifetime 4 and") as refused:
        smoke("second", *shared, "seed=1")
    assert "\n" not in str(refused.value)
    assert {file.name for file in (tmp_path / "second").iterdir()} == {"config.yaml"}
    # The same run in another folder sends the same reports, which cost nothing more.
    assert contents(smoke("again", *shared)) == contents(first)
    with ledger_of(path) as ledger:
        assert (everyone(ledger) == 4 * MICRO).all()
    # Without the file it can run: the price is that its statement knows of no other run.
    alone = smoke("alone", *LOOSE, "caps.lifetime=4", "seed=1")
    assert of(alone, "privacy.json")["ledger"]["kept"] == "memory"
    assert "is gone with it" in (alone / "privacy.md").read_text()
    assert of(first, "privacy.json")["ledger"]["kept"] == of(first, "run.json")["ledger"]["kept"] == "file"
    page = (first / "privacy.md").read_text()
    assert "account is that of its user's name in the mail" in page and "for equal ids only" in page


@pytest.mark.parametrize("model", ["shuffled", "secure_aggregation"])
def test_devices_without_budget_are_silent_and_everything_counts_the_others(smoke, tmp_path, model):
    path, delta = tmp_path / "ledger.db", 1e-5
    with ledger_of(path) as ledger:
        spent = np.arange(0, DEVICES, 3)
        ledger.opt_in(spent)
        other = Token(use_case="emoji", round=0, day=3)
        assert ledger.debit(other, spent, MICRO).all() and ledger.send(other, spent).all()
    folder = smoke(
        "run", *LOOSE, f"ledger={path}", "caps.lifetime=4", "caps.daily=4", f"trust={model}", f"delta={delta}",
        "arms=[no_privacy]", "first_day=5",
    )  # fmt: skip
    left, place = DEVICES * 2 // 3, folder / "rounds" / "000"
    votes = np.load(place / "oracle" / "votes.npy")
    assert votes.sum() == of(place, "metrics.json")["reports"] == of(place, "round.json")["reports"] == left
    assert np.load(folder / "oracle" / "arms" / "no_privacy" / "rounds" / "000" / "oracle" / "votes.npy").sum() == 900
    # The estimates are of those who answered: 20 squared standard normals average 1 +- sqrt(2 / 20); 5 of those.
    assert abs(of(place, "oracle/metrics.json")["error_in_stderr"] ** 2 - 1) < 5 * np.sqrt(2 / 20)
    with ledger_of(path) as ledger:
        both = np.full(DEVICES, 4 * MICRO)
        both[spent] = MICRO
        np.testing.assert_array_equal(everyone(ledger), both)
        assert (ledger.spent_on(5, np.arange(DEVICES)) > 0).sum() == left
    # The claim rests on the reports that came, not on those that were hoped for.
    told = of(folder, "privacy.json")
    assert told["composition"]["reports_per_round"] == [left] and told["accuracy"]["reports"] == left
    if model == "shuffled":
        unary = OptimizedUnaryEncoding(epsilon=4.0, domain_size=21)
        assert told["central"]["epsilon"] == amplify_by_shuffling(unary, left, delta)
    assert told["ledger"] == {
        "kept": "file", "shared_with_other_runs": True, "caps": {"lifetime": 4, "daily": 4}, "first_day": 5,
        "cost_of_a_report": 4.0, "polls_paid": 1, "devices_charged": left,
    }  # fmt: skip
    # Who was silent, and what others charged, is on the devices' side.
    hidden = of(place, "oracle/ledger.json")
    assert hidden["silent"] == DEVICES - left and hidden["charged_over_all_use_cases"] == DEVICES
    public = {name: data for name, data in contents(folder).items() if "oracle/" not in name}
    on_their_side = (b'"silent"', b"charged_over", b"largest_lifetime_spent")
    assert not [name for name, data in public.items() if any(each in data for each in on_their_side)]


class Killed(BaseException):
    """Stands for a kill."""


KILLS = [
    ("debit", "after"), ("send", "before"), ("send", "after"), ("rounds/000/tally.npz", "after"),
    ("rounds/000/round.json", "before"), ("debit", "after"), ("send", "after"), ("rounds/001/round.json", "before"),
]  # fmt: skip
"""Life after life of one run: each ends at the first such step that it comes to."""


def test_killed_around_every_debit_a_run_ends_the_same_and_debits_nobody_twice(smoke, tmp_path, monkeypatch):
    overrides = ("rounds=2", "evaluation.sample=20", "candidates=20", "caps.lifetime=4")
    whole = contents(smoke("whole", *overrides, f"ledger={tmp_path / 'whole.db'}"))

    def dying(method, name, end):
        def call(self, what, *args, **kwargs):
            here = name or what
            if end == (here, "before"):
                raise Killed
            result = method(self, what, *args, **kwargs)
            if end == (here, "after"):
                raise Killed
            return result

        return call

    ledger = f"ledger={tmp_path / 'broken.db'}"
    for number, end in enumerate(KILLS):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            for name in ("debit", "send"):
                patch.setattr(DeviceLedger, name, dying(getattr(DeviceLedger, name), name, end))
            folder = experiments.run.RunFolder
            patch.setattr(folder, "write_bytes", dying(folder.write_bytes, None, end))
            smoke("broken", *overrides, ledger)
        with ledger_of(tmp_path / "broken.db") as broken:
            # Round 0 is debited in the first life, round 1 in the sixth.
            assert everyone(broken).sum() == (DEVICES // 2 if number < 5 else DEVICES) * 4 * MICRO
    assert contents(smoke("broken", *overrides, ledger)) == whole
    with ledger_of(tmp_path / "broken.db") as broken, ledger_of(tmp_path / "whole.db") as sound:
        np.testing.assert_array_equal(everyone(broken), everyone(sound))
        assert (everyone(broken) == 4 * MICRO).all()
        assert broken.summary() == sound.summary()


KILLER = """
import os, signal, sys
from privacy import ledger_stores
from privacy.ledger_stores import SQLiteLedger
ledger_stores._PRAGMAS = (*ledger_stores._PRAGMAS, "synchronous = OFF")
method, after = getattr(SQLiteLedger, sys.argv[1]), sys.argv[2] == "after"
def dying(*args, **kwargs):
    if after:
        method(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(SQLiteLedger, sys.argv[1], dying)
sys.argv[1:3] = []
from experiments.cli import main
main()
"""


def test_kill_9_between_debit_and_report(smoke, tmp_path):
    """A real process and a real SIGKILL: reserved but not sent, then sent but not counted."""
    path = tmp_path / "ledger.db"
    shared = (*LOOSE, "caps.lifetime=4", f"ledger={path}")
    whole = contents(smoke("whole", *LOOSE, "caps.lifetime=4", f"ledger={tmp_path / 'whole.db'}"))
    arguments = [
        "run", "experiment=smoke", f"devices.devices={DEVICES}", f"out={tmp_path / 'killed'}",
        f"cache={tmp_path / 'cache'}", *shared,
    ]  # fmt: skip
    for method, when in (("debit", "after"), ("send", "after")):
        command = [sys.executable, "-c", KILLER, method, when, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
        assert done.returncode == -signal.SIGKILL, done.stderr
        with ledger_of(path) as ledger:
            assert (everyone(ledger) == 4 * MICRO).all()
        assert not (tmp_path / "killed" / "rounds" / "000" / "round.json").exists()
    assert contents(smoke("killed", *shared)) == whole
    with ledger_of(path) as ledger:
        assert (everyone(ledger) == 4 * MICRO).all()


def test_a_run_is_continued_with_the_ledger_it_was_begun_with(smoke, tmp_path):
    path = tmp_path / "ledger.db"
    shared = (*LOOSE, f"ledger={path}", "caps.lifetime=4")
    before = contents(smoke("run", *shared))
    with pytest.raises(StoreError, match=r"other ledger \(\{'first_day': 0, 'kept': 'file'\}, now"):
        smoke("run", *LOOSE, "caps.lifetime=4")
    # Another file is told of the round, if it has room for it.
    full = tmp_path / "full.db"
    with ledger_of(full) as ledger:
        ledger.opt_in(np.arange(10))
        ledger.debit(Token(use_case="other", round=0, day=9), np.arange(10), MICRO)
    with pytest.raises(StoreError, match=r"has 900 reports of round 0, but its ledger has debits for 890; give the"):
        smoke("run", *LOOSE, f"ledger={full}", "caps.lifetime=4")
    assert contents(smoke("run", *LOOSE, f"ledger={tmp_path / 'empty.db'}", "caps.lifetime=4")) == before
    with ledger_of(tmp_path / "empty.db") as ledger:
        assert (everyone(ledger) == 4 * MICRO).all()


def test_a_ledger_that_does_not_fit_is_refused_before_any_work(smoke, tmp_path):
    path = tmp_path / "ledger.db"
    with ledger_of(path):
        pass
    (tmp_path / "notes.txt").write_text("mine" * 500)
    for overrides, said in (
        ([f"ledger={path}", "caps.lifetime=8"], "caps are a promise to the devices and cannot change"),
        ([f"ledger={tmp_path / 'no' / 'ledger.db'}"], "cannot be opened"),
        ([f"ledger={tmp_path / 'notes.txt'}"], "cannot be opened"),
    ):
        with pytest.raises(LedgerError, match=said) as refused:
            smoke("run", *LOOSE, *overrides, f"out={tmp_path / said[:5]}")
        assert "\n" not in str(refused.value) and "resident" not in str(refused.value)
    assert (tmp_path / "notes.txt").read_text() == "mine" * 500
    if os.geteuid() == 0:
        assert path.stat().st_mode & 0o777 == 0o600


def test_days_out_of_range_and_the_place_of_a_ledger(compose_job):
    for override, said in (("first_day=-1", "first_day is -1"), (f"first_day={1 << 40}", "day is 1099511627778")):
        with pytest.raises(InstantiationException) as refused:
            compose_job("experiment=smoke", override)
        assert said in str(refused.value.__cause__)
    base = compose_job("experiment=smoke")[2]
    assert compose_job("experiment=smoke", "ledger=/somewhere/ledger.db")[2] == base, "a place is no identity"
    assert compose_job("experiment=smoke", "first_day=1")[2] != base


def test_the_tally_of_a_round_says_which_mechanism_made_it(smoke, tmp_path):
    place = smoke("run", *LOOSE) / "rounds" / "000"
    tally, mechanism = Tally.load(place / "tally.npz"), OptimizedUnaryEncoding(epsilon=4.0, domain_size=21)
    assert dict(tally.parameters) == dict(mechanism.parameters) == of(place, "round.json")["mechanism"]
    estimate = mechanism.estimate(tally)
    np.testing.assert_array_equal(estimate.counts[:-1], pq.read_table(place / "estimate.parquet")["count"].to_numpy())
    tally.save(tmp_path / "saved.npz")
    assert (tmp_path / "saved.npz").read_bytes() == (place / "tally.npz").read_bytes()
