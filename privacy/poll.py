"""One poll, as both sides of the trust boundary know it: what is asked, who answers, what travels.

    ask = Ask(use_case="mail", round=0, mechanism=mechanism, needs=slate)
    for batch in fleet.answer([ask]):        # ReportBatch: privatized reports in an envelope
        ...

Everything that asks devices something is an `Ask`: the slate of the main job, the dictionary of a use case, words on
nobody's list, fragments of prompts. The server (aggregate/) makes it, the devices' side (device_poll/) answers it, and
neither imports the other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from privacy.mechanism import Estimate, Mechanism, Reports, Tally
from privacy.secret_shares import Batch, Share

Advance = Callable[[int, int], None]
"""Told (devices done, devices in all) while a fleet answers."""


@dataclass(frozen=True)
class Choice:
    """The answers to 'which of these?': a candidate, 0 .. candidates - 1, or `none`, 'none of these', the last.

    Raises ValueError for less than one candidate.
    """

    candidates: int

    def __post_init__(self) -> None:
        if self.candidates < 1:
            raise ValueError(f"candidates is {self.candidates}; expected 1 or more")

    @property
    def none(self) -> int:
        """The answer 'none of these'."""
        return self.candidates

    @property
    def answers(self) -> int:
        """How many answers there are."""
        return self.candidates + 1

    def counted(self, answers: NDArray[np.int64]) -> NDArray[np.int64]:
        """How often each answer was given, int64[candidates + 1]. Raises ValueError for what is no answer."""
        counts = np.bincount(answers, minlength=self.answers)  # refuses negative numbers
        if len(counts) > self.answers:
            raise ValueError(f"answers reach up to {len(counts) - 1}; expected 0 to {self.none}, 'none of these'")
        return counts

    def split(self, estimate: Estimate) -> tuple[Estimate, Estimate]:
        """An estimate of all answers as that of the candidates and that of `none`, one entry.

        Raises ValueError for an estimate of another number of answers.
        """
        if len(estimate.counts) != self.answers:
            raise ValueError(
                f"{len(estimate.counts)} answers were estimated; expected {self.answers}: {self.candidates} candidates "
                "and 'none of these'"
            )
        return estimate.take(slice(self.none)), estimate.take(slice(self.none, None))


class Needs(Protocol):
    """What a device needs in order to answer: a slate, a dictionary, or the rule by which words are cut."""

    @property
    def digest(self) -> str:
        """Names its content: equal digests, equal content."""

    @property
    def nbytes(self) -> int:
        """Bytes that a device downloads."""

    @property
    def asked(self) -> NDArray[Any] | None:
        """The values that the server estimates, as the mechanism takes them; None: all of the mechanism's domain."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Ask:
    """A question to devices.

    `use_case` is the key that the server splits by; `round` numbers its polls; `days`: on how many days, from the first
    on, a device answers it. `mechanism` privatizes an answer. `shares`: None where reports travel as they are; else the
    batch of two aggregators, and every report travels as two shares.
    """

    use_case: str
    round: int
    mechanism: Mechanism
    needs: Needs = field(repr=False)
    days: int = 1
    shares: Batch | None = None

    @cached_property
    def digest(self) -> str:
        """Names all that an answer depends on, but for the device and its noise."""
        told = [self.use_case, self.round, self.days, dict(self.mechanism.parameters), self.needs.digest]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    @property
    def report_bits(self) -> int:
        """Upload of one report in bits, to both aggregators where it travels as shares."""
        return self.mechanism.report_bits if self.shares is None else 2 * self.shares.share_bits

    def estimate(self, tally: Tally) -> Estimate:
        """The mechanism's estimate of what is asked, all of it together."""
        return self.mechanism.estimate_jointly(tally, self.needs.asked)


@dataclass(frozen=True, eq=False)
class ReportBatch:
    """What travels from devices to the server: privatized reports in an envelope.

    `senders` stands for the transport metadata (addresses, arrival order) that every network reveals; the first thing
    the server does is to drop it (aggregate/intake.py). `reports`: reports of the ask's mechanism, or one party's
    shares of a block of them.
    """

    use_case: str
    senders: NDArray[np.int64]
    reports: Reports | Share


class Fleet(Protocol):
    """Whoever answers: simulated devices in this process, others elsewhere, real ones behind a collector."""

    def answer(self, asks: Sequence[Ask], advance: Advance | None = None) -> Iterator[ReportBatch]:
        """Privatized reports of the devices that are asked and may answer, block by block."""
