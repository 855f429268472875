"""k-ary randomized response (GRR): report the true value with probability p, any other value with probability q.

The best frequency oracle for small domains (roughly d < 3 e^epsilon + 2), and the smallest report: one number. With
`null=True` a device may also answer that it has none of the values, as privately as it answers anything else:

    poll = RandomizedResponse(epsilon=2.0, domain_size=20, null=True)
    tally = poll.tally(poll.privatize(np.array([3, -1, 7]), rng))     # -1: no match
    poll.estimate(tally)                                              # devices per value, 20 entries
    poll.estimate_null(tally)                                         # devices without a match, one entry
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from privacy.mechanism import (
    Estimate,
    Mechanism,
    Parameters,
    Reports,
    Tally,
    check_counts,
    counts_by_value,
    one_hot,
)
from privacy.randomness import PIECE, RandomBytes, device_stream
from privacy.thresholds import WORD, check_domain, check_epsilon, check_values, exp_below
from privacy.unbiased import check_resolution, check_tally, two_level_estimate, two_level_stderr

NULL = -1
"""The value of a device to which none of the values applies ('no match'), where `null` allows it."""


@dataclass(frozen=True, kw_only=True)
class RandomizedResponse(Mechanism):
    """Generalized randomized response, Kairouz, Bonawitz, Ramage 2016, section 3 (k-RR).

    With K symbols: p = e^eps / (e^eps + K - 1), q = 1 / (e^eps + K - 1). K is d, or d + 1 with `null`: 'no match' is
    then one more symbol, value -1 on the device and report d on the wire, and no observer can tell a device without a
    match from one that has it. Whether a device has a match is as well protected as which one.

    Reports: int64[n], 0 .. K - 1. Wire size: ceil(log2 K) bits. Variance of a count with true value f among n reports,
    in devices squared: f p(1-p)/(p-q)^2 + (n-f) q(1-q)/(p-q)^2, which for f = 0 is n (K - 2 + e^eps) / (e^eps - 1)^2.

    Raises ValueError if epsilon is outside (0, 12] or domain_size outside 2 .. largest_domain.
    """

    epsilon: float
    domain_size: int
    null: bool = False

    name: ClassVar[str] = "randomized_response"
    largest_domain: ClassVar[int] = 1 << 31

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)
        check_domain(self.domain_size, self.largest_domain, self.name)
        if not isinstance(self.null, bool):
            raise ValueError(f"null is {self.null!r}; expected True ('no match' is an answer) or False")
        check_resolution(self.epsilon, self.p, self.q)

    @property
    def symbols(self) -> int:
        """K: how many different reports there are."""
        return int(self.domain_size) + self.null

    @property
    def report_bits(self) -> int:
        """Bits on the wire of one report."""
        return (self.symbols - 1).bit_length()

    @property
    def parameters(self) -> Parameters:
        """What device and server must agree on."""
        base: Parameters = {
            "mechanism": self.name,
            "epsilon": float(self.epsilon),
            "domain_size": int(self.domain_size),
        }
        return {**base, "null": 1} if self.null else base

    @cached_property
    def threshold(self) -> int:
        """T: with probability T / 2^64 the report is the true symbol, else it is uniform over all K symbols.

        One word w decides both: w < T keeps, and the R = 2^64 - T words from T on are dealt to the symbols in K nearly
        equal runs, the shortest of s >= R / K - 4 words (`dealing`). A symbol is reported by T + s words of its own
        value and s of any other, at the least favourable, so T <= (e^eps - 1) s keeps every ratio within e^eps exactly;
        this is the largest T with T <= (e^eps - 1) (R / K - 4).
        """
        gain = exp_below(self.epsilon) - 1
        return math.floor(gain * (WORD - 4 * self.symbols) / (self.symbols + gain))

    @cached_property
    def dealing(self) -> tuple[int, int]:
        """(c, f): the word T + u is dealt to symbol floor(u c / 2^(64 + f)), with 2^63 <= c < 2^64.

        c is K 2^(64 + f) / R rounded down, so the symbol is at most K - 1, and relative to c the rounding is below
        2^-63: the last run, which bears all of it, is at most 4 words shorter than R / K.
        """
        rest = WORD - self.threshold
        f = 64 - (self.symbols * WORD // rest).bit_length()
        return self.symbols * (1 << (64 + f)) // rest, f

    def first_word(self, symbol: int) -> int:
        """The smallest u whose word T + u is dealt to this symbol or a later one; 2^64 - T for symbol K."""
        c, f = self.dealing
        return min(WORD - self.threshold, -((-symbol << (64 + f)) // c))

    def channel(self) -> list[list[Fraction]]:
        """P[report | symbol] exactly, K x K (with `null`, the last row and column are 'no match')."""
        runs = [b - a for a, b in itertools.pairwise(self.first_word(y) for y in range(self.symbols + 1))]
        return [
            [Fraction(run + self.threshold * (y == v), WORD) for y, run in enumerate(runs)] for v in range(self.symbols)
        ]

    @property
    def p(self) -> float:
        """Probability of reporting the true symbol."""
        return (self.threshold + (WORD - self.threshold) / self.symbols) / WORD

    @property
    def q(self) -> float:
        """Probability of reporting one given other symbol; a single one is off by at most 4 / 2^64."""
        return (WORD - self.threshold) / self.symbols / WORD

    def privatize(self, values: NDArray[np.int64], rng: RandomBytes) -> Reports:
        """int64[n] values, -1 for 'no match' if `null` -> int64[n] reports. One 64-bit word a report, always.

        Raises TypeError for values that are no integers, ValueError for values outside the domain.
        """
        symbols = self._symbols_of(values)
        reports = np.empty(len(symbols), dtype=np.int64)
        stream, (c, f) = device_stream(rng), self.dealing
        words = np.empty(max(1, min(len(symbols), PIECE // 8)), dtype=np.uint64)
        for start in range(0, len(symbols), len(words)):
            part = slice(start, min(start + len(words), len(symbols)))
            drawn = words[: part.stop - part.start]
            stream.fill(drawn)
            respond(drawn, symbols[part], np.uint64(self.threshold), np.uint64(c), np.uint64(f), reports[part])
        return reports

    def _symbols_of(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        """Values as symbols: -1, where it is an answer, becomes the last symbol, d."""
        values = np.asarray(values)
        if not self.null or values.dtype.kind != "i" or values.ndim != 1 or values.size == 0:
            return check_values(values, self.domain_size)
        low, high = int(values.min()), int(values.max())
        if low < NULL or high >= self.domain_size:
            raise ValueError(
                f"values reach from {low} to {high}; expected 0 .. {self.domain_size - 1}, or -1 for 'no match'"
            )
        return np.where(values == NULL, np.int64(self.domain_size), values.astype(np.int64, copy=False))

    def tally(self, reports: Reports) -> Tally:
        """Histogram of reported symbols, int64[K]."""
        reports = check_values(reports, self.symbols)
        return Tally(np.bincount(reports, minlength=self.symbols), len(reports), self.parameters)

    def estimate(self, tally: Tally, values: NDArray[np.int64] | None = None) -> Estimate:
        """Unbiased counts and their standard errors: of the d values, or of those asked for; without 'no match'."""
        check_tally(tally, self.parameters, (self.symbols,))
        wanted = np.arange(self.domain_size) if values is None and self.null else values
        return two_level_estimate(tally, self.p, self.q, wanted, self.domain_size)

    def estimate_null(self, tally: Tally) -> Estimate:
        """Unbiased number of devices without a match, one entry. Raises ValueError without `null`."""
        check_tally(tally, self.parameters, (self.symbols,))
        if not self.null:
            raise ValueError("null is False; this mechanism has no answer 'no match' to estimate (set null=True)")
        return two_level_estimate(tally, self.p, self.q, np.array([self.domain_size]), self.symbols)

    def simulate_tally(self, counts: NDArray[np.int64], rng: np.random.Generator) -> Tally:
        """Exact law of the tally for devices with these true counts: int64[K], with `null` the last is 'no match'.

        Keep-or-replace as a mixture: with probability p - q the value itself, else uniform over all K symbols.
        """
        counts = check_counts(counts, self.symbols)
        kept = rng.binomial(counts, self.threshold / WORD)
        uniform = rng.multinomial(int(counts.sum() - kept.sum()), np.full(self.symbols, 1 / self.symbols))
        return Tally((kept + uniform).astype(np.int64), int(counts.sum()), self.parameters)

    def simulate_held(self, values: NDArray[Any], counts: NDArray[np.int64], rng: np.random.Generator) -> Tally:
        """As of every mechanism, with -1 for 'no match' if `null`."""
        return self.simulate_tally(counts_by_value(values, counts, self.domain_size, null=self.null), rng)

    def contributions(self, reports: Reports) -> NDArray[np.int64]:
        """One-hot vectors of the reported symbols, int64[n, K]."""
        return one_hot(reports, self.symbols)

    @property
    def total_variation(self) -> float:
        """A word below the threshold reports the own symbol, any other one from a law that all values share."""
        return self.threshold / WORD

    @property
    def log_q_silent(self) -> float:
        """0: a report that is neither of two values is at least as likely from any other value."""
        return 0.0

    @property
    def tally_cells(self) -> int:
        """A count for each symbol."""
        return self.symbols

    def standard_error(self, reports: int, count: float = 0.0) -> float:
        """Standard error of a count, in devices."""
        return two_level_stderr(reports, count, self.p, self.q)


@njit(cache=True, nogil=True)
def respond(
    words: NDArray[np.uint64],
    symbols: NDArray[np.int64],
    threshold: np.uint64,
    c: np.uint64,
    f: np.uint64,
    reports: NDArray[np.int64],
) -> None:
    """One report for each symbol and its word: RandomizedResponse.threshold and dealing."""
    low_mask, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    c0, c1 = c & low_mask, c >> shift
    for i in range(len(words)):
        u = words[i] - threshold  # wraps where the word is below the threshold; then the symbol is kept
        u0, u1 = u & low_mask, u >> shift
        # The upper half of the 128-bit product u c.
        inner = u1 * c0 + (u0 * c0 >> shift)
        outer = u0 * c1 + (inner & low_mask)
        dealt = (u1 * c1 + (inner >> shift) + (outer >> shift)) >> f
        reports[i] = symbols[i] if words[i] < threshold else np.int64(dealt)
