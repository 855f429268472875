"""The simulated population of a use case: segments of devices with vocabularies, and what the server receives of them.

    segments, dropped = build_segments(job)
    received = collect(job, segments[0], ["emoji"], advance)     # {"emoji": Received(tally, truth)}

Up to `exact_above` devices every event is privatized, and every report travels to the server's front door; above, the
tally is drawn from the law that it would have. Both are functions of the job alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from aggregate.histogram import check_minimum_batch, tally_streams
from device_poll.events.fleet import EventFleet
from device_poll.events.held import Sent
from device_poll.events.vocabulary import Vocabulary
from device_poll.population import PopulationError
from experiments.use_cases.dictionary import Dictionary
from experiments.use_cases.job import UseCaseJob
from privacy.ledger_stores import SimulatedLedger
from privacy.mechanism import ReportBatch, Tally
from privacy.randomness import Stage, seed_sequence

Advance = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Segment:
    """The devices of one keyboard locale, numbered from `first_device`, and their dictionaries by use case."""

    name: str
    number: int
    first_device: int
    devices: int
    dictionaries: Mapping[str, Dictionary] = field(repr=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class Received:
    """What the server has of one key after all days, and, for evaluation only, what was sent.

    `truth` int64: reports by true value, of the values that the mechanism can take. `dropped`: what devices did not
    send, by reason. `largest_spent`: the most that the ledger has from one device, in micro-epsilons (None without
    one).
    """

    tally: Tally
    truth: NDArray[np.int64]
    dropped: Mapping[str, int]
    largest_spent: int | None


def build_segments(job: UseCaseJob) -> tuple[tuple[Segment, ...], dict[str, dict[str, int]]]:
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
        dictionaries = {}
        for name, key in job.keys(segment).items():
            vocabulary, lexicon = _without_lexicon(job, key, loaded[name].vocabularies[number])
            try:
                mechanism = job.mechanism(len(vocabulary))
            except ValueError as error:
                raise PopulationError(f"{key} has {len(vocabulary)} values: {error}") from None
            dictionaries[name] = Dictionary.of(key=key, vocabulary=vocabulary, mechanism=mechanism, lexicon=lexicon)
        segments.append(
            Segment(
                name=segment,
                number=number,
                first_device=first,
                devices=job.devices_of[segment],
                dictionaries=dictionaries,
            )
        )
    dropped = {name: {k: n for k, n in sorted(found.dropped.items()) if n} for name, found in loaded.items()}
    return tuple(segments), dropped


def _without_lexicon(job: UseCaseJob, key: str, vocabulary: Vocabulary) -> tuple[Vocabulary, frozenset[str]]:
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


def fleet_of(job: UseCaseJob, segment: Segment, ledger: SimulatedLedger | None, *, workers: int = 1) -> EventFleet:
    """The segment's devices with all use cases that share their budget."""
    return EventFleet(
        held=tuple(segment.dictionaries[name].held(holding.share) for name, holding in job.holdings.items()),
        devices=segment.devices,
        first_device=segment.first_device,
        activity=job.activity,
        opt_in=job.opt_in,
        cap=job.reports_per_day,
        seed=job.seed,
        segment_number=segment.number,
        workers=workers,
        ledger=ledger,
        budget=job.name,
    )


def ledger_of(job: UseCaseJob, segment: Segment) -> SimulatedLedger:
    """A fresh ledger in which nobody opted in, for the devices up to the segment's last."""
    return SimulatedLedger(devices=segment.first_device + segment.devices, budget=job.caps.budget)


def collect(job: UseCaseJob, segment: Segment, wanted: Sequence[str], advance: Advance) -> dict[str, Received]:
    """All days of a segment's devices: one tally for each of the `wanted` use cases, never one of two.

    Which use cases are wanted together changes no result. Raises BatchError for too few reports.
    """
    return (_exactly if job.exact else _by_reports)(job, segment, wanted, advance)


def _by_reports(job: UseCaseJob, segment: Segment, wanted: Sequence[str], advance: Advance) -> dict[str, Received]:
    ledger = ledger_of(job, segment)
    fleet = fleet_of(job, segment, ledger, workers=job.workers)
    fleet.enroll()
    keys = {segment.dictionaries[name].key: segment.dictionaries[name].mechanism for name in wanted}

    def arriving() -> Iterator[ReportBatch]:
        # Reports of use cases that nobody asked for here end at the front door.
        for day in range(job.days):
            for batch in fleet.send(day, _of_days(advance, day, job.days)):
                if batch.use_case in keys:
                    yield batch

    tallies = tally_streams(arriving(), keys, job.minimum_batch, _noise(job, segment, 0, 0, Stage.SHUFFLE))
    truths = [fleet.truth(day) for day in range(job.days)]
    ledger.verify()
    spent = ledger.summary().largest_lifetime
    return {
        name: _received(segment.dictionaries[name], tallies[segment.dictionaries[name].key], sent, spent)
        for name, sent in _by_use_case(job, truths).items()
        if name in wanted
    }


def _exactly(job: UseCaseJob, segment: Segment, wanted: Sequence[str], advance: Advance) -> dict[str, Received]:
    # The plan fits the caps (UseCaseJob), so a ledger would refuse nobody, and none is kept.
    fleet = fleet_of(job, segment, None, workers=job.workers)
    received: dict[str, Received] = {}
    steps = len(wanted) * job.days
    for which, name in enumerate(job.use_cases):
        if name not in wanted:
            continue
        total, sent = None, []
        for day in range(job.days):
            tally, truth = fleet.shortcut(day, which, _noise(job, segment, day, which, Stage.PRIVATIZE))
            sent.append(truth)
            if total is None:
                total = tally
            else:
                total.sums[:] += tally.sums
                total = Tally(total.sums, total.reports + tally.reports, total.parameters)
            advance(len(received) * job.days + day + 1, steps)
        dictionary = segment.dictionaries[name]
        check_minimum_batch(total.reports if total else 0, dictionary.key, job.minimum_batch)
        if total is not None:
            received[name] = _received(dictionary, total, sent, None)
    return received


def _by_use_case(job: UseCaseJob, truths: Sequence[Sequence[Sent]]) -> dict[str, list[Sent]]:
    return {name: [day[which] for day in truths] for which, name in enumerate(job.use_cases)}


def _received(dictionary: Dictionary, tally: Tally, sent: Sequence[Sent], spent: int | None) -> Received:
    counts = np.sum([day.counts for day in sent], axis=0)
    dropped = {reason: sum(day.dropped[reason] for day in sent) for reason in sent[0].dropped}
    return Received(tally=tally, truth=counts[dictionary.fits], dropped=dropped, largest_spent=spent)


def _of_days(advance: Advance, day: int, days: int) -> Advance:
    return lambda done, devices: advance(day * devices + done, days * devices)


def _noise(job: UseCaseJob, segment: Segment, day: int, which: int, stage: Stage) -> np.random.Generator:
    root = seed_sequence(job.seed, day, stage)
    key = (*root.spawn_key, segment.number, which)
    return np.random.default_rng(np.random.SeedSequence(entropy=job.seed, spawn_key=key))
