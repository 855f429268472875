"""Probabilities as 64-bit integers, rounded so that the claimed epsilon holds exactly.

A device never compares floats: it draws a uniform 64-bit word w and tests w < T. The probability of a hit is then
exactly T / 2^64, and every bound on a ratio of probabilities can be proved with integers (tests/privacy).
"""

from __future__ import annotations

import math
from decimal import ROUND_FLOOR, Decimal, localcontext
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

WORD = 1 << 64
LARGEST_EPSILON = 12.0


def check_epsilon(epsilon: float) -> None:
    """Raise ValueError unless 0 < epsilon <= 12."""
    if not isinstance(epsilon, int | float) or isinstance(epsilon, bool):
        raise ValueError(f"epsilon is {epsilon!r}; expected a number in (0, {LARGEST_EPSILON:g}]")
    if not math.isfinite(epsilon) or not 0 < epsilon <= LARGEST_EPSILON:
        raise ValueError(
            f"epsilon is {epsilon:g}; expected a value in (0, {LARGEST_EPSILON:g}] "
            "(the local privacy budget of one report; typical values are 1 to 8)"
        )


def check_domain(domain_size: int, largest: int, mechanism: str) -> None:
    """Raise ValueError unless 2 <= domain_size <= largest."""
    if isinstance(domain_size, bool) or not isinstance(domain_size, int | np.integer):
        raise ValueError(f"domain_size is {domain_size!r}; expected a whole number, 2 to {largest} for {mechanism}")
    if not 2 <= domain_size <= largest:
        raise ValueError(
            f"domain_size is {domain_size}; {mechanism} supports 2 to {largest} values "
            "(in a poll: the candidates and 'none of these'); poll fewer candidates or choose another mechanism"
        )


def check_values(values: NDArray[np.int64], domain_size: int) -> NDArray[np.int64]:
    """The values as int64[n]. Raises TypeError for other dtypes and ValueError outside 0 .. domain_size - 1."""
    values = np.asarray(values)
    if values.ndim != 1:
        raise ValueError(f"values have {values.ndim} axes; expected one (a value per device)")
    if values.size == 0:
        return np.zeros(0, dtype=np.int64)
    if not np.issubdtype(values.dtype, np.integer):
        raise TypeError(f"values have dtype {values.dtype}; expected integers 0 .. {domain_size - 1}")
    if not all_below(values, domain_size):
        raise ValueError(f"values reach from {values.min()} to {values.max()}; expected 0 .. {domain_size - 1}")
    return values.astype(np.int64, copy=False)


def all_below(numbers: NDArray[np.integer[Any]], bound: int) -> bool:
    """Whether 0 <= x < bound for all whole numbers x of an array, in one pass: read as unsigned, negative ones are the
    largest."""
    if not numbers.size:
        return True
    kind = numbers.dtype
    if kind.kind == "i":
        bound = min(bound, 1 << (8 * kind.itemsize - 1))
    return int(numbers.view(f"{kind.byteorder}u{kind.itemsize}").max()) < bound


def not_below(numbers: NDArray[np.integer[Any]], bound: int) -> NDArray[np.int64]:
    """The places of the numbers, whole[n], that are not in 0 .. bound - 1: int64[r], increasing."""
    if all_below(numbers, bound):
        return np.zeros(0, dtype=np.int64)
    return np.flatnonzero((numbers < 0) | (numbers >= bound))


@lru_cache(maxsize=256)
def exp_below(epsilon: float) -> Fraction:
    """A rational number at most e^epsilon and within 1e-50 of it, relatively."""
    with localcontext() as context:
        context.prec = 60
        context.rounding = ROUND_FLOOR
        # Decimal.exp is correctly rounded to nearest whatever the rounding mode; one unit in the last place lower is
        # therefore always below the true value.
        return Fraction(Decimal(epsilon).exp().next_minus())


def split_epsilon(epsilon: float, share: float) -> tuple[float, float]:
    """Two budgets whose exact sum is at most epsilon: about `share` of it, and the rest."""
    first = epsilon * share
    rest = epsilon - first
    while Fraction(first) + Fraction(rest) > Fraction(epsilon):
        rest = float(np.nextafter(rest, 0.0))  # the subtraction was rounded up
    return first, rest


def floor_threshold(probability: Fraction) -> int:
    """The largest T with T / 2^64 <= probability."""
    return math.floor(probability * WORD)


def ceil_threshold(probability: Fraction) -> int:
    """The smallest T with T / 2^64 >= probability."""
    return math.ceil(probability * WORD)


def scaled_words(words: NDArray[np.uint64], bound: int) -> NDArray[np.int64]:
    """floor(w * bound / 2^64) for each word: uniform on 0 .. bound - 1 up to one part in 2^64 / bound.

    Takes a fixed number of steps, as a sampler on a device should (no rejection loop whose length an observer could
    time). The residual bias is part of the channel whose epsilon is proved. `bound` is at most 2^32.
    """
    if not 1 <= bound <= 1 << 32:
        raise ValueError(f"bound is {bound}; expected 1 to 2^32")
    b, low_mask, shift = np.uint64(bound), np.uint64(0xFFFFFFFF), np.uint64(32)
    carry = ((words & low_mask) * b) >> shift
    return (((words >> shift) * b + carry) >> shift).astype(np.int64)
