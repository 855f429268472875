"""Optimized local hashing (OLH): hash the value to a small range under a seed of one's own, then randomize the hash.

The accuracy of optimized unary encoding with a report that does not grow with the domain: a seed and a small number.

    mechanism = LocalHashing(epsilon=2.0, domain_size=100_000)
    estimate = mechanism.estimate(mechanism.tally(mechanism.privatize(values, rng)))

The hash family is what makes this class exact and fast at once. P is the smallest prime >= d, a seed is a pair (a, b)
with 1 <= a < P and 0 <= b < P, and the hash of x is the run that z = (x - b) / a mod P falls into when 0 .. P - 1 is
cut into g nearly equal runs. For two different values the pair (z, z') is uniform over all pairs of different numbers,
so the probability of a collision is a number C that we know exactly, and estimates are unbiased for every domain, not
only if a hash function behaves like an ideal one. And the values that hash to a reported y need no search: they are
a z + b mod P for the P / g numbers z of run y, so a report costs the server d / g additions instead of d hashes.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import ClassVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from privacy.mechanism import Estimate, Mechanism, Parameters, Reports, Tally, simulate_by_reports
from privacy.randomized_response import RandomizedResponse, respond
from privacy.randomness import PIECE, RandomBytes, device_stream
from privacy.thresholds import WORD, check_domain, check_epsilon, check_values, exp_below, scaled_words
from privacy.unbiased import (
    check_resolution,
    check_tally,
    two_level_estimate,
    two_level_gain,
    two_level_influence,
    two_level_stderr,
)

REPORT = np.dtype([("seed", "<u8"), ("hash", "<u4")])
"""One report: seed = a 2^32 + b, and the randomized hash 0 .. g - 1."""

_WORDS = 3  # a report draws a, b and the randomized response, 64 bits each


@dataclass(frozen=True, kw_only=True)
class LocalHashing(Mechanism):
    """Wang, Blocki, Li, Jha 2017, section 4.4 (OLH), over the pairwise independent family of Carter, Wegman 1979,
    section 3 (linear maps modulo a prime).

    Reports: structured array [n] (seed uint64, hash uint32). Wire size: 64 + ceil(log2 g) bits. A report is randomized
    response over g hashes: with probability t = (e^eps - 1) / (e^eps + g - 1) the true hash, else a uniform one. It
    supports the own value with probability p = t + (1-t)/g and any other given value with probability
    q = t C + (1-t)/g, where C, about 1/g, is the probability that two values collide. Reports are independent, so the
    variance of a count with true value f among n reports is exactly, in devices squared,
    f p(1-p)/(p-q)^2 + (n-f) q(1-q)/(p-q)^2, about 4 n e^eps / (e^eps - 1)^2 for f = 0. g is near e^eps + 1, and
    P where the domain is too small to gain from collisions (the mechanism is then randomized response over P values).

    Raises ValueError if epsilon is outside (0, 12] or domain_size outside 2 .. largest_domain.
    """

    epsilon: float
    domain_size: int

    name: ClassVar[str] = "local_hashing"
    counts_add_up: ClassVar[bool] = True
    largest_domain: ClassVar[int] = 1 << 31

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)
        check_domain(self.domain_size, self.largest_domain, self.name)
        check_resolution(self.epsilon, self.p, self.q)

    @property
    def report_bits(self) -> int:
        """Bits on the wire of one report."""
        return 64 + (self.hashes - 1).bit_length()

    @property
    def parameters(self) -> Parameters:
        """What device and server must agree on."""
        return {
            "mechanism": self.name,
            "epsilon": float(self.epsilon),
            "domain_size": int(self.domain_size),
            "prime": self.prime,
            "hashes": self.hashes,
        }

    @cached_property
    def prime(self) -> int:
        """P: the smallest prime >= d."""
        return next(n for n in itertools.count(int(self.domain_size)) if is_prime(n))

    @cached_property
    def hashes(self) -> int:
        """g: how many hashes there are, of nearly the least variance for this prime (within 1 percent).

        Next to e^eps + 1, or where the runs are nearly of one length, or P. Decided with fractions, so that every
        machine chooses the same.
        """
        near = min(math.floor(exp_below(self.epsilon)) + 1, self.prime)
        run = self.prime // near
        even = (max(2, -(-self.prime // length)) for length in (run, run + 1))
        return min({near, min(near + 1, self.prime), self.prime, *even}, key=lambda g: (self._variance(g), g))

    def _variance(self, g: int) -> Fraction:
        gain = exp_below(self.epsilon) - 1
        t = gain / (gain + g)
        c = _collision(self.prime, g)
        q = t * c + (1 - t) / g
        return q * (1 - q) / (t * (1 - c)) ** 2

    @cached_property
    def collision(self) -> Fraction:
        """C: the probability over seeds that two given different values have the same hash."""
        return _collision(self.prime, self.hashes)

    @cached_property
    def response(self) -> RandomizedResponse:
        """What randomizes the hash; its epsilon is that of the report, because the seed says nothing of the value."""
        return RandomizedResponse(epsilon=self.epsilon, domain_size=self.hashes)

    @cached_property
    def p(self) -> float:
        """Probability that a report supports the device's own value."""
        t = Fraction(self.response.threshold, WORD)
        return float(t + (1 - t) / self.hashes)

    @cached_property
    def q(self) -> float:
        """Probability that a report supports one given other value."""
        t = Fraction(self.response.threshold, WORD)
        return float(t * self.collision + (1 - t) / self.hashes)

    def channel(self) -> list[list[Fraction]]:
        """P[report | value] exactly, seeds included: column ((a - 1) P + b) g + hash. For domains of at most 16."""
        d, prime, g = self.domain_size, self.prime, self.hashes
        if d > 16:
            raise ValueError(f"domain_size is {d}; the channel is enumerated for 2 to 16 values (P^2 g reports)")
        chance_a, chance_b = (_scaled_law(bound) for bound in (prime - 1, prime))
        answers = self.response.channel()
        return [
            [
                pa * pb * answer
                for a, pa in enumerate(chance_a, 1)
                for b, pb in enumerate(chance_b)
                for answer in answers[(value - b) * pow(a, -1, prime) % prime * g // prime]
            ]
            for value in range(d)
        ]

    def privatize(self, values: NDArray[np.int64], rng: RandomBytes) -> Reports:
        """int64[n] values -> n reports of dtype REPORT. Three 64-bit words a report, always.

        Raises TypeError for values that are no integers, ValueError for values outside 0 .. domain_size - 1.
        """
        values = check_values(values, self.domain_size)
        reports = np.empty(len(values), dtype=REPORT)
        stream, response = device_stream(rng), self.response
        c, f = response.dealing
        words = np.empty((max(1, min(len(values), PIECE // (8 * _WORDS))), _WORDS), dtype=np.uint64)
        for start in range(0, len(values), len(words)):
            part = values[start : start + len(words)]
            drawn = words[: len(part)]
            stream.fill(drawn)
            a = scaled_words(drawn[:, 0], self.prime - 1) + 1
            b = scaled_words(drawn[:, 1], self.prime)
            hashed = _hash(part, a, b, self.prime, self.hashes)
            answers = np.empty(len(part), dtype=np.int64)
            respond(
                np.ascontiguousarray(drawn[:, 2]),
                hashed,
                np.uint64(response.threshold),
                np.uint64(c),
                np.uint64(f),
                answers,
            )
            rows = reports[start : start + len(part)]
            rows["seed"] = a << 32 | b
            rows["hash"] = answers
        return reports

    def tally(self, reports: Reports) -> Tally:
        """How many reports support each value, int64[domain_size]: d / g additions a report.

        Raises ValueError for reports of another type, or with seeds and hashes that no device draws.
        """
        reports = np.asarray(reports)
        if reports.ndim != 1 or reports.dtype != REPORT:
            raise ValueError(f"reports have shape {reports.shape} and dtype {reports.dtype}; expected n of {REPORT}")
        seeds, answers = np.ascontiguousarray(reports["seed"]), np.ascontiguousarray(reports["hash"])
        sums = np.zeros(self.prime, dtype=np.int64)
        if not _count_supported(seeds, answers, self.prime, self.hashes, sums):
            raise ValueError(
                f"reports have a seed or a hash out of range; expected 1 <= a < {self.prime}, 0 <= b < {self.prime} "
                f"in a 2^32 + b and a hash in 0 .. {self.hashes - 1}; they were not made by this mechanism"
            )
        return Tally(sums[: self.domain_size].copy(), len(reports), self.parameters)

    def estimate(self, tally: Tally, values: NDArray[np.int64] | None = None) -> Estimate:
        """Unbiased counts and their standard errors."""
        check_tally(tally, self.parameters, (self.domain_size,))
        return two_level_estimate(tally, self.p, self.q, values, self.domain_size)

    def simulate_tally(self, counts: NDArray[np.int64], rng: np.random.Generator) -> Tally:
        """The tally of reports made for these true counts, in bounded memory.

        One report supports many values at once, so the sums are not independent and have no shorter exact law.
        """
        return simulate_by_reports(self, counts, rng)

    def _refused(self, reports: Reports) -> NDArray[np.int64]:
        """Seeds and hashes that no device draws."""
        a, b = reports["seed"] >> np.uint64(32), reports["seed"] & np.uint64(0xFFFFFFFF)
        return np.flatnonzero((a < 1) | (a >= self.prime) | (b >= self.prime) | (reports["hash"] >= self.hashes))

    @property
    def largest_influence(self) -> float:
        """(1 - q) / (p - q), about 2 + 2 / (e^eps - 1) for large d."""
        return two_level_influence(self.p, self.q)

    def largest_gain(self, targets: int) -> float:
        """(min(r, s) - r q) / (p - q) for r targets, where s = ceil(P / g) is the longest run.

        An attacker whose targets are given has to look for a seed that puts many of them in one run, and gets less.
        """
        return two_level_gain(min(targets, -(-self.prime // self.hashes)), targets, self.p, self.q)

    @property
    def total_variation(self) -> float:
        """That of the randomized hashes, whatever the seed, which says nothing of the value."""
        return self.response.total_variation

    def server_operations(self, reports: int, values: int) -> float:
        """Every report supports about d / g values."""
        return reports * self.domain_size / self.hashes + values

    def standard_error(self, reports: int, count: float = 0.0) -> float:
        """Standard error of a count, in devices."""
        return two_level_stderr(reports, count, self.p, self.q)


def is_prime(n: int) -> bool:
    """Miller and Rabin's test with bases that decide every n below 2 * 10^12 (Jaeschke 1993)."""
    bases = (2, 3, 5, 7, 11)
    if n < 2 or any(n % base == 0 for base in bases):
        return n in bases
    odd, twos = n - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    return all(pow(base, odd, n) == 1 or any(pow(base, odd << i, n) == n - 1 for i in range(twos)) for base in bases)


def _collision(prime: int, g: int) -> Fraction:
    """P[z and z' fall into one run] for two different uniform numbers below P cut into g runs."""
    short, longer = prime // g, prime % g  # `longer` runs have short + 1 numbers
    pairs = longer * (short + 1) * short + (g - longer) * short * (short - 1)
    return Fraction(pairs, prime * (prime - 1))


def _scaled_law(bound: int) -> list[Fraction]:
    """The exact law of scaled_words(w, bound) for a uniform 64-bit word w."""
    edges = [-(-WORD * i // bound) for i in range(bound + 1)]
    return [Fraction(high - low, WORD) for low, high in itertools.pairwise(edges)]


@njit(cache=True, nogil=True)
def _hash(
    values: NDArray[np.int64], a: NDArray[np.int64], b: NDArray[np.int64], prime: int, g: int
) -> NDArray[np.int64]:
    result = np.empty(len(values), dtype=np.int64)
    for i in range(len(values)):
        # Euclid's algorithm: the inverse of a modulo P. How long it takes depends on the public seed only.
        r0, r1, s0, s1 = prime, a[i], 0, 1
        while r1 != 0:
            quotient = r0 // r1
            r0, r1 = r1, r0 - quotient * r1
            s0, s1 = s1, s0 - quotient * s1
        # s0 is the inverse, or that less P; % is never negative here. No product reaches 2^63: P < 2^32, g < 2^18.
        result[i] = (values[i] - b[i]) * s0 % prime * g // prime
    return result


@njit(cache=True, nogil=True)
def _count_supported(
    seeds: NDArray[np.uint64], answers: NDArray[np.uint32], prime: int, g: int, sums: NDArray[np.int64]
) -> bool:
    for i in range(len(seeds)):
        a, b, y = np.int64(seeds[i] >> np.uint64(32)), np.int64(seeds[i] & np.uint64(0xFFFFFFFF)), np.int64(answers[i])
        if a < 1 or a >= prime or b >= prime or y >= g:
            return False
        first, end = (y * prime + g - 1) // g, ((y + 1) * prime + g - 1) // g
        x = (a * first + b) % prime
        for _ in range(first, end):
            sums[x] += 1
            x += a
            if x >= prime:
                x -= prime
    return True
