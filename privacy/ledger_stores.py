"""Where a ledger lives: one SQLite file, or memory for a simulation. The rules are in privacy/ledger.py.

    ledger = SQLiteLedger(folder / "ledger.db", devices=10_000_000, budget=Budget.of(lifetime=64.0, daily=8.0))
    ledger = SimulatedLedger(devices=10_000_000, budget=Budget.of(lifetime=64.0, daily=8.0))

The file is safe under kill -9 and under several processes at once. Write-ahead log with synchronous=FULL: a call
returns after its transaction is on the disk. BEGIN IMMEDIATE takes the one write lock before anything is read, so two
processes cannot both see room for a last debit. A row holds 4096 devices as an array: ten million devices are 2,442
rows a table, not ten million (benchmarks/ledger.py). Not for network file systems, whose locks SQLite cannot rely on.

The file says who took part in what. It is as private as the answers, is made readable by its owner only, and belongs on
the devices' side.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from privacy.budget import Budget, LedgerError, Token
from privacy.ledger import Devices, Ledger
from privacy.ledger_pages import DTYPES, Kind, Page, Poll

WIDTH = 4096
"""Devices a row. Part of the file's format."""
_APPLICATION = 0x53504C47  # 'SPLG' in the file header: this file is a ledger
_PRAGMAS = (
    "page_size = 16384",  # measured: twice as fast as 4 KiB pages, three times as fast as 64 KiB
    "synchronous = FULL",
    "fullfsync = 1",
    "secure_delete = ON",
    f"journal_size_limit = {1 << 26}",
)
_SCHEMA = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL)",
    "CREATE TABLE polls (number INTEGER PRIMARY KEY AUTOINCREMENT, use_case TEXT NOT NULL, round INTEGER NOT NULL, "
    "day INTEGER NOT NULL, cost INTEGER NOT NULL, cancelled INTEGER NOT NULL, seal TEXT, "
    "UNIQUE (use_case, round, day))",
    "CREATE TABLE pages (kind INTEGER, key INTEGER, page INTEGER, entries BLOB NOT NULL, "
    "PRIMARY KEY (kind, key, page))",
)


class SimulatedLedger(Ledger):
    """All devices in one page in memory: the same rules at memory speed, gone when the process ends.

    9 bytes a device, 8 more for each day and 1 for each poll.
    """

    def __init__(self, *, devices: int, budget: Budget) -> None:
        super().__init__(devices=devices, budget=budget, width=devices)
        self._arrays: dict[tuple[Kind, int], Page] = {}
        self._tokens: dict[Token, Poll] = {}
        self._first_day = 0

    def _transaction(self, *, write: bool) -> AbstractContextManager[None]:
        return nullcontext()

    def _read(self, kind: Kind, key: int, page: int) -> Page:
        found = self._arrays.get((kind, key))
        return np.zeros(self.devices, dtype=DTYPES[kind]) if found is None else found

    def _write(self, kind: Kind, key: int, page: int, entries: Page) -> None:
        self._arrays[kind, key] = entries

    def _stored(self, kind: Kind, key: int | None = None) -> list[tuple[int, int]]:
        return [(k, 0) for other, k in self._arrays if other == kind and key in (None, k)]

    def _find_poll(self, token: Token) -> Poll | None:
        return self._tokens.get(token)

    def _find_day(self, use_case: str) -> int | None:
        return next((token.day for token in self._tokens if token.use_case == use_case), None)

    def _set_seal(self, number: int, seal: str) -> None:
        self._tokens = {t: replace(p, seal=seal) if p.number == number else p for t, p in self._tokens.items()}

    def _add_poll(self, token: Token, cost: int) -> Poll:
        number = 1 + max((poll.number for poll in self._tokens.values()), default=0)
        self._tokens[token] = Poll(number=number, cost=cost, day=token.day, cancelled=False)
        return self._tokens[token]

    def _polls(self) -> list[Poll]:
        return list(self._tokens.values())

    def _set_cancelled(self, number: int) -> None:
        self._tokens = {t: replace(p, cancelled=p.cancelled or p.number == number) for t, p in self._tokens.items()}

    def _horizon(self) -> int:
        return self._first_day

    def _drop_before(self, day: int) -> None:
        gone = {(Kind.DAILY, d) for d, _ in self._stored(Kind.DAILY) if d < day}
        gone |= {(Kind.DEBITS, poll.number) for poll in self._polls() if poll.day < day}
        self._arrays = {at: entries for at, entries in self._arrays.items() if at not in gone}
        self._tokens = {token: poll for token, poll in self._tokens.items() if poll.day >= day}
        self._first_day = day


class SQLiteLedger(Ledger):
    """A ledger in a file, made if absent. One object per process and thread.

    `timeout_seconds` is how long a call waits for another process. Raises LedgerError if the file is no ledger, has
    other caps, cannot be opened, or stays locked; then nothing was changed.
    """

    def __init__(self, path: str | Path, *, devices: int, budget: Budget, timeout_seconds: float = 60.0) -> None:
        super().__init__(devices=devices, budget=budget, width=WIDTH)
        self._path, self._process = Path(path), os.getpid()
        with self._explained("opened"):
            _create_private(self._path)
            self._db = sqlite3.connect(self._path, timeout=timeout_seconds, isolation_level=None)
        try:
            self._prepare(timeout_seconds)
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the file. Every call before was durable already."""
        self._db.close()

    def forget(self, before_day: int) -> None:
        """As Ledger.forget; what is dropped is overwritten in the file and its log, unless another process reads it."""
        super().forget(before_day)
        with self._explained("written"):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def forget_devices(self, devices: Devices) -> None:
        """As Ledger.forget_devices; what is dropped is overwritten in the file and its log, as by `forget`."""
        super().forget_devices(devices)
        with self._explained("written"):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _prepare(self, timeout_seconds: float) -> None:
        with self._explained("opened"):
            for pragma in _PRAGMAS:
                self._db.execute(f"PRAGMA {pragma}")
            self._write_ahead(timeout_seconds)
            with self._transaction(write=True):
                self._adopt()

    def _adopt(self) -> None:
        """Make the tables of a new file; check that an old one is a ledger with these caps."""
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        if application == 0 and self._db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
            for statement in _SCHEMA:
                self._db.execute(statement)
            caps = [("lifetime", self.budget.lifetime), ("daily", self.budget.daily), ("horizon", 0)]
            self._db.executemany("INSERT INTO meta VALUES (?, ?)", caps)
            self._db.execute(f"PRAGMA application_id = {_APPLICATION}")
        elif application != _APPLICATION:
            raise LedgerError(f"{self._path} is a database but no ledger; give another path")
        if "seal" not in {column for _, column, *_ in self._db.execute("PRAGMA table_info(polls)")}:
            self._db.execute("ALTER TABLE polls ADD COLUMN seal TEXT")  # a ledger of an earlier version
        stored = Budget(lifetime=self._meta("lifetime"), daily=self._meta("daily"))
        if stored != self.budget:
            raise LedgerError(
                f"{self._path} has the caps {stored.in_words}; got {self.budget.in_words}: caps are a promise to the "
                "devices and cannot change; set those of the file"
            )

    def _write_ahead(self, timeout_seconds: float) -> None:
        # Switching to the log needs the file alone, and SQLite does not wait for that by itself.
        deadline = time.monotonic() + timeout_seconds
        while True:
            try:
                (mode,) = self._db.execute("PRAGMA journal_mode = WAL").fetchone()
                break
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        if mode != "wal":
            raise LedgerError(f"{self._path} cannot have a write-ahead log (mode {mode!r}); give a local file system")

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise LedgerError(
                f"ledger {self._path} cannot be {what}: {error}; check the path, free space and other processes that "
                "hold it, then call again (a call that had been done is not done twice)"
            ) from error

    @contextmanager
    def _transaction(self, *, write: bool) -> Iterator[None]:
        if os.getpid() != self._process:
            raise LedgerError("the ledger was opened in another process; open it anew after a fork")
        with self._explained("written" if write else "read"):
            self._db.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            try:
                yield
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")

    def _read(self, kind: Kind, key: int, page: int) -> Page:
        query = "SELECT entries FROM pages WHERE kind = ? AND key = ? AND page = ?"
        row = self._db.execute(query, (int(kind), key, page)).fetchone()
        if row is None:
            return np.zeros(WIDTH, dtype=DTYPES[kind])
        entries = np.frombuffer(row[0], dtype=DTYPES[kind]).copy()
        if len(entries) != WIDTH:
            raise LedgerError(f"{self._path} is damaged: a row has {len(entries)} entries, expected {WIDTH}")
        return entries

    def _write(self, kind: Kind, key: int, page: int, entries: Page) -> None:
        self._db.execute(
            "INSERT INTO pages VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET entries = excluded.entries",
            (int(kind), key, page, entries.data),
        )

    def _stored(self, kind: Kind, key: int | None = None) -> list[tuple[int, int]]:
        query = "SELECT key, page FROM pages WHERE kind = ?1 AND (?2 IS NULL OR key = ?2)"
        return self._db.execute(query, (int(kind), key)).fetchall()

    def _find_poll(self, token: Token) -> Poll | None:
        query = "SELECT number, cost, day, cancelled, seal FROM polls WHERE use_case = ? AND round = ? AND day = ?"
        row = self._db.execute(query, (token.use_case, int(token.round), int(token.day))).fetchone()
        return _poll(row) if row else None

    def _find_day(self, use_case: str) -> int | None:
        query = "SELECT day FROM polls WHERE use_case = ? ORDER BY number LIMIT 1"
        row = self._db.execute(query, (use_case,)).fetchone()
        return int(row[0]) if row else None

    def _set_seal(self, number: int, seal: str) -> None:
        self._db.execute("UPDATE polls SET seal = ? WHERE number = ?", (seal, number))

    def _add_poll(self, token: Token, cost: int) -> Poll:
        row = (token.use_case, int(token.round), int(token.day), cost)
        cursor = self._db.execute(
            "INSERT INTO polls (use_case, round, day, cost, cancelled) VALUES (?, ?, ?, ?, 0)", row
        )
        return Poll(number=int(cursor.lastrowid or 0), cost=cost, day=int(token.day), cancelled=False)

    def _polls(self) -> list[Poll]:
        return [_poll(row) for row in self._db.execute("SELECT number, cost, day, cancelled, seal FROM polls")]

    def _set_cancelled(self, number: int) -> None:
        self._db.execute("UPDATE polls SET cancelled = 1 WHERE number = ?", (number,))

    def _horizon(self) -> int:
        return self._meta("horizon")

    def _drop_before(self, day: int) -> None:
        self._db.execute("DELETE FROM pages WHERE kind = ? AND key < ?", (int(Kind.DAILY), day))
        self._db.execute(
            "DELETE FROM pages WHERE kind = ? AND key IN (SELECT number FROM polls WHERE day < ?)",
            (int(Kind.DEBITS), day),
        )
        self._db.execute("DELETE FROM polls WHERE day < ?", (day,))
        self._db.execute("UPDATE meta SET value = ? WHERE name = 'horizon'", (day,))

    def _meta(self, name: str) -> int:
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return int(row[0])


def _poll(row: Any) -> Poll:
    number, cost, day, cancelled, seal = row
    return Poll(number=number, cost=cost, day=day, cancelled=bool(cancelled), seal=seal)


def _create_private(path: Path) -> None:
    """Make the file readable by its owner only. An existing one is not opened: closing it would drop SQLite's locks."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return
