"""The distances, against closed forms and hand-made sets."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from experiments.refine.measures import frechet_distance, manifold, self_similarity


def test_frechet_distance_equals_the_textbook_formula():
    rng = np.random.default_rng(0)
    a = (rng.normal(size=(400, 5)) @ rng.normal(size=(5, 5)) + 1).astype(np.float32)
    b = rng.normal(size=(300, 5)).astype(np.float32)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    gap = a.mean(0) - b.mean(0)
    expected = gap @ gap + np.trace(cov_a + cov_b - 2 * sqrtm(cov_a @ cov_b).real)
    assert frechet_distance(a, b, 5) == pytest.approx(expected, rel=1e-4)
    assert frechet_distance(b, b, 5) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(b + 2, b, 5) == pytest.approx(20, rel=1e-4)


def test_manifold_of_same_apart_and_half_covered_sets():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 300, 3)).astype(np.float32)
    same, apart = manifold(a, b, 5), manifold(a + 100, b, 5)
    assert min(same.precision, same.recall, same.coverage) > 0.9
    assert max(apart.precision, apart.recall, apart.coverage) == 0
    # Two equal groups of real rows; synthetic rows near one of them only.
    two = np.concatenate([b[:150], b[150:] + 100])
    half = manifold(a[:150], two, 5)
    assert half.precision > 0.9
    assert half.recall == pytest.approx(0.5, abs=0.06)
    assert half.coverage == pytest.approx(0.5, abs=0.06)


def test_self_similarity():
    same = np.tile(np.array([[0.6, 0.8]], dtype=np.float32), (4, 1))
    assert self_similarity(same) == pytest.approx(1)
    assert self_similarity(np.eye(4, dtype=np.float32)) == pytest.approx(0)
