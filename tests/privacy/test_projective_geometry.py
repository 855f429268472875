"""Projective geometry response beyond the contract: fields, incidences, the decoder, the choice of the geometry."""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy import finite_geometry
from privacy.finite_geometry import (
    count_points,
    field_tables,
    geometry_of,
    is_field_order,
    points_on_plane,
    reports_on_hyperplanes,
)
from privacy.mechanism import Tally
from privacy.mixture import mean_variance
from privacy.projective_geometry import ProjectiveGeometryResponse, choose_geometry
from privacy.randomized_response import RandomizedResponse
from privacy.randomness import random_words
from privacy.subset_selection import SubsetSelection
from privacy.thresholds import WORD
from tests.privacy import contract
from tests.privacy.cases_sets import CASES
from tests.privacy.contract import skewed, stream

CASE = CASES[2]
PRIME_POWERS = [4, 8, 9, 16, 25, 27, 32, 49, 64, 81, 121, 125, 128]
PRIMES_TO_130 = [q for q in range(2, 131) if all(q % i for i in range(2, q))]
SHAPES = [
    (2, 2),
    (2, 3),
    (2, 5),
    (3, 2),
    (3, 3),
    (3, 4),
    (4, 2),
    (4, 3),
    (4, 4),
    (5, 3),
    (7, 3),
    (8, 3),
    (9, 3),
    (11, 2),
]


def make(epsilon: float, d: int) -> ProjectiveGeometryResponse:
    return ProjectiveGeometryResponse(epsilon=epsilon, domain_size=d)


# Fields


def test_field_orders_are_the_primes_and_the_small_prime_powers():
    assert [q for q in range(2, 131) if is_field_order(q)] == sorted(PRIMES_TO_130 + PRIME_POWERS)
    assert is_field_order(1_048_583)
    assert not any(is_field_order(q) for q in (169, 1 << 20, 1_048_581))


def check_field(q: int, times: np.ndarray, plus: np.ndarray) -> None:
    """The axioms, over all elements."""
    a = np.arange(q)
    x, y, z = (np.arange(q).reshape(s) for s in ((q, 1, 1), (1, q, 1), (1, 1, q)))
    for table, neutral in ((plus, 0), (times, 1)):
        assert (table == table.T).all()
        assert (table[neutral] == a).all()
        assert (table[table[x, y], z] == table[x, table[y, z]]).all()
    assert (times[x, plus[y, z]] == plus[times[x, y], times[x, z]]).all()
    assert (np.sort(plus, axis=1) == a).all()  # every element has a negative
    assert (np.sort(times[1:, 1:], axis=1) == a[1:]).all()  # and every one but 0 an inverse


@pytest.mark.parametrize("q", PRIME_POWERS)
def test_tables_are_those_of_a_field(q: int):
    check_field(q, *field_tables(q))


def test_negative_control_numbers_modulo_a_prime_power_are_no_field():
    a = np.arange(9)
    with pytest.raises(AssertionError):
        check_field(9, a[:, None] * a % 9, (a[:, None] + a) % 9)


@pytest.mark.parametrize("q", [2, 3, 4, 5, 7, 59, 64, 127, 128, 151, 2039, 65_537, 1_048_583])
def test_division_by_the_reciprocal_is_exact(q: int):
    geometry = geometry_of(q, 2, 2 + q // 3)
    multiples = np.unique(np.linspace(1, ((1 << 24) - 1) // q, 500).astype(np.int64)) * q
    x = np.unique(np.concatenate([multiples - 1, multiples, multiples + 1, [0, (1 << 24) - 1]]))
    x = x[x < 1 << 24]
    assert (x * geometry.reciprocal >> geometry.shift == x // q).all()
    assert (x * geometry.kept_reciprocal >> geometry.shift == x // geometry.kept).all()


# Points and hyperplanes


def field_sum(q: int, terms: list[tuple[int, int]]) -> int:
    """sum of a b over the terms, in the field of q."""
    if q in PRIME_POWERS:
        times, plus = field_tables(q)
        return functools.reduce(lambda total, ab: int(plus[total, times[ab]]), terms, 0)
    return sum(a * b for a, b in terms) % q


@functools.cache
def points_in_order(q: int, t: int) -> list[tuple[int, ...]]:
    """Coordinates of every point, by number."""
    if t == 1:
        return [(1,)]
    return [(*first, last) for first in points_in_order(q, t - 1) for last in range(q)] + [(0,) * (t - 1) + (1,)]


@functools.cache
def incidences(q: int, t: int) -> np.ndarray:
    """bool[K, K]: whether point y (column) lies on hyperplane x (row), by the definition, with all hyperplanes used."""
    points = points_in_order(q, t)
    rows = []
    for pivot in range(t - 1, -1, -1):
        for x in itertools.product(range(q), repeat=pivot):
            # x_pivot = -1, so y lies on x if sum_{j < pivot} x_j y_j = y_pivot
            rows.append([field_sum(q, list(zip(x, y[:pivot], strict=True))) == y[pivot] for y in points])
    return np.array(rows)


def used_rows(q: int, t: int, values: int) -> np.ndarray:
    """The rows of `incidences` of the first `values` hyperplanes when only so many are used."""
    kept = -(-min(values, q ** (t - 1)) // q ** (t - 2))
    return np.array([v // kept * q + v % kept if v < q ** (t - 1) else v for v in range(values)])


def drawn(q: int, t: int, values: int, value: int) -> np.ndarray:
    """Every point of the hyperplane as the device draws it."""
    own = count_points(q, t - 1)
    return points_on_plane(np.full(own, value), np.arange(own), geometry_of(q, t, values))


@pytest.mark.parametrize(("q", "t"), SHAPES)
def test_the_points_drawn_for_a_value_are_those_of_its_hyperplane(q: int, t: int):
    expected = incidences(q, t)
    assert expected.shape == (count_points(q, t),) * 2
    for values in {len(expected), len(expected) - 1, q ** (t - 1), q ** (t - 1) // 2 + 1, 2}:
        for value, row in enumerate(used_rows(q, t, values)):
            assert sorted(drawn(q, t, values, value)) == np.flatnonzero(expected[row]).tolist()


@pytest.mark.parametrize(("q", "t"), SHAPES)
def test_any_two_hyperplanes_share_as_many_points(q: int, t: int):
    shared = incidences(q, t).astype(int) @ incidences(q, t).T.astype(int)
    np.fill_diagonal(shared, count_points(q, t - 2))
    assert (shared == count_points(q, t - 2)).all()


@settings(max_examples=100, deadline=None)
@given(shape=st.sampled_from(SHAPES), data=st.data())
def test_the_decoder_counts_what_lies_on_the_hyperplanes(shape: tuple[int, int], data: st.DataObject):
    expected = incidences(*shape)
    values = data.draw(st.integers(2, len(expected)))
    high = data.draw(st.sampled_from([1, 3, 1 << 50]))
    histogram = np.random.default_rng(values).integers(0, high + 1, len(expected))
    got = reports_on_hyperplanes(histogram, geometry_of(*shape, values))
    assert got.dtype == np.int64
    assert got.tolist() == (expected[used_rows(*shape, values)] @ histogram).tolist()


def test_the_decoder_in_spaces_too_large_for_the_definition():
    """Every count against the points drawn for the value, for a random histogram."""
    for (q, t), count in [((59, 3), 3541), ((64, 3), 900), ((151, 3), 22_953), ((13, 4), 2380), ((4, 6), 1365)]:
        histogram = np.random.default_rng(q).integers(0, 1000, count_points(q, t))
        got = reports_on_hyperplanes(histogram, geometry_of(q, t, count))
        for value in [*range(0, count, max(1, count // 50)), count - 1]:
            assert got[value] == histogram[drawn(q, t, count, value)].sum()


def test_negative_control_a_decoder_that_turns_the_wrong_way_is_caught(monkeypatch: pytest.MonkeyPatch):
    right = finite_geometry._shift_sum
    monkeypatch.setattr(finite_geometry, "_shift_sum", lambda old, kept, g: right(old[..., ::-1].copy(), kept, g))
    histogram = np.arange(count_points(5, 3))
    assert reports_on_hyperplanes(histogram, geometry_of(5, 3, 31)).tolist() != (incidences(5, 3) @ histogram).tolist()


# The device


@settings(max_examples=40, deadline=None)
@given(
    d=st.sampled_from([2, 3, 4, 5, 13, 14, 31, 32, 57, 58, 85, 86, 133, 364, 365]),
    epsilon=st.sampled_from([0.2, 1.0, 1.4, 2.0, 4.0, 12.0]),
)
def test_reports_are_the_documented_function_of_the_words(d: int, epsilon: float):
    m = make(epsilon, d)
    values = np.random.default_rng(d).integers(0, d, 60)
    words = random_words(stream(), 120).reshape(60, 2).tolist()
    rng = stream()
    reports = m.privatize(values, rng)
    planes = incidences(*m.shape) if m.points <= 200 else None
    seen = set()
    for value, (branch, word), report in zip(values.tolist(), words, reports.tolist(), strict=True):
        if branch >= m.threshold:
            assert report == word * m.points >> 64
        else:
            choice = word * m.hyperplane_size >> 64
            assert report == points_on_plane(np.array([value]), np.array([choice]), geometry_of(*m.shape, d))[0]
            assert planes is None or planes[used_rows(*m.shape, d)[value], report]
            seen.add((value, choice, report))
    assert len({(v, c) for v, c, _ in seen}) == len({(v, r) for v, _, r in seen})
    following = stream()
    following.bytes(16 * 60)
    assert rng.bytes(16) == following.bytes(16)
    assert reports.dtype == np.uint32


@pytest.mark.parametrize(("epsilon", "d"), [(0.5, 5), (1.0, 13), (2.0, 21), (4.0, 6)])
def test_the_threshold_has_little_room(epsilon: float, d: int):
    """Negative control: a hundred units in 2^64 more than the proof allows, and the exact channel breaks its bound."""
    m = make(epsilon, d)
    contract.check_channel(CASE.channel(m), epsilon)
    m.__dict__["threshold"] += 100
    with pytest.raises(AssertionError, match="more than epsilon"):
        contract.check_channel(CASE.channel(m), epsilon)


# The choice of the geometry


def relative_variance(epsilon: float, d: int, q: int, t: int) -> float:
    """From e^eps directly, not through the mixture."""
    e, points, own, shared = math.exp(epsilon), *(count_points(q, i) for i in (t, t - 1, t - 2))
    unit = 1 / (e * own + points - own)
    return mean_variance(e * own * unit, (e * shared + own - shared) * unit, d)


@settings(max_examples=60, deadline=None)
@given(
    epsilon=st.floats(0.01, 12.0),
    d=st.one_of(
        st.integers(2, 1 << 20),
        st.sampled_from([count_points(*shape) + off for shape in [*SHAPES, (59, 3), (1021, 3)] for off in (-1, 0, 1)]),
    ),
)
def test_the_geometry_holds_the_domain_and_is_near_the_best(epsilon: float, d: int):
    d = max(d, 2)
    q, t = choose_geometry(epsilon, d)
    assert is_field_order(q)
    assert d <= count_points(q, t) <= 1 << 22
    chosen = relative_variance(epsilon, d, q, t)
    others = [(q, t) for t in range(2, 23) for q in [*range(2, 200), 401, 997, 2039] if is_field_order(q)]
    fitting = [shape for shape in others if d <= count_points(*shape) <= 1 << 22]
    assert all(chosen <= 1.0201 * relative_variance(epsilon, d, *shape) for shape in fitting)


@pytest.mark.parametrize(("d", "shape"), [(3541, (59, 3)), (3542, (61, 3))])
def test_one_value_more_than_points_takes_the_next_field(d: int, shape: tuple[int, int]):
    assert choose_geometry(4.0, d) == shape


def test_the_reference_geometry_and_its_wire_size():
    m = make(4.0, 3000)
    assert m.shape == (59, 3)
    assert (m.points, m.hyperplane_size, m.report_bits) == (3541, 60, 12)
    assert make(1.0, 1 << 20).report_bits <= 22
    with pytest.raises(ValueError, match="2 to 1048576"):
        make(1.0, (1 << 20) + 1)
    with pytest.raises(ValueError, match="epsilon is 1e-30"):
        make(1e-30, 4)
    assert make(4.0, np.int64(3000)) == m


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 2.0, 4.0])
def test_the_standard_error_is_that_of_subset_selection(epsilon: float):
    ours = make(epsilon, 3000)
    e, best = math.exp(epsilon), SubsetSelection(epsilon=epsilon, domain_size=3000)
    assert best.standard_error(100) * 0.999 < ours.standard_error(100) < 1.03 * best.standard_error(100)
    assert ours.standard_error(1) ** 2 == pytest.approx(4 * e / (e - 1) ** 2, rel=0.15)
    share, k, own, shared = ours.threshold / WORD, *(count_points(ours.shape[0], ours.shape[1] - i) for i in (0, 1, 2))
    anywhere = (1 - share) * own / k
    assert (ours.p, ours.q) == pytest.approx((share + anywhere, share * shared / own + anywhere), rel=1e-12)
    assert share / (1 - share) == pytest.approx((e - 1) * own / k, rel=1e-12)


def test_the_line_is_randomized_response():
    ours, grr = make(12.0, 98), RandomizedResponse(epsilon=12.0, domain_size=98)
    assert ours.shape == (97, 2)
    assert (ours.p, ours.q) == pytest.approx((grr.p, grr.q), rel=1e-12)


# The server


def test_the_simulated_tally_has_the_law_of_reports_on_both_ways():
    m, rng = make(1.0, 12), np.random.default_rng(8)
    counts = np.full(12, 2)
    counts[[1, 11]] = 900, 300
    values = np.repeat(np.arange(12), counts)
    reported = np.array([m.tally(m.privatize(values, stream(i))).sums for i in range(400)], dtype=float)
    simulated = np.array([m.simulate_tally(counts, rng).sums for _ in range(400)], dtype=float)
    assert (simulated.sum(axis=1) == counts.sum()).all()
    contract.check_two_samples(reported, simulated)
    # Wrong: the devices of the full values swapped for others (the law of another histogram with the same total).
    wrong = np.array([m.simulate_tally(counts[::-1].copy(), rng).sums for _ in range(400)], dtype=float)
    with pytest.raises(AssertionError, match="means differ"):
        contract.check_two_samples(reported, wrong)


def test_simulation_of_many_devices():
    m, counts = make(4.0, 40), np.full(40, 10**9)
    tally = m.simulate_tally(counts, np.random.default_rng(0))
    assert tally.reports == tally.sums.sum() == 40 * 10**9
    z = (m.estimate(tally).counts - counts) / m.standard_error(40 * 10**9, 10**9)
    assert np.abs(z).max() < 5


def test_estimates_of_some_values_are_those_of_all():
    m = make(2.0, 500)
    tally = m.tally(m.privatize(skewed(3000, 500), stream()))
    everything, some = m.estimate(tally), m.estimate(tally, np.array([499, 0]))
    assert some.counts.tolist() == everything.counts[[499, 0]].tolist()
    assert some.stderr.tolist() == everything.stderr[[499, 0]].tolist()
    with pytest.raises(ValueError, match="expected"):
        m.estimate(tally, np.array([500]))


def test_malformed_reports_are_refused():
    m = make(1.0, 5)
    with pytest.raises(ValueError, match=rf"expected points 0 \.\. {m.points - 1}"):
        m.tally(np.array([0, m.points], dtype=np.uint32))
    for reports in (np.zeros(2, np.int64), np.zeros((2, 1), np.uint32)):
        with pytest.raises(ValueError, match=r"expected uint32\[n\]"):
            m.tally(reports)
    with pytest.raises(ValueError, match="the tally was made with"):
        m.estimate(Tally(np.zeros(m.points, np.int64), 0, {**m.parameters, "field": 64}))
