"""What a fleet of events answers when it is asked: the asked use cases alone, over all days, whole or as shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from aggregate.intake import BatchError
from aggregate.secure_aggregation import SecureAggregation
from aggregate.trust import LocalTrust
from device_poll.events.fleet import EventFleet
from device_poll.population import PopulationError
from privacy.budget import micro_epsilon
from privacy.distributed_unary import DistributedUnaryEncoding
from privacy.mechanism import Mechanism
from privacy.poll import Ask, ReportBatch
from privacy.randomized_response import RandomizedResponse
from privacy.secret_sharing import Share
from tests.aggregate.asks import FakeNeeds, ask_of
from tests.device_poll.event_fleets import CMS, FITS, OPEN, RR, SFP, enrolled, equal, fleet, held, senders, sent

UNARY = DistributedUnaryEncoding(domain_size=5, central_epsilon=1.0, central_delta=1e-6, honest_reports=1000)
MECHANISMS: dict[str, Mechanism] = {"a.en": RR, "b.en": CMS, "c.en": SFP}


def three(**changes: Any) -> EventFleet:
    shares = {"a.en": 0.5, "b.en": 0.3, "c.en": 0.2}
    return fleet(*(held(key, mechanism, shares[key]) for key, mechanism in MECHANISMS.items()), **changes)


def asks_of(*keys: str, days: int = 1) -> list[Ask]:
    return [ask_of(MECHANISMS[key], key, held(key, MECHANISMS[key]).encoded[FITS], days=days) for key in keys]


def of_key(batches: Sequence[ReportBatch], key: str) -> list[ReportBatch]:
    return [batch for batch in batches if batch.use_case == key]


def test_only_asked_use_cases_come() -> None:
    some = three()
    everything = sent(some)
    assert {batch.use_case for batch in everything} == set(MECHANISMS)
    for asked in (["a.en"], ["c.en", "a.en"], list(MECHANISMS)):
        found = list(some.answer(asks_of(*asked)))
        assert {batch.use_case for batch in found} == set(asked)
        assert equal(found, [batch for batch in everything if batch.use_case in asked])


def test_which_use_cases_are_asked_together_changes_no_report() -> None:
    some = three()
    together = list(some.answer(asks_of(*MECHANISMS, days=2)))
    for key in MECHANISMS:
        assert equal(of_key(together, key), list(some.answer(asks_of(key, days=2))))
    # Negative control: a fleet that holds one use case alone picks among other records.
    alone = fleet(held("a.en", RR))
    assert not equal(of_key(together, "a.en"), list(alone.answer(asks_of("a.en", days=2))))
    # The pick is over all use cases, asked or not.
    assert np.bincount(senders(together)).max() <= 2 * some.cap


def test_days_add_up() -> None:
    some = three()
    found = list(some.answer(asks_of("a.en", "b.en", days=3)))
    by_day = [batch for day in range(3) for batch in sent(some, day) if batch.use_case != "c.en"]
    assert equal(found, by_day)
    assert not equal(sent(some, 0), sent(some, 1)), "days differ"
    truth = sum(some.truth(day)[0].reports for day in range(3))
    assert sum(len(batch.senders) for batch in of_key(found, "a.en")) == truth


def test_workers_change_no_answer() -> None:
    asks = asks_of(*MECHANISMS, days=2)
    assert equal(list(three().answer(asks)), list(three(workers=3).answer(asks)))


def test_progress_is_told_over_all_days() -> None:
    told: list[tuple[int, int]] = []
    for _ in three().answer(asks_of("a.en", days=2), lambda done, of: told.append((done, of))):
        pass
    assert told == [(n, 4000) for n in (504, 1008, 1512, 2000, 2504, 3008, 3512, 4000)]


def test_what_the_devices_do_not_hold_is_refused() -> None:
    some = three()
    for asks, said in (
        ([ask_of(RR, "d.en")], r"the devices do not hold 'd\.en' for this mechanism; they hold \['a\.en', 'b\.en', 'c"),
        ([ask_of(RandomizedResponse(epsilon=4.1, domain_size=5), "a.en")], r"do not hold 'a\.en' for this mechanism"),
        ([ask_of(RR, "b.en")], r"do not hold 'b\.en' for this mechanism"),
        ([*asks_of("b.en"), ask_of(OPEN, "a.en")], r"do not hold 'a\.en' for this mechanism"),
        (asks_of("a.en", "a.en"), r"\['a\.en', 'a\.en'\] are asked; expected one use case or more, each once"),
        ([], r"\[\] are asked; expected one use case or more"),
        (asks_of("a.en") + asks_of("b.en", days=2), r"asks stand for \[1, 2\] days; expected the same days for all"),
    ):
        with pytest.raises(PopulationError, match=said):
            next(some.answer(asks))
    # The same parameters in another object are the same mechanism.
    assert list(some.answer([ask_of(replace(RR), "a.en")]))


def test_refused_before_a_device_pays() -> None:
    some, book = enrolled()
    with pytest.raises(PopulationError, match="do not hold"):
        next(some.answer([ask_of(RR, "a.en"), ask_of(RR, "d.en")]))
    assert not book.spent(np.arange(3000)).any()


# Accounts


def test_devices_pay_for_all_use_cases_that_they_hold() -> None:
    """What was picked leaves the device, whichever of its use cases is asked for here; nobody pays twice for it."""
    (some, book), (other, other_book) = enrolled(), enrolled()
    asks = {key: ask_of(RR, key, days=2) for key in ("a.en", "b.en")}
    first = list(some.answer([asks["a.en"]]))
    spent = book.spent(np.arange(3000))
    both = list(other.answer(list(asks.values())))
    assert equal(first, of_key(both, "a.en"))
    np.testing.assert_array_equal(spent, other_book.spent(np.arange(3000)))
    assert (spent >= np.bincount(senders(both), minlength=3000) * micro_epsilon(4.0)).all()
    assert len(np.unique(spent[spent > 0])) == 1, "all pay alike, whatever happened on them"
    assert spent.sum() > len(senders(first)) * micro_epsilon(4.0), "more was paid than came of the one use case"
    second = list(some.answer([asks["b.en"]]))
    assert equal(second, of_key(both, "b.en"))
    np.testing.assert_array_equal(book.spent(np.arange(3000)), spent)
    book.verify()


def test_a_budget_for_one_day_is_silent_on_the_next() -> None:
    some, book = enrolled()
    days = [len(senders(list(some.answer([ask_of(RR, "a.en", days=n)])))) for n in (1, 2, 3)]
    free = replace(some, accounts=None)
    unpaid = [len(senders(list(free.answer([ask_of(RR, "a.en", days=n)])))) for n in (1, 2, 3)]
    assert days[0] == unpaid[0] and days[1] < unpaid[1] and days[2] - days[1] < (unpaid[2] - unpaid[1]) / 5
    assert book.summary().largest_lifetime == 3 * micro_epsilon(4.0)


# Through the front door


def collected(some: EventFleet, trust: Any, asks: Sequence[Ask], minimum: int = 1000) -> dict[str, Any]:
    rngs = {ask.use_case: np.random.default_rng(place) for place, ask in enumerate(asks)}
    return trust.collect(some.answer(asks), asks, minimum, rngs)


def test_sealed_under_shares_it_is_the_plain_tally() -> None:
    some = fleet(held("a.en", UNARY, 0.4), held("b.en", UNARY, 0.6))
    trust = SecureAggregation(epsilon=1.0, delta=1e-6)
    asks = [
        trust.ask(
            use_case=key,
            round=0,
            mechanism=UNARY,
            needs=FakeNeeds(),
            minimum_batch=1000,
            rng=np.random.default_rng(place),
            days=2,
        )
        for place, key in enumerate(("a.en", "b.en"))
    ]
    travelling = list(some.answer(asks))
    assert all(isinstance(batch.reports, Share) for batch in travelling)
    for ask in asks:  # numbered over blocks and days, for each use case from 0 on
        numbers = [b.reports.sequence for b in of_key(travelling, ask.use_case) if b.reports.party == 0]
        assert numbers == list(range(8))
    found = collected(some, trust, asks)
    for which, ask in enumerate(asks):
        whole = [batch.reports for day in range(2) for batch in of_key(sent(some, day), ask.use_case)]
        plain = UNARY.tally(np.concatenate(whole))
        np.testing.assert_array_equal(found[ask.use_case].tally.sums, plain.sums)
        assert found[ask.use_case].tally.reports == plain.reports
        truth = some.truth(0)[which].counts + some.truth(1)[which].counts
        estimate = found[ask.use_case].estimate
        assert (np.abs(estimate.counts - truth) < 5 * estimate.stderr).all()
        assert (np.abs(estimate.counts - np.roll(truth, 1)) > 5 * estimate.stderr).any()  # negative control
    plain_ask = [replace(ask, shares=None) for ask in asks]
    for key, of_key_ in collected(some, LocalTrust(), plain_ask).items():
        np.testing.assert_array_equal(of_key_.tally.sums, found[key].tally.sums)


def test_too_few_reports_of_one_use_case_are_refused() -> None:
    some = three()
    reports = {key: len(senders(of_key(sent(some), key))) for key in MECHANISMS}
    least = min(reports, key=lambda key: reports[key])
    with pytest.raises(BatchError, match=f"use case '{least}' has {reports[least]} reports, fewer than the minimum"):
        collected(some, LocalTrust(), asks_of(*MECHANISMS), reports[least] + 1)
    assert len(collected(some, LocalTrust(), asks_of(*MECHANISMS), reports[least])) == 3
