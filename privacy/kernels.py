"""Compiled loops that several mechanisms share: biased bits from integer thresholds, and counting them.

    rows = noisy_one_hot(values, 1000, t_q, OwnBit.FAIR, stream)   # uint8[n, 125], what OUE sends
    outside(rows, (0, 50))                                         # the places of rows with more bits set
    count_bits(rows, 1000)                                         # int64[1000], what its server keeps

How a lane becomes 1 with probability exactly T / 2^64: conceptually it draws a 64-bit word w and tests w < T. The test
looks at the bits of w from the top, 64 lanes at a time: the first PLANES bits of all lanes come from the main stream
and decide all lanes but those whose bits equal those of T (one in 2^PLANES). Only these draw the remaining bits, from
the companion stream. That is the full comparison, with 8 or so random bits a lane instead of 64.

What an observer who times a device could learn: the number of undecided lanes. It is a function of the lanes' own first
bits, made before the device's value is looked at, so its law, Bin(lanes, 2^-PLANES), is the same for every value.
Jointly with the report it is not independent of the value: a lane that ended as 1 was undecided more often than one
that ended as 0. The epsilon claimed is that of the report; a device on which an attacker can count instructions is
outside of it.
"""

from __future__ import annotations

from enum import Enum

import numpy as np
from numba import njit
from numpy.typing import NDArray

from privacy.randomness import PIECE, DeviceStream

PLANES = 8
"""Bits that every lane draws. More cost random bytes, fewer cost undecided lanes; 5 to 8 are equally fast. Changing it
changes the bits of seeded runs, though not their law."""

_ALL = np.uint64((1 << 64) - 1)
_ONE = np.uint64(1)
_SMALL_BLOCK = 7  # reports that one carry-save step adds
_BLOCK = 252  # reports that eight bits can count (255), in whole small blocks


class OwnBit(Enum):
    """What happens to the bit of the device's own value; all others are 1 with probability T / 2^64."""

    FLIPPED = "flipped"
    """It is the opposite of what it would have been: 1 with probability 1 - T / 2^64."""
    FAIR = "fair"
    """It is 1 with probability 1/2, decided by the first bit of its lane."""


def noisy_one_hot(
    values: NDArray[np.int64], width: int, threshold: int, own: OwnBit, stream: DeviceStream
) -> NDArray[np.uint8]:
    """uint8[n, ceil(width / 8)]: n rows of `width` biased bits, the own one treated apart.

    Value v is bit v % 8 of byte v // 8, counted from the least significant; padding bits are 0. The stream gives
    PLANES * ceil(width / 64) words a row, its companion one word for every undecided lane.
    """
    n, words = len(values), -(-width // 64)
    rows = np.empty((n, -(-width // 8)), dtype=np.uint8)
    top = np.array([_ALL * np.uint64(threshold >> (63 - k) & 1) for k in range(PLANES)], dtype=np.uint64)
    low = np.uint64(threshold % (1 << (64 - PLANES)))
    tail = _ALL >> np.uint64(64 * words - width)
    step = max(1, min(n, PIECE // (8 * PLANES * words)))
    buffer = np.empty((step, PLANES, words), dtype=np.uint64)
    bits, undecided = np.empty((2, step, words), dtype=np.uint64)
    rest = np.empty(0, dtype=np.uint64)
    for start in range(0, n, step):
        m = min(step, n - start)
        random = buffer[:m]
        stream.fill(random)
        _compare_planes(random, top, tail, bits[:m], undecided)
        missing = int(np.bitwise_count(undecided[:m]).sum())
        if missing > len(rest):
            rest = np.empty(missing + missing // 4, dtype=np.uint64)
        stream.companion.fill(rest[:missing])
        _decide(rest, low, bits[:m], undecided)
        part = values[start : start + m]
        if own is OwnBit.FLIPPED:
            _flip_own(part, bits)
        else:
            _fair_own(part, random, bits)
        rows[start : start + m] = bits[:m].astype("<u8", copy=False).view(np.uint8)[:, : rows.shape[1]]
    return rows


@njit(cache=True, nogil=True)
def _compare_planes(
    random: NDArray[np.uint64],
    top: NDArray[np.uint64],
    tail: np.uint64,
    bits: NDArray[np.uint64],
    undecided: NDArray[np.uint64],
) -> None:
    n, words = bits.shape
    for i in range(n):
        for w in range(words):
            less, equal = np.uint64(0), _ALL
            for k in range(PLANES):
                r, t = random[i, k, w], top[k]
                less |= equal & ~r & t
                equal &= ~(r ^ t)
            bits[i, w] = less
            undecided[i, w] = equal
        bits[i, words - 1] &= tail
        undecided[i, words - 1] &= tail


@njit(cache=True, nogil=True)
def _decide(rest: NDArray[np.uint64], low: np.uint64, bits: NDArray[np.uint64], undecided: NDArray[np.uint64]) -> None:
    """Undecided lanes, in report and lane order: 1 if the next word's upper 64 - PLANES bits are below `low`."""
    shift = np.uint64(PLANES)
    drawn = 0
    for i in range(bits.shape[0]):
        for w in range(bits.shape[1]):
            lanes, less = undecided[i, w], bits[i, w]
            while lanes:
                lane = lanes & (~lanes + _ONE)
                hit = np.uint64((rest[drawn] >> shift) < low)
                less |= lane & (~hit + _ONE)
                lanes ^= lane
                drawn += 1
            bits[i, w] = less


@njit(cache=True, nogil=True)
def _flip_own(values: NDArray[np.int64], bits: NDArray[np.uint64]) -> None:
    for i in range(len(values)):
        bits[i, values[i] >> 6] ^= _ONE << np.uint64(values[i] & 63)


@njit(cache=True, nogil=True)
def _fair_own(values: NDArray[np.int64], random: NDArray[np.uint64], bits: NDArray[np.uint64]) -> None:
    for i in range(len(values)):
        w, lane = values[i] >> 6, _ONE << np.uint64(values[i] & 63)
        bits[i, w] = (bits[i, w] & ~lane) | (~random[i, 0, w] & lane)


def check_rows(rows: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """The rows, contiguous. Raises ValueError unless they are uint8[n, ceil(width / 8)] with padding bits 0."""
    rows, expected = np.asarray(rows), -(-width // 8)
    if rows.ndim != 2 or rows.dtype != np.uint8 or rows.shape[1] != expected:
        raise ValueError(f"reports have shape {rows.shape} and dtype {rows.dtype}; expected uint8[n, {expected}]")
    if width % 8 and np.any(rows[:, -1] >> (width % 8)):
        raise ValueError("reports have padding bits set; they were not made by this mechanism")
    return np.ascontiguousarray(rows)


def outside(rows: NDArray[np.uint8], bounds: tuple[int, int]) -> NDArray[np.int64]:
    """The places of the rows, uint8[n, bytes], with fewer or more bits set than bounds say: int64[r], increasing."""
    whole, low, high = rows.shape[1] // 8 * 8, np.uint64(bounds[0]), np.uint64(bounds[1])
    # 64 bits at a time, wherever a row begins in memory; their order is of no matter here.
    return np.flatnonzero(_rows_outside(rows[:, :whole].view(np.uint64), rows[:, whole:], low, high))


@njit(inline="always", cache=True)
def _set_bits(word: np.uint64) -> np.uint64:
    """How many bits of a word are 1 (Warren 2013, Hacker's Delight, section 5-1)."""
    word -= (word >> np.uint64(1)) & np.uint64(0x5555555555555555)
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (word * np.uint64(0x0101010101010101)) >> np.uint64(56)


@njit(cache=True, nogil=True)
def _rows_outside(
    words: NDArray[np.uint64], rest: NDArray[np.uint8], low: np.uint64, high: np.uint64
) -> NDArray[np.bool_]:
    """bool[n]: whether words[i] and rest[i], which is shorter than a word, have too few or too many bits set."""
    wrong = np.empty(len(words), np.bool_)
    for i in range(len(words)):
        total, word = np.uint64(0), np.uint64(0)
        row = words[i]
        for w in range(len(row)):
            total += _set_bits(row[w])
        for b in range(rest.shape[1]):
            word = (word << np.uint64(8)) | np.uint64(rest[i, b])
        total += _set_bits(word)
        wrong[i] = total < low or total > high
    return wrong


def count_bits(rows: NDArray[np.uint8], width: int) -> NDArray[np.int64]:
    """How many rows have each bit set, int64[width]. Raises ValueError for rows that are not `width` bits wide."""
    rows = check_rows(rows, width)
    sums = np.zeros(8 * rows.shape[1], dtype=np.int64)
    counters = np.zeros((8, rows.shape[1]), dtype=np.uint8)
    for start in range(0, len(rows), _BLOCK):
        _count_block(rows[start : start + _BLOCK], counters, sums)
    return sums[:width]


@njit(cache=True, nogil=True)
def _count_block(rows: NDArray[np.uint8], counters: NDArray[np.uint8], sums: NDArray[np.int64]) -> None:
    """Add up to 252 rows. counters[k, j] holds bit k of eight vertical counters, one for each bit of byte j; seven
    rows are first reduced to a three-bit sum by carry-save adders, then added.
    """
    n, width = rows.shape
    counters[:] = 0
    whole = n - n % _SMALL_BLOCK
    for r in range(0, whole, _SMALL_BLOCK):
        for j in range(width):
            a, b, c = rows[r, j], rows[r + 1, j], rows[r + 2, j]
            d, e, f, g = rows[r + 3, j], rows[r + 4, j], rows[r + 5, j], rows[r + 6, j]
            ab, de = a ^ b, d ^ e
            s1, c1 = ab ^ c, (a & b) | (ab & c)
            s2, c2 = de ^ f, (d & e) | (de & f)
            ss = s1 ^ s2
            ones, c3 = ss ^ g, (s1 & s2) | (ss & g)
            cc = c1 ^ c2
            twos, fours = cc ^ c3, (c1 & c2) | (cc & c3)

            k = counters[0, j]
            counters[0, j] = k ^ ones
            carry = k & ones
            k = counters[1, j]
            half = k ^ twos
            counters[1, j] = half ^ carry
            carry = (k & twos) | (half & carry)
            k = counters[2, j]
            half = k ^ fours
            counters[2, j] = half ^ carry
            carry = (k & fours) | (half & carry)
            for level in range(3, 8):
                k = counters[level, j]
                counters[level, j] = k ^ carry
                carry = k & carry
    for r in range(whole, n):
        for j in range(width):
            carry = rows[r, j]
            for level in range(8):
                k = counters[level, j]
                counters[level, j] = k ^ carry
                carry = k & carry
    for j in range(width):
        for bit in range(8):
            total = 0
            for level in range(8):
                total += ((counters[level, j] >> bit) & 1) << level
            sums[8 * j + bit] += total
