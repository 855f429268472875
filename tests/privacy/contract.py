"""What every mechanism must pass: reusable checks, each of which a wrong mechanism fails (test_contract_controls.py).

To put a mechanism under contract, write tests/privacy/cases_<part>.py with a list `CASES`:

    CASES = [Case(name="grr", make=lambda epsilon, d, family: RandomizedResponse(epsilon=epsilon, domain_size=d))]

Errors, empty input and tallies on disk are in contract_edges.py, the audit of large domains in contract_audit.py.

A check raises AssertionError and returns nothing. Tolerances are in standard errors; proofs of epsilon have none.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from privacy.mechanism import Estimate, Mechanism, Reports, Tally
from privacy.randomness import DeviceStream, Stage, device_stream
from privacy.thresholds import exp_below

Channel = list[list[Fraction]]
"""P[report = column | value = row], exactly."""

SIGMAS = 5.0


AWKWARD = (2, 3, 4, 5, 7, 8, 9, 13, 15, 16, 17, 26, 31, 32, 33, 57, 63, 64, 65, 127, 128, 129, 255, 256, 257, 301, 1000)
"""Domain sizes at and beside powers of two and of primes."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """How the suite plays one mechanism on the values 0 .. d - 1. The defaults fit a frequency oracle over numbers.

    `make(epsilon, d, family)`: the mechanism; `family` numbers the hash family of a sketch and is ignored without one
    (then leave `families` False: one instance serves all polls, which is faster).
    `encode(indices, d)`: what `privatize` takes for these of the d values. `estimate(mechanism, tally, d)`: estimates
    of the d values. `claimed(mechanism, truth)`: standard error of each of the d estimates, given the true counts.
    `simulate(mechanism, counts, rng)`: the tally without reports; None if there is no such shortcut.
    `channel(mechanism)`: from the integer thresholds that the kernel uses. `column(mechanism, reports)`: the channel's
    column of each report, which ties the channel to the kernel; None where the mechanism's own tests do that.
    `supports(mechanism, reports, index)`: bool[n], whether a report speaks for the value: what the audit looks at.
    `tight`: the channel reaches 0.98 e^epsilon. `plug_in`: `Estimate.stderr` is `standard_error` at the estimate.
    `checked`: values outside 0 .. d - 1 are refused (sketches take any 64-bit hash).

    `epsilons` and `channel_domains`: where the channel is enumerated. `polls`: (epsilon, d) of the statistical checks,
    each with `devices` reports a poll and `repeats` polls. `awkward`: domains of the property tests. `simulated`: d of
    the two-sample test. `large_domain`: d of the audit at epsilon 4, whose lower bound must reach `audit_floor`.
    """

    name: str
    make: Callable[[float, int, int], Any]
    encode: Callable[[np.ndarray, int], np.ndarray] = lambda indices, d: indices
    estimate: Callable[[Any, Tally, int], Estimate] = lambda mechanism, tally, d: mechanism.estimate(tally)
    claimed: Callable[[Any, np.ndarray], np.ndarray] = lambda mechanism, truth: np.array(
        [mechanism.standard_error(int(truth.sum()), float(f)) for f in truth]
    )
    simulate: Callable[[Any, np.ndarray, np.random.Generator], Tally] | None = lambda mechanism, counts, rng: (
        mechanism.simulate_tally(counts, rng)
    )
    channel: Callable[[Any], Channel] | None = lambda mechanism: mechanism.channel()
    column: Callable[[Any, Reports], np.ndarray] | None = None
    supports: Callable[[Any, Reports, int], np.ndarray] | None = None
    families: bool = False
    tight: bool = True
    plug_in: bool = True
    checked: bool = True
    epsilons: Sequence[float] = (0.01, 0.5, 1.0, 2.0, 4.0, 8.0, 12.0)
    channel_domains: Sequence[int] = (2, 3, 5, 6)
    polls: Sequence[tuple[float, int]] = ((0.5, 2), (2.0, 7), (4.0, 64), (8.0, 65), (3.0, 301))
    awkward: Sequence[int] = AWKWARD
    simulated: int = 12
    large_domain: int = 1009
    audit_floor: float = 2.8
    devices: int = 500
    repeats: int = 200

    def __str__(self) -> str:
        return self.name


def registered() -> list[Case]:
    """The cases of every tests/privacy/cases_*.py."""
    files = sorted(Path(__file__).parent.glob("cases_*.py"))
    return [case for file in files for case in importlib.import_module(f"tests.privacy.{file.stem}").CASES]


def stream(chunk: int = 0, seed: int = 7) -> DeviceStream:
    """A repeatable device stream."""
    return DeviceStream.simulation(seed=seed, round=0, stage=Stage.PRIVATIZE, chunk=chunk)


def skewed(n: int, d: int) -> np.ndarray:
    """int64[n] values of a population in which value v is held in proportion to 1 / (v + 1)."""
    weights = 1 / np.arange(1, d + 1)
    return np.sort(np.random.default_rng(1).choice(d, n, p=weights / weights.sum()))


def same_reports(a: Reports, b: Reports) -> bool:
    """Equal to the last bit."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


# (1) epsilon, exactly


def largest_ratio(channel: Channel) -> Fraction | None:
    """The largest ratio of two probabilities of one report; None if it is infinite."""
    largest = Fraction(0)
    for column in zip(*channel, strict=True):
        low, high = min(column), max(column)
        if high > 0:
            if low == 0:
                return None
            largest = max(largest, high / low)
    return largest


def check_channel(channel: Channel, epsilon: float, tight: bool = True) -> None:
    """Rows are distributions; no report's probability changes by more than e^epsilon between any two values."""
    assert len(channel) >= 2
    assert all(sum(row) == 1 and min(row) >= 0 for row in channel)
    ratio, bound = largest_ratio(channel), exp_below(epsilon)
    assert ratio is not None, "a report can be made by one value and not by another: epsilon is infinite"
    assert ratio <= bound, f"ln ratio is {math.log(ratio):.6f}, more than epsilon {epsilon}"
    if tight:
        assert ratio >= bound * Fraction(98, 100), f"ln ratio is {math.log(ratio):.6f}, far below epsilon {epsilon}"


def check_reports_follow_channel(
    mechanism: Any, channel: Channel, column: Callable[[Any, Reports], np.ndarray], values: np.ndarray, n: int = 20_000
) -> None:
    """The kernel's reports have the channel's law: every cell within 5 standard errors. Row r is `values[r]`."""
    for row in range(len(values)):
        reports = mechanism.privatize(np.repeat(values[row : row + 1], n, axis=0), stream(row))
        seen = np.bincount(column(mechanism, reports), minlength=len(channel[row]))
        p = np.array([float(x) for x in channel[row]])
        assert len(seen) == len(p), "a report outside the channel"
        assert not seen[p == 0].any(), "a report that the channel calls impossible"
        # The + 4 widens the normal band to the Poisson tail of cells that are expected less than a few times.
        assert (np.abs(seen - n * p) <= SIGMAS * np.sqrt(n * p * (1 - p)) + 4).all()


# (2) unbiased, (3) variance


def poll_errors(
    case: Case, epsilon: float, d: int, *, decoder_epsilon: float | None = None, repeats: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Errors of the estimates and claimed standard errors, float64[repeats, d] each, over polls of the same devices.

    Every poll has its own device noise and, for sketches, its own hash family.
    """
    indices = skewed(case.devices, d)
    values, truth = case.encode(indices, d), np.bincount(indices, minlength=d)
    errors, claimed = [], []
    for poll in range(repeats or case.repeats):
        if poll == 0 or case.families:
            mechanism = case.make(epsilon, d, poll)
            decoder = mechanism if decoder_epsilon is None else case.make(decoder_epsilon, d, poll)
            stderr = case.claimed(mechanism, truth)
        tally = mechanism.tally(mechanism.privatize(values, stream(poll)))
        estimate = case.estimate(decoder, Tally(tally.sums, tally.reports, decoder.parameters), d)
        errors.append(estimate.counts - truth)
        claimed.append(stderr)
    return np.array(errors), np.array(claimed)


def check_unbiased(errors: np.ndarray) -> None:
    """The mean error of every value is within 5 of its standard errors of 0."""
    z = errors.mean(axis=0) / (errors.std(axis=0, ddof=1) / math.sqrt(len(errors)))
    assert np.abs(z).max() < SIGMAS, f"z scores reach {np.abs(z).max():.1f}"


def check_spread(errors: np.ndarray, claimed: np.ndarray) -> None:
    """The empirical variance matches the claim: over all values jointly, and for every value.

    Each ratio is held to 5 of its own standard errors, estimated from the polls themselves.
    """
    squares = errors**2 / claimed**2
    joint = squares.mean(axis=1)
    gap, error = abs(joint.mean() - 1), joint.std(ddof=1) / math.sqrt(len(joint))
    assert gap < SIGMAS * error, f"variance is {joint.mean():.3f} of the claim, +- {error:.3f}"
    each = np.abs(squares.mean(axis=0) - 1) / (squares.std(axis=0, ddof=1) / math.sqrt(len(squares)))
    # A t statistic of a skewed quantity: the bound is wider than for normal ones.
    assert each.max() < 2 * SIGMAS, f"variance of one value is {each.max():.1f} standard errors from the claim"


def check_plugged_stderr(mechanism: Mechanism, estimate: Estimate) -> None:
    """`Estimate.stderr` is `standard_error` at the estimated count, held to [0, n]."""
    n = estimate.reports
    plugged = [mechanism.standard_error(n, float(np.clip(f, 0, n))) for f in estimate.counts]
    np.testing.assert_allclose(estimate.stderr, plugged, rtol=1e-9)


# (4) tallies add, (5) the same bits


def check_tallies_add(mechanism: Mechanism, reports: Reports, cuts: Sequence[int]) -> None:
    """tally(a joined with b) == tally(a) + tally(b), wherever the cuts are and in whatever order they are merged."""
    whole = mechanism.tally(reports)
    parts = [mechanism.tally(part) for part in np.split(reports, sorted(cuts))]
    for order in (parts, parts[::-1]):
        merged = order[0]
        for part in order[1:]:
            merged = merged + part
        assert np.array_equal(merged.sums, whole.sums)
        assert merged.reports == whole.reports == len(reports)
        assert dict(merged.parameters) == dict(mechanism.parameters)
    assert whole.sums.dtype == np.int64
    assert np.array_equal(mechanism.tally(reports[::-1]).sums, whole.sums)


def check_same_bits(mechanism: Mechanism, values: np.ndarray, cuts: Sequence[int]) -> None:
    """A stream is consumed in report order: chunk sizes and workers change no bit; another stream changes some."""
    whole = mechanism.privatize(values, stream())
    assert len(whole) == len(values)
    rng = stream()
    parts = [mechanism.privatize(part, rng) for part in np.split(values, sorted(cuts))]
    assert same_reports(np.concatenate(parts), whole)
    assert not same_reports(mechanism.privatize(values, stream(1)), whole)
    one, again = (mechanism.privatize(values, np.random.default_rng(5)) for _ in range(2))
    assert same_reports(one, again)
    assert same_reports(one, mechanism.privatize(values, device_stream(np.random.default_rng(5)))), "not from a cipher"
    assert not same_reports(one, whole)
    blocks = np.array_split(values, 4)
    serial = [mechanism.privatize(block, stream(i)) for i, block in enumerate(blocks)]
    with ThreadPoolExecutor(max_workers=4) as pool:
        threaded = list(pool.map(lambda i: mechanism.privatize(blocks[i], stream(i)), range(4)))
    assert all(same_reports(a, b) for a, b in zip(serial, threaded, strict=True))


# (7) simulate_tally


def check_two_samples(a: np.ndarray, b: np.ndarray) -> None:
    """Two samples of tallies, float64[repeats, cells], have the same law, as far as means and variances of the cells,
    of their total and of random halves of them can tell (the last two see a wrong covariance).
    """
    cells = a.shape[1]
    signs = np.random.default_rng(11).choice([-1.0, 1.0], size=(cells, 8))
    mix = np.concatenate([np.eye(cells), np.ones((cells, 1)), signs], axis=1)
    a, b = a @ mix, b @ mix
    gap = np.abs(a.mean(0) - b.mean(0))
    variance = a.var(0, ddof=1) / len(a) + b.var(0, ddof=1) / len(b)
    constant = variance < 1e-9 * (1 + a.mean(0) ** 2)
    assert (gap[constant] < 1e-9 * (1 + np.abs(a.mean(0)[constant]))).all(), "a fixed total differs"
    z = gap[~constant] / np.sqrt(variance[~constant])
    assert z.max(initial=0) < SIGMAS, f"means differ by {z.max():.1f} standard errors"
    squares = [(x[:, ~constant] - x[:, ~constant].mean(0)) ** 2 for x in (a, b)]
    error = np.sqrt(sum(s.var(0, ddof=1) / len(s) for s in squares))
    z = np.abs(squares[0].mean(0) - squares[1].mean(0)) / error
    assert z.max(initial=0) < SIGMAS, f"variances differ by {z.max():.1f} standard errors"


def tallies_both_ways(case: Case, epsilon: float, d: int, repeats: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """Tallies of reports and simulated tallies of the same devices (one hash family: the law given the family)."""
    assert case.simulate is not None
    indices = skewed(400, d)
    values, truth = case.encode(indices, d), np.bincount(indices, minlength=d)
    mechanism, rng = case.make(epsilon, d, 0), np.random.default_rng(3)
    reported = [mechanism.tally(mechanism.privatize(values, stream(i))) for i in range(repeats)]
    simulated = [case.simulate(mechanism, truth, rng) for _ in range(repeats)]
    for tally in (reported[0], simulated[0]):
        assert tally.reports == len(values)
        assert tally.sums.dtype == np.int64
        assert dict(tally.parameters) == dict(mechanism.parameters)
    a, b = (np.array([t.sums.ravel() for t in tallies], dtype=np.float64) for tallies in (reported, simulated))
    return a, b
