"""A ledger file whose accounts belong to devices by their ids: devices may come and go, and each keeps its account.

    ledger = DeviceLedger("ledger.db", device_ids=population.device_ids, budget=Budget.of(lifetime=64.0, daily=8.0))
    ledger.enroll(np.arange(len(population.device_ids)), agreed)
    ledger = DeviceLedger.existing("ledger.db", device_ids=["anna"])       # for one device's owner

The file holds no id, only a hash of it that is salted for this file (BLAKE2b, RFC 7693, 128 bits), so two ledgers do
not tell which of their accounts are the same person's. Whoever has the file and a list of ids can still look them up:
it belongs on the devices' side.

Two ids are the same only if they are equal, letter by letter. A simulated device of a use case is 'device N', which no
user of mail may be named here: each has an account of its own.
"""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privacy.budget import Budget, LedgerError
from privacy.ledger import Devices, Mask
from privacy.ledger_pages import Consent, Kind
from privacy.ledger_stores import WIDTH, SQLiteLedger

SIMULATED = re.compile(r"device (?:0|[1-9][0-9]*)")
"""The id of a simulated device."""
_HASH = 16  # bytes
_TABLES = (
    "CREATE TABLE salt (value BLOB NOT NULL)",
    "CREATE TABLE identities (page INTEGER PRIMARY KEY, hashes BLOB NOT NULL)",
)


class DeviceLedger(SQLiteLedger):
    """A ledger in a file in which device i of this population has the account of `device_ids[i]`, made if it is new.

    Raises LedgerError as SQLiteLedger does; for a file whose accounts go by number, as those of earlier versions,
    unless it was made for exactly these devices; and for an id twice. `may_join` False: also for an id without an
    account. A file that an earlier version made for pseudo-devices is refused: their ids were places in a list.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        device_ids: Sequence[str],
        budget: Budget,
        may_join: bool = True,
    ) -> None:
        self._ids, self._may_join = device_ids, may_join
        self._numbers: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        super().__init__(path, devices=max(len(device_ids), 1), budget=budget)

    @classmethod
    def existing(cls, path: str | Path, device_ids: Sequence[str], *, may_join: bool = False) -> DeviceLedger:
        """The ledger in this file, with its own caps, for devices that have an account in it, or `may_join`.

        Raises LedgerError if there is no such file, and for an id without an account.
        """
        place = Path(path).expanduser()
        if not place.is_file():
            raise LedgerError(f"there is no ledger {place}; give the file that runs debit (ledger=FILE)")
        try:
            db = sqlite3.connect(f"{place.resolve().as_uri()}?mode=ro", uri=True)
            try:
                caps = dict(db.execute("SELECT name, value FROM meta WHERE name IN ('lifetime', 'daily')"))
            finally:
                db.close()
            budget = Budget(lifetime=int(caps["lifetime"]), daily=int(caps["daily"]))
        except (sqlite3.Error, KeyError) as error:
            raise LedgerError(f"{place} is no ledger ({type(error).__name__}); give the file that runs debit") from None
        return cls(place, device_ids=device_ids, budget=budget, may_join=may_join)

    @property
    def accounts(self) -> int:
        """How many devices have an account."""
        with self._transaction(write=False):
            return len(self._stored_hashes())

    def knows(self, ids: Sequence[str]) -> Mask:
        """bool[n]: which of these ids have an account."""
        with self._transaction(write=False):
            known: Mask = np.isin(_hashes(ids, self._salt), self._stored_hashes())
            return known

    def has_polls_of(self, run: str) -> bool:
        """Whether anything was ever debited for this run (Accounts.run)."""
        query = "SELECT count(*) FROM polls WHERE substr(use_case, 1, ?) = ?"
        (count,) = self._db.execute(query, (len(run) + 1, f"{run} ")).fetchone()
        return bool(count)

    def _adopt(self) -> None:
        super()._adopt()
        tables = {name for (name,) in self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "identities" not in tables:
            before = self._numbered()
            for statement in _TABLES:
                self._db.execute(statement)
            self._db.execute("INSERT INTO salt VALUES (?)", (os.urandom(32),))
            if before:
                self._append(_hashes(self._ids, self._salt))
        self._check_unit()
        self._numbers = self._joined()

    def _check_unit(self) -> None:
        """Earlier versions wrote down which unit of mail a file was made for."""
        row = self._db.execute("SELECT value FROM meta WHERE name = 'unit'").fetchone()
        if row is not None and row[0] != "user":
            raise LedgerError(
                f"{self._path} was made for devices.unit={row[0]}, whose ids are places in a list and not persons', so "
                "it does not know who has spent what; begin another file with devices.unit=user"
            )

    def _numbered(self) -> bool:
        """Whether this is the file of an earlier version for exactly these devices: their accounts are kept, and who
        had not opted in then counts as having said no. Raises LedgerError for one of other devices.
        """
        stored = dict(self._db.execute("SELECT name, value FROM meta WHERE name IN ('devices', 'population')"))
        if not stored and self._db.execute("SELECT count(*) FROM pages").fetchone() == (0,):
            return False
        if stored != {"devices": len(self._ids), "population": _population(self._ids)}:
            raise LedgerError(
                f"{self._path} is a ledger whose accounts go by number, of other devices than these "
                f"{len(self._ids)}; give it once with the devices that it was made for, and then any may join"
            )
        for page in range(-(-len(self._ids) // WIDTH)):
            consent = self._read(Kind.CONSENT, 0, page)
            part = consent[: len(self._ids) - page * WIDTH]
            part[part == Consent.UNKNOWN] = Consent.NO
            self._write(Kind.CONSENT, 0, page, consent)
        self._db.execute("DELETE FROM meta WHERE name IN ('devices', 'population')")
        return True

    def _joined(self) -> NDArray[np.int64]:
        """The account of each device, int64[n]; new ones are made."""
        mine, known = _hashes(self._ids, self._salt), self._stored_hashes()
        if len(known) >= len(mine) and np.array_equal(known[: len(mine)], mine):  # the same devices as ever
            return np.arange(len(mine), dtype=np.int64)
        if len(np.unique(mine)) < len(mine):
            raise LedgerError(f"an id occurs twice among {len(mine)} devices; expected each once")
        order = np.argsort(known, kind="stable")
        at = np.searchsorted(known, mine, sorter=order)
        at = order[np.minimum(at, len(known) - 1)] if len(known) else np.zeros(len(mine), dtype=np.int64)
        found = known[at] == mine if len(known) else np.zeros(len(mine), dtype=np.bool_)
        if not self._may_join and not found.all():
            raise LedgerError(
                f"{self._path} has no account of {int((~found).sum())} of {len(mine)} devices asked for; an id is "
                "exactly the user's name in the mail, or 'device N' in a use case"
            )
        numbers = np.where(found, at, 0).astype(np.int64)
        numbers[~found] = len(known) + np.arange(int((~found).sum()))
        self._append(mine[~found])
        return numbers

    def _append(self, hashes: NDArray[Any]) -> None:
        """Accounts for these hashes, behind those that there are."""
        if not len(hashes):
            return
        (pages,) = self._db.execute("SELECT count(*) FROM identities").fetchone()
        last = max(pages - 1, 0)
        row = self._db.execute("SELECT hashes FROM identities WHERE page = ?", (last,)).fetchone()
        raw = (row[0] if row else b"") + hashes.tobytes()
        for page, start in enumerate(range(0, len(raw), WIDTH * _HASH), last):
            self._db.execute(
                "INSERT OR REPLACE INTO identities VALUES (?, ?)", (page, raw[start : start + WIDTH * _HASH])
            )

    def _stored_hashes(self) -> NDArray[Any]:
        rows = self._db.execute("SELECT hashes FROM identities ORDER BY page").fetchall()
        return np.frombuffer(b"".join(raw for (raw,) in rows), dtype=f"V{_HASH}").view(f"S{_HASH}")

    @property
    def _salt(self) -> bytes:
        (salt,) = self._db.execute("SELECT value FROM salt").fetchone()
        return bytes(salt)

    def _accounts_of(self, devices: Devices) -> Devices:
        numbers: Devices = self._numbers[super()._accounts_of(devices)]
        return numbers


def check_users(names: Iterable[str]) -> None:
    """Raise LedgerError for users of mail who are named as simulated devices are, whose accounts they would have."""
    taken = sum(SIMULATED.fullmatch(name) is not None for name in names)
    if taken:
        raise LedgerError(
            f"{taken} of the mail's users are named 'device N', which in a ledger is a simulated device of a use case; "
            "name them otherwise, or drop ledger="
        )


def _hashes(ids: Iterable[str], salt: bytes) -> NDArray[Any]:
    """S16[n]: numpy compares these by all 16 bytes, since it fills shorter ones up with zeros."""
    raw = b"".join(
        hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=_HASH, key=salt).digest() for name in ids
    )
    return np.frombuffer(raw, dtype=f"S{_HASH}")


def _population(ids: Sequence[str]) -> int:
    """63 bits by which earlier versions knew a whole population."""
    digest = hashlib.sha256()
    for name in ids:
        raw = name.encode("utf-8", "surrogatepass")
        digest.update(f"{len(raw)} ".encode() + raw)
    return int.from_bytes(digest.digest()[:8], "big") >> 1
