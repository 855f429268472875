"""The shortcut has the law of the report path: two-sample tests over many seeds, each with a negative control."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import ks_2samp

from device_poll.events.activity import Activity
from device_poll.events.fleet import EventFleet
from device_poll.events.held import Held, Sent
from privacy.budget import Budget
from privacy.count_mean_sketch import CountMeanSketch
from privacy.fragment_puzzle import SequenceFragmentPuzzle
from privacy.hashing import hash_strings
from privacy.ledger_stores import SimulatedLedger
from privacy.no_privacy import NoPrivacy
from privacy.randomized_response import RandomizedResponse
from privacy.randomness import NoiseSource
from privacy.unary_encoding import OptimizedUnaryEncoding
from tests.device_poll.event_fleets import accounts

WEIGHTS = np.array([0.5, 0.3, 0.15, 0.05])
FITS = np.array([True, True, True, False])
RUNS, DEVICES = 400, 300
OTHER_SEEDS = 10_000  # so that the two samples are independent

Statistics = Callable[[EventFleet, bool], list[float]]


def held(key: str, share: float, mechanism: Any = None, encoded: Any = None, fits: np.ndarray = FITS) -> Held:
    mechanism = mechanism or NoPrivacy(domain_size=4)
    encoded = np.arange(4) if encoded is None else encoded
    return Held(key=key, encoded=encoded, weights=WEIGHTS, fits=fits, mechanism=mechanism, share=share)


def fleet(seed: int, **changes: Any) -> EventFleet:
    values: dict[str, Any] = {"activity": Activity(mean=2.0, sigma=1.5), "cap": 2, "opt_in": 0.7, **changes}
    some = EventFleet(
        held=(held("a", 0.35), held("b", 0.65)), devices=DEVICES, seed=seed, noise=NoiseSource.seeded(seed), **values
    )
    if some.accounts is not None:
        some.enroll()
    return some


def one_day(some: EventFleet, by_shortcut: bool) -> list[float]:
    """What a day can show: reports and drops of both use cases, counts of values."""
    truths: list[Sent] = []
    if by_shortcut:
        for which in range(2):
            tally, truth = some.shortcut(0, which)
            assert tally.reports == truth.reports and np.array_equal(tally.sums, truth.counts)  # no noise here
            truths.append(truth)
    else:
        truths += some.truth(0)
    first, second = truths
    return [
        first.reports,
        second.reports,
        first.reports + second.reports,
        first.counts[0],
        second.counts[1] - second.counts[0],
        second.counts[2],
        first.dropped["unfit"],
        second.dropped["over_cap"],
        first.dropped["over_cap"] + second.dropped["unfit"],
    ]


def two_days_on_a_budget(some: EventFleet, by_shortcut: bool) -> list[float]:
    """Two days of devices with three reports for life: what the second day has left depends on the first."""
    assert some.accounts is not None
    days = []
    for day in range(2):
        if by_shortcut:
            days.append(some.shortcut(day, 0)[1])
        else:
            for _ in some.send(day):
                pass
            days.append(some.truth(day)[0])
    one, two = days
    return [one.reports + two.reports, two.reports - one.reports, two.reports, two.dropped["over_budget"]]


def budget() -> SimulatedLedger:
    return SimulatedLedger(devices=DEVICES, budget=Budget.of(lifetime=6.0, daily=4.0))


def fleet_on_a_budget(seed: int, **changes: Any) -> EventFleet:
    sketch = RandomizedResponse(epsilon=2.0, domain_size=4)
    some = fleet(seed, accounts=None, **changes)
    use_cases = tuple(dataclasses.replace(use_case, mechanism=sketch) for use_case in some.held)
    some = dataclasses.replace(some, held=use_cases, accounts=accounts(budget()))
    some.enroll()
    return some


@pytest.mark.parametrize(
    ("make", "statistics"), [(fleet, one_day), (fleet_on_a_budget, two_days_on_a_budget)], ids=["a day", "a budget"]
)
def test_the_shortcut_has_the_law_of_the_report_path(make: Callable[..., EventFleet], statistics: Statistics) -> None:
    path = np.array([statistics(make(seed), False) for seed in range(RUNS)], dtype=np.float64)
    quick = np.array([statistics(make(OTHER_SEEDS + seed), True) for seed in range(RUNS)], dtype=np.float64)
    p_values = [ks_2samp(path[:, i], quick[:, i]).pvalue for i in range(path.shape[1])]
    assert min(p_values) > 1e-3 / path.shape[1], p_values
    # The statistics also vary together alike: each pair's sum and difference.
    spread = path.std(axis=0) + 1e-9
    for i in range(path.shape[1]):
        for j in range(i):
            for sign in (1, -1):
                mixed = [sample[:, i] / spread[i] + sign * sample[:, j] / spread[j] for sample in (path, quick)]
                assert ks_2samp(*mixed).pvalue > 1e-6, (i, j, sign)
    # Negative control: a population with a lighter tail is told apart.
    lighter = Activity(mean=2.0, sigma=1.2)
    other = np.array([statistics(make(2 * OTHER_SEEDS + s, activity=lighter), True) for s in range(RUNS)])
    assert min(ks_2samp(path[:, i], other[:, i]).pvalue for i in range(path.shape[1])) < 1e-9


def test_a_day_is_one_draw_whichever_use_case_is_asked() -> None:
    some = fleet(3)
    first, second = (some.shortcut(0, which)[1] for which in range(2))
    assert np.array_equal(first.counts, some.shortcut(0, 0)[1].counts)
    assert not np.array_equal(first.counts, second.counts)
    assert not np.array_equal(first.counts, some.shortcut(1, 0)[1].counts), "another day"


def test_with_values_that_all_fit_shortcut_and_path_send_equally_many() -> None:
    # Then both read the same numbers of events from the same streams.
    all_fit = dataclasses.replace(fleet(1), held=(held("a", 1.0, fits=np.ones(4, dtype=bool)),))
    for day in range(3):
        (truth,) = all_fit.truth(day)
        _, quick = all_fit.shortcut(day, 0)
        assert truth.reports == quick.reports
        assert dict(truth.dropped) == dict(quick.dropped)


PUZZLE = SequenceFragmentPuzzle(epsilon=8.0, rows=4, columns=64, hash_seed=3, word_length=4)
MECHANISMS = [
    (CountMeanSketch(epsilon=4.0, rows=8, columns=64, hash_seed=1), hash_strings(["a", "b", "c", "d"])),
    (PUZZLE, PUZZLE.codes.encode(["lol", "bruh", "yeet", "tbh"], unfit="refuse").codes),
    (OptimizedUnaryEncoding(epsilon=2.0, domain_size=6), np.array([5, 0, 2, 1])),
    (RandomizedResponse(epsilon=3.0, domain_size=4), np.array([2, 3, 0, 1])),
]


@pytest.mark.parametrize(("mechanism", "encoded"), MECHANISMS, ids=lambda m: getattr(m, "name", ""))
def test_tallies_of_both_paths_estimate_the_truth(mechanism: Any, encoded: np.ndarray) -> None:
    some = EventFleet(
        held=(held("a", 1.0, mechanism, encoded),), devices=30_000, activity=Activity(), cap=1, seed=2, opt_in=0.9,
        noise=NoiseSource.seeded(2),
    )  # fmt: skip
    reports = np.concatenate([batch.reports for batch in some.send(0)])
    tally, quick = some.shortcut(0, 0)
    for found, truth in ((mechanism.tally(reports), some.truth(0)[0]), (tally, quick)):
        assert found.reports == truth.reports and found.sums.shape == mechanism.tally(reports[:0]).sums.shape
        estimate, counts = mechanism.estimate(found, encoded[:3]), truth.counts[:3]
        assert (np.abs(estimate.counts - counts) < 5 * estimate.stderr).all()
        assert (np.abs(estimate.counts - np.roll(counts, 1)) > 5 * estimate.stderr).any()  # control


def test_expected_reports() -> None:
    expected = 0.7 * DEVICES * fleet(0).activity.expected_sent(2, thinning=0.95)
    totals = [sum(truth.reports for truth in fleet(seed).truth(0)) for seed in range(100)]
    assert abs(np.mean(totals) - expected) < 5 * np.std(totals) / 10
