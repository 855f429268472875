"""Fragments that hundreds of devices share are released, rarer ones never."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from aggregate.fragments import FragmentRule, Law, at_least, at_most, law_of, release_fragments
from aggregate.histogram import Histogram
from aggregate.secure_aggregation import SecureAggregation
from aggregate.trust import CentralBaseline, Collected, LocalTrust, Trust
from device_poll.sealing import sealed
from privacy.count_mean_sketch import CountMeanSketch
from privacy.distributed_unary import DistributedUnaryEncoding
from privacy.integer_noise import binomial_noise
from privacy.mechanism import Mechanism, Tally
from privacy.poll import Choice, ReportBatch
from privacy.randomized_response import RandomizedResponse
from privacy.randomness import NoiseSource
from privacy.units import Neighbours
from tests.aggregate.asks import FakeNeeds, ask_of

SEEDS = 100


def names(d: int) -> list[str]:
    return [f"fragment {i}" for i in range(d)]


def poll(epsilon: float = 4.0, d: int = 60) -> RandomizedResponse:
    return RandomizedResponse(epsilon=epsilon, domain_size=Choice(d).answers)


def unary(d: int = 60, reports: int = 20_000) -> DistributedUnaryEncoding:
    """Votes with coins that are private in sum alone; a report may name a fragment twice."""
    return DistributedUnaryEncoding(
        domain_size=Choice(d).answers, central_epsilon=1.0, central_delta=1e-6, honest_reports=reports
    )


def law(mechanism: Mechanism, reports: int = 20_000) -> Law:
    return lambda count: LocalTrust().support_law(mechanism, reports, count)


def decide(mechanism: Mechanism, tally: Tally, rule: FragmentRule, d: int = 60) -> Histogram:
    collected = Collected(tally=tally, estimate=mechanism.estimate(tally))
    return rule.decide(ask_of(mechanism), collected, names(d)).histogram


def shared(d: int, reports: int, frequent: dict[int, int], others: int) -> np.ndarray:
    """Devices by fragment, the last entry 'no match'."""
    counts = np.full(d + 1, others)
    for fragment, count in frequent.items():
        counts[fragment] = count
    counts[-1] = reports - counts[:-1].sum()
    return counts


@pytest.mark.parametrize(
    ("reports", "count", "p", "q"),
    [(50, 7, 0.8, 0.1), (1000, 3, 0.99, 0.0003), (300, 300, 0.7, 0.2), (300, 0, 0.7, 0.2), (30, 10, 1.0, 0.0)],
)
def test_the_tails_are_those_of_the_sum_of_two_binomials(reports: int, count: int, p: float, q: float) -> None:
    masses = np.convolve(
        binom.pmf(np.arange(count + 1), count, p), binom.pmf(np.arange(reports - count + 1), reports - count, q)
    )
    both = ((count, p), (reports - count, q))
    for named in (0, 1, count, int(reports * q) + 3, reports // 2, reports):
        np.testing.assert_allclose(at_least(named, both), masses[named:].sum(), rtol=1e-9, atol=1e-18)
        np.testing.assert_allclose(at_most(named, both), masses[: named + 1].sum(), rtol=1e-9, atol=1e-18)
    assert at_least(reports + 1, both) == 0


def test_a_tail_of_many_reports_beyond_what_a_normal_law_knows() -> None:
    # 1e6 devices of which none holds the fragment, 250 name it: 350 reports are 6.3 standard deviations off.
    mechanism = poll(8.0, 1000)
    exact = at_least(360, law(mechanism, 10**6)(0))
    assert exact == pytest.approx(binom.sf(359, 10**6, mechanism.q), rel=1e-6)
    z = (360 - 10**6 * mechanism.q) / math.sqrt(10**6 * mechanism.q)
    assert exact > 3 * math.erfc(z / math.sqrt(2)) / 2, "a normal tail would be wrong by a factor"


def test_end_to_end_through_reports() -> None:
    mechanism, rule, rng = poll(), FragmentRule(minimum_count=100), np.random.default_rng(0)
    counts = shared(60, 20_000, {3: 3000, 41: 1500, 7: 900}, 50)
    values = rng.permutation(np.repeat(np.arange(61), counts))
    found = decide(mechanism, mechanism.tally(mechanism.privatize(values, rng)), rule)
    assert found.values == ("fragment 3", "fragment 41", "fragment 7")
    assert (found.looked_at, found.withheld, found.reports) == (60, 57, 20_000)
    truth = np.array([3000, 1500, 900])
    assert (found.lower >= 100).all() and (found.lower <= truth).all() and (truth <= found.upper).all()
    assert (np.abs(found.counts - truth) < 5 * found.stderr).all()
    assert (found.p_values <= rule.family_error / 60).all() and found.rule is rule
    assert found.processed.tolist() == found.counts.tolist()


def almost(minimum: int) -> np.ndarray:
    """55 of 60 fragments are held by one device less than the minimum."""
    return shared(60, 20_000, {0: 3000, 1: 2500, 2: 2000, 3: 1500, 4: 1000}, minimum - 1)


@pytest.mark.parametrize("epsilon", [2.0, 4.0, 8.0])
def test_not_one_rare_fragment_over_100_seeds(epsilon: float) -> None:
    mechanism, rule, rare = poll(epsilon), FragmentRule(minimum_count=100), set(names(60)[5:])
    wrong = 0
    for seed in range(SEEDS):
        tally = mechanism.simulate_tally(almost(100), np.random.default_rng(seed))
        released = decide(mechanism, tally, rule).values
        assert "fragment 0" in released and not rare & set(released)
        wrong += bool((mechanism.estimate(tally).counts[5:60] >= 100).any())
    # Negative control: to release what is estimated at 100 devices or more is wrong in nearly every poll.
    assert wrong > SEEDS / 2


def test_the_family_error_is_held_and_not_wasted() -> None:
    # 55 fragments one device short, each with an error of 0.5 / 60 at most: 37% of polls if they were independent.
    mechanism, rng, polls = poll(), np.random.default_rng(5), 2000
    most = 1 - (1 - 0.5 / 60) ** 55
    named = np.stack([mechanism.simulate_tally(almost(100), rng).sums[5:60] for _ in range(polls)])
    rule = FragmentRule(minimum_count=100, family_error=0.5)
    wrong = np.mean((named >= rule.cutoff(law(mechanism), 20_000, 60)).any(axis=1))
    assert most / 2 < wrong < most + 4 * math.sqrt(most * (1 - most) / polls)
    # Negative control: the cutoff of a minimum that is a little lower is wrong too often.
    lower = FragmentRule(minimum_count=80, family_error=0.5).cutoff(law(mechanism), 20_000, 60)
    assert np.mean((named >= lower).any(axis=1)) > most + 4 * math.sqrt(most * (1 - most) / polls)


@pytest.mark.parametrize("epsilon", [2.0, 8.0])
def test_the_count_needed_is_released_with_95_percent(epsilon: float) -> None:
    mechanism, rule, polls = poll(epsilon), FragmentRule(minimum_count=200), 1500
    need = rule.count_needed(law(mechanism), 20_000, 60)
    assert 200 < need < 20_000

    def released(count: int) -> float:
        rng, counts = np.random.default_rng(1), shared(60, 20_000, {7: count}, 0)
        named = np.array([mechanism.simulate_tally(counts, rng).sums[7] for _ in range(polls)])
        return float(np.mean(named >= rule.cutoff(law(mechanism), 20_000, 60)))

    error = math.sqrt(0.95 * 0.05 / polls)
    assert abs(released(int(need)) - 0.95) < 4 * error + 0.005  # a device more or less changes it by so much
    assert released(int(0.9 * need)) < 0.95 - 4 * error


def test_bounds_cover_the_truth_of_every_fragment() -> None:
    """At an error of a half, so that misses happen: each side misses somewhere in half of the polls at most."""
    mechanism, rule, polls = poll(d=20), FragmentRule(minimum_count=1, family_error=0.5), 60
    counts = shared(20, 20_000, {}, 800)
    low = high = 0
    for seed in range(polls):
        found = decide(mechanism, mechanism.simulate_tally(counts, np.random.default_rng(seed)), rule, 20)
        assert len(found.values) == 20
        low, high = low + bool((found.lower > 800).any()), high + bool((found.upper < 800).any())
    most = 1 - (1 - 0.5 / 20) ** 20
    for missed in (low, high):
        assert 0.05 < missed / polls < most + 4 * math.sqrt(most * (1 - most) / polls)


def test_released_is_what_has_a_lower_bound_at_the_minimum() -> None:
    mechanism, rule = poll(), FragmentRule(minimum_count=150, family_error=0.01)
    tally = mechanism.simulate_tally(
        shared(60, 20_000, {i: 100 + 6 * i for i in range(60)}, 0), np.random.default_rng(3)
    )
    everything = decide(mechanism, tally, FragmentRule(minimum_count=1, family_error=0.01))
    enough = {v for v, bound in zip(everything.values, everything.lower, strict=True) if bound >= 150}
    assert set(decide(mechanism, tally, rule).values) == enough
    assert 5 < len(enough) < 55


def test_what_can_never_be_shown_is_never_released() -> None:
    assert FragmentRule(minimum_count=500).cutoff(law(poll(), 300), 300, 60) == 301, "fewer reports than the minimum"
    assert FragmentRule(minimum_count=500).count_needed(law(poll(), 300), 300, 60) == math.inf
    assert FragmentRule(minimum_count=290).count_needed(law(poll(0.1), 300), 300, 60) == math.inf
    assert FragmentRule(minimum_count=300).describe(60).startswith("A fragment is released if the lower bound")


def test_refused() -> None:
    for minimum in (0, -5, 2.5, True):
        with pytest.raises(ValueError, match=r"release\.minimum_count is .*; expected a whole number of devices"):
            FragmentRule(minimum_count=minimum)  # type: ignore[arg-type]
    for error in (0.0, 1.0, 1e-12):
        with pytest.raises(ValueError, match=r"release\.family_error is"):
            FragmentRule(minimum_count=5, family_error=error)
    mechanism = poll()
    tally = mechanism.simulate_tally(shared(60, 20_000, {}, 0), np.random.default_rng(0))
    everything, rule = mechanism.estimate(tally), FragmentRule(minimum_count=5)
    found, named = Choice(60).split(everything)[0], tally.sums[:60]
    with pytest.raises(ValueError, match="there are 59 different values; expected 60"):
        release_fragments(named, found, names(59), rule, law(mechanism))
    with pytest.raises(ValueError, match="there are 59 different values; expected 60"):
        release_fragments(named, found, [*names(59), "fragment 0"], rule, law(mechanism))
    for fragments in (59, 61):  # the last answer is 'none of these' only if all others are fragments
        with pytest.raises(ValueError, match=f"61 answers were estimated; expected {fragments + 1}: {fragments} cand"):
            decide(mechanism, tally, rule, fragments)
    with pytest.raises(ValueError, match="the tally was made with"):
        decide(poll(3.0), tally, rule)
    with pytest.raises(ValueError, match="power is 1"):
        rule.count_needed(law(mechanism, 100), 100, 60, power=1)


def test_who_can_decide_is_said_before_anybody_is_asked() -> None:
    rule, sketch = FragmentRule(minimum_count=5), CountMeanSketch(epsilon=4.0, rows=8, columns=64, hash_seed=1)
    shares = SecureAggregation(epsilon=1.0, delta=1e-6)
    for trust, mechanism in ((LocalTrust(), poll()), (shares, unary())):
        rule.check(trust, mechanism)
    refused: list[tuple[Trust, Mechanism, str]] = [
        (
            LocalTrust(),
            sketch,
            "the tally of count_mean_sketch is no sum of two binomials, as exact bounds need; use mechanism=",
        ),
        (CentralBaseline(epsilon=1.0, delta=1e-6), poll(), "under trust=central the noise on a count is Gaussian"),
        (
            SecureAggregation(epsilon=1.0, delta=1e-6, noise_by="aggregators"),
            poll(),
            "under trust.noise_by=aggregators the noise on a count is a discrete Gaussian",
        ),
    ]
    for trust, mechanism, said in refused:
        with pytest.raises(ValueError, match=said):
            rule.check(trust, mechanism)
    with pytest.raises(ValueError, match="the tally of count_mean_sketch is no sum of two binomials"):
        law_of(ask_of(sketch), 100, 1)


def test_what_the_decision_says_beside_the_fragments() -> None:
    mechanism, rule = poll(), FragmentRule(minimum_count=100)
    counts = shared(60, 20_000, {3: 3000}, 50)
    tally = mechanism.simulate_tally(counts, np.random.default_rng(0))
    collected = Collected(tally=tally, estimate=mechanism.estimate(tally))
    more = rule.decide(ask_of(mechanism), collected, names(60)).more
    assert abs(more["no_match"] - counts[-1] / 20_000) < 5 * more["no_match_stderr"] < 0.05
    assert rule.needed(LocalTrust(), mechanism, 20_000, 60) == rule.count_needed(law(mechanism), 20_000, 60)


# Noise that is private in sum alone: every device names its fragment, and any fragment by a coin


def test_the_tail_of_votes_and_coins_is_that_of_its_reports() -> None:
    """3,000 polls of 400 reports each, through reports; tolerance 4 standard errors of a share of polls."""
    mechanism, rng, polls, reports, count = unary(2, 400), np.random.default_rng(3), 3000, 400, 30
    values = np.repeat([0, 1, 2], [count, 0, reports - count])
    named = np.array([mechanism.tally(mechanism.privatize(values, rng)).sums[0] for _ in range(polls)])
    own, other = law(mechanism, reports)(count), law(RandomizedResponse(epsilon=1.0, domain_size=3), reports)(count)
    for tail in (0.9, 0.5, 0.2, 0.02):
        bar = int(np.quantile(named, 1 - tail))
        seen, exact = float(np.mean(named >= bar)), at_least(bar, own)
        tolerance = 4 * math.sqrt(exact * (1 - exact) / polls)
        assert abs(seen - exact) < tolerance
        assert at_most(bar - 1, own) == pytest.approx(1 - exact, abs=1e-12)
        # Negative control: the law of randomized response is another one, and that is seen.
        assert abs(seen - at_least(bar, other)) > tolerance


def test_the_family_error_holds_under_votes_and_coins() -> None:
    """2,000 polls; 55 fragments one device short, each with an error of 0.5 / 60 at most and independent coins."""
    mechanism, rng, polls = unary(), np.random.default_rng(5), 2000
    named = np.stack([mechanism.simulate_tally(almost(100), rng).sums[5:60] for _ in range(polls)])
    rule = FragmentRule(minimum_count=100, family_error=0.5)
    most = 1 - (1 - 0.5 / 60) ** 55
    tolerance = 4 * math.sqrt(most * (1 - most) / polls)
    wrong = np.mean((named >= rule.cutoff(law(mechanism), 20_000, 60)).any(axis=1))
    assert most / 2 < wrong < most + tolerance
    # Negative control: the law of randomized response, which names fewer by chance, sets the bar too low.
    assert np.mean((named >= rule.cutoff(law(poll(8.0)), 20_000, 60)).any(axis=1)) > most + tolerance


def test_a_fragment_may_be_named_more_often_than_there_are_reports() -> None:
    """300 reports with almost fair coins: 250 votes alone make about 395 names, which prove nothing about 251."""
    reports, polls, rng = 300, 4000, np.random.default_rng(6)
    least = binomial_noise(reports, 0.49).epsilon(1e-6, Neighbours.REPLACEMENT)
    mechanism = DistributedUnaryEncoding(
        domain_size=2, central_epsilon=least, central_delta=1e-6, honest_reports=reports
    )
    assert mechanism.q > 0.4
    rule, ways = FragmentRule(minimum_count=251, family_error=0.1), law(mechanism, reports)
    bar = rule.cutoff(ways, reports, 1)
    assert reports < bar < 2 * reports

    def named(count: int) -> np.ndarray:
        counts = np.array([count, reports - count])
        return np.array([mechanism.simulate_tally(counts, rng).sums[0] for _ in range(polls)])

    rare = named(250)
    assert np.mean(rare >= bar) < 0.1 + 4 * math.sqrt(0.1 * 0.9 / polls)
    # Negative control: to take any fragment that is named more often than there are reports is wrong every time.
    assert np.mean(rare >= reports + 1) > 0.99
    need = rule.count_needed(ways, reports, 1)
    assert 251 < need <= reports and np.mean(named(int(need)) >= bar) > 0.95 - 4 * math.sqrt(0.95 * 0.05 / polls)
    # What no count can prove is not released, however often it is named.
    never = FragmentRule(minimum_count=301)
    assert never.cutoff(ways, reports, 1) == 2 * reports + 1 and never.count_needed(ways, reports, 1) == math.inf


def test_end_to_end_through_shares_of_reports() -> None:
    """All that is released of votes and coins is as frequent as the rule says, and the truth is in its bounds."""
    trust, rule, rng = (
        SecureAggregation(epsilon=1.0, delta=1e-6),
        FragmentRule(minimum_count=100),
        np.random.default_rng(0),
    )
    mechanism, counts = unary(), shared(60, 20_000, {3: 3000, 41: 1500, 7: 900}, 50)
    ask = trust.ask(use_case="mail", round=0, mechanism=mechanism, needs=FakeNeeds(), minimum_batch=20_000, rng=rng)
    values = rng.permutation(np.repeat(np.arange(61), counts))
    batch = ReportBatch("mail", np.arange(20_000), mechanism.privatize(values, rng))
    collected = trust.collect(sealed([batch], {"mail": ask}, NoiseSource.seeded(0)), [ask], 20_000, {"mail": rng})[
        "mail"
    ]
    found = rule.decide(ask, collected, names(60)).histogram
    assert found.values == ("fragment 3", "fragment 41", "fragment 7")
    truth = np.array([3000, 1500, 900])
    assert (found.lower >= 100).all() and (found.lower <= truth).all() and (truth <= found.upper).all()
    assert (np.abs(found.counts - truth) < 5 * found.stderr).all()
