"""Polls whose truth is known, for tests of what the release rule lets out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
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


def normal_tails(estimate: Estimate) -> Estimate:
    """The estimate with its errors taken as normal, as they were before."""
    return Estimate(estimate.counts, estimate.stderr, estimate.reports)


def with_normal_tails(sketch: Any, tally: Any, values: np.ndarray) -> Estimate:
    """What a count used before: each value by itself, errors taken as normal."""
    return normal_tails(sketch.estimate(tally, values))


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
    """Polls of a sketch, with a hash family each: `make(hash_seed)`."""
    rng = np.random.default_rng(seed)
    values = hash_strings(names_of(len(held.listed)))
    others = hash_strings([f"other {i}" for i in range(len(held.unlisted))])
    some, more = held.listed > 0, held.unlisted > 0
    counts, kept = np.append(held.listed[some], held.unlisted[more]), np.append(values[some], others[more])

    def estimates() -> Iterator[Estimate]:
        for poll in range(polls):
            sketch = make(poll)
            yield estimate(sketch, sketch.simulate_tally(counts, rng, kept), values)

    return judge(held.listed, estimates())


def polls_of_list(
    mechanism: Any, devices: int, polls: int, tails: Callable[[Estimate], Estimate] = lambda found: found
) -> Outcome:
    """Polls of a mechanism over a list, of which ten values are held, by a tenth of the devices each."""
    rng, truth = np.random.default_rng(2), np.zeros(mechanism.domain_size, dtype=np.int64)
    truth[:10] = devices // 10
    return judge(truth, (tails(mechanism.estimate(mechanism.simulate_tally(truth, rng))) for _ in range(polls)))


def names_of(number: int) -> list[str]:
    return [f"name {i}" for i in range(number)]


def judge(truth: np.ndarray, estimates: Iterable[Estimate]) -> Outcome:
    """Release from each of the estimates of values that `truth` int64[d] devices hold, and compare."""
    rows, names = [], names_of(len(truth))
    held = dict(zip(names, truth.tolist(), strict=True))
    for found in estimates:
        released = release_histogram(found, names, RULE).values
        lower, upper = intervals(found, RULE.confidence, RULE.correction)
        missing = int(((truth < lower) | (truth > upper)).sum())
        false = sum(held[name] == 0 for name in released)
        small = int((found.p_values()[truth == 0] <= 0.001).sum())
        rows.append((false / max(len(released), 1), missing > 0, small, len(released), missing))
    false_share, missed, small, sizes, missing_intervals = (np.array(column) for column in zip(*rows, strict=True))
    return Outcome(false_share, missed, small, int((truth == 0).sum()), sizes, missing_intervals)
