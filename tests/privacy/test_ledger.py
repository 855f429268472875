"""The ledger against a model in plain dictionaries; its units and errors. Faults: test_ledger_faults.py."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy import ledger_stores
from privacy.budget import MICRO, Budget, DebitState, LedgerError, Token, micro_budget, micro_epsilon
from privacy.ledger import Ledger
from privacy.ledger_stores import WIDTH, SimulatedLedger, SQLiteLedger

DEVICES = 3 * WIDTH
SOME = np.array([0, 1, 2, WIDTH - 1, WIDTH, WIDTH + 1, 2 * WIDTH + 5, DEVICES - 1])  # three pages and their edges
BUDGET = Budget(lifetime=10, daily=6)
NONE, RESERVED, SENT, REFUNDED = (int(s) for s in DebitState)
Operation = tuple[str, tuple[Any, ...]]


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """Speed only: what a process wrote outlives its SIGKILL in the system's cache."""
    monkeypatch.setattr(ledger_stores, "_PRAGMAS", (*ledger_stores._PRAGMAS, "synchronous = OFF"))


def token(round: int, day: int = 1, use_case: str = "email") -> Token:
    return Token(use_case=use_case, round=round, day=day)


@pytest.fixture(params=["memory", "file"])
def ledger(request, tmp_path) -> Iterator[Ledger]:
    if request.param == "memory":
        yield SimulatedLedger(devices=DEVICES, budget=BUDGET)
    else:
        ledger = SQLiteLedger(tmp_path / "ledger.db", devices=DEVICES, budget=BUDGET)
        yield ledger
        ledger.close()


class Model:
    """The rules once more, one device at a time, in dictionaries: nothing is shared with the code under test."""

    def __init__(self) -> None:
        self.opted: set[int] = set()
        self.costs: dict[Token, int] = {}
        self.cancelled: set[Token] = set()
        self.debits: dict[tuple[Token, int], int] = {}
        self.forgotten: dict[int, int] = {}
        self.horizon = 0

    def charged(self, device: int, day: int | None = None) -> int:
        listed = sum(
            self.costs[t]
            for (t, d), state in self.debits.items()
            if d == device and state in (RESERVED, SENT) and day in (None, t.day)
        )
        return listed + (self.forgotten.get(device, 0) if day is None else 0)

    def known(self, t: Token) -> None:
        if t.day < self.horizon or t not in self.costs:
            raise LedgerError("unknown")

    def opt_in(self, devices) -> None:
        self.opted |= set(devices.tolist())

    def opt_out(self, devices) -> None:
        self.opted -= set(devices.tolist())

    def debit(self, t: Token, devices, cost: int) -> list[bool]:
        if t.day < self.horizon or self.costs.get(t, cost) != cost:
            raise LedgerError("forgotten or another cost")
        self.costs[t] = cost
        allowed = []
        for device in devices.tolist():
            state = self.debits.get((t, device), NONE)
            room = self.charged(device) + cost <= BUDGET.lifetime and self.charged(device, t.day) + cost <= BUDGET.daily
            may = device in self.opted and t not in self.cancelled
            if may and state == NONE and room:
                self.debits[t, device] = state = RESERVED
            allowed.append(may and state in (RESERVED, SENT))
        return allowed

    def send(self, t: Token, devices, identical: bool) -> list[bool]:
        self.known(t)
        ready = []
        for device in devices.tolist():
            state = self.debits.get((t, device), NONE)
            may = device in self.opted and t not in self.cancelled
            ready.append(may and state in ((RESERVED, SENT) if identical else (RESERVED,)))
            if may and state == RESERVED:
                self.debits[t, device] = SENT
        return ready

    def refund(self, t: Token, devices) -> list[bool]:
        self.known(t)
        for device in devices.tolist():
            if self.debits.get((t, device), NONE) == RESERVED:
                self.debits[t, device] = REFUNDED
        return [self.debits.get((t, device), NONE) == REFUNDED for device in devices.tolist()]

    def cancel(self, t: Token) -> int:
        self.known(t)
        self.cancelled.add(t)
        back = [at for at, state in self.debits.items() if at[0] == t and state == RESERVED]
        self.debits.update(dict.fromkeys(back, REFUNDED))
        return len(back)

    def forget(self, before_day: int) -> None:
        if before_day > self.horizon:
            for device in {d for _, d in self.debits}:
                kept = sum(self.charged(device, day) for day in {t.day for t in self.costs if t.day >= before_day})
                self.forgotten[device] = self.charged(device) - kept
            self.debits = {at: state for at, state in self.debits.items() if at[0].day >= before_day}
            self.costs = {t: cost for t, cost in self.costs.items() if t.day >= before_day}
            self.horizon = before_day


def apply(ledger: Any, operation: Operation) -> Any:
    """What the call returned, or that it raised LedgerError."""
    name, args = operation
    try:
        if name == "send":
            *positional, identical = args
            got = ledger.send(*positional, identical=identical) if isinstance(ledger, Ledger) else ledger.send(*args)
        else:
            got = getattr(ledger, name)(*args)
    except LedgerError:
        return "LedgerError"
    return got.tolist() if isinstance(got, np.ndarray) else got


def picture(ledger: Ledger, tokens: list[Token]) -> list[Any]:
    """Everything a ledger says about SOME devices."""
    days = sorted({t.day for t in tokens})
    return [
        ledger.spent(SOME).tolist(),
        *(apply(ledger, ("spent_on", (day, SOME))) for day in days),
        *(apply(ledger, ("states", (t, SOME))) for t in tokens),
    ]


tokens_ = st.builds(token, round=st.integers(0, 1), day=st.integers(1, 3), use_case=st.sampled_from(["email", "emoji"]))
devices_ = st.lists(st.sampled_from(SOME.tolist()), unique=True).map(lambda d: np.array(d, dtype=np.int64))
operations_ = st.one_of(
    st.tuples(st.just("opt_in"), st.tuples(devices_)),
    st.tuples(st.just("opt_out"), st.tuples(devices_)),
    st.tuples(st.just("debit"), st.tuples(tokens_, devices_, st.sampled_from([2, 3, 3, 7]))),
    st.tuples(st.just("debit"), st.tuples(tokens_, st.just(SOME), st.just(3))),
    st.tuples(st.just("send"), st.tuples(tokens_, devices_, st.booleans())),
    st.tuples(st.just("refund"), st.tuples(tokens_, devices_)),
    st.tuples(st.just("cancel"), st.tuples(tokens_)),
    st.tuples(st.just("forget"), st.tuples(st.integers(0, 3))),
)


@settings(max_examples=150, deadline=None)
@given(operations=st.lists(operations_, max_size=25))
def test_memory_file_and_model_agree_on_every_sequence(operations, tmp_path_factory):
    path = tmp_path_factory.mktemp("ledger") / "ledger.db"
    model, memory = Model(), SimulatedLedger(devices=DEVICES, budget=BUDGET)
    file = SQLiteLedger(path, devices=DEVICES, budget=BUDGET)
    every = [token(r, day, u) for r in (0, 1) for day in (1, 2, 3) for u in ("email", "emoji")]
    with contextlib.closing(file):
        for operation in [("opt_in", (SOME[:-1],)), *operations]:
            results = [apply(ledger, operation) for ledger in (model, memory, file)]
            assert results[0] == results[1] == results[2]
        assert memory.spent(SOME).tolist() == [model.charged(d) for d in SOME.tolist()]
        for day in range(model.horizon, 4):
            assert memory.spent_on(day, SOME).tolist() == [model.charged(d, day) for d in SOME.tolist()]
        assert picture(memory, every) == picture(file, every)
        assert memory.summary() == file.summary()
        assert memory.summary().opted_in == len(model.opted)
        memory.verify()
        file.verify()


def test_life_of_a_debit(ledger):
    one, two, three = SOME[:1], SOME[:2], SOME[:3]
    assert not ledger.debit(token(0), three, 4).any()  # nobody opted in: everybody silent
    ledger.opt_in(two)
    assert ledger.debit(token(0), three, 4).tolist() == [True, True, False]
    assert ledger.debit(token(0), three, 4).tolist() == [True, True, False]  # idempotent
    assert ledger.spent(three).tolist() == [4, 4, 0]
    assert not ledger.debit(token(1), two, 4).any()  # 8 > 6 in a day
    assert ledger.debit(token(0, day=2), two, 4).all()
    assert not ledger.debit(token(0, day=3), two, 4).any()  # 12 > 10 in a life
    assert ledger.debit(token(1, day=3), two, 2).all()  # 10 fits exactly

    assert ledger.send(token(0), one).all()
    assert not ledger.send(token(0), one).any()  # a report leaves once ...
    assert ledger.send(token(0), one, identical=True).all()  # ... or again as the very same bits
    assert ledger.refund(token(0), three).tolist() == [False, True, False]  # what was sent stays spent
    assert ledger.refund(token(0), three).tolist() == [False, True, False]
    assert ledger.spent(three).tolist() == [10, 6, 0]
    assert ledger.spent_on(1, three).tolist() == [4, 0, 0]
    assert ledger.states(token(0), three).tolist() == [SENT, REFUNDED, NONE]
    assert ledger.debit(token(0), two, 4).tolist() == [True, False]  # a refund is final

    ledger.opt_out(one)
    assert not ledger.send(token(0, day=2), one).any()  # reserved, but the owner said no since
    assert ledger.cancel(token(0, day=2)) == 2
    assert ledger.cancel(token(0, day=2)) == 0
    ledger.opt_in(one)
    assert not ledger.debit(token(0, day=2), three, 4).any()
    assert not ledger.send(token(0, day=2), three).any()
    assert ledger.spent(three).tolist() == [6, 2, 0]
    ledger.verify()

    ledger.forget(before_day=3)
    assert ledger.spent(three).tolist() == [6, 2, 0]  # what it cost is never forgotten
    for call in (
        lambda: ledger.debit(token(0), two, 4),
        lambda: ledger.send(token(0), two),
        lambda: ledger.cancel(token(0)),
        lambda: ledger.spent_on(2, two),
        lambda: ledger.states(token(0), two),
    ):
        with pytest.raises(LedgerError, match=r"day is \d; expected 3 or later"):
            call()
    ledger.verify()
    assert ledger.summary().charged == 2
    assert ledger.summary().largest_lifetime == 6
    assert ledger.summary().largest_day == 2


def test_masks_follow_the_order_of_the_devices(ledger):
    order = np.random.default_rng(0).permutation(SOME)
    ledger.opt_in(order[:5])
    assert ledger.debit(token(0), order, 1).tolist() == [True] * 5 + [False] * 3
    assert ledger.spent(order).tolist() == [1] * 5 + [0] * 3
    assert ledger.debit(token(0), np.zeros(0, dtype=np.int64), 1).shape == (0,)


def test_verify_catches_an_account_below_its_debits(tmp_path):
    """Negative control of `verify`, which the kill tests rest on."""
    ledger = SQLiteLedger(tmp_path / "ledger.db", devices=DEVICES, budget=BUDGET)
    ledger.opt_in(SOME)
    ledger.debit(token(0), SOME, 4)
    ledger.verify()
    page = ledger._read(1, 0, 1)  # type: ignore[arg-type]
    page[1] -= 1
    ledger._write(1, 0, 1, page)  # type: ignore[arg-type]
    with pytest.raises(LedgerError, match="1 accounts in page 1"):
        ledger.verify()
    ledger.close()


def test_errors_of_the_file(tmp_path):
    path = tmp_path / "ledger.db"
    ledger = SQLiteLedger(path, devices=DEVICES, budget=BUDGET)
    assert (path.stat().st_mode & 0o777) == 0o600
    with pytest.raises(LedgerError, match=r"caps.lifetime=1e-05 caps.daily=6e-06; got caps.lifetime=1.1e-05"):
        SQLiteLedger(path, devices=DEVICES, budget=Budget(lifetime=11, daily=6))
    with pytest.raises(LedgerError, match="No such file"):
        SQLiteLedger(tmp_path / "nowhere" / "ledger.db", devices=DEVICES, budget=BUDGET)
    (tmp_path / "text").write_text("not a database, and long enough to be looked at as one" * 40)
    with pytest.raises(LedgerError, match="not a database"):
        SQLiteLedger(tmp_path / "text", devices=DEVICES, budget=BUDGET)
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE t (x)")
    other.close()
    with pytest.raises(LedgerError, match="no ledger"):
        SQLiteLedger(tmp_path / "other.db", devices=DEVICES, budget=BUDGET)

    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    ledger._db.execute("PRAGMA busy_timeout = 10")
    with pytest.raises(LedgerError, match="locked"):
        ledger.opt_in(SOME)
    holder.execute("ROLLBACK")
    holder.close()
    ledger.opt_in(SOME)
    ledger.close()


def test_errors_of_arguments(ledger):
    ledger.opt_in(SOME)
    ledger.debit(token(0), SOME[:1], 2)
    with pytest.raises(LedgerError, match=r"cost is 3 .*was debited at 2"):
        ledger.debit(token(0), SOME[1:], 3)
    assert ledger.spent(SOME).sum() == 2
    with pytest.raises(LedgerError, match=r"nothing was ever debited.*round=9"):
        ledger.send(token(9), SOME)
    for devices, error, match in [
        ([-1, 3], ValueError, f"reach from -1 to 3; expected 0 .. {DEVICES - 1}"),
        ([DEVICES], ValueError, f"reach from {DEVICES}"),
        ([[1]], ValueError, "2 axes"),
        ([0.5], TypeError, "float64"),
        ([4, 2, 4], ValueError, "repeat"),
    ]:
        with pytest.raises(error, match=match):
            ledger.debit(token(1), np.array(devices), 1)
    for cost in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match=r"cost is .*expected a whole number"):
            ledger.debit(token(1), SOME, cost)
    for bad in ({"round": -1}, {"day": 1.5}, {"use_case": ""}):
        with pytest.raises(ValueError, match=f"{next(iter(bad))} is"):
            Token(**{"use_case": "email", "round": 0, "day": 0, **bad})
    with pytest.raises(ValueError, match="devices is 0"):
        SimulatedLedger(devices=0, budget=BUDGET)


# --- units


@given(st.floats(1e-6, 1e6, allow_nan=False) | st.integers(1, 10**6))
def test_costs_round_up_and_caps_down(epsilon):
    written = Fraction(repr(epsilon)) * MICRO
    assert micro_budget(epsilon) <= written <= micro_epsilon(epsilon)
    assert micro_epsilon(epsilon) - micro_budget(epsilon) == (written.denominator != 1)


def test_units_by_hand():
    assert (micro_epsilon(0.1), micro_budget(0.3)) == (100_000, 300_000)  # three polls of 0.1 fit in 0.3
    assert (micro_epsilon(0.1000001), micro_budget(0.1000009)) == (100_001, 100_000)
    assert micro_epsilon(np.float64(4.0)) == micro_epsilon(4) == 4 * MICRO
    for epsilon in (0, -1.0, float("nan"), float("inf"), True, "4"):
        with pytest.raises(ValueError, match="epsilon is"):
            micro_epsilon(epsilon)
    with pytest.raises(ValueError, match="daily is 7; expected at most the lifetime cap, 6"):
        Budget(lifetime=6, daily=7)


def test_a_plan_above_a_cap_is_refused_before_any_work():
    budget = Budget.of(lifetime=16.0, daily=8.0)
    budget.check_plan(micro_epsilon(4.0), reports_per_day=2, reports=4)
    with pytest.raises(ValueError, match=r"3 x 4000000 = 12000000 .*daily cap is 8000000"):
        budget.check_plan(micro_epsilon(4.0), reports_per_day=3, reports=4)
    with pytest.raises(ValueError, match=r"5 x 4000000.*lifetime cap is 16000000"):
        budget.check_plan(micro_epsilon(4.0), reports_per_day=2, reports=5)
