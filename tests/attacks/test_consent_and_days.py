"""Attack: ask devices whose owners said no, let everybody spend again, or spend many days' budgets in one.

Spend an account anew under another id, or another's account under the same one. Negative controls are the ledger, the
ids and the days of earlier versions.
"""

from __future__ import annotations

import contextlib
import io
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hydra.errors import InstantiationException
from rich.console import Console

import device_poll.accounts
import experiments.refine.refinement
import experiments.run
from device_poll.accounts import Accounts
from device_poll.device_ledger import DeviceLedger
from device_poll.devices import TownDevices
from device_poll.population import PopulationError, assign_items
from device_poll.town.build import build_town
from experiments.count.segments import DeviceNames
from experiments.run import run_job
from privacy.budget import MICRO, Budget, LedgerError, Token

DEVICES = 900
LOOSE = ("rounds=1", "evaluation.sample=20", "candidates=20")
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


HALVES, SINGLE = (
    ("devices.unit=split", "devices.items_per_device=2"),
    ("devices.unit=split", "devices.items_per_device=1"),
)
"""Two cuts of the same residents' mail, two messages each: the second makes 900 more places."""


@pytest.mark.parametrize("unit", ["item", "split"])
def test_a_ledger_file_keeps_no_account_by_a_place_in_a_list(smoke, compose_job, tmp_path, unit):
    path = tmp_path / "ledger.db"
    with pytest.raises(InstantiationException) as refused:
        smoke("run", *LOOSE, f"ledger={path}", "caps.lifetime=4", f"devices.unit={unit}", SINGLE[1])
    line = str(refused.value.__cause__)
    assert f"but with devices.unit={unit} a device's id is a place in a list" in line and "\n" not in line
    assert line.endswith("drop ledger=, or set devices.unit=user")
    assert list(tmp_path.iterdir()) == [], "before any work"
    # In memory, for the run alone, all is as it was; and where persons are devices there is a file.
    alone = smoke("alone", *LOOSE, "caps.lifetime=4", f"devices.unit={unit}", SINGLE[1])
    assert of(alone, "rounds/000/round.json")["reports"] == 2 * DEVICES
    compose_job("experiment=smoke", f"ledger={path}", "devices.unit=user")


def test_accounts_by_place_are_passed_by_another_cut(smoke, tmp_path, monkeypatch):
    """Negative control: all accounts are exhausted, and 900 parts of the same mail have budget again."""
    monkeypatch.setattr(TownDevices, "numbered", {})
    shared = (*LOOSE, f"ledger={tmp_path / 'ledger.db'}", "caps.lifetime=4")
    assert of(smoke("first", *shared, *HALVES), "rounds/000/round.json")["reports"] == DEVICES
    again = smoke("second", *shared, *SINGLE, "seed=1", "devices.seed=0")
    assert of(again, "rounds/000/round.json")["reports"] == DEVICES


def test_accounts_by_place_are_passed_by_an_older_message(tmp_path):
    """Negative control: put before the others, it has the account that they exhausted, and the last one a new one."""
    budget, reports = Budget.of(lifetime=4.0, daily=4.0), []
    for texts in (["one", "two"], ["older", "one", "two"]):
        owned = assign_items(["anna"] * len(texts), "item")
        with contextlib.closing(DeviceLedger(tmp_path / "db", device_ids=owned.device_ids, budget=budget)) as ledger:
            everybody, token = np.arange(len(texts)), Token(use_case="mail", round=0, day=len(texts))
            ledger.opt_in(everybody)
            able = ledger.debit(token, everybody, 4 * MICRO)
        reports += [texts[item] for item in owned.order[able]]
    assert reports == ["one", "two", "two"]


def mail_of(folder: Path, users: list[str]) -> Path:
    path = folder / "mail.jsonl"
    rows = (json.dumps({"text": f"see you at noon on day {i}", "user": user}) for i, user in enumerate(users))
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("devices", "said"),
    [
        ("mail", "but with devices.fields.user=null a device's id is"),
        ("prompts", "but with devices.unit=item and devices.fields.user=null a device's id is"),
        ("spamassassin", "but with devices.unit=item a device's id is"),
    ],
)
def test_users_that_no_field_names_are_places_too(compose_job, devices, said):
    field = ["devices.fields.user=null"] if devices == "mail" else []
    with pytest.raises(InstantiationException, match="ledger") as refused:
        compose_job("experiment=smoke", f"devices={devices}", "ledger=ledger.db", *field)
    assert said in str(refused.value.__cause__)
    compose_job("experiment=smoke", f"devices={devices}", *field)
    compose_job("experiment=smoke", "devices=mail", "ledger=ledger.db")


def polled(compose_job, tmp_path: Path, *overrides: str) -> Path:
    """A run of one poll over tmp_path/mail.jsonl."""
    job = compose_job(
        "experiment=smoke", "devices=mail", f"devices.path={tmp_path / 'mail.jsonl'}", f"cache={tmp_path / 'cache'}",
        "minimum_batch=10", "noise=seeded", f"ledger={tmp_path / 'ledger.db'}", "caps.lifetime=4", *LOOSE, *overrides,
    )  # fmt: skip
    return run_job(*job, Console(file=io.StringIO(), width=150))


def test_a_user_who_is_named_as_a_simulated_device_is_refused(compose_job, tmp_path):
    mail_of(tmp_path, [*(f"person {i}" for i in range(40)), "device 5"])
    with pytest.raises(LedgerError, match="1 of the mail's users are named 'device N'") as refused:
        polled(compose_job, tmp_path, f"out={tmp_path / 'run'}")
    assert "\n" not in str(refused.value) and "device 5" not in str(refused.value)
    assert not (tmp_path / "ledger.db").exists() and not (tmp_path / "run" / "rounds").exists()
    mail_of(tmp_path, [*(f"person {i}" for i in range(40)), "Device 5"])
    folder = polled(compose_job, tmp_path, f"out={tmp_path / 'other'}")
    assert of(folder, "rounds/000/round.json")["reports"] == 41


def test_one_who_is_not_refused_has_the_account_of_the_simulated_device(compose_job, tmp_path, monkeypatch):
    """Negative control: the owner of device 5 of a use case says no, and a person with a mailbox is not asked."""
    mail_of(tmp_path, [*(f"person {i}" for i in range(40)), "device 5"])
    budget = Budget.of(lifetime=4.0, daily=4.0)
    with contextlib.closing(DeviceLedger(tmp_path / "ledger.db", device_ids=DeviceNames(6), budget=budget)) as ledger:
        ledger.opt_out(np.array([5]))
    monkeypatch.setattr(experiments.refine.refinement, "check_users", lambda names: None)
    folder = polled(compose_job, tmp_path, f"out={tmp_path / 'run'}")
    assert of(folder, "rounds/000/round.json")["reports"] == 40


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
