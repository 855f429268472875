"""What an attacker finds in practice: a lower bound on epsilon, measured, to hold against the claim.

    audit_mechanism(mechanism, trials=20_000, rng=rng)                        # one report: value 0 or value 1?
    audit_run(release, trials=200, claimed_epsilon=1.2, delta=1e-6)           # a whole run: was the canary in it?

One half of the trials is spent on finding a test that tells the two cases apart, the other half on counting how often
that test is right. Exact (Clopper-Pearson) confidence limits on the counts give an epsilon that the mechanism cannot be
below, but for the stated chance of error. The bound that is reported has 95% confidence, so one honest run in twenty
would be found above its claim, and whoever audits often enough would find it. A claim is therefore refuted only by a
bound whose error, over all audits of a run together, is at most FAMILY_WISE_ERROR. A bound below the claim proves
nothing: a better test, or more trials, might find more (`ceiling`, `refuting_ceiling`: what so few trials could show).

Sources: Jagielski, Ullman, Oprea, 'Auditing differentially private machine learning', NeurIPS 2020 (the bound);
Ding, Wang, Wang, Zhang, Kifer, 'Detecting violations of differential privacy', CCS 2018 (choosing on other samples).
"""

from __future__ import annotations

import builtins
import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from privacy.confidence import check_confidence, error_of_test, limits
from privacy.mechanism import Reports
from privacy.randomness import RandomBytes
from privacy.units import check_whole

Observations = NDArray[Any]
"""Trials in the first axis. Integers [n] are names of outcomes; everything else is numbers, [n] or [n, features]."""

Score = Callable[[Observations], NDArray[np.float64]]
"""How much each of n observations speaks for the canary (for the first value): float64[n]."""

FAMILY_WISE_ERROR = 1e-6
"""The chance that an honest run is ever refuted, however often it is audited."""

_LEAST_SIGNAL = 4.0  # standard errors by which a feature must differ before the learned test looks at it
_THRESHOLDS = 1000  # candidates for the test's threshold


def _bounds(
    hits: NDArray[np.int64], trials: int, alarms: NDArray[np.int64], others: int, delta: float, error: float
) -> NDArray[np.float64]:
    """Lower bounds on epsilon, elementwise. Both directions of the definition rest on the same two limits, so the
    chance that either fails is at most `error`."""
    hit_rate, _ = limits(hits, trials, error)
    _, alarm_rate = limits(alarms, others, error)
    forward = np.maximum(hit_rate - delta, 0) / alarm_rate
    backward = np.maximum(1 - alarm_rate - delta, 0) / np.maximum(1 - hit_rate, np.finfo(np.float64).tiny)
    result: NDArray[np.float64] = np.log(np.maximum(np.maximum(forward, backward), 1.0))
    return result


@dataclass(frozen=True, kw_only=True)
class AuditResult:
    """How well a fixed test did on fresh trials, and what that says about epsilon.

    `hits` of the `trials` with the canary (of the first value) and `alarms` of the `others` without (of the second)
    were called 'with'. With chance at least `confidence` the true epsilon at `delta` is at least `epsilon_lower`.
    `number`: which audit of the run it is, counted from 1. Raises ValueError for a number below 1.
    """

    hits: int
    trials: int
    alarms: int
    others: int
    delta: float
    confidence: float
    claimed_epsilon: float
    number: int = 1

    def __post_init__(self) -> None:
        check_whole("number", self.number, 1, "which audit of the run it is, counted from 1")

    @property
    def epsilon_lower(self) -> float:
        """The lower bound on epsilon, >= 0."""
        return self._bound(self.hits, self.alarms, 1 - self.confidence)

    @property
    def ceiling(self) -> float:
        """What a perfect test would have shown with these trials: no audit of this size can find more."""
        return self._bound(self.trials, 0, 1 - self.confidence)

    @property
    def refuting_error(self) -> float:
        """With which error this audit may refute: its part of FAMILY_WISE_ERROR (privacy.confidence.error_of_test)."""
        return error_of_test(self.number, FAMILY_WISE_ERROR)

    @property
    def epsilon_refuting(self) -> float:
        """The lower bound on epsilon that holds but for `refuting_error`, >= 0."""
        return self._bound(self.hits, self.alarms, self.refuting_error)

    @property
    def refuting_ceiling(self) -> float:
        """What a perfect test would have shown so surely: a claim that is not below it cannot be refuted."""
        return self._bound(self.trials, 0, self.refuting_error)

    @property
    def refutes_claim(self) -> bool:
        """Whether `epsilon_refuting` is above the claim. If False, the claim stands, but is not proved."""
        return self.epsilon_refuting > self.claimed_epsilon

    @property
    def sentence(self) -> str:
        """The result in one line, for a statement or a log."""
        verdict, more = "does not refute", ""
        if self.refutes_claim:
            verdict = "REFUTES"
        elif self.refuting_ceiling <= self.claimed_epsilon:
            verdict, more = "cannot refute", ", which needs more trials"
        elif self.epsilon_lower > self.claimed_epsilon:
            by_chance = f"{1 - self.confidence:.0%} of the audits of an honest run"
            more = f", though the measured bound is above it, as up to {by_chance} find: give more trials"
        return (
            f"measured epsilon >= {self.epsilon_lower:.3f} at delta = {self.delta:g} with {self.confidence:.0%} "
            f"confidence ({self.hits} of {self.trials} found, {self.alarms} of {self.others} false alarms; at most "
            f"{self.ceiling:.2f} could be shown); with an error of {self.refuting_error:.1e}, at which audit "
            f"{self.number} may refute, epsilon >= {self.epsilon_refuting:.3f} (at most {self.refuting_ceiling:.2f}); "
            f"this {verdict} the claimed epsilon {self.claimed_epsilon:g}{more}"
        )

    def _bound(self, hits: int, alarms: int, error: float) -> float:
        found = np.array([hits]), self.trials, np.array([alarms]), self.others
        return float(_bounds(*found, self.delta, error)[0])


def audit_samples(
    present: Observations,
    absent: Observations,
    *,
    claimed_epsilon: float,
    delta: float = 0.0,
    confidence: float = 0.95,
    number: int = 1,
    score: Score | None = None,
) -> AuditResult:
    """Lower bound on epsilon from independent observations of the two cases.

    `present`, `absent`: trials in the first axis, at least 4 each, equal in all other axes and in dtype. The test is
    `score(observations) >= threshold`; without a `score` one is learned, and the threshold always is, from the first
    halves. The counts come from the second halves. `number`: which audit of the run it is (AuditResult).

    Raises ValueError for too few or unequal observations, delta outside [0, 1), confidence outside (0, 1),
    claimed_epsilon below 0, number below 1.
    """
    present, absent = np.asarray(present), np.asarray(absent)
    if present.shape[1:] != absent.shape[1:] or present.dtype != absent.dtype or present.ndim not in (1, 2):
        raise ValueError(
            f"observations are {present.dtype}{list(present.shape)} and {absent.dtype}{list(absent.shape)}; expected "
            "one or two axes, equal but for the number of trials (a difference in shape gives the canary away)"
        )
    for observations in (present, absent):
        check_whole("trials", len(observations), 4, "observations of each case; thousands for a useful bound")
    if not 0 <= delta < 1:
        raise ValueError(f"delta is {delta!r}; expected a number in [0, 1)")
    if not claimed_epsilon >= 0:
        raise ValueError(f"claimed_epsilon is {claimed_epsilon!r}; expected a number >= 0")
    check_confidence(confidence)
    a, b = len(present) // 2, len(absent) // 2
    score = score or learned_score(present[:a], absent[:b])
    threshold = _best_threshold(score(present[:a]), score(absent[:b]), delta, confidence)
    hits, alarms = score(present[a:]) >= threshold, score(absent[b:]) >= threshold
    return AuditResult(
        hits=int(hits.sum()),
        trials=len(hits),
        alarms=int(alarms.sum()),
        others=len(alarms),
        delta=float(delta),
        confidence=confidence,
        claimed_epsilon=float(claimed_epsilon),
        number=number,
    )


def _best_threshold(
    present: NDArray[np.float64], absent: NDArray[np.float64], delta: float, confidence: float
) -> float:
    """The threshold with the highest bound on these trials, the ones in the middle of equals."""
    candidates = np.unique(np.concatenate([present, absent]))
    if len(candidates) > _THRESHOLDS:
        candidates = candidates[np.linspace(0, len(candidates) - 1, _THRESHOLDS).astype(np.int64)]
    hits = len(present) - np.searchsorted(np.sort(present), candidates)
    alarms = len(absent) - np.searchsorted(np.sort(absent), candidates)
    bounds = _bounds(hits, len(present), alarms, len(absent), delta, 1 - confidence)
    best = np.flatnonzero(bounds == bounds.max())
    return float(candidates[best[len(best) // 2]])


def learned_score(present: Observations, absent: Observations) -> Score:
    """A test learned from examples of both cases.

    Integers [n]: the logarithm of the ratio of the outcomes' smoothed frequencies. Else: a linear discriminant with a
    diagonal covariance, of the features that differ by at least 4 standard errors (all others would only add noise).
    """
    if present.ndim == 1 and np.issubdtype(present.dtype, np.integer):
        outcomes, index = np.unique(np.concatenate([present, absent]), return_inverse=True)
        mine = np.bincount(index[: len(present)], minlength=len(outcomes)) + 0.5
        other = np.bincount(index[len(present) :], minlength=len(outcomes)) + 0.5
        ratio = np.log(mine / len(present)) - np.log(other / len(absent))

        def by_outcome(observations: Observations) -> NDArray[np.float64]:
            place = np.minimum(np.searchsorted(outcomes, observations), len(outcomes) - 1)
            return np.where(outcomes[place] == observations, ratio[place], 0.0)

        return by_outcome
    present, absent = _columns(present), _columns(absent)
    gap = present.mean(axis=0, dtype=np.float64) - absent.mean(axis=0, dtype=np.float64)
    spread = (present.var(axis=0, dtype=np.float64) + absent.var(axis=0, dtype=np.float64)) / 2
    error = np.sqrt(spread * (1 / len(present) + 1 / len(absent)))
    used = np.flatnonzero(np.abs(gap) > _LEAST_SIGNAL * error)
    if len(used) == 0:
        used = np.arange(len(gap))  # nothing stands out: all features together may
    # A feature that never varies but differs decides alone; the small term keeps its weight finite.
    noise = np.maximum(spread[used] + gap[used] ** 2 / len(present), np.finfo(np.float64).tiny)
    weights = gap[used] / noise

    def linear(observations: Observations) -> NDArray[np.float64]:
        return np.asarray(_columns(observations)[:, used] @ weights, dtype=np.float64)

    return linear


def _columns(observations: Observations) -> Observations:
    return observations[:, None] if observations.ndim == 1 else observations


class Randomizer(Protocol):
    """The device half of a mechanism."""

    @property
    def epsilon(self) -> float:
        """The claim: local privacy budget of one report."""

    def privatize(self, values: NDArray[np.int64], rng: RandomBytes) -> Reports:
        """int64[n] values -> n reports."""


def audit_mechanism(
    mechanism: Randomizer,
    *,
    trials: int,
    rng: RandomBytes,
    values: tuple[int, int] = (0, 1),
    confidence: float = 0.95,
    observe: Callable[[Reports], Observations] | None = None,
    score: Score | None = None,
) -> AuditResult:
    """Lower bound on the local epsilon of one report, from `trials` reports of each of two values.

    `observe` turns reports into observations. The default takes packed bits (uint8[n, bytes]) apart and leaves all else
    as it is, which suits mechanisms that report a value or a bit vector. For reports whose meaning hangs on a seed or a
    row number that they carry, give `observe` (say, whether the report supports each of the two values) or a `score`.
    Raises ValueError as `audit_samples`.
    """
    check_whole("trials", trials, 4, "reports of each of the two values")
    look = observe or _bits
    present, absent = (look(mechanism.privatize(np.full(trials, value, dtype=np.int64), rng)) for value in values)
    return audit_samples(present, absent, claimed_epsilon=mechanism.epsilon, confidence=confidence, score=score)


def _bits(reports: Reports) -> Observations:
    return np.unpackbits(reports, axis=1) if reports.dtype == np.uint8 and reports.ndim == 2 else reports


Map = Callable[[Callable[[tuple[bool, int]], Any], Iterable[tuple[bool, int]]], Iterable[Any]]


def audit_run(
    release: Callable[[bool, int], Any],
    *,
    trials: int,
    claimed_epsilon: float,
    delta: float = 0.0,
    confidence: float = 0.95,
    number: int = 1,
    score: Score | None = None,
    map: Map = builtins.map,
) -> AuditResult:
    """Lower bound on the epsilon of everything that a run releases about one device.

    `release(with_canary, trial)` plays the run once, with the canary device's data or with other data in its place, and
    returns what is released, as a number or an array of the same shape every time. All randomness of the run must
    differ from trial to trial (derive it from `trial`); the two cases may share it or not.

    Runs are independent and order does not matter: pass the `map` of a process or thread pool to play them in parallel,
    with the same result. For processes, `release` must be picklable. Each case is played `trials` times; the largest
    epsilon that can be shown is about log(trials / 8), and the largest that the first audit can refute about
    log(trials / 31). `number`: which audit of the run it is; its randomness must be new, too. Raises ValueError as
    `audit_samples`.
    """
    check_whole("trials", trials, 4, "runs of each of the two cases")
    plays = [(with_canary, trial) for with_canary in (True, False) for trial in range(trials)]
    seen = [np.ravel(np.asarray(output)) for output in map(functools.partial(_play, release), plays)]
    sizes = sorted({len(output) for output in seen})
    if len(sizes) > 1:
        raise ValueError(
            f"releases have from {sizes[0]} to {sizes[-1]} numbers; expected as many in every run (let "
            "`release` summarise what differs in size; the size itself may tell)"
        )
    table = np.stack(seen)
    # One whole number a run is a number here, not the name of an outcome.
    return audit_samples(
        table[:trials],
        table[trials:],
        claimed_epsilon=claimed_epsilon,
        delta=delta,
        confidence=confidence,
        number=number,
        score=score,
    )


def _play(release: Callable[[bool, int], Any], play: tuple[bool, int]) -> Any:
    return release(*play)
