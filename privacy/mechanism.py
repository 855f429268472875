"""What every local-differential-privacy mechanism looks like, both halves.

The device half (`privatize`) and the server half (`tally`, `estimate`) share every parameter, so they live in one
frozen class: no formula is written twice, and none can drift apart.

    mechanism = OptimizedUnaryEncoding(epsilon=4.0, domain_size=301)
    reports = mechanism.privatize(values, rng)          # on the devices
    estimate = mechanism.estimate(mechanism.tally(reports))   # on the server
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from privacy.randomness import RandomBytes, device_stream

Reports = NDArray[Any]
"""n reports: an array whose first axis has one entry per report, so that reports can be sliced, joined and permuted
without knowing the mechanism."""

Parameters = Mapping[str, str | int | float]


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
    """Unbiased counts of the reporting devices, with the standard error of each.

    `counts` and `stderr` are float64, one entry per value asked for, in devices; `reports` is the number of
    reports that they rest on. Counts can be negative: an unbiased estimate of a small count often is.
    """

    counts: NDArray[np.float64]
    stderr: NDArray[np.float64]
    reports: int


class Mechanism(Protocol):
    """A frequency oracle: estimates how many of n devices hold each of `domain_size` values."""

    name: ClassVar[str]
    largest_domain: ClassVar[int]

    @property
    def epsilon(self) -> float:
        """Local privacy budget of ONE report (pure LDP)."""

    @property
    def domain_size(self) -> int:
        """How many values there are: 0 .. domain_size - 1."""

    @property
    def report_bits(self) -> int:
        """Upload cost of one report, in bits."""

    @property
    def parameters(self) -> Parameters:
        """Everything that must agree between device and server."""

    def privatize(self, values: NDArray[np.int64], rng: RandomBytes) -> Reports:
        """Device half: int64[n] values -> n reports."""

    def tally(self, reports: Reports) -> Tally:
        """Server half: additive, tally(a joined with b) == tally(a) + tally(b)."""

    def estimate(self, tally: Tally, values: NDArray[np.int64] | None = None) -> Estimate:
        """Unbiased counts, of all values or of the `values` asked for."""

    def simulate_tally(self, counts: NDArray[np.int64], rng: np.random.Generator) -> Tally:
        """A draw from exactly the law of tally(privatize(...)) for devices with these true counts.

        Without making reports where the law allows it, else report by report in bounded memory.
        """

    def standard_error(self, reports: int, count: float = 0.0) -> float:
        """Standard error of one count, in devices, when `count` of the `reports` devices hold the value."""


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
    total = mechanism.tally(mechanism.privatize(np.zeros(0, dtype=np.int64), stream))
    for start in range(0, devices, chunk):
        members = np.arange(start, min(start + chunk, devices))
        values = np.searchsorted(ends, members, side="right")
        total += mechanism.tally(mechanism.privatize(values, stream))
    return total


@dataclass(frozen=True, eq=False)
class ReportBatch:
    """What travels from devices to the server: reports in an envelope.

    `senders` stands for the transport metadata (addresses, arrival order) that every network reveals; the first thing
    the server does is to drop it (aggregate/ingest.py).
    """

    use_case: str
    senders: NDArray[np.int64]
    reports: Reports
