"""Trust models: what the devices run, what the server gets, and what is claimed for it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from aggregate import secure_aggregation
from aggregate.ingest import BatchError, ingest
from aggregate.secure_aggregation import SecureAggregation
from aggregate.trust import CentralBaseline, LocalTrust, ShuffledTrust, Trust
from privacy.accounting import amplify_by_shuffling
from privacy.gaussian import gaussian_epsilon
from privacy.mechanism import Mechanism, ReportBatch
from privacy.no_privacy import NoPrivacy
from privacy.randomized_response import RandomizedResponse
from privacy.units import Neighbours

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


def collect(trust: Trust, seed: int = 0, n: int = DEVICES, minimum: int = BATCH):
    mechanism = trust.mechanism(local, VALUES, BATCH)
    return mechanism, trust.collect(
        batches(mechanism, seed, n), mechanism, "mail", minimum, np.random.default_rng(seed)
    )


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
    mechanism, collected = collect(trust)
    assert (collected.tally.sums != TRUTH).any()
    assert dict(collected.tally.parameters) == dict(trust.parameters(mechanism))
    raw = LocalTrust().collect(
        batches(NoPrivacy(domain_size=VALUES), 0), NoPrivacy(domain_size=VALUES), "mail", 1, np.random.default_rng(0)
    )
    assert (raw.tally.sums == TRUTH).all()


@pytest.mark.parametrize("trust", MODELS, ids=NAMES)
def test_small_batches_are_refused(trust):
    with pytest.raises(BatchError, match="fewer than the minimum batch of 1000"):
        collect(trust, n=BATCH - 1)


def test_local_and_shuffled_are_the_same_reports_bit_by_bit():
    mechanism, collected = collect(LocalTrust())
    by_hand = mechanism.tally(ingest(batches(mechanism, 0), BATCH, np.random.default_rng(0))["mail"])
    for trust in (LocalTrust(), ShuffledTrust(delta=1e-6)):
        assert (collect(trust)[1].tally.sums == by_hand.sums).all()
    assert collected.report_bits == mechanism.report_bits


def test_two_aggregators_recombine_to_the_plain_sum():
    trust = SecureAggregation(epsilon=2.0, delta=1e-6)
    mechanism, collected = collect(trust)
    plain = sum((mechanism.tally(batch.reports).sums for batch in batches(mechanism, 0)), np.zeros(VALUES, np.int64))
    assert (collected.tally.sums == plain).all()
    assert collected.report_bits == 2 * 64 * (VALUES + 2)


def test_a_changed_share_makes_the_batch_an_error(monkeypatch):
    split = secure_aggregation.split

    def tampered(*arguments):
        left, right = split(*arguments)
        words = left.words.copy()
        words[0, 0] += np.uint64(1)
        return replace(left, words=words), right

    monkeypatch.setattr(secure_aggregation, "split", tampered)
    with pytest.raises(BatchError, match="changed on the way; nothing of the batch is counted"):
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
