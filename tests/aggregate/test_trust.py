"""Trust models: what the devices run, what the server gets, and what is claimed for it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from aggregate.intake import BatchError, PermutedSum, intake
from aggregate.secure_aggregation import SecureAggregation
from aggregate.trust import CentralBaseline, Collected, LocalTrust, ShuffledTrust, Trust
from device_poll import sealing
from device_poll.sealing import sealed
from privacy.accounting import amplify_by_shuffling, group_delta
from privacy.gaussian import gaussian_epsilon
from privacy.mechanism import Mechanism
from privacy.no_privacy import NoPrivacy
from privacy.poll import Ask, ReportBatch
from privacy.randomized_response import RandomizedResponse
from privacy.randomness import NoiseSource
from privacy.units import Neighbours
from tests.aggregate.asks import FakeNeeds, ask_of

VALUES, DEVICES, BATCH = 9, 1200, 1000
TRUTH = np.bincount(np.arange(DEVICES) % 4, minlength=VALUES)
MODELS: list[Trust] = [
    LocalTrust(),
    ShuffledTrust(delta=1e-6),
    SecureAggregation(epsilon=2.0, delta=1e-6),
    SecureAggregation(epsilon=2.0, delta=1e-6, noise_by="aggregators"),
    CentralBaseline(epsilon=2.0, delta=1e-6),
]
NAMES = ["local", "shuffled", "devices", "aggregators", "central"]


def local(values: int) -> Mechanism:
    return RandomizedResponse(epsilon=2.0, domain_size=values)


def batches(mechanism: Mechanism, seed: int, n: int = DEVICES, use_case: str = "mail") -> Iterator[ReportBatch]:
    rng, values = np.random.default_rng([seed, 7]), np.arange(n) % 4
    for start in range(0, n, 500):
        part = values[start : start + 500]
        yield ReportBatch(use_case, np.arange(len(part)), mechanism.privatize(part, rng))


def ask_by(trust: Trust, seed: int = 0, use_case: str = "mail", asked: np.ndarray | None = None) -> Ask:
    return trust.ask(
        use_case=use_case,
        round=0,
        mechanism=trust.mechanism(local, VALUES, BATCH),
        needs=FakeNeeds(asked),
        minimum_batch=BATCH,
        rng=np.random.default_rng([seed, 3]),
    )


def collect(trust: Trust, seed: int = 0, n: int = DEVICES, minimum: int = BATCH) -> tuple[Ask, Collected]:
    ask = ask_by(trust, seed)
    arriving = sealed(batches(ask.mechanism, seed, n), {"mail": ask}, NoiseSource.seeded(seed))
    return ask, trust.collect(arriving, [ask], minimum, {"mail": np.random.default_rng(seed)})["mail"]


@pytest.mark.parametrize("trust", MODELS, ids=NAMES)
def test_counts_are_unbiased_with_the_stated_errors(trust):
    """Squared errors average 1 in standard errors, with a deviation of at most sqrt(2 / polls)."""
    polls = 15
    runs = [collect(trust, seed)[1].estimate for seed in range(polls)]
    z = np.array([(run.counts - TRUTH) / run.stderr for run in runs])
    assert np.abs(z.mean(axis=0)).max() < 5 / math.sqrt(polls)
    assert abs((z**2).mean() - 1) < 5 * math.sqrt(2 / polls)
    mechanism = trust.mechanism(local, VALUES, BATCH)
    assert runs[0].stderr[-1] == pytest.approx(trust.standard_error(mechanism, DEVICES), rel=0.2)
    assert {run.reports for run in runs} == {DEVICES}


@pytest.mark.parametrize("trust", MODELS, ids=NAMES)
def test_no_kept_tally_is_the_truth(trust):
    """Negative control: without noise it is."""
    ask, collected = collect(trust)
    assert (collected.tally.sums != TRUTH).any()
    assert dict(collected.tally.parameters) == dict(trust.parameters(ask.mechanism))
    open_votes = ask_of(NoPrivacy(domain_size=VALUES))
    arriving, rngs = batches(open_votes.mechanism, 0), {"mail": np.random.default_rng(0)}
    raw = LocalTrust().collect(arriving, [open_votes], 1, rngs)["mail"]
    assert (raw.tally.sums == TRUTH).all()


@pytest.mark.parametrize("trust", MODELS, ids=NAMES)
def test_a_server_that_sees_reports_refuses_some_and_one_that_sees_shares_can_refuse_none(trust):
    ask, collected = collect(trust)
    seen = ask.shares is None
    assert collected.refused == (0 if seen else None)
    assert trust.largest_influence(ask.mechanism) == (ask.mechanism.largest_influence if seen else math.inf)
    if seen:
        wrong = ReportBatch("mail", np.arange(3), np.full(3, VALUES))
        rngs = {"mail": np.random.default_rng(0)}
        lied = trust.collect([*batches(ask.mechanism, 0), wrong], [ask], BATCH, rngs)["mail"]
        assert lied.refused == 3 and (lied.tally.sums == collected.tally.sums).all()


@pytest.mark.parametrize("trust", MODELS, ids=NAMES)
def test_small_batches_are_refused(trust):
    with pytest.raises(BatchError, match="fewer than the minimum batch of 1000"):
        collect(trust, n=BATCH - 1)


def test_local_and_shuffled_are_the_same_reports_bit_by_bit():
    ask, _ = collect(LocalTrust())
    sums = {"mail": PermutedSum(ask, np.random.default_rng(0))}
    by_hand = intake(batches(ask.mechanism, 0), sums, BATCH)["mail"]
    for trust in (LocalTrust(), ShuffledTrust(delta=1e-6)):
        assert (collect(trust)[1].tally.sums == by_hand.sums).all()
    assert ask.report_bits == ask.mechanism.report_bits and ask.shares is None


def test_two_aggregators_recombine_to_the_plain_sum():
    trust = SecureAggregation(epsilon=2.0, delta=1e-6)
    ask, collected = collect(trust)
    mechanism = ask.mechanism
    plain = sum((mechanism.tally(batch.reports).sums for batch in batches(mechanism, 0)), np.zeros(VALUES, np.int64))
    assert (collected.tally.sums == plain).all()
    assert ask.report_bits == 2 * 64 * (VALUES + 2)


@pytest.mark.parametrize("trust", MODELS, ids=NAMES)
def test_which_use_cases_are_collected_together_changes_no_result(trust):
    keys = ("mail", "chat")
    asks = {key: ask_by(trust, use_case=key) for key in keys}

    def collected(*wanted: str) -> dict[str, Collected]:
        rngs = {key: np.random.default_rng([5, place]) for place, key in enumerate(keys)}
        streams = [batches(asks[key].mechanism, keys.index(key), use_case=key) for key in wanted]
        mixed = (batch for group in zip(*streams, strict=True) for batch in group)
        return trust.collect(sealed(mixed, asks, NoiseSource.seeded(0)), [asks[key] for key in wanted], BATCH, rngs)

    together = collected("chat", "mail")
    assert set(together) == set(keys)
    for key in keys:
        alone = collected(key)[key]
        if trust.words.repeats:
            assert np.array_equal(alone.tally.sums, together[key].tally.sums)
            assert np.array_equal(alone.estimate.counts, together[key].estimate.counts)
        else:  # the operating system's noise: two draws, each within five standard errors of the truth
            for one in (alone, together[key]):
                assert (np.abs(one.estimate.counts - TRUTH) < 5 * one.estimate.stderr).all()


@pytest.mark.parametrize("trust", MODELS, ids=NAMES)
def test_only_what_is_asked_for_is_estimated(trust):
    asked, ask = np.array([2, 0, 7]), ask_by(trust, asked=np.array([2, 0, 7]))
    arriving = sealed(batches(ask.mechanism, 0), {"mail": ask}, NoiseSource.seeded(0))
    some = trust.collect(arriving, [ask], BATCH, {"mail": np.random.default_rng(0)})["mail"].estimate
    every = collect(trust)[1].estimate
    assert some.counts.shape == some.stderr.shape == (3,) and some.reports == every.reports == DEVICES
    if trust.words.repeats:
        assert np.array_equal(some.counts, every.counts[asked]) and np.array_equal(some.stderr, every.stderr[asked])
    else:
        assert (np.abs(some.counts - TRUTH[asked]) < 5 * some.stderr).all()


@pytest.mark.parametrize("trust", MODELS[:3], ids=NAMES[:3])
def test_the_law_of_a_tally_is_what_reports_add_up_to(trust):
    """Mean and variance of 400 tallies of one value; 5 standard errors, with the law of another count as control."""
    ask, polls, count = ask_by(trust), 400, 300
    counts, rng = np.bincount([0] * count + [1] * (DEVICES - count), minlength=VALUES), np.random.default_rng(1)
    named = np.array([ask.mechanism.simulate_tally(counts, rng).sums[0] for _ in range(polls)])

    def moments(law) -> tuple[float, float]:
        return sum(n * p for n, p in law), sum(n * p * (1 - p) for n, p in law)

    mean, variance = moments(trust.support_law(ask.mechanism, DEVICES, count))
    assert abs(named.mean() - mean) < 5 * math.sqrt(variance / polls)
    assert abs(named.var() / variance - 1) < 5 * math.sqrt(2 / polls)
    other, _ = moments(trust.support_law(ask.mechanism, DEVICES, count + 50))
    assert abs(named.mean() - other) > 5 * math.sqrt(variance / polls)


def test_a_tally_without_reports_is_concluded_as_one_of_reports():
    """What `exact` promises; the sums of aggregators that add noise are not to be had without them."""
    assert [trust.exact for trust in MODELS] == [True, True, True, False, True]
    for trust in MODELS:
        if trust.exact:
            ask, collected = collect(trust)
            raw = ask.mechanism.simulate_tally(TRUTH, np.random.default_rng(2))
            drawn = trust.conclude(ask, raw, np.random.default_rng(3))
            assert drawn.estimate.counts.shape == collected.estimate.counts.shape
            assert dict(drawn.tally.parameters) == dict(collected.tally.parameters)
            assert (np.abs(drawn.estimate.counts - TRUTH) < 5 * drawn.estimate.stderr).all()


def test_an_ask_of_another_trust_model_is_refused():
    shares, plain = MODELS[2], ask_by(LocalTrust())
    with pytest.raises(ValueError, match="the ask of 'mail' has no batch of shares; make it with SecureAggregation"):
        shares.collect(batches(plain.mechanism, 0), [plain], BATCH, {"mail": np.random.default_rng(0)})
    sealed_ask = ask_by(shares)
    arriving = sealed(batches(sealed_ask.mechanism, 0), {"mail": sealed_ask}, NoiseSource.seeded(0))
    with pytest.raises(BatchError, match="a share arrived where whole reports were expected"):
        LocalTrust().collect(arriving, [sealed_ask], BATCH, {"mail": np.random.default_rng(0)})


def test_a_changed_share_makes_the_batch_an_error(monkeypatch):
    split = sealing.split

    def tampered(*arguments):
        left, right = split(*arguments)
        words = left.words.copy()
        words[0, 0] += np.uint64(1)
        return replace(left, words=words), right

    monkeypatch.setattr(sealing, "split", tampered)
    with pytest.raises(
        BatchError,
        match="use case 'mail': aggregator 0: block 0 was changed on the way; nothing of the batch is counted",
    ):
        collect(SecureAggregation(epsilon=2.0, delta=1e-6))


def test_claims_are_those_of_the_accountants():
    mechanism = local(VALUES)
    assert (LocalTrust().claim(mechanism, 5).epsilon, LocalTrust().claim(mechanism, 5).delta) == (2.0, 0.0)
    shuffled = ShuffledTrust(delta=1e-6, colluding=200).claim(mechanism, 1200)
    assert shuffled.epsilon == amplify_by_shuffling(mechanism, 1000, 1e-6) < 2.0
    devices = SecureAggregation(epsilon=2.0, delta=1e-6)
    unary = devices.mechanism(local, VALUES, BATCH)
    assert devices.claim(unary, 1200).epsilon < devices.claim(unary, BATCH).epsilon <= 2.0
    noise = MODELS[3].noise.known_to_one
    assert noise.delta(MODELS[3].claim(mechanism, BATCH).epsilon, Neighbours.REPLACEMENT) <= 1e-6
    central = MODELS[4]
    exact = gaussian_epsilon(central.noise.sigma, delta=1e-6, sensitivity=math.sqrt(2))
    assert central.claim(mechanism, BATCH).epsilon == pytest.approx(exact) == pytest.approx(2.0)


def test_fewer_colluding_or_more_devices_never_cost_privacy():
    for trust in (ShuffledTrust, lambda **k: SecureAggregation(epsilon=2.0, **k)):
        mechanism = trust(delta=1e-6).mechanism(local, VALUES, BATCH)
        many = [trust(delta=1e-6).claim(mechanism, n).epsilon for n in (1000, 2000, 4000)]
        assert many == sorted(many, reverse=True)
        assert trust(delta=1e-6, colluding=100).claim(mechanism, 1100).epsilon == many[0]


# Several reports of one device


def claims(trust: Trust, reports: int, largest: int = 4) -> list[float]:
    mechanism = trust.mechanism(local, VALUES, BATCH)
    return [trust.claim(mechanism, reports, per_device).epsilon for per_device in range(1, largest + 1)]


@pytest.mark.parametrize("trust", [*MODELS[:3], MODELS[4]], ids=[*NAMES[:3], NAMES[4]])
def test_more_reports_of_one_device_never_cost_it_less(trust):
    # Coins that are made for one report say nothing of three at this delta: "no coin at all" is too likely.
    several = claims(trust, DEVICES, 2 if trust is MODELS[2] else 4)
    assert several == sorted(several) and several[0] < several[-1]
    assert several[0] == trust.claim(trust.mechanism(local, VALUES, BATCH), DEVICES).epsilon
    # Several at once are never cheaper than their number says, up to a group's own delta.
    assert all(k * several[0] <= epsilon * (1 + 1e-9) for k, epsilon in enumerate(several, start=1))


@pytest.mark.parametrize("reports", [3, 20, DEVICES])
def test_several_shuffled_reports_cost_at_most_what_they_cost_locally(reports):
    trust, mechanism = ShuffledTrust(delta=1e-6), local(VALUES)
    for per_device, epsilon in enumerate(claims(trust, reports), start=1):
        assert epsilon <= per_device * mechanism.epsilon == LocalTrust().claim(mechanism, reports, per_device).epsilon
    assert trust.claim(mechanism, 3, 3).epsilon == pytest.approx(3 * mechanism.epsilon), "hardly anybody hides them"
    assert trust.claim(mechanism, 10**6, 3).epsilon < mechanism.epsilon / 4


def test_noise_that_is_made_for_several_reports_is_enough_for_them():
    trust = SecureAggregation(epsilon=0.5, delta=1e-6)
    for per_device in (1, 2, 3):
        made = trust.mechanism(local, VALUES, BATCH, per_device)
        assert made.central_delta == group_delta(0.5, per_device, 1e-6)
        assert trust.claim(made, BATCH, per_device).epsilon <= per_device * 0.5 * (1 + 1e-9)
        assert trust.claim(made, 4 * BATCH, per_device).epsilon < trust.claim(made, BATCH, per_device).epsilon
    # Negative control: noise made for one report is not enough for two, and the claim does not pretend it.
    one = trust.mechanism(local, VALUES, BATCH)
    assert trust.claim(one, BATCH, 2).epsilon > 2 * 0.5


def test_the_noise_of_aggregators_is_never_claimed_for_more_than_one_report():
    trust = MODELS[3]
    with pytest.raises(
        ValueError, match=r"may send 2 reports in this run, but under trust\.noise_by=aggregators it can"
    ):
        trust.mechanism(local, VALUES, BATCH, 2)
    mechanism = trust.mechanism(local, VALUES, BATCH)
    assert trust.claim(mechanism, BATCH).epsilon <= 2.0 < trust.claim(mechanism, BATCH, 2).epsilon


def test_raw_votes_move_together():
    central, mechanism = MODELS[4], local(VALUES)
    for per_device in (1, 2, 5):
        exact = gaussian_epsilon(central.noise.sigma, delta=1e-6, sensitivity=per_device * math.sqrt(2))
        assert central.claim(mechanism, BATCH, per_device).epsilon == pytest.approx(exact)


def test_colluding_devices_collude_with_all_their_reports():
    mechanism = local(VALUES)
    four = ShuffledTrust(delta=1e-6, colluding=4)
    assert four.claim(mechanism, 1012, 3) == ShuffledTrust(delta=1e-6).claim(mechanism, 1000, 3)
    with pytest.raises(ValueError, match="12 reports with 12 colluding devices hide nobody; expected at least 14"):
        four.mechanism(local, VALUES, 12, 3)
    sums = SecureAggregation(epsilon=2.0, delta=1e-6, colluding=4)
    assert sums.mechanism(local, VALUES, 1012, 3).honest_reports == 1000
    with pytest.raises(ValueError, match="12 reports with 12 colluding devices hide nobody"):
        sums.claim(sums.mechanism(local, VALUES, 1012, 3), 12, 3)


@pytest.mark.parametrize("trust", MODELS, ids=NAMES)
@pytest.mark.parametrize("per_device", [0, -1, 1.5])
def test_a_device_sends_a_whole_number_of_reports(trust, per_device):
    with pytest.raises(ValueError, match=r"per_device is .*; expected a whole number >= 1 \(reports of one device\)"):
        trust.claim(trust.mechanism(local, VALUES, BATCH), BATCH, per_device)


def test_too_few_reports_are_not_claimed_to_hide_anybody():
    mechanism = local(VALUES)
    with pytest.raises(ValueError, match="reports is 1"):
        ShuffledTrust(delta=1e-6).claim(mechanism, 1)
    with pytest.raises(ValueError, match="1 reports with 0 colluding devices hide nobody"):
        CentralBaseline(epsilon=1.0, delta=1e-6).claim(mechanism, 1)
    sums = SecureAggregation(epsilon=2.0, delta=1e-6)
    few = "3 reports, up to 2 of one device, give no guarantee at delta 1e-06: ask more devices or raise minimum_batch"
    with pytest.raises(ValueError, match=few):
        sums.claim(sums.mechanism(local, VALUES, BATCH), 3, 2)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: SecureAggregation(epsilon=0, delta=1e-6), "epsilon is 0; expected a number above 0"),
        (lambda: CentralBaseline(epsilon=-1.0, delta=1e-6), "epsilon is -1.0"),
        (lambda: ShuffledTrust(delta=0.0), "delta is 0.0; expected a number in"),
        (lambda: SecureAggregation(epsilon=1.0, delta=1.0), "delta is 1.0"),
        (lambda: CentralBaseline(epsilon=1.0, delta=2), "delta is 2"),
        (lambda: SecureAggregation(epsilon=1.0, delta=1e-6, noise_by="god"), "expected devices or aggregators"),
        (lambda: ShuffledTrust(delta=1e-6, colluding=-1), "colluding is -1"),
        (
            lambda: ShuffledTrust(delta=1e-6).mechanism(local, VALUES, 1),
            "1 reports with 0 colluding devices hide nobody",
        ),
        (lambda: SecureAggregation(epsilon=1.0, delta=1e-6, colluding=9).mechanism(local, VALUES, 10), "at least 11"),
        (lambda: SecureAggregation(epsilon=0.1, delta=1e-9).mechanism(local, VALUES, 10), "ask more devices"),
        (lambda: CentralBaseline(epsilon=1.0, delta=1e-6).claim(local(VALUES), 1), "hide nobody"),
    ],
)
def test_what_cannot_work_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_the_baseline_is_called_one():
    assert [trust.baseline for trust in MODELS] == [False] * 4 + [True]
    _, collected = collect(MODELS[4])
    assert "baseline" in str(collected.tally.parameters["mechanism"])
    assert "baseline" in MODELS[4].words.noise_from and "baseline" in MODELS[4].words.server_sees


@pytest.mark.parametrize("trust", [*MODELS[:3], CentralBaseline(epsilon=1.0, delta=1e-6)], ids=lambda t: t.name)
@pytest.mark.parametrize("sent", [1, 2, 5])
def test_a_ledger_debits_no_less_than_is_claimed_of_all_reports_of_a_device(trust, sent):
    mechanism = trust.mechanism(local, VALUES, 500, sent)
    assert sent * trust.cost(mechanism, sent) >= trust.claim(mechanism, 500, sent).epsilon
    if trust.baseline and sent == 5:  # negative control: five times the epsilon of one report is too little
        assert sent * trust.cost(mechanism) == 5 < trust.claim(mechanism, 500, sent).epsilon < 6
