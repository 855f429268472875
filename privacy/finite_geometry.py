"""Projective spaces over finite fields: points, hyperplanes, and how many reports lie on each hyperplane.

    space = geometry_of(59, 3, 3000)                   # the plane over 59 elements: 3541 points, 3000 hyperplanes used
    reports_on_hyperplanes(histogram, space)           # int64[3000], exact, under a millisecond

Coordinates. A point is a nonzero vector y of t elements of the field of q, up to a factor; its first nonzero coordinate
is 1. A hyperplane is such a vector x whose last nonzero coordinate (the 'pivot') is -1; y lies on it if
sum_j x_j y_j = 0. So a hyperplane with pivot i fixes y_i = sum_{j<i} x_j y_j and leaves the other coordinates free.

Points are numbered by their first t - 1 coordinates, then the last: N(y) = q N(y_0 .. y_{t-2}) + y_{t-1}, and N = 0 for
(1). So those with y_0 = 1 come first, then those with y_0 = 0 and y_1 = 1, and (0, .., 0, 1) is the last.

Hyperplanes are numbered from the last pivot down. Those with pivot t - 1 are numbered by (x_0, .., x_{t-2}), the last
being the least significant digit and running over 0 .. kept - 1 only, where `kept` is the least number that leaves
enough of them (fewer values of one coordinate make decoding cheaper). Those with a pivot i < t - 1, which exist if all
others are used, are numbered by (x_0, .., x_{i-1}) in base q.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

_LARGEST_TABLE = 128  # prime powers up to here; above, primes are dense enough
_TILE = 8  # hyperplane digits decoded side by side, so that each row is read once


class Geometry(NamedTuple):
    """The field of q elements and the space of t coordinates over it, as the kernels take it."""

    q: int
    t: int
    values: int
    """How many hyperplanes are used: the first ones."""
    kept: int
    """How many values x_{t-2} takes in hyperplanes with pivot t - 1."""
    powers: NDArray[np.int64]
    """q^0 .. q^t"""
    points: NDArray[np.int64]
    """How many points a space of 0 .. t coordinates has: (q^i - 1) / (q - 1)."""
    reciprocal: int
    kept_reciprocal: int
    shift: int
    """x // q == x * reciprocal >> shift for 0 <= x < 2^24 (Granlund, Montgomery 1994, theorem 4.2); x // kept alike."""
    prime: bool
    times: NDArray[np.uint8]
    plus: NDArray[np.uint8]
    """Tables [q, q] of the field's arithmetic where q is no prime, else unused."""


def count_points(q: int, t: int) -> int:
    """Points of the projective space of t coordinates over q elements."""
    total: int = (q**t - 1) // (q - 1)
    return total


def is_field_order(q: int) -> bool:
    """Whether this module has a field of q >= 2 elements: for primes, and for prime powers up to 128."""
    p = next((i for i in range(2, math.isqrt(q) + 1) if q % i == 0), q)
    return p == q or (q <= _LARGEST_TABLE and p ** round(math.log(q, p)) == q)


@lru_cache(maxsize=16)
def geometry_of(q: int, t: int, values: int) -> Geometry:
    """The space of t coordinates over q elements, 2 <= values <= (q^t - 1) / (q - 1) hyperplanes of it used.

    Numbers of points and values, and sums of t - 1 products of elements, must be below 2^24.
    """
    prime = all(q % i for i in range(2, math.isqrt(q) + 1))
    times, plus = (np.zeros((1, 1), np.uint8),) * 2 if prime else field_tables(q)
    kept = -(-min(values, q ** (t - 1)) // q ** (t - 2))
    powers = np.array([q**i for i in range(t + 1)])
    points = np.array([count_points(q, i) for i in range(t + 1)])
    shift = 24 + q.bit_length()
    reciprocals = (1 << shift) // q + 1, (1 << shift) // kept + 1
    return Geometry(q, t, values, kept, powers, points, *reciprocals, shift, prime, times, plus)


def field_tables(q: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(products, sums), uint8[q, q], of the field of q = p^m <= 128 elements.

    An element is a polynomial over the integers modulo p, written as the number with its coefficients as digits in base
    p; multiplication is modulo a polynomial x^m - r(x) for which the powers of x run through all elements but 0. The
    products are read off these powers.
    """
    p = next(i for i in range(2, q + 1) if q % i == 0)
    m = round(math.log(q, p))
    digits = np.array([[a // p**i % p for i in range(m)] for a in range(q)])
    place = p ** np.arange(m)
    plus = (digits[:, None] + digits) % p @ place
    for r in range(1, q):
        powers = [1]
        while len(powers) < q:  # x a = (a without its top digit, shifted) + top digit * r
            a = powers[-1]
            step = (digits[a % p ** (m - 1) * p] + digits[a][-1] * digits[r]) % p @ place
            if step in (0, 1):
                break
            powers.append(int(step))
        if len(powers) == q - 1:
            break
    exponent = np.zeros(q, dtype=np.int64)
    exponent[powers] = np.arange(q - 1)
    times = np.array(powers)[(exponent[:, None] + exponent) % (q - 1)]
    times[0] = times[:, 0] = 0
    return times.astype(np.uint8), plus.astype(np.uint8)


def reports_on_hyperplanes(histogram: NDArray[np.int64], geometry: Geometry) -> NDArray[np.int64]:
    """How many reports lie on each hyperplane, int64[values], from the histogram of points, int64[points]. Exact.

    First the hyperplanes with the last pivot; then, one coordinate less at a time, the others: for them points count by
    the coordinates up to the pivot, and a point that has none of these (first nonzero coordinate after the pivot) lies
    on all of them. Time: about q t additions a value.
    """
    q, t, values = geometry.q, geometry.t, geometry.values
    totals = _on_last_pivot(histogram[:-1], t, geometry.kept, geometry)[:values]
    everywhere = 0
    while len(totals) < values:
        everywhere += histogram[-1]
        histogram = histogram[:-1].reshape(-1, q).sum(axis=1)
        t -= 1
        more = _on_last_pivot(histogram[:-1], t, q, geometry) if t > 1 else np.zeros(1, dtype=np.int64)
        totals = np.concatenate([totals, everywhere + more])[:values]
    return totals


def _on_last_pivot(histogram: NDArray[np.int64], t: int, kept: int, geometry: Geometry) -> NDArray[np.int64]:
    """The same for all hyperplanes with pivot t - 1 and x_{t-2} < kept: asked is y_{t-1} = sum_{j < t-1} x_j y_j.

    Points whose first nonzero coordinate is y_l = 1 form an array with axes y_{l+1}, .., y_{t-2}, c = y_{t-1}. One axis
    after the other, the last (of which least is kept) first, is turned from y_j into x_j by shifting c:
    new[.., x_j, .., c] is the sum over y_j of old[.., y_j, .., c + x_j y_j]. Then c is x_l, which goes to the front.
    """
    q = geometry.q
    totals, end = np.zeros(1, dtype=np.int64), len(histogram)
    for free in range(t - 1):  # how many coordinates lie between y_l and the last
        start = end - q ** (free + 1)
        group, inner = histogram[start:end], 1
        for axis in range(free):
            digits = kept if axis == 0 else q
            group = _shift_sum(group.reshape(-1, q, inner, q), digits, geometry)
            inner *= digits
        by_front = group.reshape(inner, q).T[: q if free else kept]
        totals = (by_front + totals).ravel()
        end = start
    return totals


@njit(cache=True, nogil=True)
def _shift_sum(old: NDArray[np.int64], kept: int, geometry: Geometry) -> NDArray[np.int64]:
    """new[a, x, b, c] = sum_y old[a, y, b, c + x y] for x < kept; old int64[outer, q, inner, q]."""
    outer, q, inner, _ = old.shape
    new = np.zeros((outer, kept, inner, q), np.int64)
    for a in range(outer):
        for tile in range(0, kept, _TILE):
            for y in range(q):
                for b in range(inner):
                    row = old[a, y, b]
                    for x in range(tile, min(tile + _TILE, kept)):
                        total = new[a, x, b]
                        if geometry.prime:
                            shift = x * y % q
                            for c in range(q - shift):
                                total[c] += row[c + shift]
                            for c in range(q - shift, q):
                                total[c] += row[c + shift - q]
                        else:
                            moved = geometry.plus[geometry.times[x, y]]
                            for c in range(q):
                                total[c] += row[moved[c]]
    return new


@njit(inline="always", cache=True)
def point_on_plane(value: np.int64, choice: np.int64, geometry: Geometry) -> np.int64:
    """Point number `choice` among the (q^(t-1) - 1) / (q - 1) on the hyperplane with number `value`."""
    q, s, shift = np.int64(geometry.q), geometry.t, geometry.shift
    low, scale = np.int64(0), np.int64(1)
    x = value
    if x < geometry.powers[s - 1]:
        rest = (x * geometry.kept_reciprocal) >> shift
        x += rest * (q - geometry.kept)
    while x >= geometry.powers[s - 1]:  # the pivot is not the last coordinate: that one is free
        x -= geometry.powers[s - 1]
        if choice == geometry.points[s - 1] - 1:
            last: np.int64 = geometry.points[s] - 1
            return last * scale + low
        rest = (choice * geometry.reciprocal) >> shift
        low += (choice - rest * q) * scale
        scale *= q
        choice = rest
        s -= 1
    y, group = choice, s - 2
    while y >= geometry.powers[group]:  # y starts with zeros
        y -= geometry.powers[group]
        group -= 1
    dot = np.int64(0)
    for _ in range(group):  # the digits of both from the last on, up to the one after the first 1 of y
        x_rest, y_rest = (x * geometry.reciprocal) >> shift, (y * geometry.reciprocal) >> shift
        x_digit, y_digit = x - x_rest * q, y - y_rest * q
        if geometry.prime:
            dot += x_digit * y_digit
        else:
            dot = np.int64(geometry.plus[dot, geometry.times[x_digit, y_digit]])
        x, y = x_rest, y_rest
    x_digit = x - ((x * geometry.reciprocal) >> shift) * q  # times that 1
    dot = dot + x_digit if geometry.prime else np.int64(geometry.plus[dot, x_digit])
    dot -= ((dot * geometry.reciprocal) >> shift) * q
    return (choice * q + dot) * scale + low


@njit(cache=True, nogil=True)
def points_on_plane(values: NDArray[np.int64], choices: NDArray[np.int64], geometry: Geometry) -> NDArray[np.int64]:
    """Point number choices[i] on the hyperplane with number values[i], int64[n]."""
    points = np.empty(len(values), np.int64)
    for i in range(len(values)):
        points[i] = point_on_plane(values[i], choices[i], geometry)
    return points
