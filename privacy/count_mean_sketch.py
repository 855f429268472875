"""Count mean sketch (CMS): counts of arbitrary strings, without a list of them on the device.

A device hashes its value to one column of one row and sends that row as a noisy one-hot vector. The server adds up the
rows and can estimate any value that it can hash.

    mechanism = CountMeanSketch(epsilon=4.0, rows=65536, columns=1024, hash_seed=1)
    reports = mechanism.privatize(hash_strings(["😂", "🎉", "😂"]), rng)    # on the devices
    tally = mechanism.tally(reports)                                         # on the server
    estimate = mechanism.estimate(tally, hash_strings(["😂"]))

The tally is int64[rows, columns], dense: 512 MiB at 65,536 x 1,024, of which the operating system provides only the
rows that reports touch. Large populations are streamed: `tally(chunk, onto=tally_so_far)` adds in place, so the memory
is one tally and one chunk whatever the number of reports.
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
from privacy.hashing import check_hashes, columns_in_rows
from privacy.kernels import OwnBit, noisy_one_hot, outside
from privacy.log_records import NUMBER, parse, reversed_bits
from privacy.mechanism import Reports, Tally
from privacy.randomness import RandomBytes, device_stream, random_words
from privacy.sketch import CountSketch, check_held, devices_in_slices
from privacy.sketch_kernels import add_bits, add_cells, row_dispersion
from privacy.thresholds import WORD, ceil_threshold, exp_below, scaled_words
from privacy.validity import FALSE_REFUSAL, set_bit_bounds

_SLICE_WORDS = 1 << 18  # reports are made in slices of about this many 32-bit words
_SLICE_DEVICES = 1 << 20  # devices simulated at a time
_DRAWS_PER_ROW = 16  # a binomial costs about as much as this many uniform rows

_RECORD = re.compile(f"{NUMBER},([0-9a-fA-F]+)")


@dataclass(frozen=True, kw_only=True)
class CountMeanSketch(CountSketch):
    """Apple's Differential Privacy Team 2017, 'Learning with privacy at scale', section 'Private count mean sketch'
    (algorithms client-side and server-side CMS): a uniform row j, then the one-hot vector of h_j(value), each of its
    m = columns bits flipped with probability q = 1 / (e^(eps/2) + 1).

    Values are 64-bit numbers, usually `hash_strings` of text; `hash_seed` picks the family of k = rows hash functions
    (privacy/hashing.py) and must be the same on devices and server.

    Reports: uint32[n, 1 + ceil(m / 32)]: the row, then the bits; column c is bit c % 32 of word 1 + c // 32, counted
    from the least significant. Wire size: ceil(log2 k) + m bits.

    Privacy: the row is drawn without looking at the value, so it cancels from every ratio, whatever its law. Two
    one-hot vectors differ in two bits, hence the eps / 2.

    Variance of a count with true value f among n reports, over noise, rows and hash families (privacy/collisions.py),
    with s^2 = e^(eps/2) / (e^(eps/2) - 1)^2 and the sum over all other values, in devices squared:
    (m/(m-1))^2 n s^2 + (m-1)^-1 sum [f' (1 - 1/k) + f'^2 / k].

    Raises ValueError if epsilon is outside (0, 12] or below about 1e-8, for rows < 1, columns < 2, more than
    2^28 cells, or a bad hash_seed.
    """

    name: ClassVar[str] = "count_mean_sketch"
    power_of_two: ClassVar[bool] = False
    usual_shape: ClassVar[tuple[int, int]] = (65_536, 1024)
    log_name: ClassVar[str] = "CMS"

    @property
    def report_bits(self) -> int:
        """Bits on the wire of one report."""
        return (int(self.rows) - 1).bit_length() + int(self.columns)

    @cached_property
    def threshold(self) -> int:
        """T: a bit is flipped if a 64-bit word is below T.

        The largest ratio of report probabilities is ((1 - q) / q)^2, and (1 - q) / q <= e^(eps/2) exactly because q is
        rounded up.
        """
        return ceil_threshold(1 / (exp_below(self.epsilon / 2) + 1))

    @cached_property
    def contrast(self) -> float:
        """1 - 2 q, how much likelier a bit is when it is the device's own."""
        return float(1 - 2 * Fraction(self.threshold, WORD))

    @cached_property
    def collisions(self) -> CollisionModel:
        """The moments of (bit - q) / (1 - 2 q), the contribution of a report to a cell of its row."""
        noise = self.q * (1 - self.q) / self.contrast**2
        m = self.columns
        return CollisionModel(
            rows=self.rows,
            columns=m,
            own_variance=noise,
            other_variance=noise + (1 - 1 / m) / m,
            own_dispersion=noise * (m - 1) + (1 - 1 / m),
            step=1 / self.contrast,
        )

    def privatize(self, values: NDArray[Any], rng: RandomBytes) -> Reports:
        """uint64[n] values -> uint32[n, 1 + ceil(columns / 32)].

        A report takes fixed amounts of the stream and of its second companion (one word, the row); `noisy_one_hot`
        takes what it needs by chance from the first. Raises TypeError or ValueError for anything but hashes.
        """
        values = check_hashes(values)
        stream = device_stream(rng)
        reports = np.zeros((len(values), 1 + self.words), dtype="<u4")
        step = max(1, _SLICE_WORDS // reports.shape[1])
        for start in range(0, len(values), step):
            part, out = values[start : start + step], reports[start : start + step]
            rows = scaled_words(random_words(stream.companion.companion, len(part)), self.rows)
            columns = columns_in_rows(part, rows.astype(np.uint64), self._family, self.columns)
            bits = noisy_one_hot(columns, self.columns, self.threshold, OwnBit.FLIPPED, stream)
            out[:, 0] = rows
            out.view(np.uint8)[:, 4 : 4 + bits.shape[1]] = bits
        return reports.astype(np.uint32, copy=False)

    @property
    def words(self) -> int:
        """32-bit words that hold the bits of a report."""
        return (self.columns + 31) // 32

    def join(self, rows: NDArray[np.int64], bits: NDArray[np.uint8]) -> Reports:
        """Reports of these rows, int64[n], and packed bits, uint8[n, ceil(columns / 8)], least significant first.

        Raises ValueError for anything that is no report of this mechanism.
        """
        if rows.size and (int(rows.min()) < 0 or int(rows.max()) >= self.rows):
            raise ValueError(f"rows reach from {int(rows.min())} to {int(rows.max())}; expected 0 .. {self.rows - 1}")
        reports = np.zeros((len(rows), 1 + self.words), dtype="<u4")
        if bits.shape != (len(rows), (self.columns + 7) // 8):
            raise ValueError(f"bits have shape {bits.shape}; expected ({len(rows)}, {(self.columns + 7) // 8})")
        reports[:, 0] = rows
        reports.view(np.uint8)[:, 4 : 4 + bits.shape[1]] = bits
        return self._check_reports(reports.astype(np.uint32, copy=False))

    def split(self, reports: Reports) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """The inverse of `join`. Raises ValueError for anything but reports of this mechanism."""
        reports = self._check_reports(reports)
        packed = reports[:, 1:].astype("<u4").view(np.uint8)
        return reports[:, 0].astype(np.int64), packed[:, : (self.columns + 7) // 8]

    def _cells(self, tally: Tally, values: NDArray[np.uint64]) -> tuple[NDArray[np.float64], int, float]:
        totals = np.zeros(len(values), dtype=np.int64)
        add_cells(tally.sums, self._family, values, totals)
        sums = (totals.astype(np.float64) - tally.reports * self.q) / self.contrast
        return sums, tally.reports, row_dispersion(tally.sums) / self.contrast**2

    def simulate_tally(
        self, counts: NDArray[np.int64], rng: np.random.Generator, values: NDArray[Any] | None = None
    ) -> Tally:
        """Exact law of the tally of counts[i] devices that hold values[i].

        Every device is given its row; then the bits of a row are independent, so with o of its r devices in a column,
        the column's sum is Bin(o, 1 - q) + Bin(r - o, q). Time: devices + 2 cells; memory: one tally.
        """
        values, counts = check_held(values, counts)
        own = self._empty().sums
        # Rows of one value: a multinomial where it is cheaper than one draw a device.
        many = counts > _DRAWS_PER_ROW * self.rows
        for value, count in zip(values[many], counts[many], strict=True):
            rows = np.arange(self.rows)
            columns = columns_in_rows(np.full(len(rows), value), rows.astype(np.uint64), self._family, self.columns)
            own[rows, columns] += rng.multinomial(count, np.full(self.rows, 1 / self.rows))
        for part in devices_in_slices(values[~many], counts[~many], _SLICE_DEVICES):
            rows = rng.integers(0, self.rows, len(part))
            np.add.at(own, (rows, columns_in_rows(part, rows.astype(np.uint64), self._family, self.columns)), 1)
        for sums in own:
            devices = int(sums.sum())
            sums[:] = rng.binomial(sums, 1 - self.q) + rng.binomial(devices - sums, self.q)
        return Tally(own, int(counts.sum()), self.parameters)

    def set_bits(self, rate: float = FALSE_REFUSAL) -> tuple[int, int]:
        """How many bits of a report are set, at least and at most, all but a `rate` of honest ones
        (privacy/validity.py)."""
        return set_bit_bounds(int(self.columns), 1 - self.q, self.q, rate)

    def _refused(self, reports: Reports) -> NDArray[np.int64]:
        return self.refused_at(FALSE_REFUSAL, reports)

    def refused_at(self, rate: float, reports: Reports) -> NDArray[np.int64]:
        """Places, increasing, of numbers that are no row, of padding bits, and of too few or too many bits set.

        uint32[n, 1 + ceil(columns / 32)] reports; an honest one is refused with probability at most `rate`.
        """
        wrong = reports[:, 0] >= self.rows
        if self.columns % 32:
            wrong |= reports[:, -1] >> np.uint32(self.columns % 32) > 0
        return np.union1d(np.flatnonzero(wrong), outside(reports[:, 1:].view(np.uint8), self.set_bits(rate)))

    @property
    def largest_influence(self) -> float:
        """m / (m - 1) ((1 - q) / (1 - 2 q) - 1 / m), about 1 + 1 / (e^(eps/2) - 1): a bit that is set."""
        m = int(self.columns)
        return m / (m - 1) * ((1 - self.q) / self.contrast - 1 / m)

    @property
    def total_variation(self) -> float:
        """1 - 2 q, at most: the row is drawn without looking at the value, and two values differ in two bits of it, or
        collide."""
        return math.tanh(self.epsilon / 4)  # rounding the threshold only lowers it

    def server_operations(self, reports: int, values: int) -> float:
        """Bits are counted a byte at a time; estimating a value hashes it once a row."""
        return reports * self.columns / 8 + values * self.rows

    def log_records(self, reports: Reports) -> list[str]:
        """Row, then the bits in hexadecimal digits: see privacy/device_log.py."""
        rows, bits = self.split(reports)
        return [f"{row},{bytes(b).hex()}" for row, b in zip(rows.tolist(), reversed_bits(bits), strict=True)]

    def read_records(self, records: Sequence[str]) -> Reports:
        """The inverse of `log_records`. Raises ValueError for a malformed record or a row out of range."""
        width = (self.columns + 7) // 8
        fields = parse(records, _RECORD, "row,hexadecimal bits")
        for i, (_, digits) in enumerate(fields):
            if len(digits) != 2 * width:
                raise ValueError(f"record {i} has {len(digits)} hexadecimal digits; expected {2 * width}")
        rows = np.array([int(row) for row, _ in fields], dtype=np.int64)
        packed = np.frombuffer(bytes.fromhex("".join(digits for _, digits in fields)), dtype=np.uint8)
        return self.join(rows, reversed_bits(packed.reshape(len(fields), width)))

    def _add(self, reports: NDArray[np.uint32], sums: NDArray[np.int64]) -> None:
        add_bits(reports, sums)

    def _check_reports(self, reports: Reports) -> NDArray[np.uint32]:
        reports, width = np.asarray(reports), 1 + self.words
        if reports.ndim != 2 or reports.dtype != np.uint32 or reports.shape[1] != width:
            raise ValueError(
                f"reports have shape {reports.shape} and dtype {reports.dtype}; expected uint32[n, {width}]"
            )
        if len(reports) and int(reports[:, 0].max()) >= self.rows:
            raise ValueError(f"reports name row {int(reports[:, 0].max())}; expected rows 0 .. {self.rows - 1}")
        if self.columns % 32 and np.any(reports[:, -1] >> np.uint32(self.columns % 32)):
            raise ValueError("reports have padding bits set; they were not made by this mechanism")
        return np.ascontiguousarray(reports)
