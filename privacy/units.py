"""What a privacy claim is about: which data of a person is protected, against which change, over which polls.

    schedule = Schedule(polls_per_day=1, days=30)
    schedule.polls(Unit.DEVICE)              # 30: what one device's whole life in the run can influence
    Neighbours.REPLACEMENT.of(Unit.DEVICE)   # the relation in words

Source: NIST SP 800-226 (2025), 'Guidelines for evaluating differential privacy guarantees', on the unit of privacy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np


class Unit(Enum):
    """Whose change is hidden. The value names it in configurations."""

    DEVICE = "device"
    """All data of one device over the whole run. The default: a person with one device is protected as a whole."""
    USER_DAY = "user_day"
    """The data that one device gathers on one day. A person's other days do not count: weaker."""
    EVENT = "event"
    """One item of one device (one message, one emoji typed). The weakest."""

    @property
    def words(self) -> str:
        """The unit in words."""
        return {
            Unit.DEVICE: "all data of one device over the whole run",
            Unit.USER_DAY: "the data that one device gathers on one day",
            Unit.EVENT: "one item (one event) on one device",
        }[self]


class Neighbours(Enum):
    """Which change is hidden. The value names it in configurations."""

    REPLACEMENT = "replacement"
    """The unit's data is replaced by any other; who reports stays the same."""
    PARTICIPATION = "participation"
    """As REPLACEMENT, and the unit may also have no data at all. Needs devices that always report."""

    def of(self, unit: Unit) -> str:
        """The neighbouring relation in words."""
        if self is Neighbours.REPLACEMENT:
            return (
                f"Two populations are neighbours if they are equal but for {unit.words}, replaced by any other data. "
                "The same devices report in both: whether a device takes part is not protected."
            )
        return (
            f"Two populations are neighbours if they are equal but for {unit.words}, replaced by any other data or by "
            "none. A device without data or opt-in sends a report all the same (the mechanism's report for 'none'), so "
            "whether it takes part is protected as well."
        )


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How often one device answers, and how long its data is asked about.

    polls_per_day: reports that one device sends in a day, all use cases together. days: days of the run.
    retention_days: days during which an item can still influence an answer; None: forever, the safe assumption, which
    makes all units as costly as the device. event_reports: reports that one item can influence at most, if that is
    enforced (1 if every item is used for one answer); None if it is not.

    Raises ValueError for anything but whole numbers >= 1.
    """

    polls_per_day: int = 1
    days: int = 1
    retention_days: int | None = None
    event_reports: int | None = None

    def __post_init__(self) -> None:
        check_whole("polls_per_day", self.polls_per_day, 1, "reports of one device in a day")
        check_whole("days", self.days, 1, "days of the run")
        if self.retention_days is not None:
            check_whole("retention_days", self.retention_days, 1, "days an item is kept, or None for all")
        if self.event_reports is not None:
            check_whole("event_reports", self.event_reports, 1, "reports that an item can influence, or None for all")

    def polls(self, unit: Unit) -> int:
        """How many reports the unit can influence."""
        if unit is Unit.DEVICE:
            return self.polls_per_day * self.days
        kept = self.days if self.retention_days is None else min(self.days, self.retention_days)
        reports = self.polls_per_day * kept
        return reports if unit is Unit.USER_DAY or self.event_reports is None else min(reports, self.event_reports)


@dataclass(frozen=True, kw_only=True)
class SecretSampling:
    """A statement that the reporting devices are a uniformly random subset, and that nobody learns which.

    Every poll draws a fresh subset of fixed size, a share `rate` of the population. It holds only if nobody who sees
    the output can tell who was asked or who answered: not the server, not the network, not by when or how often reports
    come. Independent coins on the devices do not qualify, since then the number of reports tells. Where the server
    picks the devices, as in most polls, there is no such secret and no amplification by sampling.

    Raises ValueError unless 0 < rate <= 1.
    """

    rate: float

    def __post_init__(self) -> None:
        if not isinstance(self.rate, int | float) or isinstance(self.rate, bool) or not 0 < self.rate <= 1:
            raise ValueError(f"rate is {self.rate!r}; expected the share of devices that report, in (0, 1]")

    def amplify(self, epsilon: float) -> float:
        """log(1 + rate (e^epsilon - 1)), the epsilon after sampling; delta shrinks to rate * delta.

        Balle, Barthe, Gaboardi, 'Privacy amplification by subsampling', NeurIPS 2018, for
        sampling without replacement and neighbours by replacement.
        """
        return epsilon if self.rate == 1 else math.log1p(self.rate * math.expm1(epsilon))


def check_delta(delta: float) -> None:
    """Raise ValueError unless 0 < delta < 1."""
    if not isinstance(delta, int | float) or isinstance(delta, bool) or not 0 < delta < 1:
        raise ValueError(
            f"delta is {delta!r}; expected a number in (0, 1), the probability with which the central guarantee may "
            "fail; typical values are below 1 / reports"
        )


def check_whole(name: str, value: int, least: int, meaning: str) -> None:
    """Raise ValueError unless `value` is a whole number >= least."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} is {value!r}; expected a whole number >= {least} ({meaning})")
