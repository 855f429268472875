"""Local hashing: the family's exact law, the range chosen, and both kernels against their definitions."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.local_hashing import REPORT, LocalHashing, is_prime
from privacy.thresholds import exp_below
from tests.privacy.cases_a import hash_is
from tests.privacy.contract import skewed, stream


def report(*rows: tuple[int, int, int]) -> np.ndarray:
    """Reports from (a, b, hash)."""
    return np.array([(a << 32 | b, y) for a, b, y in rows], dtype=REPORT)


@pytest.mark.parametrize(("epsilon", "d"), [(0.5, 7), (1.0, 13), (1.0, 12), (2.0, 30), (4.0, 6), (3.0, 2), (1.5, 3)])
def test_the_family_has_the_collisions_it_claims(epsilon: float, d: int):
    """Over all seeds: every pair of values collides with probability C, and every hash value has its share."""
    m = LocalHashing(epsilon=epsilon, domain_size=d)
    prime, g = m.prime, m.hashes
    seeds = [(a, b) for a in range(1, prime) for b in range(prime)]
    hashes = np.array([[(x - b) * pow(a, -1, prime) % prime * g // prime for x in range(d)] for a, b in seeds])
    for x, y in itertools.combinations(range(d), 2):
        assert Fraction(int((hashes[:, x] == hashes[:, y]).sum()), len(seeds)) == m.collision
    for y in range(g):
        run = sum(z * g // prime == y for z in range(prime))
        assert ((hashes == y).sum(axis=0) == len(seeds) * run // prime).all()


@pytest.mark.parametrize(("epsilon", "d"), [(0.5, 7), (1.0, 13), (2.0, 5), (4.0, 6)])
def test_p_and_q_are_those_of_the_channel(epsilon: float, d: int):
    """P[support of y | value x], summed over the enumerated channel, seeds included."""
    m = LocalHashing(epsilon=epsilon, domain_size=d)
    prime, g = m.prime, m.hashes
    columns = [(a, b, y) for a in range(1, prime) for b in range(prime) for y in range(g)]
    channel = m.channel()
    for value in range(d):
        chance = [Fraction(0)] * d
        for (a, b, y), probability in zip(columns, channel[value], strict=True):
            for x in range(d):
                if (x - b) * pow(a, -1, prime) % prime * g // prime == y:
                    chance[x] += probability
        for x in range(d):
            assert float(chance[x]) == pytest.approx(m.p if x == value else m.q, rel=1e-14)


@settings(max_examples=40, deadline=None)
@given(epsilon=st.sampled_from([0.3, 1.0, 2.5, 4.0, 9.0]), d=st.integers(2, 300))
def test_the_range_is_the_best_one(epsilon: float, d: int):
    m = LocalHashing(epsilon=epsilon, domain_size=d)
    gain = exp_below(epsilon) - 1

    def variance(g: int) -> float:
        t = gain / (gain + g)
        runs = [-(-m.prime * (y + 1) // g) - -(-m.prime * y // g) for y in range(g)]
        c = Fraction(sum(run * (run - 1) for run in runs), m.prime * (m.prime - 1))
        q = t * c + (1 - t) / g
        return float(q * (1 - q) / (t * (1 - c)) ** 2)

    best = min(variance(g) for g in range(2, m.prime + 1))
    assert variance(m.hashes) <= best * 1.01, (m.hashes, m.prime)
    assert m.standard_error(1) ** 2 == pytest.approx(variance(m.hashes), rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(epsilon=st.sampled_from([0.5, 2.0, 5.0]), d=st.integers(2, 400) | st.sampled_from([65_537, 100_000]))
def test_the_server_counts_what_reports_support(epsilon: float, d: int):
    m = LocalHashing(epsilon=epsilon, domain_size=d)
    reports = m.privatize(skewed(30, d), stream())
    tally = m.tally(reports)
    for index in {0, 1, d // 2, d - 1}:
        assert tally.sums[index] == hash_is(m, reports, index).sum()


def test_a_device_reports_its_own_hash_at_large_epsilon():
    for d in (2, 3, 1000, (1 << 31) - 1, 1 << 31):
        m = LocalHashing(epsilon=12.0, domain_size=d)
        values = np.random.default_rng(0).integers(0, d, 400)
        reports = m.privatize(values, stream())
        own = sum(bool(hash_is_one(m, reports[i], int(v))) for i, v in enumerate(values))
        assert abs(own - 400 * m.p) < 5 * (400 * m.p * (1 - m.p)) ** 0.5 + 1


def hash_is_one(m: LocalHashing, row: np.void, value: int) -> bool:
    """In Python's unbounded integers: 2^31 values need more than 64 bits in numpy's order of operations."""
    a, b = int(row["seed"]) >> 32, int(row["seed"]) & 0xFFFFFFFF
    return (value - b) * pow(a, -1, m.prime) % m.prime * m.hashes // m.prime == int(row["hash"])


def test_seeds_and_hashes_that_no_device_draws_are_refused():
    m = LocalHashing(epsilon=1.0, domain_size=10)  # P = 11, g = 4
    assert (m.prime, m.hashes) == (11, 4)
    assert m.tally(report((1, 0, 0), (10, 10, 3))).reports == 2
    for bad in ((0, 3, 1), (11, 3, 1), (3, 11, 1), (3, 3, 4)):
        with pytest.raises(ValueError, match=r"seed or a hash out of range; expected 1 <= a < 11"):
            m.tally(report((1, 0, 0), bad))
    for reports in (np.zeros(3, dtype=np.int64), np.zeros((2, 2), dtype=REPORT)):
        with pytest.raises(ValueError, match="dtype"):
            m.tally(reports)
    with pytest.raises(ValueError, match="domain_size is 17; the channel"):
        LocalHashing(epsilon=1.0, domain_size=17).channel()


def test_simulated_tallies_are_report_tallies_in_bounded_memory(monkeypatch: pytest.MonkeyPatch):
    """Chunk by chunk from one stream, so that no chunk size changes the result."""
    from privacy import local_hashing
    from privacy.mechanism import simulate_by_reports

    m, counts = LocalHashing(epsilon=1.0, domain_size=6), np.array([5, 0, 40, 1, 0, 9])
    largest = 0
    privatize = LocalHashing.privatize

    def watched(self, values, rng):
        nonlocal largest
        largest = max(largest, len(values))
        return privatize(self, values, rng)

    monkeypatch.setattr(local_hashing.LocalHashing, "privatize", watched)
    sums = [simulate_by_reports(m, counts, np.random.default_rng(1), chunk=c).sums.tolist() for c in (1, 7, 1000)]
    assert sums[0] == sums[1] == sums[2] == m.simulate_tally(counts, np.random.default_rng(1)).sums.tolist()
    assert largest == 55
    m.simulate_tally(counts * 3000, np.random.default_rng(1))
    assert largest == 1 << 14
    assert simulate_by_reports(m, counts * 0, np.random.default_rng(1)).reports == 0


def test_primes():
    sieve = np.ones(20_000, dtype=bool)
    sieve[:2] = False
    for i in range(2, 142):
        if sieve[i]:
            sieve[i * i :: i] = False
    assert [n for n in range(20_000) if is_prime(n)] == np.flatnonzero(sieve).tolist()
    assert is_prime((1 << 31) - 1)
    # Strong pseudoprimes to the bases 2; 2, 3; 2, 3, 5; 2, 3, 5, 7 (Pomerance, Selfridge, Wagstaff 1980).
    assert not any(map(is_prime, (2047, 1_373_653, 25_326_001, 3_215_031_751)))
