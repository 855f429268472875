"""Debits a second of the budget ledger beside plain inserts into the same SQLite, in one run.

    python -m benchmarks.ledger [devices]

The plain inserts are what a ledger with a row a debit would have to do at least: executemany of (device, poll, cost)
into a clustered table, in one transaction, with the same settings and no check of any cap.
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from privacy.budget import Budget, Token, micro_epsilon
from privacy.ledger import Ledger
from privacy.ledger_stores import _PRAGMAS, SimulatedLedger, SQLiteLedger

PLAIN = 1_000_000
SINGLE = 300

Row = tuple[str, int, float, float]
"""What, debits, seconds, ratio."""


def seconds(work: Callable[..., object], *args: object) -> float:
    """How long work(*args) took."""
    start = time.perf_counter()
    work(*args)
    return time.perf_counter() - start


def plain(path: Path) -> sqlite3.Connection:
    """A database with the ledger's settings and one clustered table."""
    db = sqlite3.connect(path, isolation_level=None)
    for pragma in (*_PRAGMAS, "journal_mode = WAL"):
        db.execute(f"PRAGMA {pragma}")
    db.execute(
        "CREATE TABLE debits (device INTEGER, poll INTEGER, cost INTEGER, PRIMARY KEY (device, poll)) WITHOUT ROWID"
    )
    return db


def insert(db: sqlite3.Connection, poll: int, devices: list[int]) -> None:
    """One transaction."""
    db.execute("BEGIN IMMEDIATE")
    db.executemany("INSERT INTO debits VALUES (?, ?, ?)", ((device, poll, 4_000_000) for device in devices))
    db.execute("COMMIT")


def one_by_one(work: Callable[[int], object]) -> None:
    """SINGLE calls."""
    for i in range(SINGLE):
        work(i)


def measured(ledger: Ledger, bulk: float, single: float) -> Iterator[Row]:
    """Debits and sends of cohorts of several sizes; ratios to `bulk` and `single` plain inserts a second."""
    rng, everyone, cost = np.random.default_rng(0), np.arange(ledger.devices), micro_epsilon(4.0)
    name = type(ledger).__name__
    ledger.opt_in(everyone)
    for who, share in (("everyone", 1), ("a random tenth", 10), ("a random 1 in 1000", 1000)):
        asked = np.sort(rng.choice(everyone, len(everyone) // share, replace=False)) if share > 1 else everyone
        n, token = len(asked), Token(use_case="email", round=share, day=1)
        for call, args in (("debit", (cost,)), ("debit again", (cost,)), ("send", ())):
            took = seconds(getattr(ledger, call.split()[0]), token, asked, *args)
            yield f"{name}.{call}, {who}", n, took, n / took / bulk
    other = Token(use_case="emoji", round=0, day=2)
    took = seconds(one_by_one, lambda i: ledger.debit(other, everyone[i : i + 1], cost))
    yield f"{name}.debit, one device a call", SINGLE, took, SINGLE / took / single


def main() -> None:
    """Print one table."""
    devices = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    budget = Budget.of(lifetime=400.0, daily=400.0)
    with tempfile.TemporaryDirectory() as folder:
        db = plain(Path(folder) / "plain.db")
        bulk = seconds(insert, db, 0, list(range(PLAIN)))
        single = seconds(one_by_one, lambda i: insert(db, 1, [i]))
        rows: list[Row] = [
            ("plain inserts, one transaction", PLAIN, bulk, 1.0),
            ("plain inserts, one transaction each", SINGLE, single, 1.0),
        ]
        file = SQLiteLedger(Path(folder) / "ledger.db", devices=devices, budget=budget)
        for ledger in (file, SimulatedLedger(devices=devices, budget=budget)):
            rows += measured(ledger, PLAIN / bulk, SINGLE / single)

    table = Table(title=f"{devices:,} devices; ratio to plain inserts of the same kind")
    for column in ("what", "debits", "seconds", "debits/s", "ratio"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for what, n, took, ratio in rows:
        table.add_row(what, f"{n:,}", f"{took:.3f}", f"{n / took:,.0f}", f"{ratio:.2f}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
