"""Who is asked when. Tolerances are five standard errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_poll.cohorts import Cohorts, Participation, draw_cohorts
from device_poll.population import PopulationError


def all_asked(cohorts: Cohorts) -> list[int]:
    return np.concatenate(cohorts.asked).tolist()


@given(devices=st.integers(4, 300), rounds=st.integers(1, 4), opt_in=st.floats(0.3, 1), seed=st.integers(0, 99))
def test_cohorts_are_disjoint_and_of_even_size(devices: int, rounds: int, opt_in: float, seed: int) -> None:
    try:
        cohorts = draw_cohorts(devices, rounds, Participation(opt_in=opt_in), seed)
    except PopulationError:
        assert devices < 60, "too few devices opted in"
        return
    asked = all_asked(cohorts)
    assert len(cohorts.asked) == len(cohorts.answering) == rounds
    assert len(set(asked)) == len(asked), "no device is asked twice"
    assert set(asked) <= set(range(devices))
    assert {len(cohort) for cohort in cohorts.asked} == {cohorts.opted_in // rounds} == {cohorts.asked_size}
    for cohort, answering in zip(cohorts.asked, cohorts.answering, strict=True):
        np.testing.assert_array_equal(answering, cohort)  # availability 1: all answer


def test_cohort_size_and_repeatability() -> None:
    participation = Participation(cohort_size=30, availability=0.5)
    first, again = (draw_cohorts(1000, 3, participation, seed=5) for _ in range(2))
    assert [len(cohort) for cohort in first.asked] == [30, 30, 30]
    for name in ("asked", "answering"):
        for a, b in zip(getattr(first, name), getattr(again, name), strict=True):
            np.testing.assert_array_equal(a, b)
    assert all_asked(draw_cohorts(1000, 3, participation, seed=6)) != all_asked(first)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_opt_in_and_availability_are_the_shares_asked_for(share: float) -> None:
    n = 40_000
    cohorts = draw_cohorts(n, 2, Participation(opt_in=share, availability=share), seed=1)
    assert abs(cohorts.opted_in - share * n) < 5 * np.sqrt(n * share * (1 - share))
    size = cohorts.asked_size
    for asked, answering in zip(cohorts.asked, cohorts.answering, strict=True):
        assert abs(len(answering) - share * size) < 5 * np.sqrt(size * share * (1 - share))
        assert set(answering.tolist()) <= set(asked.tolist())


def test_every_opted_in_device_is_as_likely_to_be_asked_in_each_round() -> None:
    draws, rounds, devices = 600, 3, 12
    counts = np.zeros((rounds, devices))
    for seed in range(draws):
        for r, cohort in enumerate(draw_cohorts(devices, rounds, Participation(), seed).asked):
            counts[r, cohort] += 1
    p = 1 / rounds
    assert np.abs(counts - draws * p).max() < 5 * np.sqrt(draws * p * (1 - p))


@pytest.mark.parametrize("device", [0, 1, 19])
def test_availability_does_not_depend_on_opt_in(device: int) -> None:
    # Were round 0's availability drawn from the stream of the opt-in, device 0 would answer always, not half the time.
    participation = Participation(opt_in=0.5, availability=0.5)
    answered = []
    for seed in range(2000):
        cohorts = draw_cohorts(20, 1, participation, seed)
        if device in cohorts.asked[0]:
            answered.append(device in cohorts.answering[0])
    assert len(answered) > 800
    assert abs(np.mean(answered) - 0.5) < 5 * 0.5 / np.sqrt(len(answered))


def test_availability_differs_between_rounds() -> None:
    cohorts = draw_cohorts(4000, 2, Participation(availability=0.5), seed=0)
    reached = [np.isin(a, b) for a, b in zip(cohorts.asked, cohorts.answering, strict=True)]
    # Independent fair coins agree half the time.
    assert abs((reached[0] == reached[1]).mean() - 0.5) < 5 * 0.5 / np.sqrt(2000)


def test_nobody_opted_in() -> None:
    with pytest.raises(PopulationError, match=r"none of the 3 devices opted in \(participation.opt_in=1e-09\)"):
        draw_cohorts(3, 1, Participation(opt_in=1e-9), seed=0)


@pytest.mark.parametrize(
    ("devices", "rounds", "size", "message"),
    [
        (100, 4, 26, "4 rounds x cohorts of 26 need 104 devices, but 100 of 100 opted in"),
        (3, 4, None, "4 rounds x cohorts of 1 need 4 devices, but 3 of 3 opted in"),
    ],
)
def test_cohorts_larger_than_the_population(devices: int, rounds: int, size: int | None, message: str) -> None:
    with pytest.raises(PopulationError, match=message):
        draw_cohorts(devices, rounds, Participation(cohort_size=size), seed=0)


def test_cohorts_that_just_fit() -> None:
    assert sorted(all_asked(draw_cohorts(100, 4, Participation(cohort_size=25), seed=0))) == list(range(100))


@pytest.mark.parametrize(
    ("field", "value"), [("opt_in", 0.0), ("opt_in", 1.1), ("availability", -0.5), ("availability", 2.0)]
)
def test_shares_out_of_range(field: str, value: float) -> None:
    with pytest.raises(PopulationError, match=rf"participation.{field} is {value:g}; expected a share in \(0, 1\]"):
        Participation(**{field: value})


def test_empty_cohorts_are_refused() -> None:
    with pytest.raises(PopulationError, match="cohort_size is 0"):
        Participation(cohort_size=0)
