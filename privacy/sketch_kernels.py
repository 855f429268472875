"""The compiled loops of the two count mean sketches: making reports, adding them up, reading cells.

    add_bits(reports, sums)           # the server half of the count mean sketch
    add_signs(reports, cells)         # and of the Hadamard count mean sketch
    transform(row)                    # the Walsh-Hadamard transform of a row, in place

Callers check shapes and ranges (count_mean_sketch.py, hadamard_sketch.py).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from privacy.hashing import HASH_BLOCK, add_row_cells, field_element, gather_coefficients, row_column

BUCKET_BITS = 16  # 2^16 cells are added up at a time, as 32-bit numbers: 256 KiB, which stays in the L2 cache

_LANE_MAXIMUM = 255  # what eight bits can count
_EVERY_EIGHTH_BIT = np.uint32(0x01010101)
_1, _32 = np.uint64(1), np.uint64(32)
_LOW_32 = np.uint64((1 << 32) - 1)


@njit(cache=True, nogil=True)
def add_cells(sums, family, values, totals):  # type: ignore[no-untyped-def]
    """Row by row, so that a row of the tally is read from memory once."""
    for j in range(len(sums)):
        add_row_cells(sums[j], values, family[j, 0], family[j, 1], family[j, 2], totals)


@njit(cache=True, nogil=True)
def row_dispersion(sums):  # type: ignore[no-untyped-def]
    """Sum over all cells of the squared distance from the mean of their row."""
    total = 0.0
    for row in sums:
        first, second = 0, 0.0
        for cell in row:
            first += cell
        mean = first / len(row)
        for cell in row:
            second += (cell - mean) ** 2
        total += second
    return total


@njit(cache=True, nogil=True)
def add_bits(reports, sums):  # type: ignore[no-untyped-def]
    """Add the reports row by row, so that a row of 64-bit sums is touched once for up to 255 reports.

    Byte b of lanes[i, w] counts bit 8 b + i of word w, so one addition counts four bits.
    """
    width = reports.shape[1] - 1
    starts, order = _by_row(reports, len(sums))
    lanes = np.empty((8, width), dtype=np.uint32)
    gathered = np.empty((_LANE_MAXIMUM, width), dtype=np.uint32)
    for j in range(len(sums)):
        row_sums = sums[j]
        for start in range(starts[j], starts[j + 1], _LANE_MAXIMUM):
            size = min(_LANE_MAXIMUM, starts[j + 1] - start)
            for i in range(size):  # a loop of its own: the reports lie scattered, and memory can fetch many at a time
                report = reports[order[start + i], 1:]
                for w in range(width):
                    gathered[i, w] = report[w]
            lanes[:] = 0
            for i in range(size):
                report = gathered[i]
                for bit in range(8):
                    lane = lanes[bit]
                    for w in range(width):
                        lane[w] += (report[w] >> np.uint32(bit)) & _EVERY_EIGHTH_BIT
            for w in range(width):
                for shift in range(0, 32, 8):
                    first = 32 * w + shift
                    for bit in range(min(8, len(row_sums) - first)):
                        row_sums[first + bit] += np.int64((lanes[bit, w] >> np.uint32(shift)) & np.uint32(255))


@njit(cache=True, nogil=True)
def _by_row(reports, rows):  # type: ignore[no-untyped-def]
    """Where each row starts in the order of rows, int64[rows + 1], and the reports in that order, int64[n]."""
    starts, order = np.zeros(rows + 1, dtype=np.int64), np.empty(len(reports), dtype=np.int64)
    for i in range(len(reports)):
        starts[np.int64(reports[i, 0]) + 1] += 1
    for j in range(rows):
        starts[j + 1] += starts[j]
    ends = starts.copy()
    for i in range(len(reports)):
        order[ends[reports[i, 0]]] = i
        ends[reports[i, 0]] += 1
    return starts, order


@njit(cache=True, nogil=True)
def signed_coordinates(values, words, family, rows, columns_log2, threshold_high, out):  # type: ignore[no-untyped-def]
    """Reports of 32-bit comparisons; returns how many of them are undecided (lower half equal to the threshold's)."""
    columns, ties = _1 << columns_log2, np.int64(0)
    row_of = np.empty(HASH_BLOCK, np.uint64)
    a, b, c = np.empty(HASH_BLOCK, np.uint64), np.empty(HASH_BLOCK, np.uint64), np.empty(HASH_BLOCK, np.uint64)
    for start in range(0, len(values), HASH_BLOCK):
        stop = min(start + HASH_BLOCK, len(values))
        part, drawn, made = values[start:stop], words[start:stop], out[start:stop]
        for i in range(len(part)):
            row_of[i] = ((drawn[i] >> (_32 + columns_log2)) * rows) >> (_32 - columns_log2)
        gather_coefficients(row_of[: len(part)], family, a, b, c)
        for i in range(len(part)):
            coordinate = (drawn[i] >> _32) & (columns - _1)
            sign = coordinate & row_column(field_element(part[i]), a[i], b[i], c[i], columns)
            for shift in (np.uint64(16), np.uint64(8), np.uint64(4), np.uint64(2), _1):
                sign ^= sign >> shift
            draw = drawn[i] & _LOW_32
            sign = (sign & _1) ^ np.uint64(draw < threshold_high)
            ties += np.int64(draw == threshold_high)
            made[i] = np.uint32((((row_of[i] << columns_log2) | coordinate) << _1) | sign)
    return ties


@njit(cache=True, nogil=True)
def add_signs(reports, cells):  # type: ignore[no-untyped-def]
    """Add the sign of every report 2 cell + (1 if it is -1) to its cell."""
    for report in reports:
        cells[report >> np.uint32(1)] += 1 - 2 * np.int64(report & np.uint32(1))


@njit(cache=True, nogil=True)
def add_sorted_signs(reports, cells):  # type: ignore[no-untyped-def]
    """What add_signs does, faster for many: reports are sorted into buckets of neighbouring cells, each bucket is added
    up in the L2 cache, and the tally is then read and written in order, once.
    """
    one, size = np.uint32(1), 1 << BUCKET_BITS
    shift, within = np.uint32(BUCKET_BITS + 1), np.uint32(size - 1)
    ends = np.zeros((len(cells) >> BUCKET_BITS) + 2, dtype=np.int64)
    for report in reports:
        ends[np.int64(report >> shift) + 1] += 1
    for bucket in range(1, len(ends)):
        ends[bucket] += ends[bucket - 1]
    in_order = np.empty_like(reports)
    for report in reports:
        in_order[ends[report >> shift]] = report
        ends[report >> shift] += 1
    sums = np.zeros(size, dtype=np.int32)
    start = np.int64(0)
    for bucket in range(len(ends) - 1):
        for report in in_order[start : ends[bucket]]:
            sums[(report >> one) & within] += np.int32(1) - np.int32(2) * np.int32(report & one)
        part = cells[bucket * size : (bucket + 1) * size]
        for i in range(len(part)):
            part[i] += sums[i]
        sums[:] = 0
        start = ends[bucket]


@njit(cache=True, nogil=True)
def transform(row):  # type: ignore[no-untyped-def]
    """The Walsh-Hadamard transform (Sylvester's order, not normalized) of a row of 2^i numbers, in place."""
    half = 1
    while half < len(row):
        for start in range(0, len(row), 2 * half):
            first, second = row[start : start + half], row[start + half : start + 2 * half]
            for i in range(half):
                x, y = first[i], second[i]
                first[i], second[i] = x + y, x - y
        half *= 2


@njit(cache=True, nogil=True)
def add_transformed_cells(sums, family, values, totals):  # type: ignore[no-untyped-def]
    """Add the transformed cells of the values to totals; returns the sum of squares of coordinates other than 0."""
    squares = 0.0
    buffer = np.empty(sums.shape[1], dtype=np.int64)
    for j in range(len(sums)):
        buffer[:] = sums[j]
        for coordinate in range(1, len(buffer)):
            squares += float(buffer[coordinate]) ** 2
        transform(buffer)
        add_row_cells(buffer, values, family[j, 0], family[j, 1], family[j, 2], totals)
    return squares
