"""Counting as one frozen description: poll devices about what they hold, and release histograms.

job.holdings                  # what is on every device: {"emoji": Holding(share=1.0, vocabulary=...)}
job.keys("en")                # {"emoji": "emoji.en"}: what the server keeps apart
job.devices_of                # {"en": 60000, "fr": 40000}
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from aggregate.discoveries import WordSearch
from aggregate.fragments import FragmentRule
from aggregate.histogram import ReleaseRule, Rule
from aggregate.trust import Trust
from device_poll.events.activity import Activity
from device_poll.events.fragments import PromptFragments
from device_poll.events.vocabulary import EVERYWHERE, Frequencies
from experiments.job import Job
from privacy.mechanism import Mechanism

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_SEGMENT = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")  # a part of a folder's name
NULLS = ("always", "never")
LARGEST_POPULATION = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class Holding:
    """One use case on every device: the `share` of a device's events that belong to it, and what they are."""

    vocabulary: Frequencies
    share: float = 1.0


@dataclass(frozen=True, kw_only=True)
class CountJob(Job):
    """Poll `population` simulated devices about what they hold, and release the histogram of each key.

    `segments` are the keyboard locales and `segment_shares` their parts of the devices (null: equal parts).
    `vocabulary` is what devices hold, or, with several use cases that share one budget, `holds` says what of each; the
    server asks for those in `collect` only (null: all). A device sends `reports_per_day` a day over all use cases, on
    each of `days` days; `nulls` says what it does where it has nothing to report: 'always' says so, through the same
    mechanism, 'never' sends nothing, so that how many reports it sends, and of which key, is not protected. `release`
    says what may leave the server; `search` how words that are on nobody's list are found. Above `exact_above` devices
    tallies are drawn from their exact law instead of report by report. `shown`: rows of a table. Raises ValueError as
    Job, for values out of range, and for parts that do not go together.
    """

    population: int | float
    vocabulary: Frequencies | PromptFragments
    activity: Activity
    release: ReleaseRule | FragmentRule
    reports_per_day: int
    days: int
    opt_in: float
    exact_above: int | float
    nulls: str = "always"
    segments: Sequence[str] = (EVERYWHERE,)
    segment_shares: Sequence[float] | None = None
    holds: Mapping[str, Holding] | None = None
    collect: Sequence[str] | None = None
    search: WordSearch | None = None
    shown: int = 20

    def __post_init__(self) -> None:
        for name in ("reports_per_day", "days", "shown"):
            _whole(name, getattr(self, name), 1)
        _whole("population", self.population, 1, LARGEST_POPULATION, ", such as 1e6")
        _whole("exact_above", self.exact_above, 0, None, ", such as 1e7")
        if not 0 < self.opt_in <= 1:
            raise ValueError(f"opt_in is {self.opt_in:g}; expected a share in (0, 1]")
        if self.nulls not in NULLS:
            raise ValueError(f"nulls is {self.nulls!r}; expected one of {', '.join(NULLS)}")
        self._check_names()
        self._check_shares()
        super().__post_init__()
        self._check_parts()

    def _check_noise(self) -> None:
        super()._check_noise()
        if self.system_noise and self.days > 1 and not self.asked_once:
            raise ValueError(
                f"days is {self.days}, but with noise={self.noise} a run plays one day, that of the clock; set days=1, "
                "or simulate with noise=seeded"
            )

    @property
    def brought(self) -> bool:
        """Whether devices hold prompts that somebody brought; what is drawn from a table of frequencies is made up."""
        return self.asked_once

    @property
    def reports_a_day(self) -> int:
        """The most reports that a device sends in a day, over all use cases that it holds."""
        return self.reports_per_day

    @property
    def reports(self) -> int:
        """The most reports that a device sends in the run."""
        return self.reports_per_day * self.days

    @property
    def last_day(self) -> int:
        """The last of the run's days."""
        return self.days - 1

    @property
    def rule(self) -> Rule:
        """The decision that is taken on every key."""
        if isinstance(self.release, FragmentRule):
            if self.search is not None:
                raise ValueError("search goes with release=histogram: see experiment=new_words")
            return self.release
        # `release.minimum_count` is of devices, each of which may have sent all of its reports about one element.
        release = replace(self.release, minimum_count=self.release.minimum_count * self.reports)
        return release if self.search is None else self.search.rule(release)

    def check_trust(self, trust: Trust, mechanism: Mechanism) -> None:
        """Raise ValueError if the rule cannot decide on what this trust model collects with this mechanism."""
        self.rule.check(trust, mechanism)

    def check(self) -> None:
        """Whatever can fail before a run folder exists. Raises SourceError, or TrackerError."""
        super().check()
        if isinstance(self.vocabulary, PromptFragments):
            self.vocabulary.check()
            return
        for holding in self.holdings.values():
            holding.vocabulary.check()

    @property
    def devices(self) -> int:
        """How many devices there are."""
        return int(self.population)

    @property
    def exact(self) -> bool:
        """Whether tallies are drawn from their exact law, without a single report."""
        return self.devices > self.exact_above

    @property
    def neighbours(self) -> str:
        """Which change of the devices' data the claim protects, in words."""
        if self.always_reports:
            return (
                f"{super().neighbours} Which segment it is in is not protected either. Whatever its data, a device "
                f"sends {self.reports} report{'s' * (self.reports > 1)}, of keys that are drawn without looking at it."
            )
        return (
            "WEAKER THAN USUAL (nulls=never): two populations are neighbours if they are equal but for one device with "
            "all of its data, replaced by other data of which it sends as many reports, of the same keys, on the same "
            "days. How many reports a device sends, and of which key, is not protected; no count of them is published."
        )

    @property
    def always_reports(self) -> bool:
        """Whether a device that has nothing to report says so."""
        return self.nulls == "always" or self.asked_once

    @property
    def holdings(self) -> Mapping[str, Holding]:
        """What every device holds, by use case. Raises ValueError where prompts are asked for fragments instead."""
        if self.holds is not None:
            return self.holds
        if isinstance(self.vocabulary, PromptFragments):
            raise ValueError("vocabulary is prompts, which are asked for fragments and have no events")
        return {self.name: Holding(vocabulary=self.vocabulary)}

    @property
    def use_cases(self) -> tuple[str, ...]:
        """The use cases on a device."""
        return (self.name,) if self.holds is None else tuple(self.holds)

    @property
    def collected(self) -> tuple[str, ...]:
        """The use cases that the server asks for in this run."""
        return self.use_cases if self.collect is None else tuple(self.collect)

    @property
    def unasked(self) -> tuple[str, ...]:
        """The use cases whose reports devices may send, and which the server does not ask for in this run."""
        return tuple(name for name in self.use_cases if name not in self.collected)

    @property
    def asked_once(self) -> bool:
        """Whether devices are asked once for a fragment of their prompts, instead of sending events."""
        return isinstance(self.vocabulary, PromptFragments)

    @property
    def devices_of(self) -> Mapping[str, int]:
        """How many devices each segment has; together all of them."""
        shares = self.segment_shares or [1.0] * len(self.segments)
        ends, total = [0], 0.0
        for share in shares:
            total += share
            ends.append(round(self.devices * min(total / sum(shares), 1.0)))
        return {name: ends[i + 1] - ends[i] for i, name in enumerate(self.segments)}

    def keys(self, segment: str) -> Mapping[str, str]:
        """The key of each use case in this segment: what the server splits by."""
        return {name: name if segment == EVERYWHERE else f"{name}.{segment}" for name in self.use_cases}

    def _check_nulls(self) -> None:
        """Under nulls=never no released number may tell how many reports there are."""
        if self.always_reports:
            return
        if self.rule.post_processing in ("norm_sub", "simplex"):
            raise ValueError(
                f"release.post_processing is {self.rule.post_processing!r}, whose counts add up to the number of "
                "reports, which nulls=never does not publish; use 'none' or 'threshold', or nulls=always"
            )
        mechanism = self.randomizer(self.values)
        if mechanism.counts_add_up and not self.trust.baseline:
            raise ValueError(
                f"mechanism is {mechanism.name}, whose counts add up to the number of reports, which nulls=never "
                "does not publish; use another mechanism, or nulls=always"
            )

    def _check_names(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"name is {self.name!r}; expected small letters, digits and _")
        for name, given, form, such in (
            ("segments", self.segments, _SEGMENT, "[en,fr]"),
            ("collect", self.collected, _NAME, f"[{self.use_cases[0]}]" if self.use_cases else "null"),
            ("holds", self.use_cases, _NAME, "emoji"),
        ):
            if isinstance(given, str) or not given or len(set(given)) < len(given):
                raise ValueError(f"{name} is {given!r}; expected one or more names, each once, such as {such}")
            if not all(isinstance(each, str) and form.fullmatch(each) for each in given):
                raise ValueError(f"{name} is {list(given)}; expected names of letters and digits, such as {such}")
        unknown = [name for name in self.collected if name not in self.use_cases]
        if unknown:
            raise ValueError(f"collect has {unknown[0]!r}; the devices hold {', '.join(self.use_cases)}")

    def _check_shares(self) -> None:
        shares = self.segment_shares
        if shares is not None and (len(shares) != len(self.segments) or not all(share > 0 for share in shares)):
            raise ValueError(
                f"segment_shares is {list(shares)} for {len(self.segments)} segments ({', '.join(self.segments)}); "
                "expected a number above 0 for each, or null for equal parts"
            )
        empty = [name for name, devices in self.devices_of.items() if not devices]
        if empty:
            raise ValueError(f"segment {empty[0]} gets none of {self.devices} devices; bring more devices")
        if self.holds is not None and abs(sum(holding.share for holding in self.holds.values()) - 1) > 1e-9:
            told = ", ".join(f"{name} {holding.share:g}" for name, holding in self.holds.items())
            raise ValueError(f"the shares of the use cases that devices hold are {told}; expected a sum of 1")

    def _check_parts(self) -> None:
        local = self.local(self.values)
        if local.searchable != (self.search is not None):
            raise ValueError("mechanism=sequence_fragment_puzzle and search go together: see experiment=new_words")
        if self.asked_once != isinstance(self.release, FragmentRule):
            raise ValueError("vocabulary=prompts and release=fragments go together: see experiment=genmoji_fragments")
        self.check_trust(self.trust, self.randomizer(self.values))
        self._check_nulls()
        if self.asked_once and (self.reports, tuple(self.segments)) != (1, (EVERYWHERE,)):
            raise ValueError(
                f"a device is asked for a fragment once, but days x reports_per_day is {self.reports} and segments "
                f"{list(self.segments)}; expected 1 and [all]"
            )
        if self.exact and not self.trust.exact:
            raise ValueError(
                f"population is {self.devices}, above exact_above={self.exact_above:g}, but where aggregators add the "
                "noise no tally can be drawn without reports; raise exact_above"
            )


def _whole(name: str, value: object, least: int, most: int | None = None, such: str = "") -> None:
    ok = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value % 1 == 0
    if not ok or value < least or (most is not None and value > most):  # type: ignore[operator]
        upto = f"{least} or more" if most is None else f"{least} to {most}"
        raise ValueError(f"{name} is {value!r}; expected a whole number, {upto}{such}")
