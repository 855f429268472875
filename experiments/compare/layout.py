"""Where a map draws its candidates: the two directions in which the texts of all rounds differ most.

plane = fit_plane([np.eye(4, dtype=np.float32)])
xy = plane.place(vectors)                # float64[n, 2]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Plane:
    """A principal plane: `center` float64[d], `axes` float64[d, 2], and the share of variance that it shows."""

    center: NDArray[np.float64] = field(repr=False)
    axes: NDArray[np.float64] = field(repr=False)
    variance: float

    def place(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Coordinates float64[n, 2] of vectors float32[n, d]."""
        placed: NDArray[np.float64] = (vectors.astype(np.float64) - self.center) @ self.axes
        return placed


def fit_plane(slates: Sequence[NDArray[np.float32]]) -> Plane:
    """The principal plane of all `slates` (each float32[m, d] with the same d), every slate with the same weight.

    Signs are fixed (the largest entry of an axis is positive), so that the same texts give the same map. Equal weights
    keep a long run from hiding its first rounds.
    """
    center = np.mean([slate.mean(axis=0, dtype=np.float64) for slate in slates], axis=0)
    scatter = sum(((x := slate - center).T @ x) / len(slate) for slate in slates)
    values, vectors = np.linalg.eigh(np.atleast_2d(scatter))
    axes = np.zeros((len(center), 2))
    found = vectors[:, ::-1][:, :2]  # a space of one dimension has one axis
    axes[:, : found.shape[1]] = found * np.sign(found[np.argmax(np.abs(found), axis=0), range(found.shape[1])])
    total = float(values.sum())
    return Plane(center=center, axes=axes, variance=float(values[::-1][:2].sum()) / total if total > 0 else 1.0)
