"""Fleets of events with a budget: who may still send, what was debited, and what the device's own log says of it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import numpy as np
import pytest

from device_poll.accounts import Accounts
from device_poll.events.fleet import EventFleet
from device_poll.events.held import SentReport
from device_poll.population import PopulationError
from privacy.budget import Budget, LedgerError, Token, micro_epsilon
from privacy.ledger_stores import SimulatedLedger, SQLiteLedger
from tests.device_poll.event_fleets import (
    CMS,
    FITS,
    HCMS,
    OPEN,
    RR,
    WEIGHTS,
    accounts,
    enrolled,
    equal,
    fleet,
    held,
    ledger,
    senders,
    sent,
)


def test_no_device_ever_passes_its_budget() -> None:
    some, book = enrolled()
    free = dataclasses.replace(some, accounts=None)
    total = np.zeros(3000, dtype=np.int64)
    for day in range(4):
        by_device = np.bincount(senders(sent(some, day)), minlength=3000)
        assert by_device.max() <= 2
        total += by_device
        truth = some.truth(day)
        assert sum(of.reports for of in truth) == by_device.sum()
        without = free.truth(day)
        lost = sum(of.reports for of in without) - by_device.sum()
        assert sum(of.dropped["over_budget"] for of in truth) == lost
        for mine, other in zip(truth, without, strict=True):
            assert (mine.counts <= other.counts).all()
        spent = book.spent(np.arange(3000))
        assert (spent >= total * micro_epsilon(4.0)).all() and spent.max() <= 3 * micro_epsilon(4.0)
        # What a device pays does not tell what happened on it: a later poll would publish who has budget left.
        assert len(np.unique(spent[spent > 0])) == 1 and (spent > 0).sum() == some.opted_in
        book.verify()
    assert total.max() == 3 and (total == 3).mean() > 0.4
    assert total[:1000].sum() == 0
    # Negative control: without a ledger the same devices send more.
    assert sum(np.bincount(senders(sent(free, day)), minlength=3000) for day in range(4)).max() > 3


def test_a_device_with_part_of_a_budget_sends_a_random_part_of_its_picks() -> None:
    # On the second day one report is left: the first slot's, a random one of the day's records.
    some, _ = enrolled()
    sent(some, 0)
    second = some.truth(1)  # nothing of day 1 was sent yet
    assert all(of.reports == 0 for of in second)
    sent(some, 1)
    counts = sum(of.counts for of in some.truth(1))
    expected = counts.sum() * np.where(FITS, WEIGHTS, 0) / WEIGHTS[FITS].sum()
    assert (np.abs(counts - expected) <= 5 * np.sqrt(expected)).all()


def test_a_day_that_is_sent_again_is_the_same_and_costs_nothing() -> None:
    some, book = enrolled()
    half = some.send(0)
    next(half)
    half.close()  # as if killed
    first, before = sent(some), book.spent(np.arange(3000))
    assert equal(first, sent(some)) and np.array_equal(before, book.spent(np.arange(3000)))
    assert equal(first, sent(dataclasses.replace(some, accounts=None))), "all had budget"


def test_who_opts_out_later_stays_silent() -> None:
    some, book = enrolled()
    before = np.unique(senders(sent(some, 0)))
    book.opt_out(before[::2])
    assert not np.isin(before[::2], senders(sent(some, 1))).any()
    assert np.isin(before[1::2], senders(sent(some, 1))).any()


def test_a_ledger_in_a_file(tmp_path: Any) -> None:
    book = SQLiteLedger(tmp_path / "ledger.db", devices=2000, budget=Budget.of(lifetime=4.0, daily=4.0))
    some = fleet(accounts=accounts(book), devices=2000)
    some.enroll()
    assert np.bincount(senders(sent(some))).max() == 1
    assert len(sent(some, 1)) == 1 or senders(sent(some, 1)).size < 200, "almost all have spent everything"
    book.verify()
    book.close()


def token(some: EventFleet, slot: int, day: int) -> Token:
    """What the accounts call the reports of this place and day."""
    assert some.accounts is not None
    return some.accounts.token(some._asked, slot, day=day)


def test_a_token_names_run_place_and_day() -> None:
    some, book = enrolled(run="typing 1f3c", first_day=40)
    numbers = senders(sent(some, 7))
    named = token(some, 0, 7)
    assert named.use_case.startswith("typing 1f3c segment 0 ") and (named.round, named.day) == (0, 47)
    states = book.states(named, np.arange(3000))
    paid = set(np.flatnonzero(states == 2).tolist())
    assert set(numbers.tolist()) <= paid and len(paid) == some.opted_in
    twice = np.flatnonzero(np.bincount(numbers, minlength=3000) == 2)
    second = np.flatnonzero(book.states(token(some, 1, 7), np.arange(3000)) == 2)
    assert set(second.tolist()) >= set(twice.tolist()) != set()
    assert (book.spent_on(47, twice) == 2 * micro_epsilon(4.0)).all() and not book.spent_on(7, twice).any()


def test_what_a_report_depends_on_is_in_its_token() -> None:
    """Else a debit of one report would pay for another one."""
    some, book = enrolled()
    other_weights = dataclasses.replace(some.held[0], weights=WEIGHTS[::-1].copy())
    others = [
        dataclasses.replace(some, held=(other_weights, some.held[1])),
        dataclasses.replace(some, held=(held("a.en", RR, 0.5), held("b.en", RR, 0.5))),
        dataclasses.replace(some, held=(held("a.fr", RR, 0.4), held("b.en", RR, 0.6))),
        dataclasses.replace(
            some, held=(held("a.en", OPEN, 0.4), held("b.en", OPEN, 0.6)), accounts=free_of_charge(book)
        ),
        dataclasses.replace(some, held=(held("a.en", RR, 0.4, ~FITS), held("b.en", RR, 0.6))),
        dataclasses.replace(some, segment_number=1),
        enrolled(run="other")[0],
        enrolled(first_day=1)[0],
    ]
    tokens = {token(one, 0, 0) for one in (some, *others)}
    assert len(tokens) == 1 + len(others)
    assert token(some, 0, 0) == token(enrolled()[0], 0, 0) == token(enrolled(workers=2)[0], 0, 0)


def free_of_charge(book: SimulatedLedger) -> Accounts:
    return accounts(book, cost=lambda mechanism: 1.0)


def test_noise_that_does_not_repeat_is_not_sent_a_second_time() -> None:
    some, book = enrolled(repeatable=False)
    assert sent(some)
    before = book.spent(np.arange(3000))
    with pytest.raises(PopulationError, match="round 0 was polled before, its result was lost, and its noise does not"):
        sent(some)
    np.testing.assert_array_equal(book.spent(np.arange(3000)), before)


def test_a_cancelled_poll_sends_nothing() -> None:
    some, book = enrolled()
    sent(some, 0)
    book.cancel(token(some, 0, 0))
    assert np.bincount(senders(sent(some, 0))).max() == 1, "the second slot's reports only"
    book.forget(1)
    with pytest.raises(LedgerError, match="day is 0; expected 1 or later"):
        sent(some, 0)


def test_a_ledger_in_which_nobody_is_enrolled() -> None:
    some = fleet(accounts=accounts(ledger(2000, lifetime=4.0)))
    for act in (lambda: sent(some), lambda: some.truth(0), lambda: some.report_log(0, 0)):
        with pytest.raises(PopulationError, match=r"no device is opted in in the ledger; call enroll\(\) once"):
            act()
    with pytest.raises(PopulationError, match="accounts is null; give the fleet accounts to enroll in"):
        fleet().enroll()


# The device's own log


def as_bytes(log: list[SentReport]) -> list[tuple[int, str, bytes]]:
    return [(entry.day, entry.key, entry.report.tobytes()) for entry in log]


def sent_by(device: int, day: int, batches: list[Any]) -> list[tuple[int, str, bytes]]:
    return [
        (day, batch.use_case, batch.reports[at].tobytes())
        for batch in batches
        for at in np.flatnonzero(batch.senders == device)
    ]


@pytest.mark.parametrize("mechanisms", [(RR, RR), (CMS, HCMS)], ids=["RR", "sketches"])
def test_the_log_is_what_left_the_device(mechanisms: tuple[Any, Any]) -> None:
    use_cases = (held("a.en", mechanisms[0], 0.5), held("b.en", mechanisms[1], 0.5))
    free = fleet(*use_cases, first_device=500)
    device = Counter(senders(sent(free)).tolist()).most_common(700)[-1][0]
    left = [entry for day in range(3) for entry in sent_by(device, day, sent(free, day))]
    assert left and as_bytes([entry for day in range(3) for entry in free.report_log(day, device)]) == left


def test_the_log_knows_the_budget() -> None:
    some, _ = enrolled()
    device = int(senders(sent(some))[0])
    some, _ = enrolled()
    left = [entry for day in range(3) for entry in sent_by(device, day, sent(some, day))]
    assert 0 < len(left) <= 3
    assert as_bytes([entry for day in range(3) for entry in some.report_log(day, device)]) == left
