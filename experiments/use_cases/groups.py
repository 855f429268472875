"""What is collected together: the use cases of one segment's devices, from their reports to what may be released.

    group = EventGroup(job=job, segment=segment)
    group.polls                              # what each key asks, and how precisely it will know
    group.play(["emoji.en"], advance)        # {"emoji.en": Result(histogram, ...)}

A group is the unit that a resumed run plays again; a key of it that is complete is not judged twice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from aggregate.discoveries import release_discoveries
from aggregate.histogram import Histogram, ReleaseRule, count_needed, release_histogram
from device_poll.population import PopulationError
from experiments.use_cases.dictionary import Dictionary
from experiments.use_cases.job import UseCaseJob
from experiments.use_cases.population import Advance, Received, Segment, collect
from experiments.use_cases.results import Result
from experiments.use_cases.scores import score, true_counts, words_by_frequency
from privacy.budget import MICRO
from privacy.fragment_puzzle import SequenceFragmentPuzzle
from privacy.fragment_search import Discovery


@dataclass(frozen=True, kw_only=True, eq=False)
class Poll:
    """One key before it is played: `values` that the server looks for (None: it has no list), `unfit` of the devices'
    values that the mechanism cannot take, by reason, and about how many reports will come.
    """

    key: str
    use_case: str
    segment: str
    devices: int
    mechanism: Any = field(repr=False)
    values: int | None
    unfit: Mapping[str, int]
    expected_reports: int

    @property
    def stderr(self) -> float:
        """Standard error of the count of a rare element, with the expected reports."""
        return float(self.mechanism.standard_error(max(self.expected_reports, 1)))


class Group(Protocol):
    """What is collected together."""

    @property
    def name(self) -> str:
        """For a progress bar."""

    @property
    def polls(self) -> tuple[Poll, ...]:
        """The keys that are collected."""

    def play(self, wanted: Sequence[str], advance: Advance) -> dict[str, Result]:
        """Collect and judge the wanted keys. Raises BatchError for too few reports."""


def needed(poll: Poll, job: UseCaseJob, reports: int) -> float | None:
    """Reports of an element with which it is released with probability 0.95; None if no number is enough."""
    if reports < 1:
        return None
    if isinstance(job.release, ReleaseRule):
        looked_at = poll.values or 1
        count = count_needed(poll.mechanism, reports, job.release, looked_at=looked_at)
    else:
        count = job.release.count_needed(poll.mechanism, reports)
    return count if math.isfinite(count) else None


@dataclass(frozen=True, kw_only=True, eq=False)
class EventGroup:
    """The use cases on the devices of one segment, which share one budget."""

    job: UseCaseJob
    segment: Segment

    @property
    def name(self) -> str:
        """The segment."""
        return self.segment.name

    @cached_property
    def polls(self) -> tuple[Poll, ...]:
        """One for each use case that is collected."""
        job, holdings = self.job, self.job.holdings
        fitting = {
            name: holding.share * float(self.segment.dictionaries[name].vocabulary.weights @ self._fits(name))
            for name, holding in holdings.items()
        }
        kept = min(sum(fitting.values()), 1.0)
        a_day = self.segment.devices * job.opt_in * job.activity.expected_sent(job.reports_per_day, kept)
        return tuple(
            Poll(
                key=dictionary.key,
                use_case=name,
                segment=self.segment.name,
                devices=self.segment.devices,
                mechanism=dictionary.mechanism,
                values=None if job.search else int(dictionary.fits.sum()),
                unfit=dictionary.unfit,
                expected_reports=round(a_day * job.days * fitting[name] / kept) if kept else 0,
            )
            for name, dictionary in self.segment.dictionaries.items()
            if name in job.collected
        )

    def play(self, wanted: Sequence[str], advance: Advance) -> dict[str, Result]:
        """Collect the wanted keys together, judge them one by one."""
        names = [poll.use_case for poll in self.polls if poll.key in wanted]
        received = collect(self.job, self.segment, names, advance)
        polls = {poll.use_case: poll for poll in self.polls}
        return {polls[name].key: self._judge(polls[name], received.pop(name)) for name in names}

    def _fits(self, name: str) -> NDArray[np.float64]:
        return self.segment.dictionaries[name].fits.astype(np.float64)

    def _judge(self, poll: Poll, received: Received) -> Result:
        rule, dictionary = self.job.release, self.segment.dictionaries[poll.use_case]
        if not isinstance(rule, ReleaseRule):
            raise TypeError(f"release is {type(rule).__name__}; expected a ReleaseRule for events")
        estimate, found, new = dictionary.estimate(received.tally), None, None
        if isinstance(dictionary.mechanism, SequenceFragmentPuzzle):
            found = self._discover(dictionary, received)
            histogram = release_discoveries(found, rule)
            new = _new(dictionary, histogram)
        else:
            histogram = release_histogram(estimate, dictionary.values, rule)
        values = dictionary.values
        place = {value: i for i, value in enumerate(values)}
        scores = score(
            estimate,
            received.truth,
            values,
            histogram,
            confidence=rule.confidence,
            minimum_count=rule.minimum_count,
        )
        spent = received.largest_spent
        by_frequency: list[dict[str, object]] = []
        if self.job.search is not None and new is not None:
            weights = dictionary.vocabulary.weights[dictionary.fits]
            shares = dict(zip(values, (weights / weights.sum()).tolist(), strict=True))
            by_frequency = words_by_frequency(histogram, shares, received.truth, new, self.job.search.frequencies)
        return Result(
            histogram=histogram,
            public=public_metrics(poll, self.job, histogram) | _search_metrics(found, new),
            truth=true_counts(histogram, place, received.truth),
            oracle={
                "key": poll.key,
                **scores,
                **{f"dropped_{reason}": count for reason, count in received.dropped.items()},
                "largest_spent": None if spent is None else spent / MICRO,
            },
            new=new,
            by_frequency=by_frequency,
        )

    def _discover(self, dictionary: Dictionary, received: Received) -> Discovery:
        search, rule = self.job.search, self.job.release
        if search is None or not isinstance(rule, ReleaseRule):
            raise TypeError("search is null; expected a WordSearch for words on nobody's list")
        try:
            found: Discovery = dictionary.mechanism.discover(
                received.tally,
                fragment_z=search.fragment_z,
                top_fragments=search.top_fragments,
                false_discovery_rate=rule.false_discovery_rate,
                minimum_count=rule.minimum_count,
                largest_join=search.largest_join,
            )
        except ValueError as error:
            raise PopulationError(f"{dictionary.key}: {error} (search.fragment_z, ...)") from None
        return found


def _new(dictionary: Dictionary, histogram: Histogram) -> NDArray[np.bool_]:
    """Of each released word, whether the devices' lexicon lacks it."""
    return np.array([word not in dictionary.lexicon for word in histogram.values], dtype=np.bool_)


def public_metrics(poll: Poll, job: UseCaseJob, histogram: Histogram) -> dict[str, Any]:
    """What the server itself knows of a key after it was played."""
    return {
        "key": poll.key,
        "use_case": poll.use_case,
        "segment": poll.segment,
        "reports": histogram.reports,
        "looked_at": histogram.looked_at,
        "released": len(histogram.values),
        "withheld": histogram.withheld,
        "stderr": float(poll.mechanism.standard_error(histogram.reports)),
        "count_needed": needed(poll, job, histogram.reports),
        "bytes_up": -(-int(poll.mechanism.report_bits) // 8),
        "post_processing": job.release.post_processing,
        "rule": job.release.describe(histogram.looked_at),
    }


def _search_metrics(found: Discovery | None, new: NDArray[np.bool_] | None) -> dict[str, Any]:
    if found is None or new is None:
        return {}
    return {
        "pieces_estimated": found.pieces_estimated,
        "pieces_kept": found.pieces_kept,
        "joined": found.joined,
        "wrong_joins": found.wrong_hash,
        "candidates": found.candidates,
        "new_words": int(new.sum()),
    }
