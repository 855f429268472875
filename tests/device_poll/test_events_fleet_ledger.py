"""Fleets of events with a budget: who may still send, what was debited, and what the device's own log says of it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import numpy as np
import pytest

from device_poll.events.held import SentReport
from device_poll.population import PopulationError
from privacy.budget import Budget, LedgerError, Token, micro_epsilon
from privacy.ledger_stores import SQLiteLedger
from tests.device_poll.event_fleets import (
    CMS,
    FITS,
    HCMS,
    RR,
    WEIGHTS,
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
    free = dataclasses.replace(some, ledger=None)
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
        np.testing.assert_array_equal(spent, total * micro_epsilon(4.0))
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
    assert equal(first, sent(dataclasses.replace(some, ledger=None)))


def test_who_opts_out_later_stays_silent() -> None:
    some, book = enrolled()
    before = np.unique(senders(sent(some, 0)))
    book.opt_out(before[::2])
    assert not np.isin(before[::2], senders(sent(some, 1))).any()
    assert np.isin(before[1::2], senders(sent(some, 1))).any()


def test_a_ledger_in_a_file(tmp_path: Any) -> None:
    book = SQLiteLedger(tmp_path / "ledger.db", devices=2000, budget=Budget.of(lifetime=4.0, daily=4.0))
    some = fleet(ledger=book, devices=2000)
    some.enroll()
    assert np.bincount(senders(sent(some))).max() == 1
    assert len(sent(some, 1)) == 1 or senders(sent(some, 1)).size < 200, "almost all have spent everything"
    book.verify()
    book.close()


def test_a_token_names_budget_place_and_day() -> None:
    some, book = enrolled(budget="typing")
    numbers = senders(sent(some, 7))
    states = book.states(Token(use_case="typing", round=0, day=7), np.arange(3000))
    assert set(np.flatnonzero(states == 2).tolist()) == set(numbers.tolist())


def test_a_cancelled_poll_sends_nothing() -> None:
    some, book = enrolled()
    sent(some, 0)
    book.cancel(Token(use_case="events", round=0, day=0))
    assert np.bincount(senders(sent(some, 0))).max() == 1, "the second slot's reports only"
    book.forget(1)
    with pytest.raises(LedgerError, match="day is 0; expected 1 or later"):
        sent(some, 0)


def test_a_ledger_in_which_nobody_is_enrolled() -> None:
    some = fleet(ledger=ledger(2000, lifetime=4.0))
    for act in (lambda: sent(some), lambda: some.truth(0), lambda: some.report_log(0, 0)):
        with pytest.raises(PopulationError, match=r"no device is opted in in the ledger; call enroll\(\) once"):
            act()
    with pytest.raises(PopulationError, match="ledger is null; give the fleet a ledger"):
        fleet().enroll()


# The device's own log


def as_bytes(log: list[SentReport]) -> list[tuple[int, str, bytes]]:
    return [(entry.day, entry.key, entry.report.tobytes()) for entry in log]


@pytest.mark.parametrize("mechanisms", [(RR, RR), (CMS, HCMS)], ids=["RR", "sketches"])
def test_the_log_is_what_left_the_device(mechanisms: tuple[Any, Any]) -> None:
    use_cases = (held("a.en", mechanisms[0], 0.5), held("b.en", mechanisms[1], 0.5))
    free = fleet(*use_cases, first_device=500)
    device = Counter(senders(sent(free)).tolist()).most_common(700)[-1][0]
    watched = dataclasses.replace(free, watch=device)
    expected = []
    for day in range(3):
        batches = sent(watched, day)
        assert equal(batches, sent(free, day)), "watching changes nothing"
        expected += [
            (day, batch.use_case, batch.reports[at].tobytes())
            for batch in batches
            for at in np.flatnonzero(batch.senders == device)
        ]
    log = as_bytes(watched.take_log())
    assert log == expected and log
    assert watched.take_log() == [], "drained"
    assert as_bytes([entry for day in range(3) for entry in free.report_log(day, device)]) == log


def test_the_log_knows_the_budget() -> None:
    some, _ = enrolled()
    device = int(senders(sent(some))[0])
    some, _ = enrolled(watch=device)
    for day in range(3):
        sent(some, day)
    log = as_bytes(some.take_log())
    assert len(log) <= 3
    fresh, _ = enrolled()
    assert as_bytes([entry for day in range(3) for entry in fresh.report_log(day, device)]) == log
