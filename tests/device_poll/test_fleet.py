"""The simulated fleet, its devices' accounts, and the report log of one device."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator

import numpy as np
import pytest

from device_poll.accounts import Accounts
from device_poll.answering import AnswerRule
from device_poll.cohorts import Participation, draw_cohorts
from device_poll.device_ledger import DeviceLedger
from device_poll.fleet import NearestAnswers, SimulatedFleet
from device_poll.population import DeviceUnit, Population, PopulationError
from device_poll.report_log import ReportLog
from embed.compact import CompactEmbeddings, compact
from privacy import ledger_stores
from privacy.budget import MICRO, Budget, DebitState, Token
from privacy.ledger import Ledger
from privacy.ledger_stores import SimulatedLedger
from privacy.mechanism import Mechanism
from privacy.no_privacy import NoPrivacy
from privacy.poll import Ask, Choice, ReportBatch
from privacy.randomized_response import RandomizedResponse
from privacy.randomness import NoiseSource, Stage
from privacy.secret_sharing import Aggregator, Batch, Share, recombine
from privacy.unary_encoding import OptimizedUnaryEncoding

DIMENSION, CANDIDATES, ROUNDS, BLOCK = 4, 6, 2, NearestAnswers.block
DEVICES = ROUNDS * (2 * BLOCK + 100)  # two full blocks and a rest in each round


def unit(n: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(n, DIMENSION))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


SLATE = compact(unit(CANDIDATES, 1))
RR = RandomizedResponse(epsilon=2.0, domain_size=CANDIDATES + 1)
OUE = OptimizedUnaryEncoding(epsilon=2.0, domain_size=CANDIDATES + 1)


@pytest.fixture(scope="module")
def fleet() -> SimulatedFleet:
    population = Population(
        embeddings=unit(DEVICES, 0),
        offsets=np.arange(DEVICES + 1),
        device_ids=tuple(f"person-{i}" for i in range(DEVICES)),
        unit=DeviceUnit.ITEM,
    )
    nearest = NearestAnswers(population=population, rule=AnswerRule(none_below=0.6), seed=3)
    cohorts = draw_cohorts(DEVICES, ROUNDS, Participation(), seed=3)
    return SimulatedFleet(answers=nearest, cohorts=cohorts, noise=NoiseSource.seeded(3))


def ask_of(mechanism: Mechanism, round: int = 0, slate: CompactEmbeddings = SLATE, use_case: str = "mail") -> Ask:
    return Ask(use_case=use_case, round=round, mechanism=mechanism, needs=slate)


def polled(fleet: SimulatedFleet, mechanism: Mechanism, round: int = 0) -> list[ReportBatch]:
    return list(fleet.answer([ask_of(mechanism, round)]))


@pytest.mark.parametrize("mechanism", [RR, OUE], ids=lambda m: m.name)
def test_workers_change_no_report(fleet: SimulatedFleet, mechanism: Mechanism) -> None:
    one = polled(fleet, mechanism)
    four = polled(dataclasses.replace(fleet, workers=4), mechanism)
    assert [len(batch.reports) for batch in one] == [BLOCK, BLOCK, 100]
    for a, b in zip(one, four, strict=True):
        assert a.use_case == b.use_case == "mail"
        np.testing.assert_array_equal(a.senders, b.senders)
        np.testing.assert_array_equal(a.reports, b.reports)


def test_every_block_has_its_own_stream(fleet: SimulatedFleet) -> None:
    values, ask = fleet.true_answers(SLATE, 0).values, ask_of(RR)
    noise = fleet._noise(ask, values)
    for block, batch in enumerate(polled(fleet, RR)):
        part = values[block * BLOCK : (block + 1) * BLOCK]
        stream, other = (noise.stream(Stage.PRIVATIZE, round=0, chunk=place) for place in (block, block + 1))
        np.testing.assert_array_equal(batch.reports, RR.privatize(part, stream))
        assert (batch.reports != RR.privatize(part, other)).any()


def test_each_device_answers_in_one_round_only(fleet: SimulatedFleet) -> None:
    senders = [np.concatenate([b.senders for b in polled(fleet, RR, r)]) for r in range(ROUNDS)]
    for r, cohort in enumerate(fleet.cohorts.answering):
        np.testing.assert_array_equal(senders[r], cohort)
    everyone = np.concatenate(senders)
    assert len(np.unique(everyone)) == len(everyone) == DEVICES


@pytest.mark.parametrize("mechanism", [RR, OUE], ids=lambda m: m.name)
@pytest.mark.parametrize("round", range(ROUNDS))
def test_estimates_are_the_true_answers_within_five_standard_errors(
    fleet: SimulatedFleet, mechanism: Mechanism, round: int
) -> None:
    truth = np.bincount(fleet.true_answers(SLATE, round).values, minlength=CANDIDATES + 1)
    reports = np.concatenate([batch.reports for batch in polled(fleet, mechanism, round)])
    estimate = mechanism.estimate(mechanism.tally(reports))
    assert estimate.reports == truth.sum()
    assert (np.abs(estimate.counts - truth) < 5 * estimate.stderr).all()
    # Negative control: the same counts of other candidates are far off.
    assert (np.abs(estimate.counts - np.roll(truth, 1)) > 5 * estimate.stderr).any()


def test_without_privacy_the_reports_are_the_true_answers(fleet: SimulatedFleet) -> None:
    reports = np.concatenate([batch.reports for batch in polled(fleet, NoPrivacy(domain_size=CANDIDATES + 1))])
    np.testing.assert_array_equal(reports, fleet.true_answers(SLATE, 0).values)
    assert set(reports.tolist()) == set(range(CANDIDATES + 1)), "every candidate and 'none' must occur in this fixture"


def test_several_questions_are_answered_one_after_the_other_and_each_as_alone(fleet: SimulatedFleet) -> None:
    asks = [ask_of(RR, 1, use_case="chat"), ask_of(OUE, 0)]
    both, alone = list(fleet.answer(asks)), [batch for ask in asks for batch in fleet.answer([ask])]
    assert [batch.use_case for batch in both] == ["chat"] * 3 + ["mail"] * 3
    assert same_reports(both, alone)


def test_progress_is_told(fleet: SimulatedFleet) -> None:
    told: list[tuple[int, int]] = []
    for _ in fleet.answer([ask_of(RR)], lambda done, of: told.append((done, of))):
        pass
    n = DEVICES // ROUNDS
    assert told == [(BLOCK, n), (2 * BLOCK, n), (n, n)]


@pytest.mark.parametrize("mechanism", [RR, OUE], ids=lambda m: m.name)
def test_one_devices_report_is_the_same_by_itself(fleet: SimulatedFleet, mechanism: Mechanism) -> None:
    batches, ask = polled(fleet, mechanism, 1), ask_of(mechanism, 1)
    for block, place in ((0, 0), (1, 17), (2, 99)):
        device = int(batches[block].senders[place])
        np.testing.assert_array_equal(fleet.report_of(ask, device), batches[block].reports[place])


def test_shares_of_reports_add_up_to_the_plain_tally_and_the_log_keeps_the_report(fleet: SimulatedFleet) -> None:
    plain, log = ask_of(OUE), ReportLog(device=int(fleet.cohorts.answering[0][5]))
    ask = dataclasses.replace(plain, shares=Batch.of(OUE, minimum_reports=1000, batch_id=bytes(16)))
    aggregators = Aggregator(ask.shares, party=0), Aggregator(ask.shares, party=1)
    for batch in dataclasses.replace(fleet, watch=log).answer([ask]):
        assert isinstance(batch.reports, Share) and len(batch.senders) == len(batch.reports.words)
        aggregators[batch.reports.party].receive(batch.reports)
    whole = OUE.tally(np.concatenate([batch.reports for batch in fleet.answer([plain])]))
    np.testing.assert_array_equal(recombine(ask.shares, *(one.close() for one in aggregators)).sums, whole.sums)
    (record,) = log.drain()
    assert record["report"] == fleet.report_of(plain, log.device).tobytes().hex()


def test_without_accounts_who_did_not_agree_is_silent(fleet: SimulatedFleet) -> None:
    """A cohort may hold devices that did not opt in; with accounts, the ledger keeps them silent."""
    cohort = fleet.cohorts.answering[0]
    cohorts = dataclasses.replace(fleet.cohorts, members=np.setdiff1d(fleet.cohorts.members, cohort[::3]))
    some = dataclasses.replace(fleet, cohorts=cohorts)
    for before, after in zip(polled(fleet, RR), polled(some, RR), strict=True):
        agreed = ~np.isin(before.senders, cohort[::3])
        np.testing.assert_array_equal(after.senders, before.senders[agreed])
        # Two polls of other devices share no noise: their sums would tell what the others reported.
        assert not np.array_equal(after.reports, before.reports[agreed])
    assert some.answered(SLATE, 0).sum() == some.pay(ask_of(RR)).sum() == some.book(SLATE, RR, 0)
    assert len(some.true_answers(SLATE, 0).values) == len(cohort) - len(cohort[::3])


def test_the_answers_are_those_of_the_slate_and_none(fleet: SimulatedFleet) -> None:
    assert fleet.answers.choice(SLATE) == Choice(CANDIDATES)
    values = fleet.true_answers(SLATE, 0).values
    assert fleet.answers.choice(SLATE).counted(values).sum() == len(values)


@pytest.mark.parametrize("size", [CANDIDATES, CANDIDATES + 2])
def test_a_domain_that_does_not_fit_the_slate(fleet: SimulatedFleet, size: int) -> None:
    mechanism = RandomizedResponse(epsilon=1.0, domain_size=size)
    message = rf"the mechanism has {size} values; {CANDIDATES} candidates and 'none of these' need {CANDIDATES + 1}"
    with pytest.raises(ValueError, match=message):
        polled(fleet, mechanism)


@pytest.mark.parametrize("mechanism", [RR, OUE], ids=lambda m: m.name)
def test_the_log_holds_the_watched_devices_report_and_nothing_else(fleet: SimulatedFleet, mechanism: Mechanism) -> None:
    position = BLOCK + 17  # in the second block of round 1
    device = int(fleet.cohorts.answering[1][position])
    log = ReportLog.of(f"person-{device}", fleet.answers.population.device_ids)
    watched = dataclasses.replace(fleet, watch=log, workers=2)
    assert polled(watched, mechanism, 0) and log.drain() == []  # it is not asked in round 0
    sent = polled(watched, mechanism, 1)[1].reports[17]
    records = log.drain()
    assert records == [
        {
            "round": 1,
            "use_case": "mail",
            "mechanism": mechanism.name,
            "epsilon": 2.0,
            "domain_size": CANDIDATES + 1,
            "report_bits": mechanism.report_bits,
            "report": int(sent) if mechanism is RR else sent.tobytes().hex(),
        }
    ]
    # It can be written as it is: no array, no vector, and no float but epsilon.
    assert json.loads(json.dumps(records)) == records
    assert [name for name, value in records[0].items() if isinstance(value, float)] == ["epsilon"]
    assert log.drain() == [], "drained"


def test_watching_changes_no_report(fleet: SimulatedFleet) -> None:
    watched = dataclasses.replace(fleet, watch=ReportLog(device=int(fleet.cohorts.answering[0][0])))
    for a, b in zip(polled(fleet, RR), polled(watched, RR), strict=True):
        np.testing.assert_array_equal(a.reports, b.reports)


def test_watching_an_unknown_device_names_no_device() -> None:
    with pytest.raises(PopulationError, match="not among the 2 devices") as caught:
        ReportLog.of("dora", ("anna", "bert"))
    assert not any(name in str(caught.value) for name in ("anna", "bert", "dora"))


# The accounts of the devices, with a ledger in memory and in a file. RR and OUE cost 2 of 4 in a day, 6 in a life.
CAPS = Budget.of(lifetime=6.0, daily=4.0)
LEAST = 1000


@pytest.fixture(params=["memory", "file"])
def ledger(request, tmp_path, monkeypatch, fleet: SimulatedFleet) -> Iterator[Ledger]:
    # Speed only: what a process wrote outlives its SIGKILL in the system's cache.
    monkeypatch.setattr(ledger_stores, "_PRAGMAS", (*ledger_stores._PRAGMAS, "synchronous = OFF"))
    with contextlib.ExitStack() as stack:
        if request.param == "memory":
            ledger: Ledger = SimulatedLedger(devices=DEVICES, budget=CAPS)
        else:
            ids = fleet.answers.population.device_ids
            file = DeviceLedger(tmp_path / "ledger.db", device_ids=ids, budget=CAPS)
            ledger = stack.enter_context(contextlib.closing(file))
        ledger.opt_in(fleet.cohorts.members)
        yield ledger
        ledger.verify()


def paying(fleet: SimulatedFleet, ledger: Ledger, run: str = "mail 1", **changes: object) -> SimulatedFleet:
    accounts = Accounts(ledger=ledger, run=run, cost=lambda mechanism: mechanism.epsilon, minimum_batch=LEAST)
    return dataclasses.replace(fleet, accounts=dataclasses.replace(accounts, **changes))


def exhaust(ledger: Ledger, devices: np.ndarray) -> None:
    """Another use case takes all that these devices have."""
    for day in range(100, 102):
        token = Token(use_case="other", round=0, day=day)
        ledger.debit(token, devices, 3 * MICRO)
        assert ledger.send(token, devices).all()


def same_reports(one: list[ReportBatch], other: list[ReportBatch]) -> bool:
    return all(
        np.array_equal(a.senders, b.senders) and np.array_equal(a.reports, b.reports)
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("mechanism", [RR, OUE], ids=lambda m: m.name)
def test_devices_without_budget_are_silent_and_no_noise_is_that_of_all(fleet, ledger, mechanism) -> None:
    cohort = fleet.cohorts.answering[0]
    poor = cohort[BLOCK - 3 : 2 * BLOCK]  # three in the first block and the whole of the second
    exhaust(ledger, poor)
    free, paid = polled(fleet, mechanism), polled(paying(fleet, ledger), mechanism)
    assert [len(batch.senders) for batch in paid] == [BLOCK - 3, 0, 100]
    for before, after in zip(free, paid, strict=True):
        rich = ~np.isin(before.senders, poor)
        np.testing.assert_array_equal(after.senders, before.senders[rich])
        assert not len(after.senders) or not np.array_equal(after.reports, before.reports[rich])
    np.testing.assert_array_equal(ledger.spent(poor), 6 * MICRO)
    np.testing.assert_array_equal(ledger.spent(np.setdiff1d(cohort, poor)), 2 * MICRO)
    assert not ledger.spent(fleet.cohorts.answering[1]).any()


def test_the_truth_is_that_of_the_devices_that_answered(fleet, ledger) -> None:
    cohort = fleet.cohorts.answering[0]
    exhaust(ledger, cohort[::3])
    payer, plain = paying(fleet, ledger, cost=lambda _: 2.0), NoPrivacy(domain_size=CANDIDATES + 1)
    sent = np.concatenate([batch.reports for batch in polled(payer, plain)])
    np.testing.assert_array_equal(payer.true_answers(SLATE, 0).values, sent)
    assert payer.answered(SLATE, 0).sum() == len(sent) == len(cohort) - len(cohort[::3])
    assert len(fleet.true_answers(SLATE, 0).values) == len(cohort), "without accounts: all"
    assert len(payer.true_answers(SLATE, 1).values) == 0, "not polled yet"


def test_every_debit_is_marked_as_sent_before_the_first_report_exists(fleet, ledger) -> None:
    payer, seen = paying(fleet, ledger), []

    class Watching(RandomizedResponse):
        def privatize(self, values, rng):
            seen.append((payer.answered(SLATE, 0).sum(), ledger.spent(fleet.cohorts.answering[0]).min()))
            return super().privatize(values, rng)

    # One worker, so that the file is read where it was opened: in the thread that polls.
    class Here:
        def __init__(self, max_workers: int) -> None: ...
        def __enter__(self):
            return self

        def __exit__(self, *args: object) -> None: ...
        def map(self, work, blocks):
            return map(work, blocks)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("device_poll.fleet.ThreadPoolExecutor", Here)
        polled(payer, Watching(epsilon=2.0, domain_size=CANDIDATES + 1))
    assert seen == [(len(fleet.cohorts.answering[0]), 2 * MICRO)] * 3


def test_too_few_with_budget_call_the_poll_off_and_cost_nobody_anything(fleet, ledger) -> None:
    cohort = fleet.cohorts.answering[0]
    exhaust(ledger, cohort[LEAST - 1 :])
    payer, before = paying(fleet, ledger), ledger.spent(np.arange(DEVICES))
    batches = payer.answer([ask_of(RR)])
    said = rf"round 0 has {LEAST - 1} devices that can report, fewer than minimum_batch={LEAST}; .* a report costs 2 "
    for _ in range(2):  # a poll that was called off stays so
        with pytest.raises(PopulationError, match=said) as caught:
            next(batches)
        said, batches = said.replace(str(LEAST - 1), "0"), payer.answer([ask_of(RR)])
        assert "\n" not in str(caught.value)
    np.testing.assert_array_equal(ledger.spent(np.arange(DEVICES)), before)
    token = payer._token(payer.accounts, SLATE, 0)
    assert set(ledger.states(token, cohort[: LEAST - 1]).tolist()) == {DebitState.REFUNDED}
    # One device more, and the poll is held.
    other = paying(fleet, ledger, run="mail 2", minimum_batch=LEAST - 1)
    assert sum(len(batch.senders) for batch in polled(other, RR)) == LEAST - 1


def test_a_poll_that_is_played_again_sends_the_same_reports_and_debits_nobody_twice(fleet, ledger) -> None:
    cohort, payer = fleet.cohorts.answering[0], paying(fleet, ledger)
    rival = Token(use_case="other", round=0, day=0)
    assert ledger.debit(rival, cohort[:50], 3 * MICRO).all()
    first, spent = polled(payer, OUE), ledger.spent(cohort)
    assert (spent == 2 * MICRO).sum() == len(cohort) - 50
    # Budget comes back: who answers was decided when the poll was sent, and stays.
    assert ledger.cancel(rival) == 50
    assert same_reports(first, polled(payer, OUE))
    assert ledger.spent(cohort).sum() == 2 * MICRO * (len(cohort) - 50)
    # Killed while reserved: who was not sent yet may still join.
    reserved = paying(fleet, ledger, run="mail 2", first_day=7)
    ledger.debit(reserved._token(reserved.accounts, SLATE, 0), cohort[:LEAST], 2 * MICRO)
    assert sum(len(batch.senders) for batch in polled(reserved, OUE)) == len(cohort)
    assert (ledger.spent_on(7, cohort) == 2 * MICRO).all()


def test_another_run_slate_round_or_mail_is_another_debit(fleet, ledger) -> None:
    cohort = fleet.cohorts.answering[0]
    population = dataclasses.replace(fleet.answers.population, embeddings=unit(DEVICES, 5))
    mail = dataclasses.replace(fleet.answers, population=population)
    others = [
        (paying(fleet, ledger), SLATE),
        (paying(fleet, ledger), CompactEmbeddings(SLATE.codes[::-1].copy(), SLATE.scale)),
        (paying(fleet, ledger, run="mail 2", first_day=1), SLATE),
    ]
    for number, (payer, slate) in enumerate(others, start=1):
        assert list(payer.answer([ask_of(RR, slate=slate)]))
        assert (ledger.spent(cohort) == 2 * number * MICRO).all()
    with pytest.raises(PopulationError, match="has 0 devices that can report"):  # 8 > 6
        polled(dataclasses.replace(others[0][0], answers=mail), RR)
    assert not ledger.spent(fleet.cohorts.answering[1]).any()


def test_noise_that_does_not_repeat_is_not_drawn_for_nothing_a_second_time(fleet, ledger) -> None:
    payer = paying(fleet, ledger, repeatable=False)
    assert polled(payer, RR)
    with pytest.raises(PopulationError, match="round 0 was polled before, its result was lost, and its noise does not"):
        polled(payer, RR)
    assert (ledger.spent(fleet.cohorts.answering[0]) == 2 * MICRO).all()


def test_a_ledger_is_told_of_polls_that_are_over(fleet, ledger) -> None:
    payer, cohorts = paying(fleet, ledger), fleet.cohorts.answering
    exhaust(ledger, cohorts[0][:7])
    assert payer.book(SLATE, RR, 0) == payer.book(SLATE, RR, 0) == len(cohorts[0]) - 7
    assert (ledger.spent(cohorts[0][7:]) == 2 * MICRO).all()
    assert polled(payer, RR, 1) and payer.book(SLATE, RR, 1) == len(cohorts[1])
    assert (ledger.spent(cohorts[1]) == 2 * MICRO).all()
    assert fleet.book(SLATE, RR, 0) == len(cohorts[0]), "without accounts"


def test_rounds_are_on_days_that_follow_each_other(fleet, ledger) -> None:
    payer = paying(fleet, ledger, first_day=40)
    for number, cohort in enumerate(fleet.cohorts.answering):
        polled(payer, RR, number)
        assert (ledger.spent_on(40 + number, cohort) == 2 * MICRO).all()
    assert ledger.summary().largest_day == 2 * MICRO


def test_a_plan_is_checked_before_the_first_poll_without_a_debit(fleet, ledger) -> None:
    accounts, (first, second) = paying(fleet, ledger).accounts, fleet.cohorts.answering
    assert accounts is not None
    accounts.check((first, second), RR)
    exhaust(ledger, second[LEAST - 1 :])
    accounts.check((first,), RR)
    with pytest.raises(PopulationError, match=f"round 1 has {LEAST - 1} devices that can report"):
        accounts.check((first, second), RR)
    assert not ledger.spent(first).any()
