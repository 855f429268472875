"""The simulated population of a count: segments of devices, what they may hold, and how often.

segments, dropped = build_segments(job)
fleet_of(job, noise, segments[0], accounts)          # the segment's devices, with all use cases that share their budget
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import overload

import numpy as np

from device_poll.accounts import Accounts, Closing
from device_poll.events.fleet import EventFleet
from device_poll.events.held import Held
from device_poll.events.vocabulary import Vocabulary
from device_poll.population import PopulationError
from experiments.count.job import CountJob
from privacy.dictionary import Dictionary
from privacy.randomness import NoiseSource


@dataclass(frozen=True)
class DeviceNames(Sequence[str]):
    """'device 0', 'device 1', ...: the ids of simulated devices, the same in every use case, made when asked for."""

    devices: int

    def __len__(self) -> int:
        return self.devices

    def __iter__(self) -> Iterator[str]:
        return (f"device {i}" for i in range(self.devices))

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[str]: ...
    def __getitem__(self, at: int | slice) -> str | Sequence[str]:
        places = range(self.devices)[at]
        return f"device {places}" if isinstance(places, int) else [f"device {i}" for i in places]


@dataclass(frozen=True, kw_only=True, eq=False)
class Segment:
    """The devices of one keyboard locale, numbered from `first_device`; by use case the `vocabularies` that they hold,
    the `dictionaries` that these are for the mechanism, and the `lexicons` of words that are not new to them.
    """

    name: str
    number: int
    first_device: int
    devices: int
    vocabularies: Mapping[str, Vocabulary] = field(repr=False)
    dictionaries: Mapping[str, Dictionary] = field(repr=False)
    lexicons: Mapping[str, frozenset[str]] = field(repr=False)


def build_segments(job: CountJob) -> tuple[tuple[Segment, ...], dict[str, dict[str, int]]]:
    """All segments, and for each use case the rows of its file that were left out, by reason.

    Raises SourceError for files that cannot be used, PopulationError for a mechanism that cannot take their values.
    """
    loaded = {name: holding.vocabulary.load() for name, holding in job.holdings.items()}
    for name, found in loaded.items():
        have = [vocabulary.segment for vocabulary in found.vocabularies]
        if have != list(job.segments):
            raise PopulationError(
                f"the vocabulary of {name} has the segments {', '.join(have)}, but segments is "
                f"[{', '.join(job.segments)}]; set segments=[{','.join(have)}]"
            )
    starts = accumulate(job.devices_of.values(), initial=0)
    segments = []
    for number, (segment, first) in enumerate(zip(job.segments, starts, strict=False)):
        vocabularies, dictionaries, lexicons = {}, {}, {}
        for name, key in job.keys(segment).items():
            vocabulary, lexicons[name] = _without_lexicon(job, key, loaded[name].vocabularies[number])
            try:
                mechanism = job.randomizer(len(vocabulary) + job.always_reports)  # and 'nothing to report'
            except ValueError as error:
                also = " and 'nothing to report'" if job.always_reports else ""
                raise PopulationError(f"{key} has {len(vocabulary)} values{also}: {error}") from None
            vocabularies[name] = vocabulary
            try:
                dictionaries[name] = Dictionary.of(
                    key=key,
                    texts=vocabulary.values,
                    mechanism=mechanism,
                    listed=job.search is None,
                    nulls=job.always_reports,
                )
            except ValueError as error:
                raise PopulationError(str(error)) from None
        segments.append(
            Segment(
                name=segment,
                number=number,
                first_device=first,
                devices=job.devices_of[segment],
                vocabularies=vocabularies,
                dictionaries=dictionaries,
                lexicons=lexicons,
            )
        )
    dropped = {name: {k: n for k, n in sorted(found.dropped.items()) if n} for name, found in loaded.items()}
    return tuple(segments), dropped


def _without_lexicon(job: CountJob, key: str, vocabulary: Vocabulary) -> tuple[Vocabulary, frozenset[str]]:
    """The vocabulary without the words that devices know, where they look first; and the words that they know.

    Raises PopulationError for a mark that the file does not have, and if devices know every word.
    """
    if job.search is None or not job.search.lexicon:
        return vocabulary, frozenset()
    inside = np.zeros(len(vocabulary), dtype=np.bool_)
    for mark in job.search.lexicon:
        if mark not in vocabulary.marks:
            raise PopulationError(
                f"search.lexicon has {mark!r}, but the words of {key} have the marks: "
                f"{', '.join(vocabulary.marks) or 'none'}; choose some of these, or search.lexicon=[]"
            )
        inside |= vocabulary.marks[mark]
    lexicon = frozenset(vocabulary.values[i] for i in np.flatnonzero(inside))
    if not job.search.lexicon_on_device:
        return vocabulary, lexicon
    rest = np.flatnonzero(~inside)
    if not len(rest):
        raise PopulationError(f"devices know all {len(vocabulary)} words of {key}; set search.lexicon_on_device=false")
    weights = vocabulary.weights[rest]
    return (
        Vocabulary(
            segment=vocabulary.segment,
            values=tuple(vocabulary.values[i] for i in rest),
            weights=weights / weights.sum(),
            marks={name: mark[rest] for name, mark in vocabulary.marks.items()},
        ),
        lexicon,
    )


def fleet_of(
    job: CountJob, noise: NoiseSource, segment: Segment, accounts: Accounts | None, closing: Closing | None = None
) -> EventFleet:
    """The segment's devices with all use cases that share their budget."""
    return EventFleet(
        held=tuple(_held(segment, name, holding.share) for name, holding in job.holdings.items()),
        devices=segment.devices,
        first_device=segment.first_device,
        activity=job.activity,
        opt_in=job.opt_in,
        cap=job.reports_per_day,
        seed=job.seed,
        noise=noise,
        segment_number=segment.number,
        workers=job.workers,
        accounts=accounts,
        closing=closing,
    )


def _held(segment: Segment, name: str, share: float) -> Held:
    dictionary = segment.dictionaries[name]
    return Held(
        key=dictionary.key,
        encoded=dictionary.encoded,
        weights=segment.vocabularies[name].weights,
        fits=dictionary.fits,
        mechanism=dictionary.mechanism,
        share=share,
        null=dictionary.null,
    )
