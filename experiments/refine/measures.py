"""Distances between a synthetic set and a real sample, in an embedding space. Plain numpy functions, no state.

All take float32[n, dimension] rows. Compare sets only at equal sizes: each of these depends on the sample size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]


def frechet_distance(synthetic: Rows, real: Rows, dimensions: int) -> float:
    """Frechet distance of Gaussians fitted to both sets (FID; Heusel et al. 2017, equation 6).

    With some hundred texts in 512 dimensions the covariances would be singular, so both sets are first projected on the
    `dimensions` leading principal components of `real`; name the number wherever you show the result.
    """
    center = real.mean(axis=0, dtype=np.float64)
    _, _, axes = np.linalg.svd(real - center, full_matrices=False)
    a, b = ((x - center) @ axes[:dimensions].T for x in (synthetic, real))
    cov_a, cov_b = np.atleast_2d(np.cov(a, rowvar=False)), np.atleast_2d(np.cov(b, rowvar=False))
    # Tr (A B)^(1/2) through the symmetric A^(1/2) B A^(1/2), whose eigenvalues are real and >= 0.
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_b @ root), 0)).sum()
    gap = a.mean(axis=0) - b.mean(axis=0)
    return float(gap @ gap + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


@dataclass(frozen=True, kw_only=True)
class Manifold:
    """Shares in [0, 1]; see `manifold`."""

    precision: float
    recall: float
    coverage: float


def manifold(synthetic: Rows, real: Rows, neighbours: int) -> Manifold:
    """How the two sets overlap, with balls that reach to each point's k-th neighbour in its own set.

    precision: share of synthetic rows inside some real ball; recall: share of real rows inside some synthetic ball
    (Kynkaanniemi et al. 2019, equations 1 to 3); coverage: share of real balls that hold a synthetic row (Naeem et al.
    2020, equation 6).
    """
    between = _distances(real, synthetic)
    real_radius, synthetic_radius = (_kth_neighbour(x, neighbours) for x in (real, synthetic))
    return Manifold(
        precision=float((between <= real_radius[:, None]).any(axis=0).mean()),
        recall=float((between <= synthetic_radius[None, :]).any(axis=1).mean()),
        coverage=float((between.min(axis=1) <= real_radius).mean()),
    )


def self_similarity(rows: Rows) -> float:
    """Mean cosine of distinct pairs of unit rows: 1 when all texts are alike."""
    n = len(rows)
    total = rows.sum(axis=0, dtype=np.float64)
    return float((total @ total - (rows.astype(np.float64) ** 2).sum()) / (n * (n - 1)))


def _distances(a: Rows, b: Rows) -> NDArray[np.float64]:
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    squares = (a64**2).sum(axis=1)[:, None] + (b64**2).sum(axis=1)[None, :] - 2 * a64 @ b64.T
    distances: NDArray[np.float64] = np.sqrt(np.maximum(squares, 0))
    return distances


def _kth_neighbour(rows: Rows, k: int) -> NDArray[np.float64]:
    distances = _distances(rows, rows)
    np.fill_diagonal(distances, np.inf)
    radii: NDArray[np.float64] = np.partition(distances, k - 1, axis=1)[:, k - 1]
    return radii
