"""What polls reveal about one device: the central guarantee behind a shuffler, and how much local budget it affords.

    mechanism = RandomizedResponse(epsilon=4.0, domain_size=1000)
    amplify_by_shuffling(mechanism, reports=100_000, delta=1e-6)               # 0.0243
    amplify_by_shuffling(mechanism, reports=100_000, delta=1e-6, polls=100)    # the same devices asked 100 times
    largest_local_epsilon(1.0, delta=1e-6, reports=100_000)                    # 7.76

Every number is an upper bound on what is revealed: dropped tails are added to delta, and rounding goes against us. What
is assumed: the shuffler hides who sent which report and when, does not collude with the server, and `reports` devices
that follow the protocol take part (devices that the attacker controls do not count).

Central noise is accounted for in `privacy.gaussian`; `privacy.audit` measures from below.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from privacy.composition import compose, poll_losses
from privacy.shuffling import LocalRandomizer, PureLDP, ShuffledPair, VariationRatio, parameters_of
from privacy.thresholds import LARGEST_EPSILON
from privacy.units import Neighbours, Schedule, SecretSampling, Unit, check_delta, check_whole

__all__ = [
    "Guarantee",
    "Neighbours",
    "PureLDP",
    "Schedule",
    "SecretSampling",
    "Unit",
    "VariationRatio",
    "amplify_by_shuffling",
    "group_delta",
    "group_epsilon",
    "guarantee",
    "largest_local_epsilon",
    "parameters_of",
]

_DROPPED = 1e-9  # the share of delta that dropped tails may take up: no printed digit changes
_GRID = 256  # grid points of the loss within the epsilon of one poll: moves the result by less than one part in 1e4
_GROUP_STEPS, _LARGEST_GROUP = 50, 600.0  # steps to a delta that fits; e to this is still a float
_LEAST_DELTA = 1e-280  # below, floats end; the local guarantee, which needs no delta, is stated


def amplify_by_shuffling(
    mechanism: LocalRandomizer,
    reports: int,
    delta: float,
    polls: int = 1,
    *,
    sampling: SecretSampling | None = None,
) -> float:
    """Central epsilon, at this delta, of `polls` shuffled polls of `reports` devices each. An upper bound.

    The devices may be the same in every poll, and later polls may depend on earlier results. Neighbours: one device's
    data replaced by any other. `mechanism` needs an `epsilon` in (0, 12]; what else it says of itself (its
    `total_variation`, or a `variation_ratio`) is used (`parameters_of`), else what holds for every pure LDP randomizer.
    Never above the local guarantee polls * epsilon. `sampling` only if it is SECRET who reports (see SecretSampling).

    One poll is exact for the reduction to clones (variation-ratio; `privacy.shuffling`); several are composed with
    privacy-loss distributions. Non-increasing in reports and delta, non-decreasing in epsilon and polls.
    More than 1e9 reports count as 1e9.

    Raises ValueError for delta outside (0, 1), reports < 2, polls < 1, epsilon outside (0, 12].
    """
    check_whole("reports", reports, 2, "devices that report in each poll; nothing hides a single one")
    check_delta(delta)
    check_whole("polls", polls, 1, "how many polls the same device answers")
    parameters = parameters_of(mechanism)
    sampling = sampling or SecretSampling(rate=1.0)
    local = polls * sampling.amplify(mechanism.epsilon)
    share = delta / polls
    if share / sampling.rate >= 1:  # sampling alone
        return 0.0
    if share < _LEAST_DELTA:
        return local
    pair = ShuffledPair(parameters, reports=reports, tail=share * _DROPPED)
    one = sampling.amplify(pair.epsilon(share / sampling.rate))
    if polls == 1 or one == 0:
        return min(local, one)
    # Powers of two: a finer grid contains every coarser one, which keeps the result monotone in all arguments.
    step = 2.0 ** math.floor(math.log2(one / _GRID))
    losses = poll_losses(pair, rate=sampling.rate, tail=share * _DROPPED, step=step)
    return min(local, polls * one, compose(losses, polls=polls, delta=delta))


def group_delta(epsilon: float, reports: int, delta: float) -> float:
    """The delta of one report with which changing `reports` of them, each at this epsilon, stays within `delta`.

    0 where it is too small for a number.
    """
    if (reports - 1) * epsilon > _LARGEST_GROUP:
        return 0.0
    return delta / sum(math.exp(i * epsilon) for i in range(reports))


def group_epsilon(one: Callable[[float], float], reports: int, delta: float) -> float:
    """The epsilon, at this delta, of changing `reports` reports of one device in what is released of a poll.

    `one(delta)` is the epsilon of changing one report, whatever the others are; it never grows with delta. Changing
    them one after the other costs `reports` times that epsilon, and the deltas add up to the sum of e^(i epsilon)
    delta' for i = 0 .. reports - 1 (group privacy: Vadhan 2017, 'The complexity of differential privacy', lemma 2.2).
    So delta' is one, found from above, for which that sum is at most `delta`. It does not matter which shuffles or sums
    the reports are in. Infinite if none is found. Raises ValueError for delta outside (0, 1) or reports < 1.
    """
    check_delta(delta)
    check_whole("reports", reports, 1, "reports of one device")
    if reports == 1:
        return one(delta)
    share = delta / reports
    for _ in range(_GROUP_STEPS):
        epsilon = one(share)
        if not epsilon * reports < _LARGEST_GROUP:
            break
        fitting = group_delta(epsilon, reports, delta)
        if share <= fitting:
            return reports * epsilon
        # A smaller share has a larger epsilon, so what fits this one is a little too much for the next.
        share = 0.9 * fitting
        if share == 0:
            break
    return math.inf


def largest_local_epsilon(
    central_epsilon: float,
    delta: float,
    reports: int,
    polls: int = 1,
    *,
    family: Callable[[float], LocalRandomizer] = lambda epsilon: PureLDP(epsilon=epsilon),
) -> float:
    """The largest local epsilon, up to 12, that stays within this central guarantee after shuffling; rounded down.

    `family` makes the mechanism of a given epsilon; the default knows nothing but its epsilon. A result of 12 may mean
    that more would be possible: no mechanism here goes further. Never below central_epsilon / polls, which needs no
    shuffler. For several polls, the cost is that of 35 calls of `amplify_by_shuffling`.

    Raises ValueError for a central_epsilon that is not above 0, and as `amplify_by_shuffling`.
    """
    if not isinstance(central_epsilon, int | float) or not 0 < central_epsilon < math.inf:
        raise ValueError(f"central_epsilon is {central_epsilon!r}; expected a number above 0")
    check_whole("polls", polls, 1, "how many polls the same device answers")

    check_whole("reports", reports, 2, "devices that report in each poll; nothing hides a single one")
    check_delta(delta)

    def affordable(epsilon: float) -> bool:
        mechanism = family(epsilon)
        if polls > 1 or delta < _LEAST_DELTA or mechanism.epsilon <= central_epsilon:
            return amplify_by_shuffling(mechanism, reports, delta, polls) <= central_epsilon
        # The same question without looking for the epsilon of every candidate.
        return (
            ShuffledPair(parameters_of(mechanism), reports=reports, tail=delta * _DROPPED).delta(central_epsilon)
            <= delta
        )

    if affordable(LARGEST_EPSILON):
        return LARGEST_EPSILON
    low, high = min(central_epsilon / polls, LARGEST_EPSILON), LARGEST_EPSILON
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if affordable(middle) else (low, middle)
    return low


@dataclass(frozen=True, kw_only=True)
class Guarantee:
    """What is guaranteed to one unit of privacy, with everything that is needed to read it.

    report_epsilon: local epsilon of one report. local_epsilon: of all `polls` reports that the unit can influence,
    without any trust (delta 0). central_epsilon, delta: the same behind the shuffler. neighbours: the relation in
    words. sampling_rate: the secret share, 1 if there is no secret.
    """

    unit: Unit
    neighbours: str
    polls: int
    reports: int
    report_epsilon: float
    local_epsilon: float
    central_epsilon: float
    delta: float
    sampling_rate: float


def guarantee(
    mechanism: LocalRandomizer,
    *,
    reports: int,
    delta: float,
    schedule: Schedule,
    unit: Unit = Unit.DEVICE,
    neighbours: Neighbours = Neighbours.REPLACEMENT,
    always_report: bool = False,
    sampling: SecretSampling | None = None,
) -> Guarantee:
    """The guarantee for a unit of privacy under a schedule, local and behind a shuffler.

    Participation is protected only if devices without data or opt-in report all the same (`always_report`): otherwise
    the number of reports gives it away, no epsilon is finite, and asking for it is a ValueError. Other errors as of
    `amplify_by_shuffling`.
    """
    if neighbours is Neighbours.PARTICIPATION and not always_report:
        raise ValueError(
            "neighbours is participation, but silent devices are visible in the number of reports; "
            "let every device report (always_report=True) or state neighbours as replacement"
        )
    polls = schedule.polls(unit)
    return Guarantee(
        unit=unit,
        neighbours=neighbours.of(unit),
        polls=polls,
        reports=reports,
        report_epsilon=mechanism.epsilon,
        local_epsilon=polls * mechanism.epsilon,
        central_epsilon=amplify_by_shuffling(mechanism, reports, delta, polls, sampling=sampling),
        delta=delta,
        sampling_rate=sampling.rate if sampling else 1.0,
    )
