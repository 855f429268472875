"""Which candidate of a slate a device's item is nearest to: the forward model of aggregate/density.py.

An item at y answers candidate j with probability in proportion to exp(sharpness cos(y, s_j)), and 'none of these' to
exp(sharpness outside). y is the place of a text and normal noise with `blur` times the places' own spread, back on the
sphere: a mixed multinomial logit with an outside option (McFadden and Train 2000), in which candidates that are alike
stand in for each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_DRAWS = 32  # of the noise around a place


@dataclass(frozen=True, kw_only=True)
class Law:
    """How devices answer: see the module."""

    blur: float
    sharpness: float


def spread_of(places: NDArray[np.float32], base: Floats, rng: np.random.Generator) -> NDArray[np.float32]:
    """float32[draws, d]: normal noise with the places' own covariance, each draw with its opposite."""
    mean = base @ places
    root = np.sqrt(base)[:, None] * (places - mean)
    half = rng.standard_normal((_DRAWS // 2, len(places))) @ root
    return np.concatenate([half, -half]).astype(np.float32)


class Around:
    """Items around `places` float32[n, d]: each with each of the offsets that the law makes of `spread`."""

    def __init__(self, places: NDArray[np.float32], spread: NDArray[np.float32], law: Law) -> None:
        self._places, self._sharpness = places, law.sharpness
        self._offsets = spread * law.blur if law.blur else np.zeros((1, places.shape[1]), dtype=np.float32)
        self._length = np.sqrt(1 + 2 * (places @ self._offsets.T) + np.einsum("ij,ij->i", self._offsets, self._offsets))

    def choices(self, slate: NDArray[np.float32], outside: float) -> Floats:
        """float64[n, m + 1]: the probability of each answer of a device at each place, 'none of these' last."""
        found = np.zeros((len(self._places), len(slate) + 1))
        weight = np.exp(self._sharpness * outside)
        for exponentials in self._exponentials(slate):
            total = exponentials.sum(axis=1, dtype=np.float64) + weight
            found[:, :-1] += exponentials / total[:, None]
            found[:, -1] += weight / total
        return found / len(self._offsets)

    def outside(self, base: Floats, slates: Sequence[NDArray[np.float32]], reports: Floats, none: float) -> float:
        """The cosine of 'none of these' with which devices of the base measure would answer it `none` times in all,
        where so many devices answer to each slate."""
        wanted = min(max(none / reports.sum(), 1e-4), 1 - 1e-4)
        others = [
            np.stack([each.sum(axis=1, dtype=np.float64) for each in self._exponentials(slate)]) for slate in slates
        ]
        low, high = -2.0, 3.0
        for _ in range(50):
            middle = (low + high) / 2
            weight = np.exp(self._sharpness * middle)
            found = sum(
                n * float((weight / (weight + other) @ base).mean()) for n, other in zip(reports, others, strict=True)
            )
            low, high = (middle, high) if found < wanted * reports.sum() else (low, middle)
        return (low + high) / 2

    def _exponentials(self, slate: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        """float32[n, m] for each offset: exp(sharpness cos)."""
        near, moved = self._places @ slate.T, self._offsets @ slate.T
        for draw, shift in enumerate(moved):
            scores = near + shift
            scores *= self._sharpness / self._length[:, draw, None]
            yield np.exp(scores, out=scores)
