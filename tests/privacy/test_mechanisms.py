"""One behaviour suite over every mechanism, with negative controls that show the tests can fail."""

from __future__ import annotations

import dataclasses
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.mechanism import Mechanism, Tally
from privacy.no_privacy import NoPrivacy
from privacy.randomized_response import RandomizedResponse
from privacy.randomness import DeviceStream, Stage, random_words
from privacy.thresholds import WORD, exp_below, scaled_words
from privacy.unary_encoding import OptimizedUnaryEncoding

PRIVATE = [RandomizedResponse, OptimizedUnaryEncoding]
ALL = [lambda **k: NoPrivacy(domain_size=k["domain_size"]), *PRIVATE]


def rng(chunk: int = 0) -> DeviceStream:
    return DeviceStream.simulation(seed=7, round=0, stage=Stage.PRIVATIZE, chunk=chunk)


def channel_rr(m: RandomizedResponse) -> list[list[Fraction]]:
    """P[report | value], exactly, from the integer threshold and the integer multiply of the sampler."""
    d = m.domain_size
    edges = [-(-WORD * i // (d - 1)) for i in range(d)]  # w with floor(w (d-1) / 2^64) == i is [edges[i], edges[i+1])
    other = [Fraction(b - a, WORD) for a, b in itertools.pairwise(edges)]
    keep = Fraction(m.threshold, WORD)
    return [[keep if y == v else (1 - keep) * other[y - (y > v)] for y in range(d)] for v in range(d)]


def channel_oue(m: OptimizedUnaryEncoding) -> list[list[Fraction]]:
    p, q = (Fraction(t, WORD) for t in m.thresholds)

    def probability(bits: tuple[int, ...], value: int) -> Fraction:
        result = Fraction(1)
        for i, bit in enumerate(bits):
            one = p if i == value else q
            result *= one if bit else 1 - one
        return result

    return [
        [probability(bits, v) for bits in itertools.product((0, 1), repeat=m.domain_size)] for v in range(m.domain_size)
    ]


def largest_ratio(channel: list[list[Fraction]]) -> Fraction:
    return max(a / b for column in zip(*channel, strict=True) for a, b in itertools.permutations(column, 2))


@pytest.mark.parametrize("epsilon", [0.01, 0.5, 1.0, 2.0, 4.0, 8.0, 12.0])
@pytest.mark.parametrize("d", [2, 3, 5, 6])
@pytest.mark.parametrize(("kind", "channel"), [(RandomizedResponse, channel_rr), (OptimizedUnaryEncoding, channel_oue)])
def test_channel_keeps_epsilon_exactly_and_is_tight(kind, channel, d, epsilon):
    matrix = channel(kind(epsilon=epsilon, domain_size=d))
    assert all(sum(row) == 1 for row in matrix)
    ratio, bound = largest_ratio(matrix), exp_below(epsilon)
    assert ratio <= bound
    assert ratio >= bound * Fraction(98, 100)


def test_negative_control_a_leaky_channel_is_caught():
    leaky = dataclasses.replace(OptimizedUnaryEncoding(epsilon=1.0, domain_size=4))
    leaky.__dict__["thresholds"] = (WORD // 2, leaky.thresholds[1] - (1 << 40))
    assert largest_ratio(channel_oue(leaky)) > exp_below(1.0)


def test_exp_below_is_below_and_close():
    for epsilon in (0.1, 1.0, 4.0, 12.0):
        e = exp_below(epsilon)
        assert (
            Fraction(math.exp(epsilon)) * (1 - Fraction(1, 10**14))
            < e
            < Fraction(math.exp(epsilon)) * (1 + Fraction(1, 10**14))
        )


@given(st.lists(st.integers(0, WORD - 1), min_size=1, max_size=20), st.integers(1, 1 << 32))
def test_scaled_words_is_the_128_bit_product(words, bound):
    got = scaled_words(np.array(words, dtype=np.uint64), bound)
    assert got.tolist() == [w * bound >> 64 for w in words]


def skewed(n: int, d: int) -> np.ndarray:
    weights = 1 / np.arange(1, d + 1)
    return np.sort(np.random.default_rng(1).choice(d, n, p=weights / weights.sum()))


def z_scores(mechanism: Mechanism, decoder: Mechanism, repeats: int = 200) -> np.ndarray:
    """z of the mean error of each value over repeated polls of the same devices."""
    values = skewed(500, mechanism.domain_size)
    truth = np.bincount(values, minlength=mechanism.domain_size)
    errors = []
    for chunk in range(repeats):
        tally = mechanism.tally(mechanism.privatize(values, rng(chunk)))
        errors.append(decoder.estimate(Tally(tally.sums, tally.reports, decoder.parameters)).counts - truth)
    errors = np.array(errors)
    return errors.mean(axis=0) / (errors.std(axis=0, ddof=1) / math.sqrt(repeats))


@pytest.mark.parametrize("epsilon", [0.5, 2.0, 4.0, 8.0])
@pytest.mark.parametrize("d", [2, 7, 64, 301])
@pytest.mark.parametrize("kind", PRIVATE)
def test_estimates_are_unbiased_within_5_standard_errors(kind, d, epsilon):
    mechanism = kind(epsilon=epsilon, domain_size=d)
    assert np.abs(z_scores(mechanism, mechanism)).max() < 5


@pytest.mark.parametrize("kind", PRIVATE)
def test_negative_control_a_decoder_with_wrong_epsilon_is_biased(kind):
    mechanism, wrong = kind(epsilon=2.0, domain_size=7), kind(epsilon=3.0, domain_size=7)
    assert np.abs(z_scores(mechanism, wrong)).max() > 5


@pytest.mark.parametrize("epsilon", [1.0, 4.0])
@pytest.mark.parametrize("kind", PRIVATE)
def test_stderr_matches_the_spread(kind, epsilon):
    d, n, repeats = 40, 2000, 400
    mechanism = kind(epsilon=epsilon, domain_size=d)
    values = skewed(n, d)
    truth = np.bincount(values, minlength=d)
    counts = np.array(
        [mechanism.estimate(mechanism.tally(mechanism.privatize(values, rng(c)))).counts for c in range(repeats)]
    )
    claimed = np.array([mechanism.standard_error(n, f) for f in truth])
    # A sample variance of `repeats` near-normal draws has relative standard error sqrt(2 / (repeats - 1)); 5 of them.
    assert np.abs(counts.var(axis=0, ddof=1) / claimed**2 - 1).max() < 5 * math.sqrt(2 / (repeats - 1))


def test_standard_errors_of_the_reference_table():
    # DESIGN's central table: sd = sqrt(4 n e^eps) / (e^eps - 1)
    for n, epsilon, expected in [
        (100_000, 1, 607),
        (100_000, 4, 87),
        (1_000_000, 2, 851),
        (1_000_000, 8, 37),
    ]:
        assert round(OptimizedUnaryEncoding(epsilon=epsilon, domain_size=10).standard_error(n)) == expected
    # GRR: n (d - 2 + e^eps) / (e^eps - 1)^2
    grr = RandomizedResponse(epsilon=4.0, domain_size=301).standard_error(1000)
    assert grr == pytest.approx(math.sqrt(1000 * (299 + math.exp(4))) / (math.exp(4) - 1), rel=1e-9)


@pytest.mark.parametrize("kind", ALL)
@settings(max_examples=20, deadline=None)
@given(d=st.sampled_from([2, 3, 7, 8, 9, 16, 17, 255, 301]), n=st.integers(0, 40), cut=st.integers(0, 40))
def test_tallies_add(kind, d, n, cut):
    mechanism = kind(epsilon=3.0, domain_size=d)
    reports = mechanism.privatize(np.arange(n) % d, rng())
    whole, parts = mechanism.tally(reports), mechanism.tally(reports[:cut]) + mechanism.tally(reports[cut:])
    assert (whole.sums == parts.sums).all()
    assert whole.reports == parts.reports == n
    assert whole.sums.dtype == np.int64


def test_tallies_of_different_mechanisms_do_not_add():
    a, b = (OptimizedUnaryEncoding(epsilon=e, domain_size=4) for e in (1.0, 2.0))
    empty = np.zeros(0, dtype=np.int64)
    with pytest.raises(ValueError, match=r"different mechanisms.*1\.0.*2\.0"):
        a.tally(a.privatize(empty, rng())) + b.tally(b.privatize(empty, rng()))
    with pytest.raises(ValueError, match="the tally was made with"):
        b.estimate(a.tally(a.privatize(empty, rng())))


@pytest.mark.parametrize("kind", PRIVATE)
def test_simulated_tally_has_the_law_of_reports(kind):
    """Means and variances of both paths agree within 5 standard errors."""
    d, repeats = 12, 600
    mechanism = kind(epsilon=1.5, domain_size=d)
    values = skewed(400, d)
    truth = np.bincount(values, minlength=d)
    generator = np.random.default_rng(3)
    reported = np.array([mechanism.tally(mechanism.privatize(values, rng(c))).sums for c in range(repeats)])
    simulated = np.array([mechanism.simulate_tally(truth, generator).sums for _ in range(repeats)])
    gap = reported.mean(0) - simulated.mean(0)
    assert np.abs(gap / np.sqrt((reported.var(0) + simulated.var(0)) / repeats)).max() < 5
    assert np.abs(np.log(reported.var(0) / simulated.var(0))).max() < 5 * math.sqrt(4 / repeats)


@pytest.mark.parametrize("kind", PRIVATE)
@pytest.mark.parametrize("epsilon", [0, -1.0, 12.5, math.nan, math.inf, "4", True])
def test_bad_epsilon(kind, epsilon):
    with pytest.raises(ValueError, match=r"epsilon is .*expected"):
        kind(epsilon=epsilon, domain_size=4)


@pytest.mark.parametrize("kind", ALL)
def test_bad_domains_and_values(kind):
    for d in (1, 0, -3, 2.5, 1 << 40):
        with pytest.raises(ValueError, match="domain_size is"):
            kind(epsilon=1.0, domain_size=d)
    mechanism = kind(epsilon=1.0, domain_size=4)
    for values in ([4], [-1], [[0, 1]]):
        with pytest.raises(ValueError, match="expected"):
            mechanism.privatize(np.array(values), rng())
    with pytest.raises(TypeError, match="float64"):
        mechanism.privatize(np.array([0.5]), rng())


def test_malformed_unary_reports_are_refused():
    mechanism = OptimizedUnaryEncoding(epsilon=1.0, domain_size=5)
    with pytest.raises(ValueError, match="padding"):
        mechanism.tally(np.full((2, 1), 255, dtype=np.uint8))
    with pytest.raises(ValueError, match=r"expected uint8\[n, 1\]"):
        mechanism.tally(np.zeros((2, 3), dtype=np.uint8))


def test_stream_is_aes_256_in_counter_mode_and_repeatable():
    # NIST SP 800-38A defines the counter blocks; the first key-stream block is AES(key, 0). FIPS-197 C.3 has the key
    # 00..1f; its encryption of sixteen zero bytes was computed with the ECB mode of the same standard.
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    key = bytes(range(32))
    block = Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(bytes(16))
    assert DeviceStream(key, simulated=True).bytes(16) == block
    assert rng().bytes(100) == rng().bytes(100) != rng(1).bytes(100)
    one = rng()
    assert one.bytes(7) + one.bytes(93) == rng().bytes(100)
    assert DeviceStream.from_system().bytes(32) != DeviceStream.from_system().bytes(32)
    assert not DeviceStream.from_system().simulated
    assert (random_words(rng(), 3) == np.frombuffer(rng().bytes(24), "<u8")).all()
    with pytest.raises(ValueError, match="16 bytes"):
        DeviceStream(bytes(16), simulated=True)
