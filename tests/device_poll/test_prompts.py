"""Devices that are asked once which fragments occur in their prompts: who answers, with what, and from which stream."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from aggregate.intake import BatchError
from aggregate.secure_aggregation import SecureAggregation
from aggregate.trust import LocalTrust
from device_poll.accounts import Accounts
from device_poll.events.activity import Activity
from device_poll.events.fragments import BLOCK, PromptPool
from device_poll.fleet import SimulatedFleet
from device_poll.population import PopulationError
from device_poll.prompts import PromptAnswers, everybody
from privacy.budget import MICRO, Budget
from privacy.distributed_unary import DistributedUnaryEncoding
from privacy.ledger_stores import SimulatedLedger
from privacy.no_privacy import NoPrivacy
from privacy.poll import Ask, Choice, ReportBatch
from privacy.randomized_response import RandomizedResponse
from privacy.randomness import NoiseSource
from tests.device_poll.event_fleets import equal, senders

DEVICES = BLOCK + 7000
POOL = PromptPool(
    candidates=("cat", "dog", "owl", "newt"),
    offsets=np.array([0, 2, 3, 3, 5, 6]),
    ids=np.array([0, 1, 0, 1, 2, 3]),
    public_prompts=9,
)
ANSWERS = PromptAnswers(pool=POOL, devices=DEVICES, activity=Activity(mean=2.0, sigma=1.0), seed=3)
CHOICE = Choice(4)
GRR = RandomizedResponse(epsilon=2.0, domain_size=5)
OPEN = NoPrivacy(domain_size=5)
AGREED = np.random.default_rng(0).random(DEVICES) < 0.7
EVERYONE = np.ones(DEVICES, dtype=np.bool_)


def fleet(agreed: np.ndarray = AGREED, **changes: Any) -> SimulatedFleet:
    return SimulatedFleet(
        **{"answers": ANSWERS, "cohorts": everybody(agreed), "noise": NoiseSource.seeded(3), **changes}
    )


def ask_of(mechanism: Any, round: int = 0) -> Ask:
    return Ask(use_case="fragments", round=round, mechanism=mechanism, needs=POOL)


def answered(some: SimulatedFleet, mechanism: Any = GRR) -> list[ReportBatch]:
    return list(some.answer([ask_of(mechanism)]))


def paying(agreed: np.ndarray, minimum: int = 1000, lifetime: float = 2.0) -> tuple[SimulatedFleet, SimulatedLedger]:
    ledger = SimulatedLedger(devices=DEVICES, budget=Budget.of(lifetime=lifetime, daily=lifetime))
    ledger.opt_in(np.flatnonzero(agreed))
    accounts = Accounts(ledger=ledger, run="fragments", cost=lambda m: m.epsilon, minimum_batch=minimum)
    return fleet(agreed, accounts=accounts), ledger


def test_the_same_answers_whatever_the_workers() -> None:
    one, three = answered(fleet()), answered(fleet(workers=3))
    assert [len(batch.senders) for batch in one] == [AGREED[:BLOCK].sum(), AGREED[BLOCK:].sum()]
    assert equal(one, three)
    assert not equal(one, answered(fleet(noise=NoiseSource.seeded(4)))), "another seed, other noise"


def test_the_reports_are_of_what_the_prompts_say() -> None:
    reports = np.concatenate([batch.reports for batch in answered(fleet(), OPEN)])
    np.testing.assert_array_equal(reports, POOL.answers(DEVICES, ANSWERS.activity, 3).values[AGREED])
    assert set(reports.tolist()) == set(range(5)), "every fragment and 'none of these'"
    some = fleet()
    np.testing.assert_array_equal(some.true_answers(POOL, 0).values, reports)
    truth = CHOICE.counted(reports)
    estimate = GRR.estimate(GRR.tally(np.concatenate([batch.reports for batch in answered(some)])))
    assert (np.abs(estimate.counts - truth) < 5 * estimate.stderr).all()
    assert (np.abs(estimate.counts - np.roll(truth, 1)) > 5 * estimate.stderr).any()  # negative control


@pytest.mark.parametrize("by_ledger", [False, True], ids=["free", "accounts"])
def test_who_did_not_opt_in_is_silent(by_ledger: bool) -> None:
    some = paying(AGREED)[0] if by_ledger else fleet()
    found, everyone = answered(some), answered(fleet(EVERYONE))
    np.testing.assert_array_equal(senders(found), np.flatnonzero(AGREED))
    assert len(senders(everyone)) == DEVICES  # negative control
    for mine, of_all in zip(found, everyone, strict=True):
        # Two polls of other devices share no noise.
        assert not np.array_equal(mine.reports, of_all.reports[AGREED[of_all.senders]])
    assert some.answered(POOL, 0).sum() == AGREED.sum() == len(some.true_answers(POOL, 0).values)


def test_accounts_debit_who_answers_once() -> None:
    some, ledger = paying(AGREED)
    first = answered(some)
    np.testing.assert_array_equal(ledger.spent(np.arange(DEVICES)), np.where(AGREED, 2 * MICRO, 0))
    assert equal(first, answered(some)), "the same reports again, which are paid for"
    assert ledger.spent(np.arange(DEVICES)).max() == 2 * MICRO
    other = replace(some, answers=replace(ANSWERS, seed=4))  # other prompts: another poll, for which nothing is left
    with pytest.raises(PopulationError, match="round 0 has 0 devices that can report"):
        answered(other)


def test_the_digest_names_what_the_devices_hold_and_nothing_of_the_question() -> None:
    others = [
        replace(ANSWERS, seed=4),
        replace(ANSWERS, devices=DEVICES - 1),
        replace(ANSWERS, activity=Activity(mean=2.5, sigma=1.0)),
        replace(ANSWERS, pool=replace(POOL, ids=POOL.ids[::-1].copy())),
        replace(ANSWERS, pool=replace(POOL, offsets=np.array([0, 1, 3, 3, 5, 6]))),
    ]
    assert len({one.digest for one in (ANSWERS, *others)}) == 1 + len(others)
    assert ANSWERS.digest == replace(ANSWERS).digest


def test_too_few_devices() -> None:
    few = np.arange(DEVICES) < 900
    some, ledger = paying(few)
    with pytest.raises(PopulationError, match="round 0 has 900 devices that can report, fewer than minimum_batch=1000"):
        answered(some)
    assert not ledger.spent(np.arange(DEVICES)).any(), "called off before anybody paid"
    ask, rngs = ask_of(GRR), {"fragments": np.random.default_rng(0)}
    with pytest.raises(BatchError, match="use case 'fragments' has 900 reports, fewer than the minimum batch of 1000"):
        LocalTrust().collect(fleet(few).answer([ask]), [ask], 1000, rngs)
    assert LocalTrust().collect(fleet(few).answer([ask]), [ask], 900, rngs)["fragments"].tally.reports == 900


def test_a_mechanism_for_another_number_of_answers() -> None:
    with pytest.raises(ValueError, match="the mechanism has 4 values; 4 candidates and 'none of these' need 5"):
        answered(fleet(), RandomizedResponse(epsilon=2.0, domain_size=4))


def test_one_devices_report_is_the_same_by_itself() -> None:
    batches = answered(fleet())
    for batch, place in ((batches[0], 11), (batches[1], 23)):
        assert fleet().report_of(ask_of(GRR), int(batch.senders[place])) == batch.reports[place]


def test_under_shares_the_sum_is_that_of_the_reports() -> None:
    trust = SecureAggregation(epsilon=1.0, delta=1e-6)
    unary = DistributedUnaryEncoding(domain_size=5, central_epsilon=1.0, central_delta=1e-6, honest_reports=1000)
    rng = np.random.default_rng(0)
    ask = trust.ask(use_case="fragments", round=0, mechanism=unary, needs=POOL, minimum_batch=1000, rng=rng)
    found = trust.collect(fleet().answer([ask]), [ask], 1000, {"fragments": rng})["fragments"]
    whole = np.concatenate([batch.reports for batch in fleet().answer([ask_of(unary)])])
    np.testing.assert_array_equal(found.tally.sums, unary.tally(whole).sums)
    truth = CHOICE.counted(fleet().true_answers(POOL, 0).values)
    assert (np.abs(found.estimate.counts - truth) < 5 * found.estimate.stderr).all()
