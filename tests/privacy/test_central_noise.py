"""Central guarantees of whole-number noise: never below the exact divergence, and no more than a hair above it."""

from __future__ import annotations

import itertools
import math
import sys
from collections import Counter
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from privacy.central_noise import AggregatorNoise, GaussianBaseline, discrete_gaussian
from privacy.distributed_unary import DistributedUnaryEncoding
from privacy.gaussian import gaussian_delta, gaussian_sigma
from privacy.integer_noise import binomial_noise, discrete_gaussian_noise
from privacy.no_privacy import NoPrivacy
from privacy.randomness import DeviceStream, Stage
from privacy.secret_sharing import Aggregator, Batch, contributions, recombine, secure_tally, split
from privacy.thresholds import WORD, exp_below
from privacy.units import Neighbours

MOVED, PRESENT = Neighbours.REPLACEMENT, Neighbours.PARTICIPATION
NEIGHBOURS = [MOVED, PRESENT]
CLOSE = Fraction(1_000_001, 1_000_000)  # how far above the exact value a bound may be


def stream(chunk: int = 0) -> DeviceStream:
    return DeviceStream.simulation(seed=13, round=0, stage=Stage.PRIVATIZE, chunk=chunk)


def divergence(one: dict, other: dict, e):
    """The hockey-stick divergence of two distributions, exactly."""
    return sum(max(p - e * other.get(outcome, 0), 0) for outcome, p in one.items())


def moved(f: dict, e):
    """A vote moves: (z1 + 1, z2) against (z1, z2 + 1)."""
    pairs = [(z1, z2, p1 * p2) for z1, p1 in f.items() for z2, p2 in f.items()]
    return divergence({(a + 1, b): p for a, b, p in pairs}, {(a, b + 1): p for a, b, p in pairs}, e)


def added(f: dict, e):
    """A vote is there or not, whichever direction tells more."""
    plus = {z + 1: p for z, p in f.items()}
    return max(divergence(plus, f, e), divergence(f, plus, e))


def exact(f: dict, e, neighbours: Neighbours):
    return moved(f, e) if neighbours is MOVED else max(moved(f, e), added(f, e))


@pytest.mark.parametrize("neighbours", NEIGHBOURS)
@pytest.mark.parametrize(("n", "q"), [(1, "1/2"), (4, "1/4"), (25, "1/2"), (30, "1/8"), (40, "3/8")])
@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0, 3.0])
def test_binomial_delta_is_the_exact_divergence(n, q, epsilon, neighbours):
    q = Fraction(q)
    f = {z: comb(n, z) * q**z * (1 - q) ** (n - z) for z in range(n + 1)}
    true = exact(f, exp_below(epsilon) if epsilon else Fraction(1), neighbours)  # at least that of e^epsilon itself
    claimed = Fraction(binomial_noise(n, float(q)).delta(epsilon, neighbours))
    assert true <= claimed <= true * CLOSE


@pytest.mark.parametrize("neighbours", NEIGHBOURS)
@pytest.mark.parametrize("scale", [0.5, 1.5, 3.0])
@pytest.mark.parametrize("epsilon", [0.1, 1.0, 2.0])
def test_discrete_gaussian_delta_is_the_exact_divergence(scale, epsilon, neighbours):
    with localcontext() as context:
        context.prec = 40
        reach = math.ceil(12 * scale)
        f = {z: (-Decimal(z * z) / (2 * Decimal(scale) ** 2)).exp() for z in range(-reach, reach + 1)}
        total = sum(f.values())
        true = exact({z: p / total for z, p in f.items()}, Decimal(epsilon).exp(), neighbours)
        claimed = Decimal(discrete_gaussian_noise(scale).delta(epsilon, neighbours))
        # The tails beyond 12 scales, cut here, hold less than 1e-30.
        assert true - Decimal("1e-30") <= claimed <= true * Decimal("1.000001") + Decimal("3e-20")


def test_discrete_gaussian_of_one_count_is_theorem_7():
    # Canonne, Kamath, Steinke 2020: delta = Pr[Y > epsilon s^2 - 1/2] - e^epsilon Pr[Y > epsilon s^2 + 1/2]
    scale, epsilon = 4.0, 0.7
    z = np.arange(-80, 81)
    f = np.exp(-(z**2) / (2 * scale**2))
    f /= f.sum()
    middle = epsilon * scale**2
    expected = f[z > middle - 0.5].sum() - math.exp(epsilon) * f[z > middle + 0.5].sum()
    assert discrete_gaussian_noise(scale)._added(epsilon) == pytest.approx(expected, rel=1e-6)


def test_large_noise_approaches_the_gaussian_and_small_counts_do_not():
    wide = binomial_noise(4_000_000, 0.5)
    for epsilon in (0.001, 0.004):
        gaussian = gaussian_delta(math.sqrt(wide.variance), epsilon, sensitivity=math.sqrt(2))
        assert wide.delta(epsilon, MOVED) == pytest.approx(gaussian, rel=0.01)
    # Why the exact sum: with few noise bits the binomial is skewed, and the Gaussian formula would claim too much.
    sparse = binomial_noise(10_000, 28 / 10_000)
    assert sparse.delta(1.3, MOVED) > 5 * gaussian_delta(math.sqrt(sparse.variance), 1.3, sensitivity=math.sqrt(2))


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 3000),
    more=st.integers(0, 3000),
    q=st.floats(1e-4, 0.5),
    epsilon=st.floats(0, 6),
    step=st.floats(0, 3),
    neighbours=st.sampled_from(NEIGHBOURS),
)
def test_binomial_delta_is_monotone(n, more, q, epsilon, step, neighbours):
    delta = binomial_noise(n, q).delta(epsilon, neighbours)
    limit = delta * (1 + 1e-6) + 1e-19  # the allowances for rounding and tails are not monotone
    assert binomial_noise(n + more, q).delta(epsilon, neighbours) <= limit
    assert binomial_noise(n, q).delta(epsilon + step, neighbours) <= limit
    assert binomial_noise(n, q).delta(epsilon, PRESENT) >= binomial_noise(n, q).delta(epsilon, MOVED)
    assert 0 <= delta <= 1


@pytest.mark.parametrize("noise", [binomial_noise(10_000, 0.004), discrete_gaussian_noise(5.0)])
@pytest.mark.parametrize("neighbours", NEIGHBOURS)
def test_epsilon_inverts_delta_from_above(noise, neighbours):
    for delta in (1e-3, 1e-6, 1e-9):
        epsilon = noise.epsilon(delta, neighbours)
        assert noise.delta(epsilon, neighbours) <= delta < noise.delta(epsilon * 0.9999, neighbours)
    assert binomial_noise(10, 0.25).epsilon(1e-9, neighbours) == math.inf  # no epsilon hides an impossible outcome
    assert noise.epsilon(0.999, neighbours) == 0.0


# --- unary encoding with noise for the sum


def distributed(**fields) -> DistributedUnaryEncoding:
    return DistributedUnaryEncoding(
        **{"domain_size": 6, "central_epsilon": 1.0, "central_delta": 1e-6, "honest_reports": 500, **fields}
    )


@cache
def law_of_sum(threshold: int, d: int, votes: tuple[int, ...], silent: int = 0) -> dict:
    """The exact law of the summed reports of devices with these votes and of silent ones."""
    q, law = Fraction(threshold, WORD), {(0,) * d: Fraction(1)}
    for vote in (*votes, *[None] * silent):
        after: Counter = Counter()
        for bits in itertools.product((0, 1), repeat=d):
            p = math.prod(q if bit else 1 - q for bit in bits)
            for sums, weight in law.items():
                after[tuple(s + b + (j == vote) for j, (s, b) in enumerate(zip(sums, bits, strict=True)))] += weight * p
        law = dict(after)
    return law


@pytest.mark.parametrize("neighbours", NEIGHBOURS)
@pytest.mark.parametrize(("d", "n"), [(2, 4), (3, 3)])
def test_sum_of_reports_keeps_its_guarantee_exactly(d, n, neighbours):
    """All neighbouring pairs of n devices, from the integer threshold, in whole numbers."""
    mechanism = distributed(
        domain_size=d, central_epsilon=1.5, central_delta=0.45, honest_reports=n, neighbours=neighbours
    )
    e = exp_below(1.5)

    def worst(devices: int) -> Fraction:
        found = Fraction(0)
        for others in itertools.combinations_with_replacement(range(d), devices - 1):
            laws = [law_of_sum(mechanism.threshold, d, tuple(sorted((*others, v)))) for v in range(d)]
            if neighbours is PRESENT:
                laws.append(law_of_sum(mechanism.threshold, d, others, silent=1))
            found = max(found, *(divergence(a, b, e) for a, b in itertools.permutations(laws, 2)))
        return found

    claimed = Fraction(mechanism.central_delta_of(n))
    assert worst(n) <= claimed <= worst(n) * CLOSE
    assert claimed <= Fraction(mechanism.central_delta)
    assert worst(n) > Fraction(mechanism.central_delta) * Fraction(999, 1000)  # no more noise than needed
    # A device that drops out, or tells its coins, costs what is claimed: and it does cost.
    assert mechanism.central_delta < worst(n - 1) <= Fraction(mechanism.central_delta_of(n - 1))


def test_degrades_gracefully_with_fewer_honest_devices():
    mechanism = distributed(honest_reports=10_000)
    epsilons = [mechanism.central_epsilon_of(n) for n in (20_000, 10_000, 9_000, 5_000, 1_000)]
    assert epsilons == sorted(epsilons)
    assert epsilons[1] == pytest.approx(1.0, abs=1e-4)
    assert epsilons[0] < 0.7
    assert 1.4 < epsilons[3] < 2.5
    assert mechanism.central_delta_of(5_000) > 100 * mechanism.central_delta


def test_far_less_noise_than_local_reports():
    mechanism = distributed(honest_reports=10_000)
    # Local randomizers at epsilon 1 have a standard error of sqrt(4 n e) / (e - 1) = 192 votes here.
    assert mechanism.standard_error(10_000) < 7
    assert mechanism.q < 0.005


@pytest.mark.parametrize("d", [2, 6, 70])
def test_estimates_are_unbiased_within_5_standard_errors_and_stderr_is_the_spread(d):
    n, repeats = 500, 300
    mechanism, plain = distributed(domain_size=d), NoPrivacy(domain_size=d)
    values = np.arange(n) ** 2 % d
    truth = np.bincount(values, minlength=d)
    tallies = [mechanism.tally(mechanism.privatize(values, stream(c))) for c in range(repeats)]
    errors = np.array([mechanism.estimate(t).counts - truth for t in tallies])
    stderr = mechanism.standard_error(n)
    assert np.abs(errors.mean(axis=0)).max() < 5 * stderr / math.sqrt(repeats)
    assert np.abs(errors.var(axis=0, ddof=1) / stderr**2 - 1).max() < 5 * math.sqrt(2 / (repeats - 1))
    # Negative control: decoding as if there were no noise is off by n q.
    raw = np.array([t.sums - truth for t in tallies])
    assert np.abs(raw.mean(axis=0)).min() > 5 * stderr / math.sqrt(repeats)
    simulated = np.array([mechanism.simulate_tally(truth, np.random.default_rng(c)).sums for c in range(repeats)])
    assert np.abs(simulated.mean(axis=0) - raw.mean(axis=0) - truth).max() < 5 * stderr * math.sqrt(2 / repeats)
    assert np.abs(np.log(simulated.var(axis=0) / raw.var(axis=0))).max() < 5 * math.sqrt(4 / repeats)
    assert plain.tally(values).sums.tolist() == truth.tolist()


def test_reports_without_a_vote_are_coins_alone():
    mechanism = distributed()
    reports = mechanism.silence(4000, stream())
    assert set(np.unique(reports).tolist()) == {0, 1}
    z = (reports.sum() - reports.size * mechanism.q) / math.sqrt(reports.size * mechanism.q * (1 - mechanism.q))
    assert abs(z) < 5


def test_chunks_of_devices_draw_the_same_coins(monkeypatch):
    mechanism = distributed()
    whole = mechanism.privatize(np.arange(50) % 6, stream())
    monkeypatch.setattr("privacy.distributed_unary._SLICE_WORDS", 30)
    assert (mechanism.privatize(np.arange(50) % 6, stream()) == whole).all()


def test_distributed_unary_through_two_aggregators():
    mechanism = distributed(domain_size=20)
    reports = mechanism.privatize(np.arange(600) % 20, stream())
    batch = Batch.of(mechanism, minimum_reports=500, batch_id=bytes(16))
    tally = secure_tally(batch, mechanism, [reports[:100], reports[100:]], stream(1))
    estimate = mechanism.estimate(tally)
    assert tally.sums.tolist() == mechanism.tally(reports).sums.tolist()
    assert np.abs(estimate.counts - 30).max() < 5 * estimate.stderr[0]


def test_errors_of_distributed_unary():
    with pytest.raises(ValueError, match="honest_reports is 50; even fair coins"):
        distributed(honest_reports=50)
    for fields, match in [
        ({"central_epsilon": 0}, "central_epsilon is 0"),
        ({"central_delta": 1.0}, "delta is 1.0"),
        ({"honest_reports": 1}, "honest_reports is 1"),
        ({"honest_reports": 5.5}, "honest_reports is 5.5"),
        ({"domain_size": 1}, "domain_size is 1"),
        ({"neighbours": "replacement"}, "neighbours is 'replacement'"),
    ]:
        with pytest.raises(ValueError, match=match):
            distributed(**fields)
    mechanism = distributed()
    with pytest.raises(ValueError, match="reach up to 3; expected entries 0, 1 and 2"):
        mechanism.tally(np.full((2, 6), 3, dtype=np.uint8))
    with pytest.raises(ValueError, match=r"expected uint8\[n, 6\]"):
        mechanism.tally(np.zeros((2, 5), dtype=np.uint8))


# --- noise at the aggregators


def fit(draws: np.ndarray, scale: float) -> float:
    """p-value of a chi-square test against the discrete Gaussian, cells with 20 draws or more."""
    reach = math.ceil(10 * scale)
    z = np.arange(-reach, reach + 1)
    f = np.exp(-(z**2) / (2 * scale**2))
    f *= len(draws) / f.sum()
    inner = np.flatnonzero(f >= 20)
    low, high = inner[0], inner[-1]
    cells = np.clip(draws + reach, low, high) - low
    expected = f[low : high + 1].copy()
    expected[0] += f[:low].sum()
    expected[-1] += f[high + 1 :].sum()
    return float(stats.chisquare(np.bincount(cells, minlength=high - low + 1), expected).pvalue)


@pytest.mark.parametrize("scale", [0.8, 3.0])
def test_draws_are_discrete_gaussian(scale):
    # OpenDP cannot be seeded, so the limit is one that a right sampler passes but once in 10^9 runs.
    draws = discrete_gaussian(20_000, scale)
    assert draws.dtype == np.int64
    assert fit(draws, scale) > 1e-9


def test_negative_control_another_scale_is_noticed():
    assert fit(discrete_gaussian(20_000, 3.0), 3.3) < 1e-9
    rounded = np.rint(np.random.default_rng(0).normal(0, 0.8, 20_000)).astype(np.int64)
    assert fit(rounded, 0.8) < 1e-9  # rounding a Gaussian is not the discrete Gaussian


@pytest.mark.parametrize("neighbours", NEIGHBOURS)
@pytest.mark.parametrize("epsilon", [0.5, 1.0, 4.0])
def test_calibrated_noise_is_enough_and_no_more(epsilon, neighbours):
    noise = AggregatorNoise.calibrate(epsilon=epsilon, delta=1e-6, neighbours=neighbours)
    assert noise.known_to_one.delta(epsilon, neighbours) <= 1e-6
    assert discrete_gaussian_noise(noise.scale * 0.9999).delta(epsilon, neighbours) > 1e-6
    assert noise.scale == pytest.approx(gaussian_sigma(epsilon, delta=1e-6, sensitivity=math.sqrt(2)), rel=0.02)


def test_two_aggregators_add_noise_and_nothing_else_changes():
    d, n = 300, 3000
    noise = AggregatorNoise(scale=4.0)
    mechanism = NoPrivacy(domain_size=d)
    values = np.arange(n) ** 2 % d
    batch = Batch.of(mechanism, minimum_reports=1000, batch_id=bytes(16), largest_noise=noise.largest)
    aggregators = [Aggregator(batch, party=party) for party in (0, 1)]
    for share in split(batch, contributions(mechanism, values), stream(), 0):
        aggregators[share.party].receive(share)
    tally = recombine(batch, *(aggregator.close(noise.draw(d)) for aggregator in aggregators))
    estimate = noise.estimate(tally)
    errors = estimate.counts - np.bincount(values, minlength=d)
    assert estimate.reports == n
    assert estimate.stderr[0] == pytest.approx(4 * math.sqrt(2))
    # Unseeded: 7 standard errors of a variance of 300 draws.
    assert abs(errors.var() / estimate.stderr[0] ** 2 - 1) < 7 * math.sqrt(2 / d)
    assert np.abs(errors).max() < 7 * estimate.stderr[0]


def test_missing_opendp_names_the_extra(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "opendp"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opendp", None)
    with pytest.raises(ImportError, match=r"pip install 'synthpoll\[central\]'"):
        discrete_gaussian(10, 1.0)


def test_errors_of_aggregator_noise():
    for scale in (0.0, -1.0, math.nan, math.inf, "3", True):
        with pytest.raises(ValueError, match=r"scale is .*expected a number from 0\.1"):
            AggregatorNoise(scale=scale)
    for size in (0, -1, 2.5):
        with pytest.raises(ValueError, match="size is"):
            discrete_gaussian(size, 1.0)
    for epsilon, delta in ((0.0, 1e-6), (-1.0, 1e-6), (1.0, 0.0), (1.0, 1.0), (1e-6, 1e-12)):
        with pytest.raises(ValueError, match=r"epsilon is|delta is"):
            AggregatorNoise.calibrate(epsilon=epsilon, delta=delta, neighbours=MOVED)


def test_gaussian_baseline():
    tally = NoPrivacy(domain_size=5000).simulate_tally(np.arange(5000) % 7, np.random.default_rng(0))
    baseline = GaussianBaseline(sigma=7.5)
    estimate = baseline.estimate(tally, np.random.default_rng(1))
    errors = estimate.counts - tally.sums
    assert abs(errors.mean()) < 5 * 7.5 / math.sqrt(5000)
    assert abs(errors.var() / 7.5**2 - 1) < 5 * math.sqrt(2 / 5000)
    assert stats.kstest(errors / 7.5, "norm").pvalue > 1e-3
    assert stats.kstest(errors / 8.5, "norm").pvalue < 1e-3  # negative control
    assert (estimate.stderr == 7.5).all()
    assert estimate.reports == tally.reports
    assert "baseline" in baseline.name
    for sigma in (0.0, -1.0, math.inf, math.nan, "3"):
        with pytest.raises(ValueError, match="sigma is"):
            GaussianBaseline(sigma=sigma)
