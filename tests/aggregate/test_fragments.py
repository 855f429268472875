"""Fragments that hundreds of devices share are released, rarer ones never."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from aggregate.fragments import FragmentRule, at_least, at_most, release_fragments
from privacy.randomized_response import NULL, RandomizedResponse

SEEDS = 100


def names(d: int) -> list[str]:
    return [f"fragment {i}" for i in range(d)]


def poll(epsilon: float = 4.0, d: int = 60) -> RandomizedResponse:
    return RandomizedResponse(epsilon=epsilon, domain_size=d, null=True)


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
    law = np.convolve(
        binom.pmf(np.arange(count + 1), count, p), binom.pmf(np.arange(reports - count + 1), reports - count, q)
    )
    for named in (0, 1, count, int(reports * q) + 3, reports // 2, reports):
        np.testing.assert_allclose(at_least(named, reports, count, p, q), law[named:].sum(), rtol=1e-9, atol=1e-18)
        np.testing.assert_allclose(at_most(named, reports, count, p, q), law[: named + 1].sum(), rtol=1e-9, atol=1e-18)
    assert at_least(reports + 1, reports, count, p, q) == 0


def test_a_tail_of_many_reports_beyond_what_a_normal_law_knows() -> None:
    # 1e6 devices of which none holds the fragment, 250 name it: 350 reports are 6.3 standard deviations off.
    mechanism = RandomizedResponse(epsilon=8.0, domain_size=1000, null=True)
    exact = at_least(360, 10**6, 0, mechanism.p, mechanism.q)
    assert exact == pytest.approx(binom.sf(359, 10**6, mechanism.q), rel=1e-6)
    z = (360 - 10**6 * mechanism.q) / math.sqrt(10**6 * mechanism.q)
    assert exact > 3 * math.erfc(z / math.sqrt(2)) / 2, "a normal tail would be wrong by a factor"


def test_end_to_end_through_reports() -> None:
    mechanism, rule, rng = poll(), FragmentRule(minimum_count=100), np.random.default_rng(0)
    counts = shared(60, 20_000, {3: 3000, 41: 1500, 7: 900}, 50)
    values = rng.permutation(np.repeat(np.append(np.arange(60), NULL), counts))
    found = release_fragments(mechanism, mechanism.tally(mechanism.privatize(values, rng)), names(60), rule)
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
        released = release_fragments(mechanism, tally, names(60), rule).values
        assert "fragment 0" in released and not rare & set(released)
        wrong += bool((mechanism.estimate(tally).counts[5:] >= 100).any())
    # Negative control: to release what is estimated at 100 devices or more is wrong in nearly every poll.
    assert wrong > SEEDS / 2


def test_the_family_error_is_held_and_not_wasted() -> None:
    # 55 fragments one device short, each with an error of 0.5 / 60 at most: 37% of polls if they were independent.
    mechanism, rng, polls = poll(), np.random.default_rng(5), 2000
    most = 1 - (1 - 0.5 / 60) ** 55
    named = np.stack([mechanism.simulate_tally(almost(100), rng).sums[5:60] for _ in range(polls)])
    rule = FragmentRule(minimum_count=100, family_error=0.5)
    wrong = np.mean((named >= rule.cutoff(mechanism, 20_000)).any(axis=1))
    assert most / 2 < wrong < most + 4 * math.sqrt(most * (1 - most) / polls)
    # Negative control: the cutoff of a minimum that is a little lower is wrong too often.
    lower = FragmentRule(minimum_count=80, family_error=0.5).cutoff(mechanism, 20_000)
    assert np.mean((named >= lower).any(axis=1)) > most + 4 * math.sqrt(most * (1 - most) / polls)


@pytest.mark.parametrize("epsilon", [2.0, 8.0])
def test_the_count_needed_is_released_with_95_percent(epsilon: float) -> None:
    mechanism, rule, polls = poll(epsilon), FragmentRule(minimum_count=200), 1500
    need = rule.count_needed(mechanism, 20_000)
    assert 200 < need < 20_000

    def released(count: int) -> float:
        rng, counts = np.random.default_rng(1), shared(60, 20_000, {7: count}, 0)
        named = np.array([mechanism.simulate_tally(counts, rng).sums[7] for _ in range(polls)])
        return float(np.mean(named >= rule.cutoff(mechanism, 20_000)))

    error = math.sqrt(0.95 * 0.05 / polls)
    assert abs(released(int(need)) - 0.95) < 4 * error + 0.005  # a device more or less changes it by so much
    assert released(int(0.9 * need)) < 0.95 - 4 * error


def test_bounds_cover_the_truth_of_every_fragment() -> None:
    """At an error of a half, so that misses happen: each side misses somewhere in half of the polls at most."""
    mechanism, rule, polls = poll(d=20), FragmentRule(minimum_count=1, family_error=0.5), 60
    counts = shared(20, 20_000, {}, 800)
    low = high = 0
    for seed in range(polls):
        found = release_fragments(
            mechanism, mechanism.simulate_tally(counts, np.random.default_rng(seed)), names(20), rule
        )
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
    everything = release_fragments(mechanism, tally, names(60), FragmentRule(minimum_count=1, family_error=0.01))
    enough = {v for v, bound in zip(everything.values, everything.lower, strict=True) if bound >= 150}
    assert set(release_fragments(mechanism, tally, names(60), rule).values) == enough
    assert 5 < len(enough) < 55


def test_what_can_never_be_shown_is_never_released() -> None:
    assert FragmentRule(minimum_count=500).cutoff(poll(), 300) == 301, "fewer reports than the minimum"
    assert FragmentRule(minimum_count=500).count_needed(poll(), 300) == math.inf
    assert FragmentRule(minimum_count=290).count_needed(poll(0.1), 300) == math.inf
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
    with pytest.raises(ValueError, match="there are 59 different values; expected 60"):
        release_fragments(mechanism, tally, names(59), FragmentRule(minimum_count=5))
    with pytest.raises(ValueError, match="there are 59 different values; expected 60"):
        release_fragments(mechanism, tally, [*names(59), "fragment 0"], FragmentRule(minimum_count=5))
    with pytest.raises(ValueError, match="the tally was made with"):
        release_fragments(poll(3.0), tally, names(60), FragmentRule(minimum_count=5))
    with pytest.raises(ValueError, match="power is 1"):
        FragmentRule(minimum_count=5).count_needed(mechanism, 100, power=1)
