"""Consistent counts: the methods' definitions, what each does to the bias, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregate.post_processing import (
    POST_PROCESSINGS,
    norm_sub,
    post_process,
    project_on_simplex,
    threshold_counts,
)
from privacy.mechanism import Estimate
from privacy.unary_encoding import OptimizedUnaryEncoding

NUMBERS = st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=12)


def norm_sub_as_written(counts: np.ndarray, total: float) -> np.ndarray:
    """Norm-Sub of Wang et al. 2020, step by step: drop what is negative, share the rest of the difference, again."""
    kept = np.ones(len(counts), dtype=bool)
    while True:
        shift = (total - counts[kept].sum()) / kept.sum()
        new = kept & (counts + shift > 0)
        if (new == kept).all():
            return np.where(kept, counts + shift, 0.0)
        kept = new


def test_by_hand() -> None:
    assert norm_sub([70.0, 40.0, -10.0], total=100).tolist() == [65, 35, 0]
    assert norm_sub([10.0, 20.0], total=100).tolist() == [45, 55], "a sum that is too small is filled up"
    assert norm_sub([-5.0], total=3).tolist() == [3]
    assert threshold_counts([70.0, 4.0, -10.0, 15.0], [5.0, 5.0, 5.0, 5.0], z=3.0).tolist() == [70, 0, 0, 15]
    # The uncertain count, with a variance four times as large, takes four fifths of the difference of 10.
    assert project_on_simplex([60.0, 50.0], [1.0, 2.0], total=100).tolist() == [58, 42]


@given(counts=NUMBERS, total=st.floats(1.0, 1e5))
def test_norm_sub_is_the_algorithm_of_the_paper(counts: list[float], total: float) -> None:
    expected = norm_sub_as_written(np.array(counts), total)
    np.testing.assert_allclose(norm_sub(counts, total), expected, atol=1e-7 * (total + 1e4))


@given(counts=NUMBERS, total=st.floats(1.0, 1e5), data=st.data())
def test_the_projection_is_consistent_and_nearest(counts: list[float], total: float, data: st.DataObject) -> None:
    stderr = np.array(data.draw(st.lists(st.floats(0.5, 50), min_size=len(counts), max_size=len(counts))))
    found = project_on_simplex(counts, stderr, total)
    assert (found >= 0).all()
    assert found.sum() == pytest.approx(total, rel=1e-9, abs=1e-7)
    # The conditions of Karush, Kuhn and Tucker: one multiplier for all positive entries, no better for those at 0.
    gradient = (found - np.array(counts)) / stderr**2
    multiplier = gradient[np.argmax(found)]
    slack = 1e-6 * (1 + np.abs(gradient).max())
    assert (np.abs(gradient[found > 1e-6 * total] - multiplier) <= slack).all()
    assert (gradient >= multiplier - slack).all()
    np.testing.assert_allclose(
        project_on_simplex(counts, np.full(len(counts), 7.0), total), norm_sub(counts, total), atol=1e-6 * (total + 1)
    )


def test_what_is_consistent_already_stays() -> None:
    counts = np.array([50.0, 30.0, 20.0, 0.0])
    np.testing.assert_allclose(norm_sub(counts, 100), counts)
    np.testing.assert_allclose(project_on_simplex(counts, [1.0, 2.0, 3.0, 4.0], 100), counts)
    np.testing.assert_allclose(project_on_simplex(counts, [0.0] * 4, 100), counts)  # without privacy


def test_every_name_is_a_method_and_none_keeps_the_estimate() -> None:
    estimate = Estimate(np.array([70.0, 40.0, -10.0]), np.array([5.0, 5.0, 5.0]), 100)
    assert POST_PROCESSINGS == ("none", "norm_sub", "simplex", "threshold")
    found = {how: post_process(estimate, how, z=9.0).tolist() for how in POST_PROCESSINGS}  # type: ignore[arg-type]
    assert found == {"none": [70, 40, -10], "norm_sub": [65, 35, 0], "simplex": [65, 35, 0], "threshold": [70, 0, 0]}
    assert post_process(estimate, "norm_sub", total=60).tolist() == [45, 15, 0]
    post_process(estimate, "none")[0] = 0
    assert estimate.counts[0] == 70, "the estimate itself is not touched"
    with pytest.raises(ValueError, match="post_processing is 'clip'; expected one of none, norm_sub, simplex, thresh"):
        post_process(estimate, "clip")  # type: ignore[arg-type]


def test_consistency_costs_bias_and_buys_error() -> None:
    """As documented: values that nobody holds get more than 0, frequent ones less than they have."""
    polls, n, d = 300, 20_000, 200
    truth = np.zeros(d, dtype=np.int64)
    truth[:20] = n // 20
    mechanism, rng = OptimizedUnaryEncoding(epsilon=1.0, domain_size=d), np.random.default_rng(0)
    estimates = [mechanism.estimate(mechanism.simulate_tally(truth, rng)) for _ in range(polls)]
    errors = {
        how: np.array([post_process(e, how, z=2.0) - truth for e in estimates])  # type: ignore[arg-type]
        for how in POST_PROCESSINGS
    }

    def bias(how: str, which: slice) -> float:
        """In its own standard errors; the polls are independent, the values of one poll need not be."""
        means = errors[how][:, which].mean(axis=1)
        return float(means.mean() / (means.std(ddof=1) / np.sqrt(polls)))

    rare, frequent = slice(20, None), slice(0, 20)
    assert abs(bias("none", rare)) < 4 and abs(bias("none", frequent)) < 4
    for how in ("norm_sub", "simplex"):
        assert bias(how, rare) > 20 and bias(how, frequent) < -20
        assert np.mean(errors[how] ** 2) < 0.5 * np.mean(errors["none"] ** 2)
    assert bias("threshold", rare) > 20


def test_refused() -> None:
    for total in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=r"total is .*; expected the number of reports"):
            norm_sub([1.0], total)
    with pytest.raises(ValueError, match="counts has shape"):
        norm_sub([], 1.0)
    with pytest.raises(ValueError, match=r"counts has shape .* holds no finite numbers"):
        norm_sub([1.0, float("nan")], 1.0)
    with pytest.raises(ValueError, match="stderr has 1 entries and counts 2"):
        project_on_simplex([1.0, 2.0], [1.0], 3.0)
    with pytest.raises(ValueError, match="stderr reaches down to 0; expected all above 0"):
        project_on_simplex([1.0, 2.0], [1.0, 0.0], 3.0)
    with pytest.raises(ValueError, match="stderr has 1 entries and counts 2"):
        threshold_counts([1.0, 2.0], [1.0], 3.0)
    with pytest.raises(ValueError, match="z is -1"):
        threshold_counts([1.0], [1.0], -1.0)
