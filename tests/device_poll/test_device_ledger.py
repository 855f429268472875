"""A ledger by device id: who comes and goes keeps an account, who said no is not asked, forgetting refunds nothing."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from device_poll import device_ledger
from device_poll.device_ledger import SIMULATED, DeviceLedger, check_users
from experiments.count.segments import DeviceNames
from privacy import ledger_stores
from privacy.budget import MICRO, Budget, DebitState, LedgerError, Token
from privacy.ledger import Ledger
from privacy.ledger_pages import Consent, Kind
from privacy.ledger_stores import WIDTH, SimulatedLedger, SQLiteLedger

CAPS = Budget.of(lifetime=6.0, daily=4.0)
IDS = ("anna", "bert", "carl")


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """Speed only: what a process wrote outlives its SIGKILL in the system's cache."""
    monkeypatch.setattr(ledger_stores, "_PRAGMAS", (*ledger_stores._PRAGMAS, "synchronous = OFF"))


def opened(path: Path, ids=IDS, **changes: object) -> contextlib.closing[DeviceLedger]:
    return contextlib.closing(DeviceLedger(path, device_ids=ids, budget=CAPS, **changes))


def token(round: int = 0, day: int = 0) -> Token:
    return Token(use_case="mail 1 slate", round=round, day=day)


def spend(ledger: DeviceLedger, devices: list[int], round: int = 0) -> np.ndarray:
    """Two epsilons of each; who could."""
    asked = np.array(devices)
    able = ledger.debit(token(round, round), asked, 2 * MICRO)
    ledger.send(token(round, round), asked[able])
    return able


def test_devices_come_and_go_and_keep_their_accounts(tmp_path):
    path = tmp_path / "ledger.db"
    with opened(path) as ledger:
        ledger.enroll(np.arange(3), np.ones(3, dtype=bool))
        assert spend(ledger, [0, 2]).all() and ledger.accounts == 3
        assert ledger.has_polls_of("mail 1") and not ledger.has_polls_of("mail 1 s")
    # Bert is gone, dora is new, the others in another order.
    with opened(path, ("carl", "dora", "anna")) as ledger:
        assert ledger.spent(np.arange(3)).tolist() == [2 * MICRO, 0, 2 * MICRO] and ledger.accounts == 4
        ledger.enroll(np.arange(3), np.ones(3, dtype=bool))
        assert spend(ledger, [1, 0, 2], 1).all()
        assert spend(ledger, [0, 1, 2], 2).all() and spend(ledger, [0, 1, 2], 3).tolist() == [False, True, False]
        ledger.verify()
    with opened(path) as ledger:
        assert ledger.spent(np.arange(3)).tolist() == [6 * MICRO, 0, 6 * MICRO] and ledger.accounts == 4
    # Negative control: by place, as accounts once were, anna's would be carl's.
    with contextlib.closing(SQLiteLedger(path, devices=4, budget=CAPS)) as by_number:
        assert by_number.spent(np.arange(4)).tolist() == [6 * MICRO, 0, 6 * MICRO, 6 * MICRO]


def test_many_devices_over_several_rows(tmp_path):
    path, ids = tmp_path / "ledger.db", [f"device {i}" for i in range(2 * WIDTH + 7)]
    rng = np.random.default_rng(0)
    with opened(path, ids[: WIDTH + 3]) as ledger:
        ledger.opt_in(np.arange(WIDTH + 3))
        assert spend(ledger, list(range(WIDTH + 3))).all()
    for _ in range(3):
        order = rng.permutation(len(ids))
        with opened(path, [ids[i] for i in order]) as ledger:
            np.testing.assert_array_equal(ledger.spent(np.arange(len(ids))), np.where(order < WIDTH + 3, 2 * MICRO, 0))
            assert ledger.accounts == len(ids)
            ledger.verify()


def test_a_decision_is_kept_by_all_later_runs(tmp_path):
    path, everybody = tmp_path / "ledger.db", np.arange(3)
    with opened(path) as ledger:
        ledger.enroll(everybody, np.array([True, False, True]))
        assert ledger.consents(everybody).tolist() == [Consent.YES, Consent.NO, Consent.YES]
        ledger.opt_out(np.array([0]))
    with opened(path, (*IDS, "dora")) as ledger:
        ledger.enroll(np.arange(4), np.ones(4, dtype=bool))  # another run, which would ask everybody
        assert ledger.consents(np.arange(4)).tolist() == [Consent.NO, Consent.NO, Consent.YES, Consent.YES]
        assert spend(ledger, [0, 1, 2, 3]).tolist() == [False, False, True, True]
        ledger.opt_in(np.array([0]))  # on the owner's request
        assert spend(ledger, [0, 1], 1).tolist() == [True, False]
        assert (ledger.summary().opted_in, ledger.summary().opted_out) == (3, 1)
        # Negative control: what a run did before overwrites the decision.
        ledger.opt_in(np.arange(4))
        assert spend(ledger, [1], 2).all()


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_forgetting_refunds_nothing(tmp_path, kind):
    book = SimulatedLedger(devices=3, budget=CAPS) if kind == "memory" else DeviceLedger(
        tmp_path / "ledger.db", device_ids=IDS, budget=CAPS
    )  # fmt: skip
    book.enroll(np.arange(3), np.ones(3, dtype=bool))
    assert spend(book, [0, 1]).all()
    book.debit(token(1, 1), np.array([0]), 2 * MICRO)  # reserved, and not sent
    book.forget_devices(np.array([0]))
    assert book.spent(np.arange(3)).tolist() == [4 * MICRO, 2 * MICRO, 0]
    assert book.states(token(), np.arange(2)).tolist() == [DebitState.NONE, DebitState.SENT], "who answered is dropped"
    assert book.summary().forgotten == 1 and book.consents(np.array([0])).tolist() == [Consent.NO]
    book.verify()
    book.enroll(np.arange(3), np.ones(3, dtype=bool))
    assert spend(book, [0], 2).tolist() == [False]
    book.opt_in(np.array([0]))
    assert book.debit(token(3, 3), np.array([0]), 3 * MICRO).tolist() == [False], "4 of 6 are spent for good"
    assert spend(book, [0], 2).all()
    book.verify()
    # Negative control: an account below its debits is still found.
    book._write(Kind.LIFETIME, 0, 0, np.zeros(book._width, dtype=np.int64))
    with pytest.raises(LedgerError, match="accounts in page 0 do not agree"):
        book.verify()


def test_the_file_holds_no_id_and_another_file_another_hash(tmp_path):
    paths = [tmp_path / name for name in ("one.db", "two.db")]
    hashes = []
    for path in paths:
        with opened(path) as ledger:
            hashes.append(ledger._stored_hashes().tolist())
        raw = path.read_bytes()
        assert not any(name.encode() in raw for name in IDS) and path.stat().st_mode & 0o777 == 0o600
    assert len({*hashes[0], *hashes[1]}) == 6


def test_existing_ledgers_and_devices_only(tmp_path):
    path = tmp_path / "ledger.db"
    with opened(path) as ledger:
        ledger.opt_in(np.array([2]))
    with contextlib.closing(DeviceLedger.existing(path, ["carl"])) as ledger:
        assert ledger.consents(np.array([0])).tolist() == [Consent.YES] and ledger.budget == CAPS
    (tmp_path / "notes.txt").write_text("mine" * 500)
    for place, ids, said in (
        (path, ["carl", "dora"], "has no account of 1 of 2 devices asked for"),
        (tmp_path / "none.db", [], "there is no ledger"),
        (tmp_path / "notes.txt", [], "is no ledger"),
    ):
        with pytest.raises(LedgerError, match=said) as caught:
            DeviceLedger.existing(place, ids)
        assert "\n" not in str(caught.value) and "dora" not in str(caught.value)
    with pytest.raises(LedgerError, match="an id occurs twice among 3 devices"):
        DeviceLedger(path, device_ids=("anna", "dora", "dora"), budget=CAPS)
    with pytest.raises(LedgerError, match="caps are a promise"):
        DeviceLedger(path, device_ids=IDS, budget=Budget.of(lifetime=7.0, daily=4.0))


def by_number(path: Path, ids: tuple[str, ...]) -> None:
    """A file as earlier versions made it: accounts by place, bound to a digest of all ids."""
    with contextlib.closing(SQLiteLedger(path, devices=len(ids), budget=CAPS)) as ledger:
        ledger.opt_in(np.array([0, 2]))
        ledger.debit(token(), np.array([0]), 2 * MICRO)
        ledger.send(token(), np.array([0]))
        meta = [("devices", len(ids)), ("population", device_ledger._population(ids))]
        ledger._db.executemany("INSERT INTO meta VALUES (?, ?)", meta)


def test_a_ledger_of_an_earlier_version_is_taken_over_by_its_own_devices(tmp_path):
    path = tmp_path / "ledger.db"
    by_number(path, IDS)
    for others in (IDS[:2], ("bert", "anna", "carl")):
        with pytest.raises(LedgerError, match="whose accounts go by number, of other devices than these"):
            DeviceLedger(path, device_ids=others, budget=CAPS)
    with opened(path) as ledger:
        assert ledger.consents(np.arange(3)).tolist() == [Consent.YES, Consent.NO, Consent.YES]
        ledger.verify()
    with opened(path, ("dora", "anna")) as ledger:
        assert ledger.spent(np.arange(2)).tolist() == [0, 2 * MICRO]


def test_two_processes_may_add_devices_at_once(tmp_path):
    """Each sees the other's rows: the second opens while the first holds its numbers."""
    path = tmp_path / "ledger.db"
    with opened(path) as one, opened(path, ("dora", "carl")) as two:
        one.opt_in(np.arange(3))
        two.opt_in(np.arange(2))
        assert spend(one, [2]).all() and spend(two, [0]).all()
        assert two.spent(np.arange(2)).tolist() == [2 * MICRO, 2 * MICRO]
        assert spend(one, [0]).all()
        one.verify()
        assert one.accounts == two.accounts == 4
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM identities").fetchone() == (1,)


@pytest.mark.parametrize("unit", ["user", "item", "split"])
def test_files_that_earlier_versions_made_for_pseudo_devices_are_refused(tmp_path, unit):
    """They wrote down the unit of the mail; those of persons are read on."""
    path = tmp_path / "ledger.db"
    with opened(path) as ledger:
        ledger.opt_out(np.array([0]))
        ledger._db.execute("INSERT INTO meta VALUES ('unit', ?)", (unit,))
    if unit == "user":
        with opened(path) as ledger:
            assert ledger.consents(np.arange(1)).tolist() == [Consent.NO]
        return
    for ids in (IDS, ("anna/0", "anna/1"), ("device 0",)):
        with pytest.raises(LedgerError, match=rf"was made for devices\.unit={unit}, whose ids are places") as caught:
            DeviceLedger(path, device_ids=ids, budget=CAPS)
        assert "\n" not in str(caught.value)
    with pytest.raises(LedgerError, match="begin another file"):
        DeviceLedger.existing(path, ())


def test_which_ids_have_an_account(tmp_path):
    path = tmp_path / "ledger.db"
    with opened(path) as ledger:
        assert ledger.knows(("anna", "Anna", " anna", "dora", "carl")).tolist() == [True, False, False, False, True]
        assert ledger.knows(()).tolist() == [] and ledger.accounts == 3
    with opened(tmp_path / "empty.db", ()) as ledger:
        assert ledger.knows(("anna",)).tolist() == [False]


def test_users_of_mail_may_not_be_named_as_simulated_devices_are():
    names = DeviceNames(1 << 20)
    assert all(SIMULATED.fullmatch(names[i]) for i in (0, 7, 10, (1 << 20) - 1))
    check_users(("anna", "device", "device 05", "device -1", "Device 5", "device 5x", "my device 5", "device \u0665"))
    with pytest.raises(LedgerError, match="2 of the mail's users are named 'device N'") as caught:
        check_users(("anna", "device 5", "device 0"))
    assert "\n" not in str(caught.value)


def test_what_is_forgotten_leaves_the_file_and_its_log(tmp_path):
    """Also while the file stays open: no row of who answered is left to be read, in free space or in the log."""
    path = tmp_path / "ledger.db"
    answered = bytes([DebitState.SENT, DebitState.NONE, DebitState.SENT])
    with opened(path) as ledger:
        ledger.opt_in(np.arange(3))
        assert spend(ledger, [0, 2]).all()
        assert answered in log(path).read_bytes()
        ledger.forget_devices(np.array([0, 2]))
        assert log(path).stat().st_size == 0 and answered + bytes(WIDTH - 3) not in path.read_bytes()
        # Negative control: the rule without the file's part.
        ledger.opt_in(np.array([1]))
        assert spend(ledger, [1], 1).all()
        Ledger.forget_devices(ledger, np.array([1]))
        assert log(path).stat().st_size > 0


def log(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")
