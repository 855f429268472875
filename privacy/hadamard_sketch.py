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

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from privacy.collisions import CollisionModel
from privacy.hashing import check_hashes
from privacy.log_records import NUMBER, parse
from privacy.mechanism import Reports, Tally
from privacy.randomness import DeviceStream, RandomBytes, device_stream, random_words
from privacy.sketch import CountSketch, check_held, devices_in_slices
from privacy.sketch_kernels import (
    BUCKET_BITS,
    add_signs,
    add_sorted_signs,
    add_transformed_cells,
    signed_coordinates,
)
from privacy.thresholds import WORD, ceil_threshold, exp_below, not_below

_SLICE = 1 << 15  # reports made at a time: their words and columns stay in the L2 cache
_SLICE_DEVICES = 1 << 22  # devices simulated at a time
_FEW = 8  # below one report per this many cells, sorting the reports first does not pay

_32 = np.uint64(32)
_LOW_32 = np.uint64((1 << 32) - 1)

_RECORD = re.compile(f"{NUMBER},{NUMBER},(-?1)")


@dataclass(frozen=True, kw_only=True)
class HadamardCountMeanSketch(CountSketch):
    """Apple's Differential Privacy Team 2017, 'Learning with privacy at scale', section 'Private Hadamard count mean
    sketch' (algorithms client-side and server-side HCMS): a uniform row j and coordinate l, and the sign
    H[h_j(value), l] = (-1)^popcount(h_j(value) & l), flipped with probability q = 1 / (e^eps + 1).

    Values are 64-bit numbers, usually `hash_strings` of text; `hash_seed` picks the family of k = rows hash functions
    (privacy/hashing.py) and must be the same on devices and server. m = columns must be a power of two.

    Reports: uint32[n], 2 (j m + l) + (1 if the sign is -1). Wire size: ceil(log2 k) + log2 m + 1 bits.

    Privacy: row and coordinate are drawn without looking at the value, so they cancel from every ratio, whatever their
    law; the sign is the only bit that depends on it, and it is flipped with exactly `threshold` / 2^64.

    Variance of a count with true value f among n reports, over noise, rows and hash families (privacy/collisions.py),
    with c = (e^eps + 1) / (e^eps - 1) and the sum over all other values, in devices squared:
    (m/(m-1))^2 [f (c^2 - 1) + sum (f' (c^2 - m^-2) + f' (f' - 1) (1/k) (1/m) (1 - 1/m))].

    Raises ValueError if epsilon is outside (0, 12] or below about 1e-8, for rows < 1, columns no power of two, more
    than 2^28 cells, or a bad hash_seed.
    """

    name: ClassVar[str] = "hadamard_count_mean_sketch"
    power_of_two: ClassVar[bool] = True
    usual_shape: ClassVar[tuple[int, int]] = (1024, 32_768)
    smallest_contribution: ClassVar[int] = -1
    log_name: ClassVar[str] = "HCMS"

    @property
    def report_bits(self) -> int:
        """Bits on the wire of one report."""
        return (int(self.rows) - 1).bit_length() + self.columns_log2 + 1

    @property
    def columns_log2(self) -> int:
        """log2 of the columns."""
        return int(self.columns).bit_length() - 1

    @cached_property
    def threshold(self) -> int:
        """T: the sign is flipped if a 64-bit word is below T. Rounded up, so (1 - q) / q <= e^eps exactly."""
        return ceil_threshold(1 / (exp_below(self.epsilon) + 1))

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
            step=2 * self.scale,
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
        ties = signed_coordinates(values, words, self._family, np.uint64(self.rows), log2, np.uint64(high), out)
        if ties:
            undecided = np.flatnonzero((words & _LOW_32) == high)
            rest = random_words(stream.companion, len(undecided)) >> _32
            out[undecided] ^= (rest < np.uint64(low)).astype(np.uint32)

    def split(self, reports: Reports) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Rows, coordinates and signs (1 or -1), int64[n] each. Raises ValueError for anything but reports."""
        cells = self._check_reports(reports).astype(np.int64)
        return cells >> 1 >> self.columns_log2, cells >> 1 & (self.columns - 1), 1 - 2 * (cells & 1)

    def join(self, rows: NDArray[Any], coordinates: NDArray[Any], signs: NDArray[Any]) -> Reports:
        """The inverse of `split`. Raises ValueError for numbers out of range."""
        rows, coordinates, signs = (np.asarray(x).astype(np.int64) for x in (rows, coordinates, signs))
        for name, x, size in (("row", rows, self.rows), ("coordinate", coordinates, self.columns)):
            if x.size and (int(x.min()) < 0 or int(x.max()) >= size):
                raise ValueError(f"a {name} is outside 0 .. {size - 1}")
        if not np.isin(signs, (-1, 1)).all():
            raise ValueError("a sign is neither 1 nor -1")
        return (2 * (rows * self.columns + coordinates) + (signs < 0)).astype(np.uint32)

    def _add(self, reports: NDArray[np.uint32], sums: NDArray[np.int64]) -> None:
        cells = sums.reshape(-1)
        many = len(cells) > 1 << BUCKET_BITS and len(cells) // _FEW <= len(reports) < 1 << 31
        (add_sorted_signs if many else add_signs)(reports, cells)

    def _cells(self, tally: Tally, values: NDArray[np.uint64]) -> tuple[NDArray[np.float64], int, float]:
        totals = np.zeros(len(values), dtype=np.int64)
        squares = add_transformed_cells(tally.sums, self._family, values, totals)
        # Parseval: the squares of a transformed row sum to m times those of the row; coordinate 0 carries its mean.
        dispersion = self.columns * squares * self.scale**2
        return totals.astype(np.float64) * self.scale, tally.reports, dispersion

    def simulate_tally(
        self, counts: NDArray[np.int64], rng: np.random.Generator, values: NDArray[Any] | None = None
    ) -> Tally:
        """The tally of counts[i] devices that hold values[i], by making their reports, in bounded memory.

        For a fixed histogram no single multinomial has the law of this tally (the coordinates of a value's reports and
        their signs are dependent across cells), and the reports themselves are cheap. Memory: one tally and 4 million
        reports.
        """
        values, counts = check_held(values, counts)
        stream, total = device_stream(rng), self._empty()
        for part in devices_in_slices(values, counts, _SLICE_DEVICES):
            total = self.tally(self.privatize(part, stream), onto=total)
        return total

    def _refused(self, reports: Reports) -> NDArray[np.int64]:
        """Numbers that are no row, coordinate and sign. That every device draws row and coordinate uniformly, a server
        cannot see in one report."""
        return not_below(reports, 2 * self.rows * self.columns)

    @property
    def largest_influence(self) -> float:
        """m / (m - 1) (c + 1 / m) down, which is 2 / m more than up, with c = (e^eps + 1) / (e^eps - 1)."""
        m = int(self.columns)
        return m / (m - 1) * (self.scale + 1 / m)

    def largest_gain(self, targets: int) -> float:
        """r m / (m - 1) (c - 1 / m) for r targets: coordinate 0 has one sign for all values, so a report of it counts
        for every value that there is."""
        m = int(self.columns)
        return targets * m / (m - 1) * (self.scale - 1 / m)

    @property
    def total_variation(self) -> float:
        """1/2 - q, at most: row and coordinate are drawn without looking at the value, and the signs of two values
        differ at half of the coordinates, or the values collide."""
        return math.tanh(self.epsilon / 2) / 2  # rounding the threshold only lowers it

    def server_operations(self, reports: int, values: int) -> float:
        """A transform of every row; estimating a value hashes it once a row."""
        return reports + self.rows * self.columns * math.log2(self.columns) + values * self.rows

    def log_records(self, reports: Reports) -> list[str]:
        """Row, coordinate and sign: see privacy/device_log.py."""
        columns = (part.tolist() for part in self.split(reports))
        return [f"{row},{coordinate},{sign}" for row, coordinate, sign in zip(*columns, strict=True)]

    def read_records(self, records: Sequence[str]) -> Reports:
        """The inverse of `log_records`. Raises ValueError for a malformed record or a number out of range."""
        numbers = [[int(x) for x in fields] for fields in parse(records, _RECORD, "row,coordinate,1 or -1")]
        rows, coordinates, signs = np.array(numbers, dtype=np.int64).reshape(len(numbers), 3).T
        return self.join(rows, coordinates, signs)

    def _check_reports(self, reports: Reports) -> NDArray[np.uint32]:
        reports = np.asarray(reports)
        if reports.ndim != 1 or reports.dtype != np.uint32:
            raise ValueError(f"reports have shape {reports.shape} and dtype {reports.dtype}; expected uint32[n]")
        if reports.size and int(reports.max()) >= 2 * self.rows * self.columns:
            raise ValueError(f"reports reach to {int(reports.max())}; expected 0 .. {2 * self.rows * self.columns - 1}")
        return np.ascontiguousarray(reports)
