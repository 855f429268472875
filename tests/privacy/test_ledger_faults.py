"""The ledger under kill -9 and with two writers at once: it never loses a debit and never passes a cap."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privacy import ledger_stores
from privacy.budget import Budget, LedgerError, Token
from privacy.ledger_stores import SimulatedLedger, SQLiteLedger
from tests.privacy.test_ledger import BUDGET, DEVICES, SOME, Operation, apply, picture, token


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """Speed only: what a process wrote outlives its SIGKILL in the system's cache."""
    monkeypatch.setattr(ledger_stores, "_PRAGMAS", (*ledger_stores._PRAGMAS, "synchronous = OFF"))


def in_child(work: Callable[[int], None]) -> tuple[int, int]:
    """Fork a child that runs work(pipe); its process id and the pipe's reading end."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            work(writing)
        finally:
            os._exit(0)
    os.close(writing)
    return child, reading


def wait_for(child: int, reading: int) -> tuple[int, bool]:
    """(operations acknowledged, was the child killed)."""
    acknowledged = 0
    while got := os.read(reading, 4096):
        acknowledged += len(got)
    os.close(reading)
    return acknowledged, os.WIFSIGNALED(os.waitpid(child, 0)[1])


SCRIPT: list[Operation] = [
    ("debit", (token(0), SOME[:6], 3)),
    ("send", (token(0), SOME[:4], False)),
    ("debit", (token(1), SOME[2:6], 3)),
    ("refund", (token(0), SOME[3:6])),
    ("debit", (token(2), SOME[3:], 2)),
    ("cancel", (token(1),)),
    ("debit", (token(0, day=2), SOME[:6], 6)),
    ("forget", (2,)),
    ("debit", (token(1, day=2), SOME[:6], 1)),
]
ASKED = [token(r, day) for day in (1, 2) for r in (0, 1, 2)]


def after(operations: list[Operation]) -> list[Any]:
    """The picture of a ledger that did exactly these operations."""
    ledger = SimulatedLedger(devices=DEVICES, budget=BUDGET)
    ledger.opt_in(SOME)
    for operation in operations:
        apply(ledger, operation)
    return picture(ledger, ASKED)


def killed_at_statement(path: Path, k: int, kind: type[SQLiteLedger]) -> tuple[int, bool]:
    """Run SCRIPT in a child that kills itself just before its k-th SQL statement; a byte acknowledges an operation."""

    def work(pipe: int) -> None:
        ledger = kind(path, devices=DEVICES, budget=BUDGET)
        count = iter(range(1, 1 << 20))
        ledger._db.set_trace_callback(lambda _: os.kill(os.getpid(), signal.SIGKILL) if next(count) == k else None)
        for operation in SCRIPT:
            apply(ledger, operation)
            os.write(pipe, b"!")

    return wait_for(*in_child(work))


def verdicts(folder: Path, kind: type[SQLiteLedger], stride: int = 1) -> Iterator[str]:
    """Kill before each statement in turn, look at what is left, then resume: one verdict a kill."""
    template = folder / "template.db"
    with contextlib.closing(SQLiteLedger(template, devices=DEVICES, budget=BUDGET)) as ledger:
        ledger.opt_in(SOME)
    expected = [after(SCRIPT[:i]) for i in range(len(SCRIPT) + 1)]
    for k in range(1, 1000, stride):
        path = Path(shutil.copy(template, folder / f"{k}.db"))
        done, killed = killed_at_statement(path, k, kind)
        if not killed:
            assert done == len(SCRIPT)
            return
        with contextlib.closing(SQLiteLedger(path, devices=DEVICES, budget=BUDGET)) as ledger:
            found = picture(ledger, ASKED)
            # Every acknowledged operation must be there, and the one in flight as a whole or not at all.
            if found in expected[done : done + 2]:
                ledger.verify()
                for operation in SCRIPT[done:]:
                    apply(ledger, operation)
                yield "sound" if picture(ledger, ASKED) == expected[-1] else "resumed wrongly"
            elif found in expected[:done]:
                yield "lost"
            else:
                yield "half done"


@pytest.mark.parametrize("stride", [6, pytest.param(1, marks=pytest.mark.soak)])
def test_killed_before_every_single_statement(tmp_path, stride):
    found = list(verdicts(tmp_path, SQLiteLedger, stride))
    assert len(found) > 60 // stride
    assert set(found) == {"sound"}


class AcknowledgesFirst(SQLiteLedger):
    """Negative control: returns before the commit, which comes with the third call."""

    calls = 0

    @contextlib.contextmanager
    def _transaction(self, *, write: bool) -> Iterator[None]:
        if not self._db.in_transaction:
            self._db.execute("BEGIN IMMEDIATE")
        yield
        self.calls += 1
        if self.calls % 3 == 0:
            self._db.execute("COMMIT")


class CommitsInPieces(SQLiteLedger):
    """Negative control: every statement is a transaction of its own."""

    @contextlib.contextmanager
    def _transaction(self, *, write: bool) -> Iterator[None]:
        yield


@pytest.mark.parametrize(("broken", "verdict"), [(AcknowledgesFirst, "lost"), (CommitsInPieces, "half done")])
def test_negative_control_the_kill_test_catches_a_broken_ledger(tmp_path, broken, verdict):
    assert verdict in list(verdicts(tmp_path, broken, stride=5))


def random_operations(n: int) -> list[Operation]:
    rng = np.random.default_rng(5)
    operations: list[Operation] = []
    for i in range(n):
        t, part = token(i, day=i // 8), np.sort(rng.choice(SOME, rng.integers(1, 9), replace=False))
        operations.append(("debit", (t, part, int(rng.integers(1, 4)))))
        if i % 3:
            operations.append(("send", (t, part, False)))
        elif i % 2:
            operations.append(("cancel", (t,)))
    return operations


def test_killed_at_random_times(tmp_path):
    """One file, 40 lives: after each kill all that was acknowledged is there, nothing else but the call in flight."""
    budget = Budget(lifetime=600, daily=9)
    operations, path, rng = random_operations(3000), tmp_path / "ledger.db", np.random.default_rng(1)
    expected = SimulatedLedger(devices=DEVICES, budget=budget)
    with contextlib.closing(SQLiteLedger(path, devices=DEVICES, budget=budget)) as ledger:
        for each in (ledger, expected):
            each.opt_in(SOME)
    start = kills = 0
    for _ in range(40):

        def work(pipe: int, start: int = start) -> None:
            ledger = SQLiteLedger(path, devices=DEVICES, budget=budget)
            for operation in operations[start:]:
                apply(ledger, operation)
                os.write(pipe, b"!")

        child, reading = in_child(work)
        seen = 0
        for _ in range(rng.integers(1, 8)):  # some progress however slow the machine, then any moment
            seen += len(os.read(reading, 1))
        time.sleep(rng.exponential(0.001))
        os.kill(child, signal.SIGKILL)
        done, killed = wait_for(child, reading)
        done, kills = done + seen, kills + killed
        for operation in operations[start : start + done]:
            apply(expected, operation)
        start += done
        with contextlib.closing(SQLiteLedger(path, devices=DEVICES, budget=budget)) as ledger:
            ledger.verify()
            day, recent = start // 8, [operation[1][0] for operation in operations[max(0, start - 20) : start]]
            if ledger.spent(SOME).tolist() != expected.spent(SOME).tolist() or (
                ledger.states(operations[start][1][0], SOME).tolist()
                != expected.states(operations[start][1][0], SOME).tolist()
            ):
                apply(expected, operations[start])  # the call in flight had been committed
                start += 1
            assert ledger.spent(SOME).tolist() == expected.spent(SOME).tolist()
            assert ledger.spent_on(day, SOME).tolist() == expected.spent_on(day, SOME).tolist()
            for t in recent:
                assert ledger.states(t, SOME).tolist() == expected.states(t, SOME).tolist()
            assert ledger.summary().largest_lifetime <= budget.lifetime
            assert ledger.summary().largest_day <= budget.daily
    assert kills == 40
    assert (expected.spent(SOME) > 0).all()


# --- two processes


def two_writers(path: Path, kind: type[SQLiteLedger], polls: int) -> list[int]:
    """Two processes debit the same devices for different use cases at once; how many debits each was granted."""
    barrier = multiprocessing.get_context("fork").Barrier(2)

    def writer(use_case: str) -> Callable[[int], None]:
        def work(pipe: int) -> None:
            ledger = kind(path, devices=DEVICES, budget=Budget(lifetime=100, daily=100))
            ledger.barrier = barrier  # type: ignore[attr-defined]
            barrier.wait(20)
            for i in range(polls):
                granted = ledger.debit(token(i, use_case=use_case), SOME, 3)
                os.write(pipe, b"!" * int(granted.sum()))

        return work

    children = [in_child(writer(use_case)) for use_case in ("email", "emoji")]
    return [wait_for(*child)[0] for child in children]


def test_two_writers_never_pass_a_cap_or_lose_a_debit(tmp_path):
    path = tmp_path / "ledger.db"
    with contextlib.closing(SQLiteLedger(path, devices=DEVICES, budget=Budget(lifetime=100, daily=100))) as ledger:
        ledger.opt_in(SOME)
        granted = two_writers(path, SQLiteLedger, polls=30)
        assert ledger.spent(SOME).tolist() == [99] * len(SOME)  # 33 of the 60 debits asked for
        assert sum(granted) == 33 * len(SOME)
        assert min(granted) > 0
        ledger.verify()


class ReadsBeforeTheLock(SQLiteLedger):
    """Negative control: looks at the account without a lock; both processes look before either writes."""

    @contextlib.contextmanager
    def _transaction(self, *, write: bool) -> Iterator[None]:
        yield

    def _add_poll(self, token: Token, cost: int) -> Any:
        poll = super()._add_poll(token, cost)
        if token.round == 0 and token.use_case != "init":
            self.waiting = True
        return poll

    def _write(self, kind: Any, key: int, page: int, entries: Any) -> None:
        if getattr(self, "waiting", False):
            self.waiting = False
            self.barrier.wait(20)  # type: ignore[attr-defined]
        super()._write(kind, key, page, entries)


def test_negative_control_reading_before_the_lock_loses_a_debit(tmp_path):
    path = tmp_path / "ledger.db"
    with contextlib.closing(SQLiteLedger(path, devices=DEVICES, budget=Budget(lifetime=100, daily=100))) as ledger:
        ledger.opt_in(SOME)
        granted = two_writers(path, ReadsBeforeTheLock, polls=1)
        assert sum(granted) * 3 > ledger.spent(SOME).sum()
        with pytest.raises(LedgerError, match="do not agree with their debits"):
            ledger.verify()


def test_durable_by_default(tmp_path, monkeypatch):
    monkeypatch.undo()
    with contextlib.closing(SQLiteLedger(tmp_path / "ledger.db", devices=DEVICES, budget=BUDGET)) as ledger:
        assert ledger._db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL: every commit reaches the disk
        assert ledger._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_many_processes_open_a_new_file_at_once(tmp_path):
    def work(pipe: int) -> None:
        ledger = SQLiteLedger(tmp_path / "ledger.db", devices=DEVICES, budget=BUDGET)
        ledger.opt_in(SOME)
        os.write(pipe, b"!")

    children = [in_child(work) for _ in range(6)]
    assert [wait_for(*child)[0] for child in children] == [1] * 6


def test_a_fork_must_open_its_own(tmp_path):
    with contextlib.closing(SQLiteLedger(tmp_path / "ledger.db", devices=DEVICES, budget=BUDGET)) as ledger:

        def work(pipe: int) -> None:
            try:
                ledger.opt_in(SOME)
            except LedgerError as error:
                os.write(pipe, str(error).encode())

        child, reading = in_child(work)
        assert b"opened in another process" in os.read(reading, 1000)
        wait_for(child, reading)
