"""The count mean sketch, beyond the contract that every mechanism passes (cases_sketches.py)."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction

import numpy as np
import pytest

from privacy.count_mean_sketch import CountMeanSketch
from privacy.hashing import hash_columns, hash_strings
from privacy.mechanism import Tally
from privacy.thresholds import WORD, exp_below
from tests.privacy.cases_sketches import count_mean_channel
from tests.privacy.contract import check_channel, largest_ratio, stream


def sketch(**changes) -> CountMeanSketch:
    return CountMeanSketch(**{"epsilon": 4.0, "rows": 16, "columns": 64, "hash_seed": 1} | changes)


# Privacy


@pytest.mark.parametrize("epsilon", [1e-7, 0.001, 0.1, 1, 2.5, 4, 8, 11.99, 12])
def test_the_threshold_keeps_epsilon_exactly_and_wastes_nothing(epsilon):
    threshold = sketch(epsilon=epsilon).threshold
    # Two one-hot vectors differ in two bits, each of which changes the probability by (1 - q) / q.
    assert Fraction(WORD - threshold, threshold) ** 2 <= exp_below(epsilon)
    assert Fraction(WORD - threshold + 1, threshold - 1) ** 2 > exp_below(epsilon)


def test_the_law_of_the_row_costs_no_privacy(monkeypatch):
    """The channel with a grossly uneven choice of rows has the same largest ratio, to the last digit."""
    mechanism = sketch(rows=3, columns=3)
    even = largest_ratio(count_mean_channel(mechanism))
    uneven = [Fraction(1, 1000), Fraction(9, 10), Fraction(99, 1000)]
    monkeypatch.setattr("tests.privacy.cases_sketches.row_probabilities", lambda rows, bits: uneven)
    channel = count_mean_channel(mechanism)
    check_channel(channel, mechanism.epsilon)
    assert largest_ratio(channel) == even


def test_negative_control_flipping_too_seldom_is_caught():
    leaky = sketch(rows=2, columns=3)
    leaky.__dict__["threshold"] = leaky.threshold - 1
    with pytest.raises(AssertionError, match="more than epsilon"):
        check_channel(count_mean_channel(leaky), leaky.epsilon)


def test_rows_are_chosen_evenly():
    n, rows = 40_000, 48
    seen, _ = sketch(rows=rows).split(sketch(rows=rows).privatize(np.zeros(n, dtype=np.int64), stream()))
    counts = np.bincount(seen, minlength=rows)
    assert len(counts) == rows
    assert (np.abs(counts - n / rows) < 5 * math.sqrt(n / rows)).all()


# Reports


@pytest.mark.parametrize(("epsilon", "others", "expected", "spread"), [(4, 122.1, 122.8, 10.4), (8, 18.4, 19.4, 4.3)])
def test_records_have_the_expected_number_of_set_bits(epsilon, others, expected, spread):
    """m q bits are set by chance, and the device's own bit is likelier than those by 1 - 2 q."""
    mechanism, n = sketch(epsilon=float(epsilon), columns=1024), 4000
    mean, variance = 1024 * mechanism.q + (1 - 2 * mechanism.q), 1024 * mechanism.q * (1 - mechanism.q)
    assert (round(1024 * mechanism.q, 1), round(mean, 1), round(math.sqrt(variance), 1)) == (others, expected, spread)
    reports = mechanism.privatize(hash_strings([f"{i}" for i in range(n)]), stream())
    bits = np.bitwise_count(reports[:, 1:]).sum(axis=1)
    assert abs(bits.mean() - mean) < 5 * math.sqrt(variance / n)
    squares = (bits - mean) ** 2
    assert abs(squares.mean() - variance) < 5 * squares.std(ddof=1) / math.sqrt(n)


@pytest.mark.parametrize("columns", [2, 8, 31, 32, 33, 100, 1024])
def test_reports_are_a_row_and_packed_bits(columns):
    mechanism = sketch(columns=columns, epsilon=12.0)
    values = hash_strings([f"{i}" for i in range(300)])
    reports = mechanism.privatize(values, stream())
    assert reports.dtype == np.uint32
    assert reports.shape == (300, 1 + math.ceil(columns / 32))
    rows, bits = mechanism.split(reports)
    assert bits.shape == (300, math.ceil(columns / 8))
    assert (mechanism.join(rows, bits) == reports).all()
    unpacked = np.unpackbits(bits, axis=1, bitorder="little", count=columns)
    own = [
        unpacked[i, hash_columns(values[i : i + 1], hash_seed=1, row=row, columns=columns)[0]]
        for i, row in enumerate(rows.tolist())
    ]
    assert np.mean(own) > 0.95  # at epsilon 12 a bit is flipped once in 404 times
    dense = np.zeros((mechanism.rows, columns), dtype=np.int64)
    np.add.at(dense, rows, unpacked)
    assert (mechanism.tally(reports).sums == dense).all()
    assert mechanism.report_bits == 4 + columns


def test_many_reports_of_one_row_do_not_overflow_their_counters():
    mechanism = sketch(rows=2, columns=40)
    full = mechanism.join(np.ones(1000, dtype=np.int64), np.full((1000, 5), 255, dtype=np.uint8))
    assert (mechanism.tally(full).sums == [[0] * 40, [1000] * 40]).all()


def test_reports_of_another_mechanism_are_refused():
    mechanism = sketch(columns=40)
    reports = mechanism.privatize(np.arange(5), stream())
    for wrong in (reports[:, :-1], reports.astype(np.int64), reports[0]):
        with pytest.raises(ValueError, match=r"expected uint32\[n, 3\]"):
            mechanism.tally(wrong)
    for place, value, message in (((2, 0), 16, "name row 16"), ((2, 2), 1 << 8, "padding")):
        broken = reports.copy()
        broken[place] = value
        with pytest.raises(ValueError, match=message):
            mechanism.tally(broken)
    rows, bits = mechanism.split(reports)
    with pytest.raises(ValueError, match="bits have shape"):
        mechanism.join(rows, bits[:, 1:])
    with pytest.raises(ValueError, match="rows reach from 0 to 4294967296"):
        mechanism.join(np.array([0, 1 << 32, 0, 0, 0]), bits)


def test_signed_values_are_taken_if_they_are_not_negative():
    mechanism = sketch()
    signed, unsigned = (mechanism.privatize(np.array([3, 9], dtype=t), stream()) for t in (np.int64, np.uint64))
    assert (signed == unsigned).all()
    with pytest.raises(ValueError, match="down to -3"):
        mechanism.privatize(np.array([-3, 9]), stream())


# The server


def test_streaming_gives_the_tally_of_all_reports_in_one_array():
    mechanism = sketch(rows=300)
    reports = mechanism.privatize(np.arange(5000) % 97, stream())
    whole, streamed = mechanism.tally(reports), mechanism.tally(reports[:0])
    array = streamed.sums
    for start in range(0, 5000, 700):
        streamed = mechanism.tally(reports[start : start + 700], onto=streamed)
    assert streamed.sums is array
    assert (streamed.sums == whole.sums).all()
    assert streamed.reports == whole.reports == 5000


def test_tallies_of_other_families_do_not_mix():
    a, b = sketch(hash_seed=1), sketch(hash_seed=2)
    reports = a.privatize(np.arange(5), stream())
    with pytest.raises(ValueError, match=r"hash_seed.: 1.*hash_seed.: 2"):
        a.tally(reports) + b.tally(reports)
    with pytest.raises(ValueError, match="the tally was made with"):
        b.estimate(a.tally(reports), np.arange(5))
    with pytest.raises(ValueError, match="the tally was made with"):
        b.tally(reports, onto=a.tally(reports))
    with pytest.raises(ValueError, match=r"expected int64\[16, 64\]"):
        a.estimate(Tally(np.zeros((16, 63), dtype=np.int64), 5, a.parameters), np.arange(5))


def test_a_sketch_has_to_be_asked_for_values():
    mechanism = sketch()
    tally = mechanism.tally(mechanism.privatize(np.arange(5), stream()))
    with pytest.raises(ValueError, match="values is None"):
        mechanism.estimate(tally)
    assert mechanism.estimate(tally, np.zeros(0, dtype=np.uint64)).counts.shape == (0,)


def test_estimates_follow_the_published_formula():
    """REFERENCE: row j gets k (c/2 v + 1/2) with v of +-1; the count is m/(m-1) (mean over rows - n/m)."""
    mechanism, n, k, m = sketch(), 400, 16, 64
    values = hash_strings([f"{i % 9}" for i in range(n)])
    reports = mechanism.privatize(values, stream())
    rows, bits = mechanism.split(reports)
    signs = 2.0 * np.unpackbits(bits, axis=1, bitorder="little", count=m) - 1
    c = (math.exp(2) + 1) / (math.exp(2) - 1)
    matrix = np.zeros((k, m))
    np.add.at(matrix, rows, k * (c / 2 * signs + 0.5))
    expected = [
        m
        / (m - 1)
        * (np.mean([matrix[j, hash_columns(v, hash_seed=1, row=j, columns=m)[0]] for j in range(k)]) - n / m)
        for v in np.unique(values)[:, None]
    ]
    got = mechanism.estimate(mechanism.tally(reports), np.unique(values)).counts
    np.testing.assert_allclose(got, expected, rtol=1e-9)


def stderr_and_errors(rows: int, polls: int = 400) -> tuple[np.ndarray, np.ndarray, CountMeanSketch]:
    """Claimed standard errors and true errors of a rare value beside one that 90% of the devices hold."""
    n, stderr, errors = 1000, [], []
    values, asked = np.array([7] * 900 + list(range(100, 190)) + [3] * 10), np.array([3, 55])
    for family in range(polls):
        mechanism = sketch(rows=rows, columns=16, hash_seed=family)
        estimate = mechanism.estimate(mechanism.tally(mechanism.privatize(values, stream(family))), asked)
        stderr.append(estimate.stderr)
        errors.append(estimate.counts - [10, 0])
    assert estimate.reports == n
    return np.array(stderr), np.array(errors), mechanism


@pytest.mark.parametrize("rows", [1, 4, 64])
def test_stderr_knows_the_collisions_with_values_that_were_not_asked_for(rows):
    """One value that 900 of 1000 devices hold collides or not, row by row. The claimed variances, each computed from
    one tally, average to the empirical variance over fresh families, within 5 of its standard errors.
    """
    stderr, errors, mechanism = stderr_and_errors(rows)
    for claimed, error in zip(stderr.T, errors.T, strict=True):
        squares = error**2
        claim, gap = (claimed**2).mean(), squares.std(ddof=1) / math.sqrt(len(squares))
        assert abs(squares.mean() - claim) < 5 * gap
    # The second moment of the other counts is learnt well enough from one tally: it is 900^2 + 90 + 10^2.
    exact = mechanism.standard_error(1000, 10, 900**2 + 90 + 10**2)
    assert np.sqrt((stderr[:, 0] ** 2).mean()) == pytest.approx(exact, rel=0.1)


def test_negative_control_without_the_collisions_of_heavy_values_the_stderr_is_wrong():
    _, errors, mechanism = stderr_and_errors(rows=4)
    blind = mechanism.standard_error(1000, 10)  # as if all other devices held different values
    squares = errors[:, 0] ** 2
    assert squares.mean() - blind**2 > 5 * squares.std(ddof=1) / math.sqrt(len(squares))


def polls_of_one_family(estimate_with: str, polls: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Errors and claimed standard errors of ten values, two of them heavy, for one fixed hash family."""
    mechanism, values = sketch(rows=64, columns=32), hash_strings([f"{i}" for i in range(10)])
    truth = np.array([900, 600, 40, 30, 20, 10, 0, 0, 0, 0])
    errors, stderr = [], []
    for poll in range(polls):
        tally = mechanism.tally(mechanism.privatize(np.repeat(values, truth), stream(poll)))
        estimate = getattr(mechanism, estimate_with)(tally, values)
        errors.append(estimate.counts - truth)
        stderr.append(estimate.stderr)
    return np.array(errors), np.array(stderr)


def test_joint_estimates_are_unbiased_for_the_very_family_and_spread_as_claimed():
    errors, stderr = polls_of_one_family("estimate_jointly")
    assert np.abs(errors.mean(axis=0) / (errors.std(axis=0, ddof=1) / math.sqrt(len(errors)))).max() < 5
    # Over one family the claim, an average over families, holds on average over the values.
    joint = (errors**2 / stderr**2).mean(axis=1)
    assert abs(joint.mean() - 1) < 0.15
    single, _ = polls_of_one_family("estimate")
    assert (errors**2).mean() < (single**2).mean() / 2  # what knowing the collisions is worth here


def test_negative_control_single_estimates_are_biased_for_one_family():
    errors, _ = polls_of_one_family("estimate")
    assert np.abs(errors.mean(axis=0) / (errors.std(axis=0, ddof=1) / math.sqrt(len(errors)))).max() > 5


def test_a_value_that_is_asked_for_twice_gets_one_answer():
    mechanism = sketch()
    tally = mechanism.tally(mechanism.privatize(np.repeat([1, 2], [800, 200]), stream()))
    once, twice = (mechanism.estimate_jointly(tally, np.array(v)) for v in ([1, 2, 5], [5, 1, 2, 1]))
    np.testing.assert_allclose(twice.counts, once.counts[[2, 0, 1, 0]])
    np.testing.assert_allclose(twice.p_values(), once.p_values()[[2, 0, 1, 0]])
    assert mechanism.estimate_jointly(tally, np.zeros(0, dtype=np.uint64)).counts.shape == (0,)
    with pytest.raises(ValueError, match="values is None"):
        mechanism.estimate_jointly(tally)


def test_standard_errors_of_the_reference():
    s2 = math.exp(2) / (math.exp(2) - 1) ** 2
    assert s2 == pytest.approx(0.181, abs=0.0005)
    big = sketch(rows=65536, columns=1024)
    n, m, k = 10**7, 1024, 65536
    others = np.array([5e5] * 18 + [1e6 / 1e6] * 10**6)  # f' of the other values, f = 0
    expected = (m / (m - 1)) ** 2 * n * s2 + (others * (1 - 1 / k) + others**2 / k).sum() / (m - 1)
    assert big.standard_error(n, 0.0, float((others**2).sum())) == pytest.approx(math.sqrt(expected), rel=1e-9)


def test_apples_emoji_preset_fits():
    mechanism = CountMeanSketch(epsilon=4.0, rows=65536, columns=1024, hash_seed=9)
    values = hash_strings(["😂"] * 600 + ["🎉"] * 400)
    tally = mechanism.tally(mechanism.privatize(values, stream()))
    assert tally.sums.nbytes == 512 << 20
    estimate = mechanism.estimate(tally, hash_strings(["😂", "🎉", "🦑"]))
    assert (np.abs(estimate.counts - [600, 400, 0]) < 5 * estimate.stderr).all()
    assert estimate.stderr[2] == pytest.approx(mechanism.standard_error(1000), rel=0.02)
    assert mechanism.report_bits == 16 + 1024


# The shortcut


def test_a_simulated_tally_takes_one_count_per_value():
    mechanism, rng = sketch(), np.random.default_rng(0)
    tally = mechanism.simulate_tally(np.array([5, 0]), rng, hash_strings(["a", "b"]))
    assert tally.reports == 5
    assert mechanism.simulate_tally(np.zeros(0, dtype=np.int64), rng, np.zeros(0, dtype=np.uint64)).reports == 0
    with pytest.raises(ValueError, match="values is None"):
        mechanism.simulate_tally(np.array([5]), rng)
    for counts in ([5], [5, -1], [[5, 0]]):
        with pytest.raises(ValueError, match="counts"):
            mechanism.simulate_tally(np.array(counts), rng, hash_strings(["a", "b"]))


# Errors


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": 0}, "rows is 0; expected 1 or more"),
        ({"rows": 2.0}, "rows is 2.0; expected a whole number"),
        ({"columns": 1}, "columns is 1; expected 2 or more"),
        ({"columns": True}, "columns is True"),
        ({"rows": 1 << 20, "columns": 1 << 10}, r"at most 2\^28 cells"),
        ({"hash_seed": -1}, "hash_seed is -1"),
        ({"epsilon": 1e-9}, "epsilon is 1e-09; .*expected at least"),
        ({"epsilon": 12.01}, "epsilon is 12.01"),
    ],
)
def test_senseless_parameters_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        sketch(**changes)


def test_it_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        sketch().rows = 3
