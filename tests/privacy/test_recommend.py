"""The ranking of mechanisms: complete, in order, and its predictions hold."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.recommendation import SAME_ERROR, Recommendation, recommend
from tests.privacy.contract import SIGMAS, stream

NUMBERED = {
    "randomized_response",
    "symmetric_unary_encoding",
    "optimized_unary_encoding",
    "local_hashing",
    "subset_selection",
    "hadamard_response",
    "projective_geometry_response",
}
SKETCHES = {"count_mean_sketch", "hadamard_count_mean_sketch"}


def names(rows: tuple[Recommendation, ...]) -> list[str]:
    return [row.name for row in rows]


def test_every_mechanism_is_in_and_those_that_cannot_are_out():
    assert set(names(recommend(4.0, 2, 1000))) == NUMBERED | SKETCHES | {"binary_randomized_response"}
    assert set(names(recommend(4.0, 3, 1000))) == NUMBERED | SKETCHES
    assert set(names(recommend(4.0, 65_537, 1000))) == (NUMBERED | SKETCHES) - {"subset_selection"}
    assert set(names(recommend(4.0, 1 << 31, 1000))) == SKETCHES | {"randomized_response", "local_hashing"}


def check_order(rows: tuple[Recommendation, ...]) -> None:
    """No row stands before one with a clearly smaller error, or before an equal one that is cheaper."""
    best = rows[0].stderr
    groups: list[list[Recommendation]] = [[]]
    for row in rows:
        if groups[-1] and row.stderr > SAME_ERROR * min(other.stderr for other in groups[-1]):
            groups.append([])
        groups[-1].append(row)
    for group, following in zip(groups, [*groups[1:], []], strict=True):
        costs = [(row.upload_bits, row.server_operations) for row in group]
        assert costs == sorted(costs)
        assert all(later.stderr > SAME_ERROR * min(row.stderr for row in group) for later in following)
    assert min(row.stderr for row in rows) * SAME_ERROR >= best


@settings(max_examples=60, deadline=None)
@given(epsilon=st.floats(0.01, 12.0), d=st.integers(2, 1 << 21), n=st.integers(1, 10**9))
def test_rows_are_in_order(epsilon: float, d: int, n: int):
    rows = recommend(epsilon, d, n)
    check_order(rows)
    assert all(math.isfinite(row.stderr) and row.stderr > 0 and row.server_operations > 0 for row in rows)
    assert rows == recommend(epsilon, d, n)


def test_negative_control_a_wrong_order_is_caught():
    rows = recommend(4.0, 3000, 100_000)
    for wrong in (rows[::-1], (rows[1], rows[0], *rows[2:]), tuple(sorted(rows, key=lambda row: row.upload_bits))):
        with pytest.raises(AssertionError):
            check_order(wrong)


@pytest.mark.parametrize(
    ("epsilon", "d", "first"),
    [
        (1.0, 2, "binary_randomized_response"),
        (4.0, 20, "randomized_response"),
        (8.0, 300, "randomized_response"),
        (4.0, 3000, "projective_geometry_response"),
        (1.0, 100_000, "projective_geometry_response"),
    ],
)
def test_the_winners_are_those_of_the_field(epsilon: float, d: int, first: str):
    assert recommend(epsilon, d, 100_000)[0].name == first


def test_predictions_are_the_mechanisms_own():
    n, d = 50_000, 500
    for row in recommend(2.0, d, n):
        assert row.mechanism.name == row.name
        assert row.mechanism.epsilon == 2.0
        assert row.upload_bits == row.mechanism.report_bits
        assert row.hashed == (row.name in SKETCHES)
        if row.hashed:
            evenly = row.mechanism.standard_error(n, second_moment=n * n / d)  # type: ignore[call-arg]
            assert row.stderr == evenly > row.mechanism.standard_error(n)
            assert row.tally_bytes == 8 * row.mechanism.rows * row.mechanism.columns  # type: ignore[attr-defined]
        else:
            assert row.stderr == row.mechanism.standard_error(n)
            empty = row.mechanism.tally(row.mechanism.privatize(np.zeros(0, dtype=np.int64), stream()))
            assert row.tally_bytes == empty.sums.nbytes


@pytest.mark.parametrize("name", sorted(NUMBERED))
def test_predicted_errors_are_those_of_polls(name: str):
    """A value that nobody holds, everyone else spread evenly: the spread of its estimate over 1000 polls.

    The sketches' tallies take half a GiB; their own tests check the formula that is used here.
    """
    d, n, polls = 25, 480, 1000
    values = np.arange(n) % (d - 1) + 1
    row = next(row for row in recommend(2.0, d, n) if row.name == name)
    estimates = [
        row.mechanism.estimate(row.mechanism.tally(row.mechanism.privatize(values, stream(i)))).counts[0]
        for i in range(polls)
    ]

    def off(claimed: float) -> float:
        """Of the mean square from the claimed variance, in its own standard errors."""
        squares = np.square(estimates) / claimed**2
        return float(abs(squares.mean() - 1) / (squares.std(ddof=1) / math.sqrt(polls)))

    assert off(row.stderr) < SIGMAS
    assert off(row.stderr / 1.4) > SIGMAS
    assert off(row.stderr * 1.4) > SIGMAS


def test_errors_name_what_was_wrong():
    for epsilon in (0.0, 13.0, math.nan):
        with pytest.raises(ValueError, match="epsilon is"):
            recommend(epsilon, 10, 10)
    for d in (1, 1 << 32, 2.5):
        with pytest.raises(ValueError, match="domain_size is"):
            recommend(1.0, d, 10)  # type: ignore[arg-type]
    for n in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="reports is"):
            recommend(1.0, 10, n)  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        recommend(1.0, 10, 10)[0].stderr = 0.0  # type: ignore[misc]
