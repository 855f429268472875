"""What the two count mean sketches share: shape, tallies, variance, and what the server can learn about collisions.

    sketch.estimate(sketch.tally(more_reports, onto=tally_so_far), hash_strings(["😂"]))     # CountSketch, of either

Both estimate the count of a value d from the sum A of one cell a row, and every report i adds a_i to it:

    count(d) = m / (m - 1) * (A - n / m)     (Apple's Differential Privacy Team 2017, server side of CMS and HCMS)

Over the device's noise, its row (uniform on k) and the hash family (three-wise independent), a device that holds d adds
1 on average with variance `own_variance`, any other device 1 / m with variance `other_variance`. Two devices that hold
the same value d' != d collide with d together if they are in the same row, which gives each such pair the covariance
(1/k) (1/m) (1 - 1/m); all other pairs are uncorrelated. Hence, with F2 = sum over all values of (their count)^2,

    Var count(d) = (m/(m-1))^2 [ f own + (n - f) other + (F2 - f^2 - (n - f)) (1/k) (1/m) (1 - 1/m) ].

F2, the only thing in it that concerns values nobody asked about, is estimated from the sketch itself (the second moment
of Alon, Matias and Szegedy 1996, with the noise taken out), so no list of the other values is needed.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from privacy.hashing import check_hash_seed, check_hashes, hash_family, hash_strings
from privacy.mechanism import Encoded, Estimate, Mechanism, Parameters, Reports, Tally, check_counts
from privacy.thresholds import WORD, check_epsilon
from privacy.unbiased import check_resolution, check_tally

LARGEST_SKETCH = 1 << 28
"""Cells of a sketch: a tally of 2 GiB. Apple's largest is 2^26 (0.5 GiB)."""


def check_shape(rows: int, columns: int, mechanism: str, *, power_of_two: bool = False) -> None:
    """Raise ValueError unless rows >= 1, columns >= 2 (a power of two where asked) and the sketch has <= 2^28 cells."""
    for name, value, least in (("rows", rows, 1), ("columns", columns, 2)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise ValueError(f"{name} is {value!r}; expected a whole number >= {least}")
        if value < least:
            raise ValueError(f"{name} is {value}; expected {least} or more")
    if power_of_two and columns & (columns - 1):
        raise ValueError(f"columns is {columns}; {mechanism} needs a power of two (2, 4, 8, ...)")
    if rows * columns > LARGEST_SKETCH:
        raise ValueError(f"rows x columns is {rows} x {columns}; expected at most 2^28 cells (a tally of 2 GiB)")


NULL_TEXT = "\0nothing to report"
"""What a device reports that has nothing to report; no text of a dictionary."""


@dataclass(frozen=True, kw_only=True)
class CollisionModel:
    """The moments of one report's contribution, from which everything about the estimates' spread follows.

    `own_dispersion` is the expected sum, over the m cells of its row, of the squared distance of a report's
    contributions from their mean over the row.
    """

    rows: int
    columns: int
    own_variance: float
    other_variance: float
    own_dispersion: float

    def variance(
        self, reports: int, counts: NDArray[np.float64], pairs: NDArray[np.float64] | float
    ) -> NDArray[np.float64]:
        """Var of the estimates of values with these true counts, in devices squared.

        `pairs`: how many ordered pairs of other devices hold the same value, F2 - f^2 - (n - f).
        """
        k, m = self.rows, self.columns
        inner = counts * self.own_variance + (reports - counts) * self.other_variance + pairs * (1 - 1 / m) / (k * m)
        return np.asarray((m / (m - 1)) ** 2 * inner)

    def second_moment(self, reports: int, dispersion: float) -> float:
        """F2, from the sum of squared distances of all contributions from the mean of their row.

        Unbiased before it is held to the possible range, n .. n^2: reports of the same row and value add 1 - 1/m to the
        expected dispersion, of the same row and other values 0, and each report with itself `own_dispersion`. Its error
        moves a variance by about sqrt(2 / (k m)) of itself. That of f^2, which is then taken off, moves it by about
        2 f stderr / (k m), which matters only for values that most devices hold and sketches of a few hundred cells:
        there the difference, held to what is possible, makes the standard error too large.
        """
        k, m, n = self.rows, self.columns, reports
        moment = n + k * (dispersion - n * self.own_dispersion) * m / (m - 1)
        return float(np.clip(moment, n, float(n) ** 2))

    def estimate(self, sums: NDArray[np.float64], reports: int, dispersion: float) -> Estimate:
        """Unbiased counts from the sums A, and their standard errors with the estimates, held to [0, n], plugged in."""
        m, n = self.columns, reports
        counts = m / (m - 1) * (sums - n / m)
        held = np.clip(counts, 0, n)
        pairs = self.second_moment(n, dispersion) - held**2 - (n - held)
        return Estimate(counts, np.sqrt(self.variance(n, held, np.maximum(pairs, 0))), n)

    def joint_estimate(
        self, sums: NDArray[np.float64], reports: int, dispersion: float, collisions: NDArray[np.int64]
    ) -> Estimate:
        """Counts of values whose collisions with each other are known and taken out.

        `collisions` int64[d, d]: in how many rows two of the values share a column. Given the hash family, a device
        with value d' adds (collisions / k - 1 / m) m / (m - 1) to the estimate of d on average; solving these equations
        for the counts leaves only collisions with values outside the list, and a little noise (the inverse's diagonal).
        """
        k, m, n = self.rows, self.columns, reports
        one_by_one = self.estimate(sums, reports, dispersion)
        response = (collisions / k - 1 / m) * m / (m - 1)
        np.fill_diagonal(response, 1.0)
        inverse = np.linalg.inv(response)
        counts = inverse @ one_by_one.counts
        held = np.clip(counts, 0, n)
        outside = self.second_moment(n, dispersion) - float((held**2).sum())
        pairs = max(outside - max(n - float(held.sum()), 0.0), 0.0)
        return Estimate(counts, np.sqrt(self.variance(n, held, pairs) * np.maximum(np.diag(inverse), 1.0)), n)

    def standard_error(self, reports: int, count: float, second_moment: float | None) -> float:
        """Predicted standard error; without F2, the other devices are taken to hold all different values."""
        pairs = 0.0 if second_moment is None else max(second_moment - count**2 - (reports - count), 0.0)
        return float(np.sqrt(self.variance(reports, np.array(float(count)), pairs)))


@dataclass(frozen=True, kw_only=True)
class CountSketch(Mechanism):
    """Both sketches, but for their reports and their noise."""

    epsilon: float
    rows: int
    columns: int
    hash_seed: int

    name: ClassVar[str]
    power_of_two: ClassVar[bool]
    """Whether the columns have to be one."""
    usual_shape: ClassVar[tuple[int, int]]
    """(rows, columns) as Apple's Differential Privacy Team 2017 uses it."""
    domain_size: ClassVar[int] = 1 << 64
    largest_domain: ClassVar[int] = 1 << 64
    hashed: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)
        check_shape(self.rows, self.columns, self.name, power_of_two=self.power_of_two)
        check_hash_seed(self.hash_seed)
        check_resolution(self.epsilon, 1 - self.q, self.q)

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

    @property
    @abstractmethod
    def threshold(self) -> int:
        """T: a bit or sign is flipped if a 64-bit word is below T."""

    @property
    def q(self) -> float:
        """Probability of a flip."""
        return self.threshold / WORD

    @property
    @abstractmethod
    def collisions(self) -> CollisionModel:
        """The moments of a report's contribution to a cell of its row, which is 1 on average in its own cell."""

    def add_to(self, tally: Tally | None, reports: Reports) -> Tally:
        """In place."""
        return self.tally(reports, onto=tally)

    def tally(self, reports: Reports, *, onto: Tally | None = None) -> Tally:
        """The sum of the reports, int64[rows, columns]: of their bits (CMS) or their signs (HCMS).

        With `onto`, a tally of this mechanism, they are added to its array in place (it must not be used afterwards)
        and the result is both. Raises ValueError for reports of another shape, numbers out of range or padding bits
        set, and for a tally of another mechanism.
        """
        reports = self._check_reports(reports)
        before = self._empty() if onto is None else onto
        check_tally(before, self.parameters, (self.rows, self.columns))
        sums = np.ascontiguousarray(before.sums)
        self._add(reports, sums)
        return Tally(sums, before.reports + len(reports), self.parameters)

    def estimate(self, tally: Tally, values: NDArray[Any] | None = None) -> Estimate:
        """Unbiased counts of the `values` asked for, float64[len(values)], and their standard errors, in devices.

        The standard error is that of a fresh hash family: it includes what collisions do. Time: one pass over the tally
        (HCMS: a transform of every row, m log2 m additions), and one hash per value and row. Raises ValueError without
        values: a sketch does not know what was reported.
        """
        check_tally(tally, self.parameters, (self.rows, self.columns))
        if values is None:
            raise ValueError("values is None; a sketch holds no list of values: pass the 64-bit hashes to estimate")
        return self.collisions.estimate(*self._cells(tally, check_hashes(values)))

    def standard_error(self, reports: int, count: float = 0.0, second_moment: float | None = None) -> float:
        """Standard error of one count, in devices, when `count` of the `reports` devices hold the value.

        `second_moment` is the sum of all values' squared counts; without it the other devices are taken to hold all
        different values, which is the least that collisions can do.
        """
        return self.collisions.standard_error(reports, count, second_moment)

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Their hashes, uint64[d] (`hash_strings`, which says what it raises). All texts fit."""
        return Encoded(hash_strings(texts), np.ones(len(texts), dtype=np.bool_), {})

    @property
    def null(self) -> NDArray[np.uint64]:
        """The hash of a text that no list may hold (privacy.dictionary)."""
        return hash_strings([NULL_TEXT])

    @abstractmethod
    def simulate_tally(
        self, counts: NDArray[np.int64], rng: np.random.Generator, values: NDArray[Any] | None = None
    ) -> Tally:
        """A draw of the tally of counts[i] devices that hold the hash values[i]. ValueError without values."""

    def simulate_held(self, values: NDArray[Any], counts: NDArray[np.int64], rng: np.random.Generator) -> Tally:
        """`simulate_tally` of these hashes, uint64[d]."""
        return self.simulate_tally(counts, rng, values)

    @classmethod
    def for_domain(cls, epsilon: float, domain_size: int) -> Self:
        """The sketch of `usual_shape` and hash_seed 0, whatever the domain."""
        rows, columns = cls.usual_shape
        make: Callable[..., Self] = cls
        return make(epsilon=epsilon, rows=rows, columns=columns, hash_seed=0)

    @property
    def tally_cells(self) -> int:
        """A count for each row and column."""
        return int(self.rows * self.columns)

    def predicted_error(self, reports: int, values: int) -> float:
        """As of every mechanism, collisions with the values that the others hold included."""
        return self.standard_error(reports, second_moment=max(reports, reports * reports / values))

    @property
    def log_parameters(self) -> dict[str, int | float]:
        """As in logs seen in public: k are the rows, m the columns."""
        return {"epsilon": self.epsilon, "k": int(self.rows), "m": int(self.columns)}

    @property
    def _family(self) -> NDArray[np.uint64]:
        return hash_family(int(self.hash_seed), int(self.rows))

    def _empty(self) -> Tally:
        return Tally(np.zeros((self.rows, self.columns), dtype=np.int64), 0, self.parameters)

    @abstractmethod
    def _check_reports(self, reports: Reports) -> NDArray[np.uint32]:
        """The reports, contiguous. Raises ValueError for anything else."""

    @abstractmethod
    def _add(self, reports: NDArray[np.uint32], sums: NDArray[np.int64]) -> None:
        """Add the reports to int64[rows, columns], in place."""

    @abstractmethod
    def _cells(self, tally: Tally, values: NDArray[np.uint64]) -> tuple[NDArray[np.float64], int, float]:
        """The sums of the values' cells, without noise on average; the reports; the dispersion of all cells."""


def check_held(values: NDArray[Any] | None, counts: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Hashes, and how many devices hold each; no values are held by no devices. Raises ValueError without values."""
    if values is None:
        raise ValueError("values is None; pass the 64-bit hashes that the counts belong to")
    values = check_hashes(values)
    if not len(values) and not np.size(counts):
        return values, np.zeros(0, dtype=np.int64)
    return values, check_counts(counts, len(values))


def devices_in_slices(values: NDArray[np.uint64], counts: NDArray[np.int64], step: int) -> Iterator[NDArray[np.uint64]]:
    """The values of counts[i] devices that hold values[i], at most `step` devices at a time."""
    ends = np.cumsum(counts)
    devices = int(counts.sum())
    for start in range(0, devices, step):
        stop = min(start + step, devices)
        first, last = np.searchsorted(ends, [start, stop - 1], side="right")
        some = slice(first, last + 1)
        held = np.minimum(ends[some], stop) - np.maximum(ends[some] - counts[some], start)
        yield np.repeat(values[some], held)
