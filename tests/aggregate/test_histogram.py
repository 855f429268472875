"""From batches to released elements. Statistical tolerances are in standard errors, each with a negative control."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from aggregate.histogram import (
    Histogram,
    ReleaseRule,
    count_needed,
    critical_value,
    intervals,
    release_histogram,
)
from aggregate.post_processing import post_process
from aggregate.trust import CentralBaseline, Collected, LocalTrust
from privacy.count_mean_sketch import CountMeanSketch
from privacy.hashing import hash_strings
from privacy.mechanism import Estimate
from privacy.no_privacy import NoPrivacy
from privacy.randomized_response import RandomizedResponse
from privacy.subset_selection import SubsetSelection
from privacy.unary_encoding import OptimizedUnaryEncoding
from tests.aggregate.asks import ask_of

VALUES = ("a", "b", "c", "d", "e", "f")
LOOSE = ReleaseRule(minimum_count=0, threshold=0, discoveries="benjamini_hochberg", false_discovery_rate=0.5)


def of(counts: list[float], stderr: float | list[float] = 10.0, reports: int = 1000) -> Estimate:
    array = np.array(counts, dtype=np.float64)
    return Estimate(array, np.broadcast_to(np.asarray(stderr, np.float64), array.shape).copy(), reports)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_only_what_passes_every_bar_is_in_the_histogram() -> None:
    rule = ReleaseRule(minimum_count=50, threshold=4.0, confidence=0.9, correction="none")
    # b: below the minimum. c: 3 standard errors. d: negative. f: the largest.
    found = release_histogram(of([80, 45, 120, -30, 60, 300], [10, 1, 40, 10, 10, 20]), VALUES, rule)
    assert found.values == ("f", "a", "e") and found.counts.tolist() == [300, 80, 60]
    assert (found.looked_at, found.withheld, found.reports) == (6, 3, 1000)
    np.testing.assert_allclose(found.upper - found.counts, norm.isf(0.05) * np.array([20, 10, 10]))
    np.testing.assert_allclose(found.counts - found.lower, norm.isf(0.05) * np.array([20, 10, 10]))
    np.testing.assert_allclose(found.p_values, norm.sf([15, 8, 6]))
    np.testing.assert_allclose(found.shares, [0.3, 0.08, 0.06])
    assert found.processed.tolist() == found.counts.tolist() and found.rule is rule
    # Each bar on its own lets the one through that only it held back.
    assert (
        "b" in release_histogram(of([80, 45], [10, 1]), ("a", "b"), dataclasses.replace(rule, minimum_count=45)).values
    )
    assert (
        "c" in release_histogram(of([80, 120], [10, 40]), ("a", "c"), dataclasses.replace(rule, threshold=3.0)).values
    )


def test_no_number_of_what_is_withheld_is_left_in_it() -> None:
    found = release_histogram(of([500.0, 2.5, -7.25, 410.0], 10.0), ("w", "x", "y", "z"), LOOSE)
    assert found.values == ("w", "z")
    for field in dataclasses.fields(Histogram):
        held = getattr(found, field.name)
        if isinstance(held, np.ndarray | tuple):
            assert len(held) == 2, field.name
            assert not isinstance(held, np.ndarray) or held.base is None, f"{field.name} is a view of all counts"


@pytest.mark.parametrize("mechanism", [RandomizedResponse, SubsetSelection, OptimizedUnaryEncoding])
@pytest.mark.parametrize("how", ["none", "norm_sub", "simplex"])
def test_the_docs_are_right_about_what_withheld_counts_sum_to(mechanism: Any, how: Any) -> None:
    """Of six elements one is withheld. Where counts sum to the reports, it is the difference, and the docs say so."""
    oracle = mechanism(epsilon=2.0, domain_size=6)
    estimate = oracle.estimate(oracle.simulate_tally(np.array([3000, 2500, 2000, 2000, 1500, 300]), rng()))
    rule = ReleaseRule(minimum_count=1000, threshold=0, post_processing=how)
    found = release_histogram(estimate, VALUES, rule)
    assert set(found.values) == set("abcde") and found.withheld == 1
    left = found.reports - found.counts.sum()
    adds_up = mechanism is not OptimizedUnaryEncoding
    assert (abs(left - estimate.counts[5]) < 1e-6) == adds_up, "the docstring names those whose counts add up"
    processed = post_process(estimate, how)
    left = found.reports - found.processed.sum()
    assert (abs(left - processed[5]) < 1e-6) == (adds_up or how != "none")


def test_nothing_to_release() -> None:
    found = release_histogram(of([1.0, -3.0]), ("a", "b"), ReleaseRule(minimum_count=0, threshold=4))
    assert found.values == () and found.withheld == 2
    assert all(len(x) == 0 for x in (found.counts, found.stderr, found.lower, found.upper, found.processed))


def test_largest_first_and_ties_in_the_order_of_the_values() -> None:
    found = release_histogram(of([200, 300, 200, 300]), ("d", "c", "b", "a"), LOOSE)
    assert found.values == ("c", "a", "d", "b")


def test_post_processing_is_over_all_values_and_beside_the_counts() -> None:
    rule = dataclasses.replace(LOOSE, threshold=4, post_processing="norm_sub")
    found = release_histogram(of([700, 350, -50, 20]), ("a", "b", "c", "d"), rule)
    assert found.values == ("a", "b") and found.counts.tolist() == [700, 350]
    # 1,000 = 700 + 350 - 2 x 25: the shift takes the third and fourth out.
    assert found.processed.tolist() == [675, 325]
    assert release_histogram(of([700, 350, -50, 20]), ("a", "b", "c", "d"), rule, total=850).processed.tolist() == [
        600,
        250,
    ]


def test_without_noise_the_truth_is_released() -> None:
    oracle = NoPrivacy(domain_size=4)
    estimate = oracle.estimate(oracle.simulate_tally(np.array([5, 0, 1, 94]), rng()))
    found = release_histogram(estimate, ("a", "b", "c", "d"), ReleaseRule(minimum_count=2, threshold=4))
    assert found.values == ("d", "a") and found.lower.tolist() == found.upper.tolist() == [94, 5]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"minimum_count": -1}, "release.minimum_count is -1; expected a number of reports >= 0"),
        ({"minimum_count": float("nan")}, "release.minimum_count is nan"),
        ({"threshold": -0.5}, "release.threshold is -0.5; expected a number of standard errors"),
        ({"confidence": 1.0}, "release.confidence is 1.0; expected a share between 0 and 1"),
        ({"false_discovery_rate": 0}, "release.false_discovery_rate is 0"),
        ({"correction": "holm"}, "release.correction is 'holm'; expected one of none, bonferroni, sidak"),
        ({"discoveries": "all"}, "release.discoveries is 'all'; expected one of benjamini_hochberg, benj"),
        ({"post_processing": "clip"}, "release.post_processing is 'clip'; expected one of none, norm_sub"),
    ],
)
def test_a_senseless_rule_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(LOOSE, **change)


def test_values_and_counts_must_belong_together() -> None:
    for values in (("a",), ("a", "b", "c"), ()):
        with pytest.raises(ValueError, match=f"there are {len(values)} values and 2 counts"):
            release_histogram(of([1, 2]), values, LOOSE)
    with pytest.raises(ValueError, match="values holds a value twice"):
        release_histogram(of([1, 2]), ("a", "a"), LOOSE)
    with pytest.raises(ValueError, match="there are 0 values and 0 counts"):
        release_histogram(of([]), (), LOOSE)


def test_the_rule_in_words() -> None:
    rule = ReleaseRule(minimum_count=100, threshold=4, post_processing="norm_sub")
    text = rule.describe(2600)
    for part in (
        "at least 100",
        "4 standard errors",
        "0.05",
        "Yekutieli 2001",
        "0.95",
        "all 2600 elements",
        "norm_sub",
    ):
        assert part in text
    assert "not corrected" in dataclasses.replace(rule, correction="none").describe(2600)


def test_critical_values() -> None:
    assert critical_value(0.95, "none", 1000) == pytest.approx(1.959964)
    assert critical_value(0.95, "bonferroni", 1000) == pytest.approx(norm.isf(0.05 / 2000))
    # Šidák: all of 1,000 independent intervals hold with exactly 95%.
    sidak = critical_value(0.95, "sidak", 1000)
    assert (1 - 2 * norm.sf(sidak)) ** 1000 == pytest.approx(0.95)
    assert 4.0 < sidak < critical_value(0.95, "bonferroni", 1000)
    assert critical_value(0.95, "sidak", 1) == pytest.approx(critical_value(0.95, "none", 1))


def simultaneous(correction: Any, polls: int) -> float:
    """In which share of polls ALL intervals cover, 300 values, OUE: 100 hold 150 each, 200 hold none."""
    oracle, source = OptimizedUnaryEncoding(epsilon=2.0, domain_size=300), rng(1)
    truth = np.repeat([150, 0], [100, 200])
    hit = 0
    for _ in range(polls):
        lower, upper = intervals(oracle.estimate(oracle.simulate_tally(truth, source)), 0.9, correction)
        hit += bool(((lower <= truth) & (truth <= upper)).all())
    return hit / polls


@pytest.mark.parametrize("correction", ["bonferroni", "sidak"])
def test_corrected_intervals_hold_all_at_once(correction: str) -> None:
    polls = 500
    error = np.sqrt(0.9 * 0.1 / polls)
    assert simultaneous(correction, polls) > 0.9 - 4 * error
    # Negative control: each by itself holds for 90% of 300, so hardly ever for all.
    assert simultaneous("none", 50) < 0.1


def false_share(rule: ReleaseRule, mechanism: Any, polls: int) -> tuple[float, float, float]:
    """The mean share of released elements that nobody holds, its standard error, and how many are released."""
    source, d = rng(2), mechanism.domain_size
    truth = np.zeros(d, dtype=np.int64)
    truth[:20] = 1000
    held, shares, sizes = {str(i) for i in range(20)}, [], []
    for _ in range(polls):
        estimate = mechanism.estimate(mechanism.simulate_tally(truth, source))
        released = release_histogram(estimate, [str(i) for i in range(d)], rule).values
        shares.append(len(set(released) - held) / max(len(released), 1))
        sizes.append(len(released))
    return float(np.mean(shares)), float(np.std(shares, ddof=1) / np.sqrt(polls)), float(np.mean(sizes))


def test_the_false_discovery_rate_is_held() -> None:
    polls, rate = 300, 0.3
    oracle = OptimizedUnaryEncoding(epsilon=3.0, domain_size=200)
    rule = dataclasses.replace(LOOSE, false_discovery_rate=rate)
    share, error, size = false_share(rule, oracle, polls)
    # Exactly rate x (share of elements that nobody holds) for independent tests; 20 of 200 are held, all found.
    assert abs(share - rate * 0.9) < 4 * error and size > 20
    # Negative control: every p-value below the rate taken by itself lets mostly noise through.
    naive = ReleaseRule(
        minimum_count=0, threshold=norm.isf(rate), discoveries="benjamini_hochberg", false_discovery_rate=0.99
    )
    assert false_share(naive, oracle, 20)[0] > 2 * rate
    # The default, right under any dependence, is stricter here and also right where reports exclude each other.
    careful = dataclasses.replace(rule, discoveries="benjamini_yekutieli")
    for mechanism in (oracle, RandomizedResponse(epsilon=5.0, domain_size=200)):
        share, error, size = false_share(careful, mechanism, polls)
        assert share < rate * 0.9 / 3 and size >= 19.5


def shares_released(mechanism: Any, rule: ReleaseRule, count: int, polls: int, values: list[str] | None) -> float:
    """How often element 1 of 100 is released if `count` of 20,000 hold it. All others hold element 0, or, for sketches,
    what is not asked for."""
    source, hits, names = rng(3), 0, [str(i) for i in range(100)]
    for poll in range(polls):
        truth = np.zeros(100, dtype=np.int64)
        truth[:2] = 20_000 - count, count
        if values is None:
            estimate = mechanism.estimate(mechanism.simulate_tally(truth, source))
        else:
            # The others hold 1,000 values that are not asked for, evenly.
            family = dataclasses.replace(mechanism, hash_seed=poll)
            spread = np.append(np.full(1000, (20_000 - count) // 1000), count)
            hashes = hash_strings([*(f"other {i}" for i in range(1000)), "1"])
            estimate = family.estimate(family.simulate_tally(spread, source, hashes), hash_strings(names))
        hits += "1" in release_histogram(estimate, names, rule).values
    return hits / polls


@pytest.mark.parametrize("minimum", [0, pytest.param(900, marks=pytest.mark.soak)])
def test_the_count_needed_is_released_that_often(minimum: float) -> None:
    oracle, polls = OptimizedUnaryEncoding(epsilon=2.0, domain_size=100), 1000
    rule = ReleaseRule(minimum_count=minimum, threshold=4.0)
    need = count_needed(oracle.standard_error, 20_000, rule, looked_at=100, others=1)
    assert need > 1.2 * minimum
    tolerance = 4 * np.sqrt(0.95 * 0.05 / polls) + 0.003  # and what whole reports and a normal tail make of 0.95
    assert abs(shares_released(oracle, rule, round(need), polls, None) - 0.95) < tolerance
    # Negative control: with a tenth less it is not.
    assert shares_released(oracle, rule, round(0.9 * need), polls, None) < 0.95 - tolerance


def test_the_count_needed_of_a_sketch() -> None:
    sketch, polls = CountMeanSketch(epsilon=4.0, rows=32, columns=256, hash_seed=0), 300
    rule = ReleaseRule(minimum_count=0, threshold=4.5)
    moment = 20_000.0**2 / 1000

    def stderr(reports: int, count: float) -> float:
        return sketch.standard_error(reports, count, second_moment=moment)

    need = count_needed(stderr, 20_000, rule, looked_at=100)
    tolerance = 4 * np.sqrt(0.95 * 0.05 / polls) + 0.003
    assert abs(shares_released(sketch, rule, round(need), polls, VALUES) - 0.95) < tolerance
    assert shares_released(sketch, rule, round(0.85 * need), polls, VALUES) < 0.95 - tolerance


def test_the_rule_decides_on_what_was_collected_and_needs_what_the_trust_model_says() -> None:
    oracle, rule = OptimizedUnaryEncoding(epsilon=2.0, domain_size=6), ReleaseRule(minimum_count=50, threshold=4.0)
    tally = oracle.simulate_tally(np.array([500, 0, 0, 2000, 0, 0]), rng())
    collected = Collected(tally=tally, estimate=oracle.estimate(tally))
    decided, by_hand = (
        rule.decide(ask_of(oracle), collected, VALUES),
        release_histogram(oracle.estimate(tally), VALUES, rule),
    )
    assert decided.histogram.values == by_hand.values == ("d", "a") and not decided.more
    np.testing.assert_array_equal(decided.histogram.lower, by_hand.lower)
    for trust in (LocalTrust(), CentralBaseline(epsilon=1.0, delta=1e-6)):
        rule.check(trust, oracle)
        need = rule.needed(trust, oracle, 2500, 6)
        assert need == count_needed(lambda n, c, t=trust: t.standard_error(oracle, n, c), 2500, rule, looked_at=6)
    assert (
        rule.needed(LocalTrust(), oracle, 2500, 6)
        == count_needed(oracle.standard_error, 2500, rule, looked_at=6)
        > need
    )


def test_the_count_needed_in_cases_that_have_an_answer_by_hand() -> None:
    rule = ReleaseRule(minimum_count=30, threshold=2.0)
    assert count_needed(NoPrivacy(domain_size=5).standard_error, 100, rule, looked_at=5) == pytest.approx(30)
    assert count_needed(NoPrivacy(domain_size=5).standard_error, 20, rule, looked_at=5) == np.inf, (
        "fewer reports than the minimum"
    )
    assert (
        count_needed(
            NoPrivacy(domain_size=5).standard_error, 20, ReleaseRule(minimum_count=0, threshold=0), looked_at=5
        )
        == 1
    )
    weak = OptimizedUnaryEncoding(epsilon=0.1, domain_size=50)
    assert count_needed(weak.standard_error, 1000, rule, looked_at=50) == np.inf, "the noise is larger than all reports"
    strong = OptimizedUnaryEncoding(epsilon=2.0, domain_size=50)
    alone = count_needed(strong.standard_error, 10**6, rule, looked_at=50)
    assert count_needed(strong.standard_error, 10**6, rule, looked_at=50, others=20) < alone, (
        "discoveries make discoveries easier"
    )
    assert count_needed(strong.standard_error, 10**6, rule, looked_at=50, power=0.99) > alone
    assert count_needed(strong.standard_error, 10**6, rule, looked_at=5000) > alone
    with pytest.raises(ValueError, match=r"power is 0\.3; expected a probability from 0.5"):
        count_needed(strong.standard_error, 100, rule, looked_at=5, power=0.3)
    with pytest.raises(ValueError, match="others is 5; expected 0 to looked_at - 1 = 4"):
        count_needed(strong.standard_error, 100, rule, looked_at=5, others=5)
