"""Polls of sketches whose truth is known, for tests of what the release rule lets out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from aggregate.histogram import ReleaseRule, intervals, release_histogram
from privacy.hashing import hash_strings
from privacy.mechanism import Estimate

RATE = CONFIDENCE_ERROR = 0.05
RULE = ReleaseRule(minimum_count=0, threshold=0, false_discovery_rate=RATE, confidence=1 - CONFIDENCE_ERROR)

Estimator = Callable[[Any, Any, np.ndarray], Estimate]


def jointly(sketch: Any, tally: Any, values: np.ndarray) -> Estimate:
    """What a count uses."""
    return sketch.estimate_jointly(tally, values)


def with_normal_tails(sketch: Any, tally: Any, values: np.ndarray) -> Estimate:
    """What a count used to use: each value by itself, errors taken as normal."""
    found = sketch.estimate(tally, values)
    return Estimate(found.counts, found.stderr, found.reports)


@dataclass(frozen=True)
class Population:
    """`listed` int64[names]: devices that hold each name asked for; `unlisted`: each value nobody asks about."""

    listed: np.ndarray
    unlisted: np.ndarray


def population(kind: str, devices: int, names: int, others: int = 500) -> Population:
    """Half of the names held as 1 / rank^x ('zipf x'); one held by 30%, all other devices elsewhere ('giant'); none
    held, the other values alike ('null'), or one of them held by 30% ('unlisted giant')."""
    listed, unlisted = np.zeros(names, dtype=np.int64), np.zeros(others, dtype=np.int64)
    if kind.startswith("zipf"):
        weights = 1 / np.arange(1, names // 2 + 1) ** float(kind.split()[1])
        listed[: names // 2] = devices * weights / weights.sum()
        return Population(listed, unlisted)
    unlisted[:] = devices // others
    if kind == "giant":
        listed[0] = 3 * devices // 10
        unlisted[:] = (devices - listed[0]) // others
    elif kind == "unlisted giant":
        unlisted[:] = 7 * devices // 10 // others
        unlisted[0] = 3 * devices // 10
    return Population(listed, unlisted)


@dataclass(frozen=True)
class Outcome:
    """One entry a poll: share of the released that nobody holds; whether an interval of the family missed; how many
    p-values of names that nobody holds are below 1/1000, and how many such names there are; names released."""

    false_share: np.ndarray
    missed: np.ndarray
    small: np.ndarray
    unheld: int
    released: np.ndarray
    missing_intervals: np.ndarray

    def check(self) -> None:
        """Raises AssertionError unless rates hold to 4 standard errors."""
        polls = len(self.missed)
        tolerance = 4 * np.sqrt(RATE * (1 - RATE) / polls)
        assert self.false_share.mean() <= RATE + tolerance, f"false discovery rate {self.false_share.mean():.3f}"
        assert self.missed.mean() <= CONFIDENCE_ERROR + tolerance, f"families missed {self.missed.mean():.3f}"
        expected = 0.001 * self.unheld
        error = max(self.small.std(ddof=1), np.sqrt(expected)) / np.sqrt(polls)
        assert self.small.mean() <= expected + 4 * error, (
            f"{self.small.mean() / expected:.2f} x too many small p-values"
        )


def polls_of(
    make: Callable[[int], Any], held: Population, polls: int, estimate: Estimator = jointly, seed: int = 1
) -> Outcome:
    """Polls with a hash family each: `make(hash_seed)`."""
    rng, d = np.random.default_rng(seed), len(held.listed)
    names = [f"name {i}" for i in range(d)]
    values, others = hash_strings(names), hash_strings([f"other {i}" for i in range(len(held.unlisted))])
    some, more = held.listed > 0, held.unlisted > 0
    counts = np.append(held.listed[some], held.unlisted[more])
    kept = np.append(values[some], others[more])
    truth, rows = dict(zip(names, held.listed.tolist(), strict=True)), []
    for poll in range(polls):
        sketch = make(poll)
        found = estimate(sketch, sketch.simulate_tally(counts, rng, kept), values)
        released = release_histogram(found, names, RULE).values
        lower, upper = intervals(found, RULE.confidence, RULE.correction)
        missing = int(((held.listed < lower) | (held.listed > upper)).sum())
        false = sum(truth[name] == 0 for name in released)
        small = int((found.p_values()[~some] <= 0.001).sum())
        rows.append((false / max(len(released), 1), missing > 0, small, len(released), missing))
    false_share, missed, small, sizes, missing_intervals = (np.array(column) for column in zip(*rows, strict=True))
    return Outcome(false_share, missed, small, int((~some).sum()), sizes, missing_intervals)
