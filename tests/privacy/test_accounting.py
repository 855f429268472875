"""Composition, sampling, units and limits of the central guarantee."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.accounting import (
    Neighbours,
    PureLDP,
    Schedule,
    SecretSampling,
    Unit,
    VariationRatio,
    amplify_by_shuffling,
    group_delta,
    group_epsilon,
    guarantee,
    largest_local_epsilon,
    parameters_of,
)
from privacy.composition import PollLosses, _bin_masses, _by_convolution, _by_moments, compose, poll_losses
from privacy.distributed_unary import DistributedUnaryEncoding
from privacy.integer_noise import IntegerNoise, binomial_noise
from privacy.no_privacy import NoPrivacy
from privacy.randomized_response import RandomizedResponse
from privacy.shuffling import ShuffledPair
from privacy.unary_encoding import OptimizedUnaryEncoding

DELTA = 1e-6


def generic(epsilon: float) -> PureLDP:
    return PureLDP(epsilon=epsilon)


# T = 1 / 10 / 100 / 1000 at delta = 1e-6 (REFERENCE, 'Accounting'). Two digits differ from there, where the bounds are
# looser: 1.392, not 1.393, and .391, not .392. test_composition_is_between_two_bounds brackets both.
COMPOSED = [
    (10**5, 4.0, ["0.118", "0.404", "1.392", "4.98"]),
    (10**5, 2.0, ["0.033", "0.114", "0.391", "1.35"]),
]


@pytest.mark.parametrize(("n", "epsilon", "expected"), COMPOSED)
def test_the_published_compositions_to_their_printed_digits(n, epsilon, expected):
    for polls, text in zip((1, 10, 100, 1000), expected, strict=True):
        value = amplify_by_shuffling(generic(epsilon), n, DELTA, polls)
        assert f"{value:.{len(text.split('.')[1])}f}" == text


@pytest.mark.parametrize(("n", "epsilon", "polls"), [(10**5, 4.0, 100), (10**5, 2.0, 100), (300, 1.0, 10)])
def test_composition_is_between_two_bounds(n, epsilon, polls):
    """From below: outcomes merged into bins, which only helps the defender, with losses rounded down."""
    from dp_accounting.pld import pld_pmf

    pair = ShuffledPair(parameters_of(generic(epsilon)), reports=n, tail=1e-17)
    step = pair.epsilon(DELTA) / 5000
    edges = np.arange(5000 * 2) * step
    likely, rare, _ = _bin_masses(pair, edges, 1e-17)
    some = (likely > 0) & (rare > 0)
    likely, rare = likely[some], rare[some]
    loss = np.floor(np.log(likely / rare) / step).astype(int)
    size = loss.max() + 1
    masses = np.zeros(2 * size + 1)
    np.add.at(masses, size + loss, likely)
    np.add.at(masses, size - loss - 1, rare)
    masses[size] += 1 - masses.sum()
    lower = pld_pmf.DensePLDPmf(step, -size, masses, 0.0, False).self_compose(polls, 0.0).get_epsilon_for_delta(DELTA)
    upper = amplify_by_shuffling(generic(epsilon), n, DELTA, polls)
    assert lower < upper < lower * 1.002


def test_the_largest_local_epsilon_to_its_printed_digits():
    """REFERENCE has 12.37 for n = 1e7; delta is then 1.053e-6 > 1e-6, and 12.365 is just not enough: 12.36."""
    for n, expected in [(10**4, "5.47"), (10**5, "7.76"), (10**6, "10.06")]:
        assert f"{largest_local_epsilon(1.0, DELTA, n):.2f}" == expected
    assert largest_local_epsilon(1.0, DELTA, 10**7) == 12.0  # no mechanism goes further

    def delta(epsilon: float) -> float:
        parameters = VariationRatio(epsilon=epsilon, beta=1.0, log_q=epsilon)
        return ShuffledPair(parameters, reports=10**7, tail=1e-17).delta(1.0)

    assert delta(12.3649) < DELTA < delta(12.365)
    assert delta(12.37) == pytest.approx(1.053e-6, rel=1e-3)


def test_the_largest_local_epsilon_is_the_largest():
    for polls in (1, 3):
        for family in (generic, lambda e: RandomizedResponse(epsilon=e, domain_size=50)):
            best = largest_local_epsilon(0.5, 1e-5, 300, polls, family=family)
            assert amplify_by_shuffling(family(best), 300, 1e-5, polls) <= 0.5
            assert amplify_by_shuffling(family(best * (1 + 1e-6)), 300, 1e-5, polls) > 0.5
    assert largest_local_epsilon(3.0, 1e-300, 50) == pytest.approx(3.0, rel=1e-8)  # nothing is gained, nothing is lost


def exact_pair(parameters: VariationRatio, n: int) -> tuple[np.ndarray, np.ndarray]:
    """P and Q of one poll, cell by cell, by playing all others."""
    p, a, r, silent, s = (getattr(parameters, x) for x in ("p", "alpha", "clone", "silent", "silent_clone"))
    others: dict[tuple[int, int, int], float] = {(0, 0, 0): 1.0}
    kinds = [((1, 0, 0), r), ((0, 1, 0), r), ((0, 0, 1), s), ((0, 0, 0), 1 - 2 * r - s)]

    def add(law: dict[tuple[int, int, int], float], draws: list[tuple[tuple[int, int, int], float]]) -> dict:
        new: dict[tuple[int, int, int], float] = {}
        for (cell, weight), (kind, chance) in itertools.product(law.items(), draws):
            key = (cell[0] + kind[0], cell[1] + kind[1], cell[2] + kind[2])
            new[key] = new.get(key, 0.0) + weight * chance
        return new

    for _ in range(n - 1):
        others = add(others, kinds)
    one = add(others, [((1, 0, 0), p * a), ((0, 1, 0), a), ((0, 0, 1), silent)])
    two = add(others, [((1, 0, 0), a), ((0, 1, 0), p * a), ((0, 0, 1), silent)])
    cells = sorted(one)
    return np.array([one[c] for c in cells]), np.array([two[c] for c in cells])


def sampled(p: np.ndarray, q: np.ndarray, rate: float, polls: int, epsilon: float) -> float:
    """Exact delta of `polls` polls whose reporters were sampled in secret.

    With probability `rate` the device is one of the n that report, else another one is in its place; here one with the
    data that the device has in the first case, so that the first case looks the same either way.
    """
    a, b = p, rate * q + (1 - rate) * p
    best = 0.0
    for one, two in ((a, b), (b, a)):
        x, y = one, two
        for _ in range(polls - 1):
            x, y = np.outer(x, one).ravel(), np.outer(y, two).ravel()
        best = max(best, float(np.maximum(x - math.exp(epsilon) * y, 0).sum()))
    return best


SMALL = [
    VariationRatio(epsilon=1.0, beta=1.0, log_q=1.0),
    VariationRatio(epsilon=2.0, beta=0.4, log_q=2.0),
    VariationRatio(epsilon=4.0, beta=0.5, log_q=4.0, log_q_silent=0.0),
]


class Brings(PureLDP):
    """A randomizer with parameters of its own."""

    variation_ratio: VariationRatio


def bringing(parameters: VariationRatio) -> Brings:
    mechanism = Brings(epsilon=parameters.epsilon)
    object.__setattr__(mechanism, "variation_ratio", parameters)
    return mechanism


@pytest.mark.parametrize("parameters", SMALL)
def test_small_compositions_against_all_outcomes(parameters):
    p, q = exact_pair(parameters, 4)
    p2, q2 = np.outer(p, p).ravel(), np.outer(q, q).ravel()
    for delta in (1e-2, 1e-4):
        for polls, (x, y) in ((1, (p, q)), (2, (p2, q2))):
            epsilon = amplify_by_shuffling(bringing(parameters), 4, delta, polls)
            truth = np.maximum(x - math.exp(epsilon) * y, 0).sum()
            assert truth <= delta * (1 + 1e-9)
            less = epsilon * 0.98
            assert np.maximum(x - math.exp(less) * y, 0).sum() > delta * (1 - 1e-9)  # and hardly too much


@pytest.mark.parametrize("rate", [0.5, 0.1])
@pytest.mark.parametrize("parameters", SMALL)
def test_secret_sampling_against_all_outcomes(parameters, rate):
    p, q = exact_pair(parameters, 4)
    for delta in (1e-2, 1e-4):
        for polls in (1, 2):
            epsilon = amplify_by_shuffling(bringing(parameters), 4, delta, polls, sampling=SecretSampling(rate=rate))
            assert sampled(p, q, rate, polls, epsilon) <= delta * (1 + 1e-9)
            assert epsilon < amplify_by_shuffling(bringing(parameters), 4, delta, polls)


def test_negative_control_sampling_that_is_not_secret_exceeds_the_sampled_claim():
    p, q = exact_pair(SMALL[0], 4)
    epsilon = amplify_by_shuffling(bringing(SMALL[0]), 4, 1e-2, sampling=SecretSampling(rate=0.1))
    assert np.maximum(p - math.exp(epsilon) * q, 0).sum() > 1e-2


def test_sampling_everyone_changes_nothing():
    for polls in (1, 5):
        whole = amplify_by_shuffling(generic(2.0), 500, DELTA, polls)
        assert amplify_by_shuffling(generic(2.0), 500, DELTA, polls, sampling=SecretSampling(rate=1)) == whole
    assert amplify_by_shuffling(generic(2.0), 500, DELTA, sampling=SecretSampling(rate=1e-7)) == 0.0


@settings(max_examples=12, deadline=None)
@given(
    n=st.integers(2, 600),
    more=st.integers(0, 600),
    epsilon=st.floats(0.01, 12),
    wider=st.floats(1, 3),
    delta=st.floats(1e-9, 0.1),
    smaller=st.floats(1e-3, 1),
    polls=st.integers(1, 12),
    longer=st.integers(0, 12),
)
def test_monotone(n, more, epsilon, wider, delta, smaller, polls, longer):
    """In all four arguments, up to rounding; and never above pure composition."""
    here = amplify_by_shuffling(generic(epsilon), n, delta, polls)
    slack = 1 + 1e-5
    assert here <= polls * epsilon
    assert amplify_by_shuffling(generic(epsilon), n + more, delta, polls) <= here * slack
    assert amplify_by_shuffling(generic(epsilon), n, delta * smaller, polls) * slack >= here
    assert amplify_by_shuffling(generic(epsilon), n, delta, polls + longer) * slack >= here
    assert amplify_by_shuffling(generic(min(12.0, epsilon * wider)), n, delta, polls) * slack >= here


def test_own_parameters_help_and_composition_uses_them():
    for polls in (1, 20):
        known = [
            amplify_by_shuffling(mechanism, 2000, DELTA, polls)
            for mechanism in (
                RandomizedResponse(epsilon=3.0, domain_size=1000),
                OptimizedUnaryEncoding(epsilon=3.0, domain_size=1000),
                generic(3.0),
            )
        ]
        assert known == sorted(known)
        assert known[0] < known[1] / 2 < known[2] / 2


def test_tiny_delta_is_left_to_the_moments():
    """Where the convolution's float error would swallow delta, the other bound answers; elsewhere it is close."""
    share = 1e-18 / 50
    pair = ShuffledPair(parameters_of(generic(2.0)), reports=10**4, tail=share * 1e-9)
    losses = poll_losses(pair, rate=1.0, tail=share * 1e-9, step=2.0**-9)
    assert _by_convolution(losses, 50, 1e-18) == math.inf
    assert compose(losses, polls=50, delta=1e-18) == _by_moments(losses, 50, 1e-18) < 50 * 2.0
    assert 1 < _by_moments(losses, 50, 1e-6) / _by_convolution(losses, 50, 1e-6) < 1.2


def test_moments_are_an_upper_bound_for_a_lottery():
    """Randomized response: losses +1 and -1 with known probabilities, composed by hand."""
    p = 1 / (1 + math.exp(-1))
    losses = PollLosses(step=1.0, masses=np.array([1 - p, 0.0, p]), infinite=0.0)
    for polls, delta in itertools.product((3, 10), (1e-2, 1e-5)):
        bound = _by_moments(losses, polls, delta)
        ups = np.arange(polls + 1)
        chance = np.array([math.comb(polls, k) * p**k * (1 - p) ** (polls - k) for k in ups])
        assert (chance * np.maximum(1 - np.exp(bound - (2.0 * ups - polls)), 0)).sum() <= delta


# Several reports of one device


def divergence(one: np.ndarray, other: np.ndarray, epsilon: float) -> float:
    """The exact delta at this epsilon, in the worse direction."""
    return max(float(np.maximum(x - math.exp(epsilon) * y, 0).sum()) for x, y in ((one, other), (other, one)))


def shuffled(channel: np.ndarray, values: tuple[int, ...]) -> np.ndarray:
    """The law of what a server sees of these devices' reports without their order: how many there are of each."""
    law = {(0,) * len(channel): 1.0}
    for value in values:
        new: dict[tuple[int, ...], float] = {}
        for seen, chance in law.items():
            for report, likely in enumerate(channel[value]):
                key = (*seen[:report], seen[report] + 1, *seen[report + 1 :])
                new[key] = new.get(key, 0.0) + chance * likely
        law = new
    return np.array([law[key] for key in sorted(law)])


def worst(channel: np.ndarray, n: int, epsilon: float, reports: int = 2, shuffles: int = 1) -> float:
    """The largest exact delta over all data of all devices, when `reports` reports of one device change in each of so
    many shuffles of n reports."""
    values, found = range(len(channel)), 0.0
    for rest in itertools.combinations_with_replacement(values, n - reports):
        for before, after in itertools.combinations(itertools.combinations_with_replacement(values, reports), 2):
            one, other = (shuffled(channel, (*rest, *own)) for own in (before, after))
            if shuffles == 2:
                one, other = np.outer(one, one).ravel(), np.outer(other, other).ravel()
            found = max(found, divergence(one, other, epsilon))
    return found


GROUPS = [(2, 1.0, 20, 1e-2), (2, 2.0, 30, 1e-3), (3, 1.0, 8, 1e-2), (3, 2.0, 9, 3e-2)]


@pytest.mark.parametrize(("d", "epsilon", "n", "delta"), GROUPS)
def test_two_reports_of_one_device_in_one_shuffle_against_all_outcomes(d, epsilon, n, delta):
    mechanism = RandomizedResponse(epsilon=epsilon, domain_size=d)
    channel = np.array(mechanism.channel(), dtype=np.float64)

    def one(share: float) -> float:
        return amplify_by_shuffling(mechanism, n, share)

    assert worst(channel, n, one(delta), reports=1) <= delta
    assert worst(channel, n, group_epsilon(one, 2, delta)) <= delta
    # Negative control: what is claimed for one report does not hold for two.
    assert worst(channel, n, one(delta)) > delta


@pytest.mark.parametrize(("d", "epsilon", "n", "delta"), GROUPS[:3])
def test_two_reports_of_one_device_in_two_shuffles_against_all_outcomes(d, epsilon, n, delta):
    mechanism = RandomizedResponse(epsilon=epsilon, domain_size=d)
    channel = np.array(mechanism.channel(), dtype=np.float64)

    def one(share: float) -> float:
        return amplify_by_shuffling(mechanism, n, share)

    assert worst(channel, n, group_epsilon(one, 2, delta), reports=1, shuffles=2) <= delta
    assert worst(channel, n, one(delta), reports=1, shuffles=2) > delta  # negative control


def moved(noise: IntegerNoise, votes: int, epsilon: float) -> float:
    """Exact delta of so many votes that move from one noisy count to another."""
    f = np.exp(np.concatenate([[0.0], np.cumsum(noise.up)]))
    f = np.pad(f / f.sum(), (votes, votes))
    there, here = np.outer(np.roll(f, votes), f), np.outer(f, np.roll(f, votes))
    return divergence(there.ravel(), here.ravel(), epsilon)


@pytest.mark.parametrize(("epsilon", "delta", "honest"), [(1.0, 1e-3, 200), (2.0, 1e-4, 300), (0.5, 1e-2, 500)])
@pytest.mark.parametrize("reports", [2, 3])
def test_several_reports_of_one_device_in_one_sum_against_all_outcomes(epsilon, delta, honest, reports):
    share = group_delta(epsilon, reports, delta)
    made = DistributedUnaryEncoding(domain_size=2, central_epsilon=epsilon, central_delta=share, honest_reports=honest)
    noise = made.noise(honest)
    claimed = group_epsilon(lambda delta: noise.epsilon(delta, Neighbours.REPLACEMENT), reports, delta)
    assert claimed == pytest.approx(reports * epsilon, rel=0.02), "the search ends where the noise was made for"
    assert moved(noise, 1, noise.epsilon(delta, Neighbours.REPLACEMENT)) <= delta
    assert moved(noise, reports, claimed) <= delta
    assert moved(noise, reports, reports * epsilon) <= delta, "group_delta says the same"
    # Negative control: the claim of one report.
    assert moved(noise, reports, noise.epsilon(delta, Neighbours.REPLACEMENT)) > delta


def test_a_group_of_one_is_one_report():
    asked = []

    def one(delta: float) -> float:
        asked.append(delta)
        return 0.3

    assert group_epsilon(one, 1, 1e-6) == 0.3 and asked == [1e-6]
    assert group_delta(0.3, 1, 1e-6) == 1e-6
    noise = binomial_noise(1000, 0.1)
    for delta in (1e-3, 1e-6):
        exact = noise.epsilon(delta, Neighbours.REPLACEMENT)
        assert group_epsilon(lambda share: noise.epsilon(share, Neighbours.REPLACEMENT), 1, delta) == exact


@settings(max_examples=15, deadline=None)
@given(n=st.integers(2, 5000), epsilon=st.floats(0.05, 8), delta=st.floats(1e-9, 0.05), reports=st.integers(2, 5))
def test_a_group_is_never_claimed_for_less_than_its_reports(n, epsilon, delta, reports):
    def one(share: float) -> float:
        return amplify_by_shuffling(generic(epsilon), n, share)

    several = [group_epsilon(one, k, delta) for k in range(1, reports + 1)]
    assert several == sorted(several)
    for k, found in enumerate(several, start=1):
        assert k * one(delta) * (1 - 1e-9) <= found <= k * epsilon * (1 + 1e-9)


def test_the_deltas_of_a_group_add_up():
    # Three steps at epsilon 1: e^0 + e^1 + e^2 of one step's delta.
    assert group_delta(1.0, 3, 1e-6) * (1 + math.e + math.e**2) == pytest.approx(1e-6)
    assert group_delta(0.0, 4, 1e-6) == 0.25e-6
    # Whatever the one-report curve, the share used fits its own epsilon, and the search stops near the largest.
    for curve in (lambda d: 1.0, lambda d: -0.1 * math.log(d), lambda d: 0.0, lambda d: math.sqrt(-math.log(d)) / 3):
        used: list[float] = []
        found = group_epsilon(lambda d, of=curve, seen=used: seen.append(d) or of(d), 3, 1e-6)
        assert found == 3 * curve(used[-1]) and used[-1] <= group_delta(curve(used[-1]), 3, 1e-6)
        larger = used[-1] / 0.8
        assert larger > group_delta(curve(larger), 3, 1e-6)


def test_a_group_without_a_guarantee_and_bad_groups():
    assert group_epsilon(lambda delta: math.inf, 2, 1e-6) == math.inf
    assert group_epsilon(lambda delta: 1e-3 if delta > 1e-7 else math.inf, 100, 1e-6) == math.inf
    assert group_epsilon(lambda delta: 400.0, 2, 1e-6) == math.inf, "e to that is no float"
    for delta in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match=r"delta is .*expected a number in \(0, 1\)"):
            group_epsilon(lambda _: 1.0, 2, delta)
    for reports in (0, -1, 1.5, None):
        with pytest.raises(ValueError, match=r"reports is .*expected a whole number >= 1 \(reports of one device\)"):
            group_epsilon(lambda _: 1.0, reports, 1e-6)


def test_schedules_and_units():
    month = Schedule(polls_per_day=2, days=30)
    assert [month.polls(unit) for unit in Unit] == [60, 60, 60]  # nothing is forgotten: all as costly as the device
    forgetful = Schedule(polls_per_day=2, days=30, retention_days=7)
    assert [forgetful.polls(unit) for unit in (Unit.DEVICE, Unit.USER_DAY, Unit.EVENT)] == [60, 14, 14]
    once = Schedule(polls_per_day=2, days=30, retention_days=7, event_reports=1)
    assert [once.polls(unit) for unit in (Unit.DEVICE, Unit.USER_DAY, Unit.EVENT)] == [60, 14, 1]
    assert Schedule(days=3, retention_days=9).polls(Unit.USER_DAY) == 3


def test_a_guarantee_says_all_that_it_rests_on():
    mechanism = RandomizedResponse(epsilon=1.0, domain_size=100)
    schedule = Schedule(days=10, retention_days=2)
    device = guarantee(mechanism, reports=5000, delta=DELTA, schedule=schedule)
    assert (device.unit, device.polls, device.report_epsilon, device.local_epsilon) == (Unit.DEVICE, 10, 1.0, 10.0)
    assert device.central_epsilon == amplify_by_shuffling(mechanism, 5000, DELTA, 10)
    assert "whole run" in device.neighbours
    assert "not protected" in device.neighbours
    day = guarantee(mechanism, reports=5000, delta=DELTA, schedule=schedule, unit=Unit.USER_DAY)
    assert (day.polls, day.local_epsilon) == (2, 2.0)
    assert "one day" in day.neighbours
    assert day.central_epsilon < device.central_epsilon
    present = guarantee(
        mechanism,
        reports=5000,
        delta=DELTA,
        schedule=schedule,
        neighbours=Neighbours.PARTICIPATION,
        always_report=True,
        sampling=SecretSampling(rate=0.1),
    )
    assert "takes part is protected" in present.neighbours
    assert present.sampling_rate == 0.1
    assert present.central_epsilon < device.central_epsilon
    with pytest.raises(ValueError, match="visible in the number of reports"):
        guarantee(mechanism, reports=5000, delta=DELTA, schedule=schedule, neighbours=Neighbours.PARTICIPATION)


@pytest.mark.parametrize("delta", [0, 0.0, 1, 1.0, -1e-6, 2.0, math.nan, "1e-6", None, True])
def test_bad_delta(delta):
    for call in (
        lambda: amplify_by_shuffling(generic(1.0), 100, delta),
        lambda: largest_local_epsilon(1.0, delta, 100),
    ):
        with pytest.raises(ValueError, match=r"delta is .*expected a number in \(0, 1\)") as caught:
            call()
        assert "\n" not in str(caught.value)


def test_other_errors():
    for reports in (1, 0, -5, 2.5, True, math.nan, "10"):
        with pytest.raises(ValueError, match=r"reports is .*expected a whole number >= 2"):
            amplify_by_shuffling(generic(1.0), reports, DELTA)
        with pytest.raises(ValueError, match=r"reports is .*expected a whole number >= 2"):
            largest_local_epsilon(1.0, DELTA, reports)
    for polls in (0, -1, 1.5, None):
        with pytest.raises(ValueError, match=r"polls is .*expected a whole number >= 1"):
            amplify_by_shuffling(generic(1.0), 100, DELTA, polls)
    for epsilon in (0.0, -1.0, 12.1, math.nan):
        with pytest.raises(ValueError, match="epsilon is"):
            amplify_by_shuffling(generic(epsilon), 100, DELTA)
    with pytest.raises(ValueError, match="epsilon is inf"):
        amplify_by_shuffling(NoPrivacy(domain_size=4), 100, DELTA)
    for central in (0.0, -1.0, math.inf, math.nan, "1"):
        with pytest.raises(ValueError, match="central_epsilon is"):
            largest_local_epsilon(central, DELTA, 100)
    for rate in (0.0, 1.1, -0.5, math.nan, True, "x"):
        with pytest.raises(ValueError, match=r"rate is .*\(0, 1\]"):
            SecretSampling(rate=rate)
    for field in ("polls_per_day", "days", "retention_days", "event_reports"):
        with pytest.raises(ValueError, match=f"{field} is 0; expected a whole number >= 1"):
            Schedule(**{field: 0})


def test_whole_numbers_of_numpy_and_the_largest_population():
    assert amplify_by_shuffling(generic(1.0), np.int64(100), 1e-3, np.int64(2)) > 0
    most = amplify_by_shuffling(generic(12.0), 10**9, DELTA)
    assert amplify_by_shuffling(generic(12.0), 10**12, DELTA) == most
