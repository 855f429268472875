"""One use case as a device sees it: what it may hold, encoded for its mechanism.

held = Held(key="emoji.en", encoded=hash_strings(english.values), weights=english.weights,
            fits=np.ones(len(english), dtype=bool), mechanism=sketch, share=1.0)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_poll.population import PopulationError
from privacy.mechanism import Mechanism, Tally


@dataclass(frozen=True, kw_only=True, eq=False)
class Held:
    """One use case on the devices of a segment.

    `key`: use case and segment ('emoji.en'), what the server splits by; `encoded`: one entry a value on the first axis,
    uint64[d] hashes, int64[d] indices or uint8[d, L] codes; `weights` float64[d] > 0 with sum 1: how often each value
    occurs; `fits` bool[d]: False where the mechanism cannot take a value (a word too long, a letter outside the
    alphabet), which is then dropped on the device and counted, and whose `encoded` entry is never read; `mechanism`
    privatizes; `share` of a device's events that belong to this use case; `null`: the one entry that stands for
    'nothing to report' (None: a device that has nothing sends nothing). Raises PopulationError if these do not go
    together.
    """

    key: str
    encoded: NDArray[Any] = field(repr=False)
    weights: NDArray[np.float64] = field(repr=False)
    fits: NDArray[np.bool_] = field(repr=False)
    mechanism: Mechanism
    share: float = 1.0
    null: NDArray[Any] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        d = len(self.encoded)
        if self.weights.shape != (d,) or self.fits.shape != (d,):
            raise PopulationError(
                f"{self.key} has {d} encoded values, weights of shape {self.weights.shape} and fits of shape "
                f"{self.fits.shape}; expected ({d},)"
            )
        kinds = {(np.dtype(np.uint64), 1), (np.dtype(np.int64), 1), (np.dtype(np.uint8), 2)}
        if (self.encoded.dtype, self.encoded.ndim) not in kinds:
            raise PopulationError(
                f"{self.key} has values encoded as {self.encoded.dtype}{list(self.encoded.shape)}; expected uint64[d] "
                "hashes, int64[d] indices or uint8[d, L] codes"
            )
        if self.null is not None and (
            self.null.shape != (1, *self.encoded.shape[1:]) or self.null.dtype != self.encoded.dtype
        ):
            raise PopulationError(
                f"the null value of {self.key} is {self.null.dtype}{list(self.null.shape)}; expected one entry like "
                "those of the values"
            )
        if not d or not (np.all(self.weights > 0) and abs(float(self.weights.sum()) - 1) < 1e-9):
            raise PopulationError(
                f"the {d} weights of {self.key} do not all exceed 0 or do not sum to 1; normalize them"
            )
        if not self.fits.any():
            raise PopulationError(
                f"the mechanism of {self.key} takes none of its {d} values; check how they are encoded"
            )
        if not 0 < self.share <= 1:
            raise PopulationError(
                f"the share of {self.key} is {self.share:g}; expected a part of the events, in (0, 1]"
            )

    @property
    def fitting(self) -> float:
        """Share of this use case's events that the mechanism takes."""
        return 1.0 - float(self.weights[~self.fits].sum())

    @property
    def entries(self) -> NDArray[Any]:
        """All that a report can be about: the values, and then null, if there is one."""
        return self.encoded if self.null is None else np.concatenate([self.encoded, self.null])

    def simulate_tally(self, counts: NDArray[np.int64], nothing: int, rng: np.random.Generator) -> Tally:
        """A draw of the tally of counts[i] reports of value i, int64[d], 0 where a value does not fit, and of `nothing`
        null reports.
        """
        values, held = self.encoded[self.fits], counts[self.fits]
        if self.null is not None:
            values, held = np.concatenate([values, self.null]), np.append(held, nothing)
        try:
            return self.mechanism.simulate_held(values, held, rng)
        except ValueError as error:
            raise PopulationError(f"{self.key}: {error}") from None


@dataclass(frozen=True, kw_only=True, eq=False)
class Sent:
    """The noise-free truth of one use case and day, for evaluation only.

    `counts` int64[d]: reports sent, by true value; `nothing`: null reports; `reports`: all of them; `dropped`: what was
    not sent, by reason: 'unfit' (events that the mechanism cannot take), 'over_cap' (records that were not picked),
    'over_budget' (reports that the ledger refused).
    """

    counts: NDArray[np.int64]
    reports: int
    dropped: Mapping[str, int]
    nothing: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class SentReport:
    """A report that left a device: one entry of what the mechanism's `privatize` gives."""

    day: int
    key: str
    report: Any
