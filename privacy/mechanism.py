"""What every local-differential-privacy mechanism looks like, both halves, and what a mechanism knows about itself.

The device half (`privatize`) and the server half (`tally`, `estimate`) share every parameter, so they live in one
frozen class: no formula is written twice, and none can drift apart. For the same reason the class owns what others
need to know of it (`Mechanism`).

    mechanism = OptimizedUnaryEncoding(epsilon=4.0, domain_size=301)
    reports = mechanism.privatize(values, rng)          # on the devices
    estimate = mechanism.estimate(mechanism.tally(reports))   # on the server
"""

from __future__ import annotations

import json
import math
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from privacy.log_records import plain_records, plain_reports
from privacy.randomness import DeviceStream, RandomBytes, device_stream

Reports = NDArray[Any]
"""n reports: an array whose first axis has one entry per report, so that reports can be sliced, joined and permuted
without knowing the mechanism."""

Parameters = Mapping[str, str | int | float]

Binomials = tuple[tuple[int, float], tuple[int, float]]
"""Two pairs of trials and probability: the law of the sum of both."""


@dataclass(frozen=True, eq=False)
class Tally:
    """The additive sum of reports: all that the server has to keep.

    `sums` is int64 (shape set by the mechanism), `reports` counts the reports in it, `parameters` says which mechanism
    they came from. `a + b` holds the reports of both, in any order with identical results. Adding tallies of other
    parameters (or hash seeds) or shapes raises ValueError.
    """

    sums: NDArray[np.int64]
    reports: int
    parameters: Parameters

    def __add__(self, other: Tally) -> Tally:
        if dict(self.parameters) != dict(other.parameters):
            raise ValueError(
                f"tallies of different mechanisms cannot be added: {dict(self.parameters)} and {dict(other.parameters)}"
            )
        if self.sums.shape != other.sums.shape:
            raise ValueError(
                f"tallies of different shapes cannot be added: {self.sums.shape} and {other.sums.shape}; "
                "one of them was not made by its mechanism"
            )
        return Tally(self.sums + other.sums, self.reports + other.reports, self.parameters)

    def save(self, path: Path | str) -> None:
        """Write to one npz file of plain arrays (no pickle): `sums`, `reports` and the parameters as JSON text."""
        text = json.dumps(dict(self.parameters))
        with Path(path).open("wb") as file:  # a handle, because numpy appends .npz to names
            np.savez(file, sums=self.sums, reports=np.int64(self.reports), parameters=np.array(text))

    @classmethod
    def load(cls, path: Path | str) -> Tally:
        """What `save` wrote. Raises ValueError if the file is no such tally."""
        try:
            with np.load(path, allow_pickle=False) as file:
                sums, reports, text = file["sums"], file["reports"], file["parameters"]
                parameters = json.loads(str(text))
        except (KeyError, EOFError, ValueError, zipfile.BadZipFile, AttributeError, TypeError) as error:
            raise ValueError(f"{path} is no tally saved by Tally.save: {error}") from error
        if sums.dtype != np.int64 or reports.dtype != np.int64 or reports.ndim or reports < 0:
            raise ValueError(
                f"{path} is no tally saved by Tally.save: sums have dtype {sums.dtype} and reports is "
                f"{reports.dtype}{list(reports.shape)}; expected int64 and one int64 >= 0"
            )
        if not isinstance(parameters, dict):
            raise ValueError(f"{path} is no tally saved by Tally.save: its parameters are no mapping")
        return cls(sums, int(reports), parameters)


@dataclass(frozen=True, eq=False)
class Estimate:
    """Unbiased counts of the reporting devices, with the standard error of each, and how far chance takes them.

    `counts` and `stderr` are float64, one entry per value asked for, in devices; `reports` is the number of
    reports that they rest on. Counts can be negative: an unbiased estimate of a small count often is.

    Errors are normal here, as noise that an aggregator adds is. Where they are not, a mechanism returns a subclass that
    knows their law: every further array of it has one entry a value, too.
    """

    counts: NDArray[np.float64]
    stderr: NDArray[np.float64]
    reports: int

    def p_values(self) -> NDArray[np.float64]:
        """The chance of such a count, or a larger one, for a value that nobody holds; float64, one a value."""
        noisy = self.stderr > 0
        scores = np.where(self.counts > 0, np.inf, -np.inf)  # without noise a count is what it is
        scores[noisy] = self.counts[noisy] / self.stderr[noisy]
        return np.asarray(ndtr(-scores))

    def bounds(self, error: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The least and the largest count of each value, in 0 .. reports, each missed with at most this chance.

        Raises ValueError for an error outside (0, 1/2).
        """
        half = -ndtri(check_error(error)) * self.stderr
        lower, upper = (np.clip(end, 0, self.reports) for end in (self.counts - half, self.counts + half))
        return lower, upper

    def take(self, which: NDArray[Any] | slice) -> Self:
        """The estimate of some of the values: by index, mask or slice."""
        arrays = [f.name for f in fields(self) if isinstance(getattr(self, f.name), np.ndarray)]
        taken: dict[str, Any] = {name: getattr(self, name)[which] for name in arrays}
        return replace(self, **taken)


def check_error(error: float) -> float:
    """The chance of missing one side of an interval. Raises ValueError outside (0, 1/2)."""
    if not 0 < error < 0.5:
        raise ValueError(f"error is {error}; expected a probability above 0 and below 1/2")
    return error


@dataclass(frozen=True, eq=False)
class Encoded:
    """Texts as `privatize`, `estimate` and `simulate_held` take them.

    `values`: one entry a text on the first axis. `fits` bool[d]: whether the mechanism can take the text; where it
    cannot, the entry of `values` means nothing and must not be used. `unfit`: how many texts do not fit, by reason;
    reasons that do not occur are left out.
    """

    values: NDArray[Any]
    fits: NDArray[np.bool_]
    unfit: Mapping[str, int]


class Mechanism(ABC):
    """A frequency oracle (it estimates how many of n devices hold each of its values), and all that is known about it.

    What the accounting, the ranking, secret sharing and the device's log need to know of a mechanism is a property or
    method here, with a default that holds for every frequency oracle over the numbers 0 .. domain_size - 1. So a new
    mechanism defines the abstract members, and overrides a default where it knows better; nothing else names it.
    """

    name: ClassVar[str]
    largest_domain: ClassVar[int] = 1 << 64
    """The largest domain_size."""
    hashed: ClassVar[bool] = False
    """Whether values are 64-bit hashes of arbitrary texts; the mechanism's size does then not follow the domain's."""
    counts_add_up: ClassVar[bool] = False
    """Whether the estimated counts of all values add up to the number of reports, exactly."""
    searchable: ClassVar[bool] = False
    """Whether words on nobody's list can be searched for in a tally (a method `discover`)."""
    smallest_contribution: ClassVar[int] = 0
    """The least that one report adds to one count of the tally."""
    largest_contribution: ClassVar[int] = 1
    """The most that one report adds to one count of the tally."""

    if TYPE_CHECKING:  # dataclass fields: at run time, a property of that name would be taken for their default value

        @property
        def epsilon(self) -> float:
            """Local privacy budget of ONE report (pure LDP); infinite if a report alone is not private."""

        @property
        def domain_size(self) -> int:
            """How many values there are: 0 .. domain_size - 1."""

    @property
    def private_alone(self) -> bool:
        """Whether one report is private by itself, and not only in a sum."""
        return math.isfinite(self.epsilon)

    @property
    @abstractmethod
    def report_bits(self) -> int:
        """Upload cost of one report, in bits."""

    @property
    @abstractmethod
    def parameters(self) -> Parameters:
        """Everything that must agree between device and server."""

    @abstractmethod
    def privatize(self, values: NDArray[Any], rng: RandomBytes) -> Reports:
        """Device half: n values, int64[n] or as `encode` gives them -> n reports."""

    @abstractmethod
    def tally(self, reports: Reports) -> Tally:
        """Server half: additive, tally(a joined with b) == tally(a) + tally(b)."""

    def add_to(self, tally: Tally | None, reports: Reports) -> Tally:
        """The tally of these reports and of those in `tally` (None: of none), which must not be used afterwards: a
        mechanism whose tallies are large adds in place."""
        added = self.tally(reports)
        return added if tally is None else tally + added

    @abstractmethod
    def estimate(self, tally: Tally, values: NDArray[Any] | None = None) -> Estimate:
        """Unbiased counts, of all values or of the `values` asked for."""

    def estimate_jointly(self, tally: Tally, values: NDArray[Any] | None = None) -> Estimate:
        """`estimate` of values that are all that is looked at, so that what they do to each other can be taken out.

        Here they do nothing to each other. A sketch's collide.
        """
        return self.estimate(tally, values)

    @abstractmethod
    def standard_error(self, reports: int, count: float = 0.0) -> float:
        """Standard error of one count, in devices, when `count` of the `reports` devices hold the value."""

    def encode(self, texts: Sequence[str]) -> Encoded:
        """The texts as values of this mechanism: here text i of a list that devices and server share is the value i,
        int64[d], and all fit."""
        return Encoded(np.arange(len(texts), dtype=np.int64), np.ones(len(texts), dtype=np.bool_), {})

    @property
    def null(self) -> NDArray[Any]:
        """The value, one entry, by which a device says that it has nothing to report: here the last of the domain,
        which then stands for no text."""
        return np.array([self.domain_size - 1], dtype=np.int64)

    def no_reports(self) -> Reports:
        """Zero reports: their dtype and shape are those of this mechanism's reports."""
        return self.privatize(self.encode([]).values, DeviceStream(bytes(32), simulated=True))

    def simulate_tally(self, counts: NDArray[np.int64], rng: np.random.Generator) -> Tally:
        """A draw from exactly the law of tally(privatize(...)) for devices with these true counts, int64[d].

        Without making reports where the law allows it, else (here) report by report in bounded memory.
        """
        return simulate_by_reports(self, counts, rng)

    def simulate_held(self, values: NDArray[Any], counts: NDArray[np.int64], rng: np.random.Generator) -> Tally:
        """A draw of the tally of counts[i] reports of the encoded value values[i], int64[d] counts, exact in law.

        Raises ValueError for values that are none of this mechanism's, and for counts of another shape or below 0.
        """
        return self.simulate_tally(counts_by_value(values, counts, self.domain_size), rng)

    def support_law(self, reports: int, count: int) -> Binomials | None:
        """The law of the tally of a value that `count` of the `reports` devices hold, as two binomials whose sum it is:
        ((trials, probability), (trials, probability)). None: it is no such sum, or nobody has looked."""
        return None

    # For a server to which devices may lie

    def refused(self, reports: Reports) -> NDArray[np.int64]:
        """The places of the reports that a server must not count, int64[r], increasing; `tally` takes the others.

        Refused is what no honest device can send (another dtype or shape, a number out of range), and what an honest
        device, whatever its value, sends with probability at most privacy.validity.FALSE_REFUSAL.
        """
        reports, honest = np.ascontiguousarray(reports), self._no_reports
        if reports.dtype != honest.dtype or reports.shape[1:] != honest.shape[1:]:
            return np.arange(len(reports))
        return self._refused(reports)

    def _refused(self, reports: Reports) -> NDArray[np.int64]:
        """`refused`, of contiguous reports of the right dtype and shape: here those that `tally` raises ValueError for,
        found by halving. The reports are added up one time more; a mechanism that can look at them is faster."""
        try:
            self.tally(reports)
        except ValueError:
            if len(reports) == 1:
                return np.zeros(1, dtype=np.int64)
            half = len(reports) // 2
            return np.concatenate([self._refused(reports[:half]), half + self._refused(reports[half:])])
        return np.zeros(0, dtype=np.int64)

    @cached_property
    def _no_reports(self) -> Reports:
        return self.no_reports()

    @property
    def largest_influence(self) -> float:
        """The most by which one report that is not `refused` moves the estimate of one count, up or down, in devices.
        Infinite: nobody has looked."""
        return math.inf

    def largest_gain(self, targets: int) -> float:
        """The most that one report that is not `refused` adds to the sum of the counts of so many values, in devices,
        where the attacker chooses the values, too: the maximal gain attack of Cao, Jia, Gong 2021 (USENIX Security)."""
        return targets * self.largest_influence

    # For secret sharing

    def contributions(self, reports: Reports) -> NDArray[np.int64]:
        """What each report adds to the tally, int64[n, tally_cells], within smallest_ .. largest_contribution.

        Here the tallies of the reports one by one. For reports that `tally` takes: privacy.secret_sharing.contributions
        checks them and the result. Memory: 8 n tally_cells bytes.
        """
        rows = [self.tally(reports[i : i + 1]).sums.ravel() for i in range(len(reports))]
        return np.array(rows, dtype=np.int64).reshape(len(reports), self.tally_cells)

    # For the accounting of shuffled reports

    @property
    def total_variation(self) -> float | None:
        """Total variation distance of the reports of two values, at most (to within the rounding of one float). None:
        nothing is known but epsilon. Too small a number would claim privacy that is not there."""
        return None

    @property
    def log_q_silent(self) -> float | None:
        """privacy.shuffling.VariationRatio.log_q_silent: what two values' reports share is at most e^this times as
        likely as from any other value. None: epsilon, which always holds."""
        return None

    # For the ranking

    @classmethod
    def for_domain(cls, epsilon: float, domain_size: int) -> Self:
        """The mechanism of usual size for so many values. TypeError if it takes more than these two to make one."""
        make: Callable[..., Self] = cls
        return make(epsilon=epsilon, domain_size=domain_size)

    @property
    def tally_cells(self) -> int:
        """How many counts the tally has, 8 bytes each."""
        return int(self.domain_size)

    def server_operations(self, reports: int, values: int) -> float:
        """Elementary steps (a counter increased, a byte or cell added) to tally the reports and estimate so many
        values once; good to a small factor. Here those of a histogram."""
        return float(reports + values)

    def predicted_error(self, reports: int, values: int) -> float:
        """Standard error, in devices, of the count of a value that nearly nobody holds, the `reports` devices being
        spread evenly over `values` values."""
        return self.standard_error(reports)

    # For the device's log (privacy/device_log.py)

    @property
    def log_name(self) -> str:
        """What the log calls the algorithm."""
        return self.name

    @property
    def log_parameters(self) -> dict[str, int | float]:
        """What the log tells of the parameters: here all that are numbers."""
        return {key: value for key, value in self.parameters.items() if not isinstance(value, str)}

    def log_records(self, reports: Reports) -> list[str]:
        """One text a report. Raises ValueError for reports of another mechanism, where it can tell."""
        return plain_records(reports)

    def read_records(self, records: Sequence[str]) -> Reports:
        """The inverse of `log_records`, to the last bit. Raises ValueError for a malformed record."""
        reports = plain_reports(records, self.no_reports())
        self.tally(reports)  # refuses what is no report of this mechanism
        return reports


def check_counts(counts: NDArray[np.int64], cells: int) -> NDArray[np.int64]:
    """True counts as int64[cells]. Raises TypeError for other dtypes, ValueError for another shape or negatives."""
    counts = np.asarray(counts)
    if not np.issubdtype(counts.dtype, np.integer):
        raise TypeError(f"counts have dtype {counts.dtype}; expected integers, devices per value")
    if counts.shape != (cells,):
        raise ValueError(f"counts have shape {counts.shape}; expected ({cells},): devices per value")
    if counts.size and int(counts.min()) < 0:
        raise ValueError(f"counts reach down to {int(counts.min())}; expected numbers of devices >= 0")
    return counts.astype(np.int64, copy=False)


def counts_by_value(values: NDArray[np.int64], counts: NDArray[np.int64], domain_size: int) -> NDArray[np.int64]:
    """counts[i] devices of the value values[i], as devices per value, int64[domain_size]. Values may repeat.

    Raises ValueError for values outside the domain, and what `check_counts` raises.
    """
    values = np.asarray(values)
    counts = check_counts(counts, len(values))
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    if low < 0 or high >= domain_size:
        raise ValueError(
            f"values are encoded as {low} to {high}; expected 0 to {domain_size - 1}, or fits=False where the "
            "mechanism takes none"
        )
    by_value = np.zeros(domain_size, dtype=np.int64)
    np.add.at(by_value, values, counts)
    return by_value


def one_hot(reports: NDArray[Any], cells: int) -> NDArray[np.int64]:
    """int64[n, cells]: a 1 in the cell that each report names. Reports are whole numbers [n], 0 .. cells - 1."""
    rows = np.zeros((len(reports), cells), dtype=np.int64)
    rows[np.arange(len(reports)), reports] = 1
    return rows


def simulate_by_reports(
    mechanism: Mechanism, counts: NDArray[np.int64], rng: np.random.Generator, *, chunk: int = 1 << 14
) -> Tally:
    """`simulate_tally` for mechanisms whose tally has no simpler law: the reports themselves, `chunk` at a time.

    `counts` int64[d] are devices per value 0 .. d - 1. Memory: `chunk` reports and one int64 per value.
    """
    counts = check_counts(counts, mechanism.domain_size)
    stream = device_stream(rng)
    ends = np.cumsum(counts)
    devices = int(ends[-1])
    total = mechanism.tally(mechanism.no_reports())
    for start in range(0, devices, chunk):
        members = np.arange(start, min(start + chunk, devices))
        values = np.searchsorted(ends, members, side="right")
        total += mechanism.tally(mechanism.privatize(values, stream))
    return total
