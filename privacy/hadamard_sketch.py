"""Hadamard count mean sketch (HCMS): the count mean sketch in a report of one bit, a row and a coordinate.

A device sends one random coordinate of the Hadamard transform of its one-hot row instead of the whole row. The price is
a variance of at least one per report, however large epsilon is; the gain is a report of a few bytes.

    mechanism = HadamardCountMeanSketch(epsilon=4.0, rows=1024, columns=32768, hash_seed=1)
    reports = mechanism.privatize(hash_strings(["example.org", "example.com"]), rng)   # on the devices
    estimate = mechanism.estimate(mechanism.tally(reports), hash_strings(["example.org"]))   # on the server

The tally is int64[rows, columns], dense (256 MiB at 1,024 x 32,768); large populations are streamed with
`tally(chunk, onto=tally_so_far)`. The server transforms one row at a time, in place in a buffer of that size, with the
fast Walsh-Hadamard transform: the m x m matrix is never formed.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from privacy.hashing import (
    HASH_BLOCK,
    add_row_cells,
    check_hash_seed,
    check_hashes,
    field_element,
    gather_coefficients,
    hash_family,
    row_column,
)
from privacy.mechanism import Estimate, Parameters, Reports, Tally
from privacy.randomness import DeviceStream, RandomBytes, device_stream, random_words
from privacy.sketch import CollisionModel, check_held, check_shape, check_sketch_tally, devices_in_slices
from privacy.thresholds import WORD, ceil_threshold, check_epsilon, exp_below
from privacy.unbiased import check_resolution

_SLICE = 1 << 15  # reports made at a time: their words and columns stay in the L2 cache
_SLICE_DEVICES = 1 << 22  # devices simulated at a time
_BUCKET_BITS = 16  # 2^16 cells are added up at a time, as 32-bit numbers: 256 KiB, which stays in the L2 cache
_FEW = 8  # below one report per this many cells, sorting the reports first does not pay

_1, _32 = np.uint64(1), np.uint64(32)
_LOW_32 = np.uint64((1 << 32) - 1)


@dataclass(frozen=True, kw_only=True)
class HadamardCountMeanSketch:
    """Apple's Differential Privacy Team 2017, 'Learning with privacy at scale', section 'Private Hadamard count mean
    sketch' (algorithms client-side and server-side HCMS): a uniform row j and coordinate l, and the sign
    H[h_j(value), l] = (-1)^popcount(h_j(value) & l), flipped with probability q = 1 / (e^eps + 1).

    Values are 64-bit numbers, usually `hash_strings` of text; `hash_seed` picks the family of k = rows hash functions
    (privacy/hashing.py) and must be the same on devices and server. m = columns must be a power of two.

    Reports: uint32[n], 2 (j m + l) + (1 if the sign is -1). Wire size: ceil(log2 k) + log2 m + 1 bits.

    Privacy: row and coordinate are drawn without looking at the value, so they cancel from every ratio, whatever their
    law; the sign is the only bit that depends on it, and it is flipped with exactly `threshold` / 2^64.

    Variance of a count with true value f among n reports, over noise, rows and hash families (privacy/sketch.py), with
    c = (e^eps + 1) / (e^eps - 1) and the sum over all other values:
    (m/(m-1))^2 [f (c^2 - 1) + sum (f' (c^2 - m^-2) + f' (f' - 1) (1/k) (1/m) (1 - 1/m))].

    Raises ValueError if epsilon is outside (0, 12] or below about 1e-8, for rows < 1, columns no power of two, more
    than 2^28 cells, or a bad hash_seed.
    """

    epsilon: float
    rows: int
    columns: int
    hash_seed: int

    name: ClassVar[str] = "hadamard_count_mean_sketch"
    domain_size: ClassVar[int] = 1 << 64
    largest_domain: ClassVar[int] = 1 << 64

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)
        check_shape(self.rows, self.columns, self.name, power_of_two=True)
        check_hash_seed(self.hash_seed)
        check_resolution(self.epsilon, 1 - self.q, self.q)

    @property
    def report_bits(self) -> int:
        """Bits on the wire of one report."""
        return (self.rows - 1).bit_length() + self.columns_log2 + 1

    @property
    def columns_log2(self) -> int:
        """log2 of the columns."""
        return int(self.columns).bit_length() - 1

    @property
    def parameters(self) -> Parameters:
        """What device and server must agree on."""
        return {
            "mechanism": self.name,
            "epsilon": float(self.epsilon),
            "rows": int(self.rows),
            "columns": int(self.columns),
            "hash_seed": int(self.hash_seed),
        }

    @cached_property
    def threshold(self) -> int:
        """T: the sign is flipped if a 64-bit word is below T. Rounded up, so (1 - q) / q <= e^eps exactly."""
        return ceil_threshold(1 / (exp_below(self.epsilon) + 1))

    @property
    def q(self) -> float:
        """Probability that the sign is flipped."""
        return self.threshold / WORD

    @cached_property
    def scale(self) -> float:
        """c = 1 / (1 - 2 q): what one report contributes to the transformed row, in absolute value."""
        return float(1 / (1 - 2 * Fraction(self.threshold, WORD)))

    @cached_property
    def collisions(self) -> CollisionModel:
        """The moments of c * sign * H[column, l], the contribution of a report to a cell of its transformed row."""
        m, square = self.columns, self.scale**2
        return CollisionModel(
            rows=self.rows,
            columns=m,
            own_variance=square - 1,
            other_variance=square - 1 / m**2,
            own_dispersion=square * (m - 1),
        )

    def privatize(self, values: NDArray[Any], rng: RandomBytes) -> Reports:
        """uint64[n] values -> uint32[n]. One 64-bit word a report, always.

        The upper half of the word is the row and the coordinate: its lowest bits the coordinate, exactly uniform, the
        others, times the rows, the row (exactly uniform if rows is a power of two, else up to 2^-4 of 1 / rows at the
        largest sketch and 2^-32 rows columns in general: without effect on epsilon or bias). The lower half is compared
        with the upper half of the threshold; one report in 2^32 is undecided and draws the lower half of its comparison
        from the companion stream. Raises TypeError or ValueError for anything but hashes.
        """
        values = check_hashes(values)
        stream = device_stream(rng)
        reports = np.empty(len(values), dtype=np.uint32)
        for start in range(0, len(values), _SLICE):
            part = values[start : start + _SLICE]
            self._privatize_words(part, random_words(stream, len(part)), stream, reports[start : start + _SLICE])
        return reports

    def _privatize_words(
        self, values: NDArray[np.uint64], words: NDArray[np.uint64], stream: DeviceStream, out: NDArray[np.uint32]
    ) -> None:
        """The reports that these random words make."""
        high, low = divmod(self.threshold, 1 << 32)
        log2 = np.uint64(self.columns_log2)
        family = hash_family(int(self.hash_seed), int(self.rows))
        ties = _privatize(values, words, family, np.uint64(self.rows), log2, np.uint64(high), out)
        if ties:
            undecided = np.flatnonzero((words & _LOW_32) == high)
            rest = random_words(stream.companion, len(undecided)) >> _32
            out[undecided] ^= (rest < np.uint64(low)).astype(np.uint32)

    def decode(self, reports: Reports) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Rows, coordinates and signs (1 or -1), int64[n] each. Raises ValueError for anything but reports."""
        cells = self._check_reports(reports).astype(np.int64)
        return cells >> 1 >> self.columns_log2, cells >> 1 & (self.columns - 1), 1 - 2 * (cells & 1)

    def encode(self, rows: NDArray[Any], coordinates: NDArray[Any], signs: NDArray[Any]) -> Reports:
        """The inverse of `decode`. Raises ValueError for numbers out of range."""
        rows, coordinates, signs = (np.asarray(x).astype(np.int64) for x in (rows, coordinates, signs))
        for name, x, size in (("row", rows, self.rows), ("coordinate", coordinates, self.columns)):
            if x.size and (int(x.min()) < 0 or int(x.max()) >= size):
                raise ValueError(f"a {name} is outside 0 .. {size - 1}")
        if not np.isin(signs, (-1, 1)).all():
            raise ValueError("a sign is neither 1 nor -1")
        return (2 * (rows * self.columns + coordinates) + (signs < 0)).astype(np.uint32)

    def tally(self, reports: Reports, *, onto: Tally | None = None) -> Tally:
        """Sums of the signs of each row and coordinate, int64[rows, columns].

        With `onto`, a tally of this mechanism, they are added to its array in place (it must not be used afterwards)
        and the result is both. Raises ValueError for anything but reports of this mechanism.
        """
        reports = self._check_reports(reports)
        before = self._empty() if onto is None else onto
        check_sketch_tally(before, self.parameters)
        cells = np.ascontiguousarray(before.sums).reshape(-1)
        many = len(cells) > 1 << _BUCKET_BITS and len(cells) // _FEW <= len(reports) < 1 << 31
        (_add_sorted_signs if many else _add_signs)(reports, cells)
        return Tally(cells.reshape(before.sums.shape), before.reports + len(reports), self.parameters)

    def estimate(self, tally: Tally, values: NDArray[Any] | None = None) -> Estimate:
        """Unbiased counts of the `values` asked for, float64[len(values)], and their standard errors.

        The standard error is that of a fresh hash family: it includes what collisions do. One transform a row
        (m log2 m additions), and one hash per value and row. Raises ValueError without values: a sketch does not know
        what was reported.
        """
        check_sketch_tally(tally, self.parameters)
        if values is None:
            raise ValueError("values is None; a sketch holds no list of values: pass the 64-bit hashes to estimate")
        values = check_hashes(values)
        totals = np.zeros(len(values), dtype=np.int64)
        squares = _add_transformed_cells(tally.sums, hash_family(int(self.hash_seed), int(self.rows)), values, totals)
        # Parseval: the squares of a transformed row sum to m times those of the row; coordinate 0 carries its mean.
        dispersion = self.columns * squares * self.scale**2
        return self.collisions.estimate(totals.astype(np.float64) * self.scale, tally.reports, dispersion)

    def simulate_tally(
        self, counts: NDArray[np.int64], rng: np.random.Generator, values: NDArray[Any] | None = None
    ) -> Tally:
        """The tally of counts[i] devices that hold values[i], by making their reports, in bounded memory.

        For a fixed histogram no single multinomial has the law of this tally (the coordinates of a value's reports and
        their signs are dependent across cells), and the reports themselves are cheap. Memory: one tally and 4 million
        reports.
        """
        if values is None:
            raise ValueError("values is None; pass the 64-bit hashes that the counts belong to")
        values, counts = check_held(values, counts)
        stream, total = device_stream(rng), self._empty()
        for part in devices_in_slices(values, counts, _SLICE_DEVICES):
            total = self.tally(self.privatize(part, stream), onto=total)
        return total

    def standard_error(self, reports: int, count: float = 0.0, second_moment: float | None = None) -> float:
        """Standard error of one count, in devices, when `count` of the `reports` devices hold the value.

        `second_moment` is the sum of all values' squared counts; without it the other devices are taken to hold all
        different values, which is the least that collisions can do.
        """
        return self.collisions.standard_error(reports, count, second_moment)

    def _empty(self) -> Tally:
        return Tally(np.zeros((self.rows, self.columns), dtype=np.int64), 0, self.parameters)

    def _check_reports(self, reports: Reports) -> NDArray[np.uint32]:
        reports = np.asarray(reports)
        if reports.ndim != 1 or reports.dtype != np.uint32:
            raise ValueError(f"reports have shape {reports.shape} and dtype {reports.dtype}; expected uint32[n]")
        if reports.size and int(reports.max()) >= 2 * self.rows * self.columns:
            raise ValueError(f"reports reach to {int(reports.max())}; expected 0 .. {2 * self.rows * self.columns - 1}")
        return np.ascontiguousarray(reports)


@njit(cache=True, nogil=True)
def _privatize(values, words, family, rows, columns_log2, threshold_high, out):  # type: ignore[no-untyped-def]
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
def _add_signs(reports, cells):  # type: ignore[no-untyped-def]
    for report in reports:
        cells[report >> np.uint32(1)] += 1 - 2 * np.int64(report & np.uint32(1))


@njit(cache=True, nogil=True)
def _add_sorted_signs(reports, cells):  # type: ignore[no-untyped-def]
    """The same, faster for many: reports are sorted into buckets of neighbouring cells, each bucket is added up in the
    L2 cache, and the tally is then read and written in order, once.
    """
    one, size = np.uint32(1), 1 << _BUCKET_BITS
    shift, within = np.uint32(_BUCKET_BITS + 1), np.uint32(size - 1)
    ends = np.zeros((len(cells) >> _BUCKET_BITS) + 2, dtype=np.int64)
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
def _add_transformed_cells(sums, family, values, totals):  # type: ignore[no-untyped-def]
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
