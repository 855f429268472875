"""Attack: ask devices whose owners said no, let everybody spend again, or spend many days' budgets in one.

Negative controls are the ledger and the days of earlier versions.
"""

from __future__ import annotations

import contextlib
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hydra.errors import InstantiationException

import device_poll.accounts
import experiments.run
from device_poll.accounts import Accounts
from device_poll.device_ledger import DeviceLedger
from device_poll.population import PopulationError
from device_poll.town.build import build_town
from privacy.budget import MICRO, Budget

DEVICES = 900
LOOSE = ("rounds=1", "evaluation.sample=20", "candidates=20", "keep=6")
"""A run of one poll that is quick."""


@cache
def residents() -> tuple[str, ...]:
    return tuple(sorted(set(build_town(DEVICES, 2, 0).users)))


@contextlib.contextmanager
def ledger_of(path: Path, cap: float):
    budget = Budget.of(lifetime=cap, daily=cap)
    with contextlib.closing(DeviceLedger(path, device_ids=residents(), budget=budget)) as ledger:
        ledger.verify()
        yield ledger


def of(folder: Path, name: str) -> dict:
    return json.loads((folder / name).read_text())


class Killed(BaseException):
    """Stands for a kill."""


def test_who_opts_out_is_not_asked_by_any_later_run_and_who_is_new_may_join(smoke, tmp_path):
    path, everybody = tmp_path / "ledger.db", np.arange(DEVICES)
    with ledger_of(path, 64.0) as ledger:
        ledger.enroll(everybody, np.ones(DEVICES, dtype=bool))
        ledger.opt_out(everybody[:600])
    shared = (*LOOSE, f"ledger={path}", "caps.lifetime=64")
    first = smoke("first", *shared)
    assert of(first, "rounds/000/round.json")["reports"] == DEVICES - 600
    second = smoke("second", *shared, "seed=1", "devices.seed=0", "devices.devices=1000")
    assert of(second, "rounds/000/round.json")["reports"] == 1000 - 600
    with ledger_of(path, 64.0) as ledger:
        assert not ledger.spent(everybody[:600]).any() and (ledger.spent(everybody[600:]) == 8 * MICRO).all()
        assert ledger.accounts == 1000
        ledger.opt_out(everybody)
    with pytest.raises(PopulationError, match="round 0 has 0 devices that can report"):
        smoke("third", *shared, "seed=2", "devices.seed=0")


def test_a_ledger_that_asks_each_run_anew_polls_those_who_said_no(smoke, tmp_path, monkeypatch):
    """Negative control: as earlier versions did, who is enrolled is who agreed to this run."""
    path, everybody = tmp_path / "ledger.db", np.arange(DEVICES)
    with ledger_of(path, 64.0) as ledger:
        ledger.enroll(everybody, np.ones(DEVICES, dtype=bool))
        ledger.opt_out(everybody[:600])
    monkeypatch.setattr(DeviceLedger, "enroll", lambda self, devices, agreed: self.opt_in(devices[agreed]))
    folder = smoke("run", *LOOSE, f"ledger={path}", "caps.lifetime=64")
    assert of(folder, "rounds/000/round.json")["reports"] == DEVICES


def poll_and_die(smoke, monkeypatch, *shared: str) -> None:
    """All reports leave, and the run dies with their sum."""
    folder = experiments.run.RunFolder
    write = folder.write_bytes

    def dying(self, name, *args, **kwargs):
        if name == "rounds/000/tally.npz":
            raise Killed
        write(self, name, *args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(folder, "write_bytes", dying)
        smoke("run", *shared)


@pytest.fixture
def today(monkeypatch) -> list[int]:
    """The day of the clock, which a test may move."""
    day = [20_000]
    monkeypatch.setattr(device_poll.accounts.time, "time", lambda: 86_400.0 * day[0] + 5)
    return day


def test_a_round_under_system_noise_is_on_the_day_of_the_clock(smoke, tmp_path, monkeypatch, today):
    """The day is fixed by the first debit: a run that is killed before midnight goes on with it, and pays once."""
    path, everybody = tmp_path / "ledger.db", np.arange(DEVICES)
    shared = (*LOOSE, f"ledger={path}", "caps.lifetime=4", "noise=system")
    poll_and_die(smoke, monkeypatch, *shared)
    with ledger_of(path, 4.0) as ledger:
        assert (ledger.spent_on(20_000, everybody) == 4 * MICRO).all()
    today[0] += 1
    run = smoke("run", *shared)
    assert of(run, "rounds/000/round.json")["reports"] == DEVICES
    assert of(run, "rounds/000/oracle/ledger.json")["day"] == 20_000
    assert of(run, "run.json")["ledger"]["first_day"] is None
    with ledger_of(path, 4.0) as ledger:
        assert (ledger.spent(everybody) == 4 * MICRO).all() and not ledger.spent_on(20_001, everybody).any()
    # The same command in another folder has another key, so it is another spend, for which nobody has budget.
    with pytest.raises(PopulationError, match="round 0 has 0 devices that can report"):
        smoke("again", *shared)


def test_a_day_that_is_looked_up_anew_makes_devices_pay_twice(smoke, tmp_path, monkeypatch, today):
    """Negative control: the poll that goes on after midnight is another debit."""
    path, everybody = tmp_path / "ledger.db", np.arange(DEVICES)
    shared = (*LOOSE, f"ledger={path}", "caps.lifetime=8", "noise=system")
    monkeypatch.setattr(Accounts, "_day", lambda self, use_case, since_first: self.clock())
    poll_and_die(smoke, monkeypatch, *shared)
    today[0] += 1
    smoke("run", *shared)
    with ledger_of(path, 8.0) as ledger:
        assert (ledger.spent(everybody) == 8 * MICRO).all()


def test_simulated_days_need_seeded_noise(compose_job):
    for overrides, said in (
        (
            ["experiment=smoke", "noise=system", "first_day=3"],
            "first_day is 3, but with noise=system a poll is debited",
        ),
        (["experiment=emoji", "noise=system", "days=2"], "days is 2, but with noise=system a run plays one day"),
        (["experiment=smoke", "noise=os"], "noise is 'os'; expected one of auto, system, seeded"),
    ):
        with pytest.raises(InstantiationException) as refused:
            compose_job(*overrides)
        assert said in str(refused.value.__cause__)
