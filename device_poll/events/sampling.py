"""Drawing many values from one distribution in constant time each (Walker 1977; tables as in Vose 1991).

table = AliasTable.of(np.array([0.5, 0.3, 0.2]))
table.draw(1_000_000, rng)          # int32[1000000] in 0 .. 2
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

_LOW_32 = np.uint64((1 << 32) - 1)
_32 = np.uint64(32)


@dataclass(frozen=True, eq=False)
class AliasTable:
    """Cell c is drawn as it is if the coin, a 64-bit word, is below keep[c], else other[c] is drawn instead."""

    keep: NDArray[np.uint64]
    other: NDArray[np.int32]

    @classmethod
    def of(cls, weights: NDArray[np.float64]) -> AliasTable:
        """For weights > 0 of any sum, fewer than 2^31."""
        keep, other = np.empty(len(weights), dtype=np.uint64), np.empty(len(weights), dtype=np.int32)
        _fill(weights * (len(weights) / weights.sum()), keep, other)
        return cls(keep, other)

    def draw(self, n: int, rng: np.random.Generator) -> NDArray[np.int32]:
        """int32[n], one 64-bit word each: the upper half of word x cells is the cell, the lower half the coin."""
        words = rng.integers(0, 1 << 64, size=n, dtype=np.uint64)
        drawn = np.empty(n, dtype=np.int32)
        _draw(self.keep, self.other, words, drawn)
        return drawn


@njit(cache=True, nogil=True)
def _fill(height, keep, other):  # type: ignore[no-untyped-def]
    """Give the excess of tall cells to short ones; `height` has mean 1 and is used up."""
    d = len(height)
    short, tall, shorts, talls = np.empty(d, np.int32), np.empty(d, np.int32), 0, 0
    for c in range(d):
        other[c], keep[c] = c, ~np.uint64(0)
        if height[c] < 1.0:
            short[shorts] = c
            shorts += 1
        else:
            tall[talls] = c
            talls += 1
    while shorts and talls:
        shorts -= 1
        c, giver = short[shorts], tall[talls - 1]
        keep[c], other[c] = np.uint64(height[c] * 2.0**64), giver
        height[giver] -= 1.0 - height[c]
        if height[giver] < 1.0:
            talls -= 1
            short[shorts] = giver
            shorts += 1


@njit(cache=True, nogil=True)
def _draw(keep, other, words, drawn):  # type: ignore[no-untyped-def]
    d = np.uint64(len(keep))
    for i in range(len(words)):
        word = words[i]
        carry = ((word & _LOW_32) * d) >> _32
        cell = np.int64(((word >> _32) * d + carry) >> _32)
        drawn[i] = cell if word * d < keep[cell] else other[cell]
