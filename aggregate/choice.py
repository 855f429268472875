"""Which texts of a pool stand for a distribution: facility location, and herding on its mean.

    demand = Demand.of(vectors, density.shares, rng, most=5000)
    picks = cover(vectors, demand, 210, rng)                       # every heavy place has a text nearby
    more = herd(vectors, demand.mean, 90, start=picks)             # and the texts' mean becomes that of the demand

Cover: texts S that maximise the demand's mean similarity to its nearest text, sum_j w_j max_{i in S} cos(i, j). That is
monotone and submodular (facility location; Cornuejols, Fisher and Nemhauser 1977): greedy choice is within 1 - 1/e of
the best (Nemhauser, Wolsey and Fisher 1978), and is found lazily, since a text's gain only falls (Minoux 1978).
Herding: each next text brings the mean of the chosen nearest to the demand's (Welling 2009; Chen, Welling and Smola
2010).

Vectors are rounded to int8 as devices round them, and weights to whole numbers, so that gains are whole numbers that
float64 holds exactly: the choice does not depend on threads, block sizes or the machine. Ties go to a text drawn at
random: the first of equals would be the first of a grid.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from embed.compact import compact

_BLOCK = 2048  # texts whose gains are computed together; a speed knob that cannot change a result
_LOOKED_AT = 64  # texts whose gains are brought up to date together
_WHOLE = 2**15 - 1  # the largest weight: 2^15 * 2^25 * 5,000 is below 2^53


@dataclass(frozen=True, kw_only=True, eq=False)
class Demand:
    """What is to be stood for: float32[m, d] unit `vectors` with `weights` float64[m], >= 0 and not all 0.

    Raises ValueError for weights that are not finite, negative, all zero, or not one for each vector.
    """

    vectors: NDArray[np.float32] = field(repr=False)
    weights: NDArray[np.float64] = field(repr=False)

    def __post_init__(self) -> None:
        if self.weights.shape != (len(self.vectors),):
            raise ValueError(f"weights have shape {self.weights.shape}; expected one for each of {len(self.vectors)}")
        if not np.isfinite(self.weights).all() or self.weights.min() < 0 or not self.weights.sum() > 0:
            raise ValueError("weights are negative, all zero, or not finite; expected shares, some above 0")

    @classmethod
    def of(
        cls, vectors: NDArray[np.float32], weights: NDArray[np.float64], rng: np.random.Generator, *, most: int
    ) -> Demand:
        """All places with a weight; of more than `most`, so many drawn in proportion to it, each as often as it comes.

        Drawn and not the heaviest, which of a large pool hold a small part of the whole. The draw is systematic: a
        place comes as often as its share of `most` says, rounded up or down. Raises ValueError as Demand does, and for
        `most` below 1.
        """
        whole = cls(vectors=vectors, weights=weights)
        if most < 1:
            raise ValueError(f"most is {most}; expected 1 or more")
        heavy = np.flatnonzero(weights)
        if len(heavy) <= most:
            return cls(vectors=vectors[heavy], weights=weights[heavy]) if len(heavy) < len(weights) else whole
        upto = np.cumsum(weights[heavy])
        marks = (rng.random() + np.arange(most)) / most * upto[-1]
        times = np.bincount(np.minimum(np.searchsorted(upto, marks, side="right"), len(heavy) - 1))
        drawn = np.flatnonzero(times)
        return cls(vectors=vectors[heavy[drawn]], weights=times[drawn].astype(np.float64))

    @property
    def mean(self) -> NDArray[np.float64]:
        """float64[d]: the weighted mean of the vectors."""
        return np.asarray(self.weights @ self.vectors.astype(np.float64) / self.weights.sum())


def cover(
    pool: NDArray[np.float32],
    demand: Demand,
    k: int,
    rng: np.random.Generator,
    *,
    start: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """int64[k]: the texts of `pool` float32[n, d] that cover the demand, in the order in which they were found.

    `start`: texts that are already chosen; k more are found. Raises ValueError if the pool has fewer.
    """
    chosen = np.empty(0, dtype=np.int64) if start is None else start
    if not 1 <= k <= len(pool) - len(chosen):
        raise ValueError(f"k is {k}; expected 1 to {len(pool) - len(chosen)}, the texts that are not chosen yet")
    sides = compact(np.concatenate([pool, demand.vectors]))
    codes, wanted = sides.codes[: len(pool)], sides.codes[len(pool) :].astype(np.float32).T
    covering = _Covering(codes, wanted, _whole(demand.weights))
    for text in chosen:
        covering.take(int(text))
    # The random order decides between equals.
    order = rng.permutation(len(pool))
    taken: set[int] = set(chosen.tolist())
    picks: list[int] = []
    gains = covering.gains(np.arange(len(pool)))
    queue = [(-float(gains[i]), int(order[i]), i) for i in range(len(pool)) if i not in taken]
    heapq.heapify(queue)
    while len(picks) < k:
        # A gain that was computed before is at least what it is now, so who is best now and at least as good as the
        # next one was is the best of all.
        looked_at = [heapq.heappop(queue)[1:] for _ in range(min(_LOOKED_AT, len(queue)))]
        now = covering.gains(np.array([text for _, text in looked_at]))
        fresh = sorted((-float(gain), *known) for gain, known in zip(now, looked_at, strict=True))
        while fresh and len(picks) < k and (not queue or fresh[0] <= queue[0]):
            _, _, text = fresh.pop(0)
            covering.take(text)
            picks.append(text)
            break
        for entry in fresh:
            heapq.heappush(queue, entry)
    return np.array(picks, dtype=np.int64)


class _Covering:
    """How well the demand is covered so far, in whole numbers."""

    def __init__(self, codes: NDArray[np.int8], wanted: NDArray[np.float32], weights: NDArray[np.float64]) -> None:
        self._codes, self._wanted, self._weights = codes, wanted, weights
        self._nearest = np.full(wanted.shape[1], -float(2**24), dtype=np.float32)

    def gains(self, texts: NDArray[np.int64]) -> NDArray[np.float64]:
        """What each text would add."""
        found = np.empty(len(texts))
        for start in range(0, len(texts), _BLOCK):
            part = slice(start, start + _BLOCK)
            products = self._codes[texts[part]].astype(np.float32) @ self._wanted
            products -= self._nearest
            found[part] = np.maximum(products, 0, out=products).astype(np.float64) @ self._weights
        return found

    def take(self, text: int) -> None:
        """Add it."""
        np.maximum(self._nearest, self._codes[text].astype(np.float32) @ self._wanted, out=self._nearest)


def herd(
    pool: NDArray[np.float32], target: NDArray[np.float64], k: int, *, start: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """int64[k]: texts whose mean follows `target` float64[d] as closely as adding one at a time can.

    `start`: texts that are already chosen; k more are found. Raises ValueError if the pool has fewer.
    """
    chosen = np.empty(0, dtype=np.int64) if start is None else start
    if not 1 <= k <= len(pool) - len(chosen):
        raise ValueError(f"k is {k}; expected 1 to {len(pool) - len(chosen)}, the texts that are not chosen yet")
    free = np.ones(len(pool), dtype=np.bool_)
    free[chosen] = False
    total = pool[chosen].sum(axis=0, dtype=np.float64)
    squares = np.einsum("ij,ij->i", pool, pool, dtype=np.float64)
    picks = []
    for number in range(len(chosen) + 1, len(chosen) + k + 1):
        # || (total + x) / number - target ||^2, without what is the same for all x.
        distance = 2 * (pool @ (total / number - target).astype(np.float32)).astype(np.float64) + squares / number
        distance[~free] = np.inf
        text = int(distance.argmin())
        free[text] = False
        total += pool[text]
        picks.append(text)
    return np.array(picks, dtype=np.int64)


def _whole(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Whole numbers in proportion to the weights, the largest _WHOLE."""
    return np.asarray(np.rint(weights / weights.max() * _WHOLE))
