"""A use case as one frozen description: what conf/use_case.yaml configures and experiments/use_cases/run.py plays.

    job.holdings                  # what is on every device: {"emoji": Holding(share=1.0, vocabulary=...)}
    job.keys("en")                # {"emoji": "emoji.en"}: what the server keeps apart
    job.devices_of                # {"en": 60000, "fr": 40000}

Every part checks its own values when it is made, so a wrong configuration fails before any work starts.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from aggregate.fragments import FragmentRule
from aggregate.histogram import ReleaseRule
from device_poll.events.activity import Activity
from device_poll.events.fragments import PromptFragments
from device_poll.events.vocabulary import EVERYWHERE, Frequencies
from experiments.job import Caps, check_epsilon_agrees
from privacy.budget import micro_epsilon
from privacy.fragment_puzzle import SequenceFragmentPuzzle
from privacy.no_privacy import NoPrivacy
from privacy.randomized_response import RandomizedResponse
from privacy.units import check_delta

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_SEGMENT = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")  # a part of a folder's name
LARGEST_POPULATION = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class Holding:
    """One use case on every device: the `share` of a device's events that belong to it, and what they are."""

    vocabulary: Frequencies
    share: float = 1.0


@dataclass(frozen=True, kw_only=True)
class WordSearch:
    """How the server looks for words on nobody's list (`SequenceFragmentPuzzle.discover`), and what counts as new.

    `lexicon`: marks of the vocabulary; a word that has one of them is in the device's dictionary and so not new. With
    `lexicon_on_device` a device looks there first, and only a word that is new to it is an event at all.
    `frequencies`: shares of all typed words at which precision and recall are told, under oracle/.
    """

    fragment_z: float = 3.5
    top_fragments: int | None = None
    largest_join: int = 1_000_000
    lexicon: Sequence[str] = ()
    lexicon_on_device: bool = True
    frequencies: Sequence[float] = (1e-3, 3e-4, 1e-4, 3e-5, 1e-5)

    def __post_init__(self) -> None:
        if not self.frequencies or not all(0 < frequency < 1 for frequency in self.frequencies):
            raise ValueError(f"search.frequencies is {list(self.frequencies)}; expected shares between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class UseCaseJob:
    """Poll `population` simulated devices about what they hold, and release the histogram of each key.

    `segments` are the keyboard locales and `segment_shares` their parts of the devices (null: equal parts).
    `vocabulary` is what devices hold, or, with several use cases that share one budget, `holds` says what of each; the
    server asks for those in `collect` only (null: all). `frequency_oracle` makes the local randomizer, for a number of
    values where it needs one. `epsilon` is that of one report; a device sends at most `reports_per_day` a day over all
    use cases, on each of `days` days. `release` says what may leave the server; `search` how words that are on nobody's
    list are found. Above `exact_above` devices tallies are drawn from their exact law instead of report by report.
    `shown`: rows of a table. `delta` is that of the shuffled model that the statement compares with. `workers` is a
    speed knob.

    Raises ValueError for values out of range, and for a plan that takes more of a device than its caps.
    """

    name: str
    seed: int
    population: int | float
    vocabulary: Frequencies | PromptFragments
    frequency_oracle: Callable[..., Any]
    activity: Activity
    release: ReleaseRule | FragmentRule
    epsilon: float
    reports_per_day: int
    days: int
    opt_in: float
    minimum_batch: int
    exact_above: int | float
    segments: Sequence[str] = (EVERYWHERE,)
    segment_shares: Sequence[float] | None = None
    holds: Mapping[str, Holding] | None = None
    collect: Sequence[str] | None = None
    search: WordSearch | None = None
    caps: Caps = field(default_factory=Caps)
    delta: float = 1e-6
    shown: int = 20
    out: str | None = None
    runs: str = "runs"
    workers: int = 1

    def __post_init__(self) -> None:
        for name, least in (
            ("seed", 0), ("reports_per_day", 1), ("days", 1), ("minimum_batch", 1), ("shown", 1), ("workers", 1),
        ):  # fmt: skip
            _whole(name, getattr(self, name), least)
        _whole("population", self.population, 1, LARGEST_POPULATION, ", such as 1e6")
        _whole("exact_above", self.exact_above, 0, None, ", such as 1e7")
        if not 0 < self.opt_in <= 1:
            raise ValueError(f"opt_in is {self.opt_in:g}; expected a share in (0, 1]")
        check_delta(self.delta)
        self._check_names()
        self._check_shares()
        self._check_mechanism()
        self.caps.budget.check_plan(
            micro_epsilon(self.epsilon),
            reports_per_day=self.reports_per_day,
            reports=self.reports_per_device,
        )

    @property
    def devices(self) -> int:
        """How many devices there are."""
        return int(self.population)

    @property
    def reports_per_device(self) -> int:
        """The most reports that a device sends in the run."""
        return self.reports_per_day * self.days

    @property
    def exact(self) -> bool:
        """Whether tallies are drawn from their exact law, without a single report."""
        return self.devices > self.exact_above

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
    def vocabulary_of_prompts(self) -> bool:
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

    def mechanism(self, values: int) -> Any:
        """The local randomizer; `values` is the size of the dictionary, where it must be known."""
        makes = self.frequency_oracle.func if isinstance(self.frequency_oracle, partial) else self.frequency_oracle
        needs = {each.name for each in dataclasses.fields(makes)} if dataclasses.is_dataclass(makes) else set()
        try:
            return self.frequency_oracle(**({"domain_size": values} if "domain_size" in needs else {}))
        except TypeError as error:
            raise ValueError(f"frequency_oracle cannot be made: {error}") from None

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

    def _check_mechanism(self) -> None:
        mechanism = self.mechanism(2)
        if isinstance(mechanism, NoPrivacy):
            raise ValueError("frequency_oracle is no_privacy, whose tally would be the devices' true values")
        check_epsilon_agrees("frequency_oracle", mechanism.epsilon, self.epsilon)
        puzzle, fragments = isinstance(mechanism, SequenceFragmentPuzzle), isinstance(self.vocabulary, PromptFragments)
        if puzzle != (self.search is not None):
            raise ValueError(
                "frequency_oracle=sequence_fragment_puzzle and search go together: see experiment=new_words"
            )
        if fragments != isinstance(self.release, FragmentRule):
            raise ValueError("vocabulary=prompts and release=fragments go together: see experiment=genmoji_fragments")
        if puzzle and self.release.post_processing in ("norm_sub", "simplex"):
            raise ValueError(
                f"release.post_processing is {self.release.post_processing}; the words found are not all that devices "
                "hold, so their total is unknown: expected none or threshold"
            )
        if fragments and not (isinstance(mechanism, RandomizedResponse) and mechanism.null):
            raise ValueError("frequency_oracle must be randomized_response_null for prompts: 'no match' is an answer")
        if fragments and (self.reports_per_device, tuple(self.segments)) != (1, (EVERYWHERE,)):
            raise ValueError(
                f"a device is asked for a fragment once, but days x reports_per_day is {self.reports_per_device} and "
                f"segments {list(self.segments)}; expected 1 and [all]"
            )


def _whole(name: str, value: object, least: int, most: int | None = None, such: str = "") -> None:
    ok = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value % 1 == 0
    if not ok or value < least or (most is not None and value > most):  # type: ignore[operator]
        upto = f"{least} or more" if most is None else f"{least} to {most}"
        raise ValueError(f"{name} is {value!r}; expected a whole number, {upto}{such}")
