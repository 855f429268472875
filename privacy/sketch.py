"""What the two count mean sketches share: shape, tallies, and estimates, one by one or with collisions taken out.

    tally = sketch.tally(more_reports, onto=tally_so_far)                            # CountSketch, of either
    sketch.estimate_jointly(tally, hash_strings(["😂", "🎉"]))

How collisions enter estimates, standard errors and tails is in privacy/collisions.py.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from privacy.collisions import CollisionModel, SketchEstimate
from privacy.hashing import check_hash_seed, check_hashes, collision_counts, hash_family, hash_strings
from privacy.mechanism import Encoded, Mechanism, Parameters, Reports, Tally, check_counts
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

    def estimate(self, tally: Tally, values: NDArray[Any] | None = None) -> SketchEstimate:
        """Unbiased counts of the `values` asked for, float64[len(values)], and their standard errors, in devices.

        Each by itself: the standard error and the tails are those of a fresh hash family, so they include what
        collisions do. Time: one pass over the tally (HCMS: a transform of every row, m log2 m additions), and one hash
        per value and row. Raises ValueError without values: a sketch does not know what was reported.
        """
        return self._estimate(tally, self._asked(tally, values))[0]

    def estimate_jointly(self, tally: Tally, values: NDArray[Any] | None = None) -> SketchEstimate:
        """Like `estimate`, with the known collisions taken out: those of frequent values among `values` with all.

        Which values are frequent is seen in the tally, and the hash family says where they collide, so counts are
        unbiased for this very family, but for collisions with values that are not asked for or rare, which the
        standard errors and tails keep. Time: that of `estimate`, and where a value is frequent enough to matter, once
        more one hash per value and row. Raises ValueError without values.
        """
        asked = self._asked(tally, values)
        distinct, place = np.unique(asked, return_inverse=True)
        if len(distinct) < len(asked):
            return self.estimate_jointly(tally, distinct).take(place)

        def collisions(which: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.int32]:
            return collision_counts(asked[which], asked[others], self._family, self.columns)

        return self.collisions.estimate_jointly(*self._estimate(tally, asked), collisions)

    def _asked(self, tally: Tally, values: NDArray[Any] | None) -> NDArray[np.uint64]:
        check_tally(tally, self.parameters, (self.rows, self.columns))
        if values is None:
            raise ValueError("values is None; a sketch holds no list of values: pass the 64-bit hashes to estimate")
        return check_hashes(values)

    def _estimate(self, tally: Tally, values: NDArray[np.uint64]) -> tuple[SketchEstimate, float]:
        """Each by itself, and the dispersion of all cells."""
        sums, reports, dispersion = self._cells(tally, values)
        return self.collisions.estimate(sums, reports, dispersion), dispersion

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
