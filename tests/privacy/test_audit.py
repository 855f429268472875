"""The audit finds what is there, never more, and its negative controls fail as they should."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import binom

from privacy.audit import (
    FAMILY_WISE_ERROR,
    AuditResult,
    audit_mechanism,
    audit_run,
    audit_samples,
    learned_score,
)
from privacy.confidence import clopper_pearson, error_of_test, limits
from privacy.gaussian import gaussian_epsilon
from privacy.hadamard_response import HadamardResponse
from privacy.local_hashing import LocalHashing
from privacy.randomized_response import RandomizedResponse
from privacy.randomness import DeviceStream, Stage
from privacy.subset_selection import SubsetSelection
from privacy.unary_encoding import OptimizedUnaryEncoding, SymmetricUnaryEncoding


def rng(chunk: int = 0) -> DeviceStream:
    return DeviceStream.simulation(seed=11, round=0, stage=Stage.PRIVATIZE, chunk=chunk)


def at_least(k: int, n: int, p: Fraction) -> Fraction:
    return sum((math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1)), Fraction(0))


@pytest.mark.parametrize(("k", "n"), [(0, 10), (1, 10), (7, 20), (20, 20), (3, 200)])
def test_clopper_pearson_solves_its_definition(k, n):
    """At the low limit, k or more has probability 2.5%; at the high one, k or fewer. In fractions."""
    low, high = clopper_pearson(k, n)
    if k:
        assert float(at_least(k, n, Fraction(low))) == pytest.approx(0.025, rel=1e-9)
    else:
        assert low == 0
    if k < n:
        assert float(1 - at_least(k + 1, n, Fraction(high))) == pytest.approx(0.025, rel=1e-9)
    else:
        assert high == 1


def test_clopper_pearson_covers():
    """Exactly, over all outcomes: each side misses the truth in at most 2.5% of experiments, and not in far fewer."""
    n = 300
    found = [clopper_pearson(k, n) for k in range(n + 1)]
    for p in (0.01, 0.1, 0.5, 0.93):
        chance = binom.pmf(np.arange(n + 1), n, p)
        missed = [sum(c for c, limit in zip(chance, found, strict=True) if wrong(limit, p)) for wrong in SIDES]
        assert max(missed) <= 0.025
        assert max(missed) >= 0.01


SIDES = (lambda limit, p: limit[0] > p, lambda limit, p: limit[1] < p)

MECHANISMS = [
    RandomizedResponse(epsilon=1.0, domain_size=2),
    RandomizedResponse(epsilon=3.0, domain_size=16),
    OptimizedUnaryEncoding(epsilon=1.0, domain_size=20),
    OptimizedUnaryEncoding(epsilon=3.0, domain_size=301),
    SymmetricUnaryEncoding(epsilon=2.0, domain_size=33),
]


@pytest.mark.parametrize("mechanism", MECHANISMS, ids=lambda m: f"{m.name}-{m.epsilon}-{m.domain_size}")
def test_right_mechanisms_pass_and_most_of_their_epsilon_is_found(mechanism):
    result = audit_mechanism(mechanism, trials=40_000, rng=rng())
    assert 0.75 * mechanism.epsilon < result.epsilon_lower <= mechanism.epsilon
    assert not result.refutes_claim
    assert "does not refute" in result.sentence


@pytest.mark.parametrize("real", [1.5, 2.0, 4.0])
@pytest.mark.parametrize("kind", [RandomizedResponse, OptimizedUnaryEncoding, SymmetricUnaryEncoding])
def test_negative_control_an_under_noised_mechanism_is_refuted(kind, real):
    """It claims epsilon 1 and sends reports of a larger one."""

    class Liar:
        epsilon = 1.0
        privatize = kind(epsilon=real, domain_size=24).privatize

    result = audit_mechanism(Liar(), trials=40_000, rng=rng())
    assert 1.0 < result.epsilon_lower <= real
    assert result.refutes_claim
    assert "REFUTES" in result.sentence


def test_negative_control_a_bit_that_is_never_flipped_back():
    """A known defect: 1s are kept, so that a 0 at the own place gives the other value away with certainty."""

    class Stuck:
        epsilon = 2.0

        def privatize(self, values, rng):
            bits = np.unpackbits(OptimizedUnaryEncoding(epsilon=2.0, domain_size=8).privatize(values, rng), axis=1)
            bits[np.arange(len(values)), 7 - values] = 1  # value v is bit v of the byte, which unpacks from the top
            return np.packbits(bits, axis=1)

    result = audit_mechanism(Stuck(), trials=20_000, rng=rng())
    assert result.refutes_claim
    assert result.epsilon_lower > 6


@pytest.mark.parametrize(
    "mechanism",
    [
        SubsetSelection(epsilon=2.0, domain_size=30),
        HadamardResponse(epsilon=2.0, domain_size=12),
        LocalHashing(epsilon=2.0, domain_size=50),
    ],
    ids=lambda m: m.name,
)
def test_other_reports_through_their_own_estimates(mechanism):
    """`observe`: what the server would conclude about both values from a report alone."""

    def observe(reports):
        estimates = [
            mechanism.estimate(mechanism.tally(reports[i : i + 1]), np.array([0, 1])) for i in range(len(reports))
        ]
        return np.array([estimate.counts for estimate in estimates])

    result = audit_mechanism(mechanism, trials=2500, rng=rng(), observe=observe)
    assert 0.4 * mechanism.epsilon < result.epsilon_lower <= mechanism.epsilon


def test_a_given_score_is_used():
    mechanism = RandomizedResponse(epsilon=2.0, domain_size=5)
    good = audit_mechanism(mechanism, trials=20_000, rng=rng(), score=lambda reports: (reports == 0) * 1.0)
    useless = audit_mechanism(mechanism, trials=20_000, rng=rng(), score=lambda reports: (reports == 4) * 1.0)
    assert good.epsilon_lower > 1.5
    assert useless.epsilon_lower < 0.2


def test_coverage_of_the_whole_procedure():
    """Over 300 audits of a mechanism of known epsilon, with all choices made anew in each, at most about 5% exceed it
    (3 standard errors more), and none refutes it. The same audits find more than half of it."""
    mechanism = RandomizedResponse(epsilon=1.0, domain_size=2)
    results = [audit_mechanism(mechanism, trials=1500, rng=rng(chunk)) for chunk in range(300)]
    above = sum(result.epsilon_lower > 1.0 for result in results)
    assert 0 < above <= 300 * 0.05 + 3 * math.sqrt(300 * 0.05 * 0.95)
    assert not any(result.refutes_claim for result in results)
    assert sum(result.epsilon_lower > 0.5 for result in results) > 290


@pytest.mark.parametrize("number", [1, 2, 30])
def test_an_honest_run_is_refuted_with_the_chance_that_its_audit_may_spend(number):
    """Exactly, over all outcomes of 60 plays of each world: a test that is right as often as epsilon 0.5 allows.
    Negative control: the rule that a 95% bound refutes, as it once was, fails the same comparison."""
    plays, epsilon, alarm = 60, 0.5, 0.3
    chance = [binom.pmf(np.arange(plays + 1), plays, p) for p in (math.exp(epsilon) * alarm, alarm)]
    refuted, above = 0.0, 0.0
    for hits in range(plays + 1):
        for alarms in range(plays + 1):
            result = outcome(hits=hits, alarms=alarms, plays=plays, claimed=epsilon, number=number)
            refuted += chance[0][hits] * chance[1][alarms] * result.refutes_claim
            above += chance[0][hits] * chance[1][alarms] * (result.epsilon_lower > epsilon)
    assert 0 < refuted <= result.refuting_error == 1e-6 / (number * (number + 1))
    assert result.refuting_error < 1e-3 < above <= 0.05


def outcome(*, hits: int, alarms: int, plays: int, claimed: float, number: int = 1) -> AuditResult:
    return AuditResult(
        hits=hits,
        trials=plays,
        alarms=alarms,
        others=plays,
        delta=0.0,
        confidence=0.95,
        claimed_epsilon=claimed,
        number=number,
    )


def test_a_measured_bound_above_the_claim_refutes_nothing_by_itself():
    by_chance = outcome(hits=75, alarms=40, plays=100, claimed=0.2)
    assert by_chance.epsilon_lower > 0.2 > by_chance.epsilon_refuting and not by_chance.refutes_claim
    assert f"measured epsilon >= {by_chance.epsilon_lower:.3f}" in by_chance.sentence
    assert "does not refute the claimed epsilon 0.2, though the measured bound is above it" in by_chance.sentence
    sure = outcome(hits=7500, alarms=4000, plays=10_000, claimed=0.2)
    assert sure.refutes_claim and "REFUTES" in sure.sentence and "audit 1 may refute, epsilon >= 0.748" in sure.sentence


def test_what_so_few_trials_can_refute_is_said():
    few = outcome(hits=500, alarms=0, plays=500, claimed=4.0)
    assert few.ceiling > 4 > few.refuting_ceiling == few.epsilon_refuting
    assert f"(at most {few.refuting_ceiling:.2f})" in few.sentence
    assert "this cannot refute the claimed epsilon 4, which needs more trials" in few.sentence
    # As many as `synthpoll audit` plays, of which half are counted, can: the epsilon of a run unless another is given.
    assert outcome(hits=1000, alarms=0, plays=1000, claimed=4.0).refutes_claim
    # A later audit has less of the error left, and needs more.
    assert not outcome(hits=1000, alarms=0, plays=1000, claimed=4.0, number=10).refutes_claim


def test_all_audits_of_a_run_together_stay_below_the_family_wise_error():
    """In fractions, of the numbers that are used: the first n have 1 - 1 / (n + 1) of it, whatever n."""
    total, spent = Fraction(FAMILY_WISE_ERROR), Fraction(0)
    for number in range(1, 2001):
        spent += Fraction(error_of_test(number, FAMILY_WISE_ERROR))
        assert spent < total
        assert float(spent / total) == pytest.approx(1 - 1 / (number + 1), rel=1e-12)
    assert outcome(hits=1, alarms=0, plays=4, claimed=1.0, number=7).refuting_error == FAMILY_WISE_ERROR / 56


@pytest.mark.parametrize("error", [1e-6, 2e-13])
def test_limits_hold_for_errors_that_a_confidence_would_round_away(error):
    """Against the binomial's tails in fractions, as above."""
    for k, n in ((0, 40), (3, 200), (39, 40)):
        (low,), (high,) = limits(np.array([k]), n, error)
        if k:
            assert float(at_least(k, n, Fraction(low))) == pytest.approx(error / 2, rel=1e-9)
        assert float(1 - at_least(k + 1, n, Fraction(high))) == pytest.approx(error / 2, rel=1e-9)


def test_nothing_is_found_where_there_is_nothing():
    generator = np.random.default_rng(0)
    for shape in ((4000,), (4000, 50)):
        result = audit_samples(generator.normal(size=shape), generator.normal(size=shape), claimed_epsilon=0.0)
        assert result.epsilon_lower < 0.1
    counts = generator.integers(0, 3, (2, 4000))
    assert audit_samples(counts[0], counts[1], claimed_epsilon=0.0).epsilon_lower < 0.1


def test_a_hundred_useless_features_do_not_hide_one():
    generator = np.random.default_rng(1)
    present, absent = generator.normal(size=(2, 4000, 101))
    present[:, 17] += 2.0
    assert audit_samples(present, absent, claimed_epsilon=1.0).epsilon_lower > 2.0


def test_delta_is_given_away_before_epsilon_is_claimed():
    """A release that is silent but for a total leak in 1% of cases: no finite epsilon at delta 0, none at all at 5%."""
    generator = np.random.default_rng(2)
    present, absent = (generator.random(20_000) < 0.01).astype(np.int64), np.zeros(20_000, dtype=np.int64)
    assert audit_samples(present, absent, claimed_epsilon=1.0).refutes_claim
    assert audit_samples(present, absent, claimed_epsilon=1.0, delta=0.05).epsilon_lower == 0.0


def test_both_directions_of_the_definition_count():
    """The canary's absence can be what shows: a report that only devices without it send."""
    generator = np.random.default_rng(3)
    present, absent = np.zeros(5000, dtype=np.int64), (generator.random(5000) < 0.3).astype(np.int64)
    result = audit_samples(present, absent, claimed_epsilon=1.0)
    assert result.refutes_claim
    swapped = audit_samples(absent, present, claimed_epsilon=1.0)
    assert swapped.refutes_claim


class NoisySum:
    """A whole run: counts of 30 devices plus Gaussian noise. The canary votes for candidate 2, or else for 0."""

    def __init__(self, sigma: float) -> None:
        self.sigma = sigma

    def __call__(self, with_canary: bool, trial: int) -> np.ndarray:
        generator = np.random.default_rng([trial, int(with_canary)])
        counts = np.array([11.0, 9.0, 9.0]) + (np.array([0, 0, 1.0]) if with_canary else np.array([1.0, 0, 0]))
        return counts + generator.normal(0, self.sigma, 3)


def test_audit_of_a_run():
    sigma, delta = 2.0, 1e-5
    claim = gaussian_epsilon(sigma, delta=delta, sensitivity=math.sqrt(2))
    right = audit_run(NoisySum(sigma), trials=2000, claimed_epsilon=claim, delta=delta)
    assert 0.4 < right.epsilon_lower < claim < right.ceiling
    assert not right.refutes_claim
    wrong = audit_run(NoisySum(sigma / 4), trials=2000, claimed_epsilon=claim, delta=delta)
    assert wrong.refutes_claim
    assert wrong.epsilon_lower <= wrong.ceiling


def test_a_run_can_be_audited_in_parallel_with_the_same_result():
    alone = audit_run(NoisySum(1.0), trials=300, claimed_epsilon=3.0)
    with ThreadPoolExecutor(2) as pool:
        assert audit_run(NoisySum(1.0), trials=300, claimed_epsilon=3.0, map=pool.map) == alone
    assert audit_run(lambda canary, trial: float(canary), trials=120, claimed_epsilon=1.0).refutes_claim


def test_the_ceiling_is_what_a_perfect_test_shows():
    perfect = AuditResult(hits=100, trials=100, alarms=0, others=100, delta=0.0, confidence=0.95, claimed_epsilon=1.0)
    assert perfect.epsilon_lower == perfect.ceiling == pytest.approx(math.log((1 - 0.03621669) / 0.03621669), rel=1e-5)


def test_unseen_outcomes_say_nothing():
    score = learned_score(np.array([1, 1, 2]), np.array([2, 2, 1]))
    got = score(np.array([0, 1, 2, 99]))
    assert got[0] == got[3] == 0
    assert got[1] > 0 > got[2]


def test_errors():
    good = np.zeros(10)
    for present, absent in ((good, good[:, None]), (good, good.astype(int)), (np.zeros((9, 2)), np.zeros((9, 3)))):
        with pytest.raises(ValueError, match="observations are"):
            audit_samples(present, absent, claimed_epsilon=1.0)
    with pytest.raises(ValueError, match="trials is 3"):
        audit_samples(good[:3], good, claimed_epsilon=1.0)
    for delta in (-0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match="delta is"):
            audit_samples(good, good, claimed_epsilon=1.0, delta=delta)
    for claim in (-1.0, math.nan):
        with pytest.raises(ValueError, match="claimed_epsilon is"):
            audit_samples(good, good, claimed_epsilon=claim)
    for confidence in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match="confidence is"):
            clopper_pearson(1, 2, confidence)
    with pytest.raises(ValueError, match="number is 0"):
        audit_samples(good, good, claimed_epsilon=1.0, number=0)
    with pytest.raises(ValueError, match="number is 0"):
        error_of_test(0, 1e-6)
    with pytest.raises(ValueError, match="total is 0"):
        error_of_test(1, 0)
    with pytest.raises(ValueError, match="successes are 3 of 2"):
        clopper_pearson(3, 2)
    with pytest.raises(ValueError, match="trials is 2"):
        audit_mechanism(MECHANISMS[0], trials=2, rng=rng())
    with pytest.raises(ValueError, match="from 1 to 2 numbers"):
        audit_run(lambda canary, trial: np.zeros(1 + canary), trials=4, claimed_epsilon=1.0)
