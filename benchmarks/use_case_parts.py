"""What benchmarks/use_cases.py measures, one function a part; each runs in a child process of its own.

A part takes paths and sizes, plays devices and server through the same classes as `synthpoll run`, and returns plain
numbers. Times are split: 'devices' is drawing and privatizing events, 'server' everything from the report on.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from aggregate.discoveries import WordSearch
from aggregate.fragments import FragmentRule
from aggregate.histogram import Decided, Histogram, ReleaseRule, intervals, release_histogram
from aggregate.intake import PermutedSum, intake
from aggregate.trust import LocalTrust
from device_poll.events.activity import Activity
from device_poll.events.fleet import EventFleet
from device_poll.events.fragments import PromptFragments
from device_poll.events.frequencies import EmojiFrequencies, RankedDomains, WordFrequencies
from device_poll.events.held import Held
from device_poll.events.vocabulary import Vocabulary
from device_poll.sources.items import SourceError
from privacy import (
    CountMeanSketch,
    DeviceStream,
    HadamardCountMeanSketch,
    HadamardResponse,
    LocalHashing,
    OptimizedUnaryEncoding,
    ProjectiveGeometryResponse,
    RandomizedResponse,
    SequenceFragmentPuzzle,
    SubsetSelection,
)
from privacy.dictionary import Dictionary
from privacy.mechanism import Estimate, Mechanism, Tally
from privacy.poll import Ask, Choice, Needs, ReportBatch
from privacy.randomness import NoiseSource, Stage, generator

ACTIVITY = Activity(mean=3.0, sigma=1.0)
MINIMUM_BATCH = 1000
TRUST = LocalTrust()
RULE = ReleaseRule(minimum_count=100, threshold=4.0)
LEXICON = ("in_debian_wamerican_huge", "in_npm_word_list")
TOP = 20


@dataclass
class Clock:
    """Wall seconds of the two sides: whoever iterates over `devices(batches)` is the server."""

    spent: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    def devices(self, batches: Iterable[ReportBatch]) -> Iterator[ReportBatch]:
        """The same batches; what making them takes counts as the devices'."""
        iterator = iter(batches)
        while True:
            before = time.perf_counter()
            batch = next(iterator, None)
            self.spent += time.perf_counter() - before
            if batch is None:
                return
            yield batch

    def both(self) -> tuple[float, float]:
        """Seconds of the devices and of everything else so far."""
        return self.spent, time.perf_counter() - self.started - self.spent


def ask_of(key: str, mechanism: Mechanism, needs: Needs) -> Ask:
    """One question, answered once."""
    return Ask(use_case=key, round=0, mechanism=mechanism, needs=needs)


def add_up(batches: Iterable[ReportBatch], ask: Ask, seed: int) -> Tally:
    """The tally of all reports, by way of the server's front door."""
    rng = generator(seed, 0, Stage.SHUFFLE)
    return intake(batches, {ask.use_case: PermutedSum(ask, rng)}, MINIMUM_BATCH)[ask.use_case]


def warm(dictionary: Dictionary, small: Mechanism, then: Callable[[Ask, Tally], object] = Ask.estimate) -> None:
    """Compile what the clock should not see, with a mechanism of the same kind."""
    ask = ask_of("warm", small, dataclasses.replace(dictionary, mechanism=small))
    total = PermutedSum(ask, np.random.default_rng(0), gathered=1)
    for _ in range(2):  # the first makes a tally, the second adds to it
        total.add(small.privatize(dictionary.encoded[dictionary.fits][:200], np.random.default_rng(0)))
    then(ask, total.close())


def rank_correlation(estimated: np.ndarray, truth: np.ndarray) -> float:
    """Spearman's; nan for fewer than three."""
    return float(spearmanr(estimated, truth).statistic) if len(truth) > 2 else float("nan")


def emoji(path: str, locale: str, number: int, devices: int, seed: int, workers: int) -> dict[str, Any]:
    """One locale, report by report: CMS m=1024 k=65536 at epsilon 4, one report a device and day."""
    (vocabulary,) = EmojiFrequencies(path=path, segments=(locale,)).load().vocabularies
    sketch = CountMeanSketch(epsilon=4.0, rows=65_536, columns=1024, hash_seed=seed)
    dictionary = Dictionary.of(key=f"emoji.{locale}", texts=vocabulary.values, mechanism=sketch, nulls=True)
    fleet = EventFleet(
        held=(held_of(dictionary, vocabulary),),
        devices=devices,
        activity=ACTIVITY,
        cap=1,
        seed=seed,
        noise=NoiseSource.seeded(seed),
        segment_number=number,
        workers=workers,
    )
    warm(dictionary, dataclasses.replace(sketch, rows=16))
    ask, clock = ask_of(dictionary.key, sketch, dictionary), Clock()
    estimate, _ = dictionary.split(ask.estimate(add_up(clock.devices(fleet.answer([ask])), ask, seed)))
    histogram = release_histogram(estimate, dictionary.values, RULE)
    seconds = clock.both()
    return {"locale": locale, "d": len(vocabulary), "seconds": seconds, "histogram": histogram} | judged(
        histogram, estimate, vocabulary.values, fleet.truth(0)[0].counts
    )


def held_of(dictionary: Dictionary, vocabulary: Vocabulary) -> Held:
    """The dictionary on the devices, all of whose events are of it."""
    return Held(
        key=dictionary.key,
        encoded=dictionary.encoded,
        weights=vocabulary.weights,
        fits=dictionary.fits,
        mechanism=dictionary.mechanism,
        null=dictionary.null,
    )


def judged(histogram: Histogram, estimate: Estimate, values: tuple[str, ...], truth: np.ndarray) -> dict[str, Any]:
    """A histogram beside the counts of the reports that were really sent."""
    sent = dict(zip(values, truth.tolist(), strict=True))
    top = np.argsort(-truth, kind="stable")[:TOP]
    lower, upper = intervals(estimate, 0.95, "none")
    exact = np.array([sent[value] for value in histogram.values])
    return {
        "top": len({values[i] for i in top} & set(histogram.values[:TOP])),
        "top_correlation": rank_correlation(estimate.counts[top], truth[top]),
        "correlation": rank_correlation(histogram.counts, exact),
        "held_by_none": int((exact == 0).sum()),
        "coverage": float(np.mean((lower <= truth) & (truth <= upper))),
        "covered_released": float(np.mean((histogram.lower <= exact) & (exact <= histogram.upper)))
        if len(exact)
        else 1.0,
        "truth": sent,
    }


def sketch(path: str, name: str, reports: int, seed: int) -> dict[str, Any]:
    """Apple's sizes on ranked domains: `reports` reports into one tally, then every domain of the file estimated."""
    (vocabulary,) = RankedDomains(path=path, rank_column="rank_alexa_2015").load().vocabularies
    mechanism: Any = (
        HadamardCountMeanSketch(epsilon=4.0, rows=1024, columns=32_768, hash_seed=seed)
        if name == "HCMS"
        else CountMeanSketch(epsilon=4.0, rows=65_536, columns=1024, hash_seed=seed)
    )
    dictionary = Dictionary.of(key="domains", texts=vocabulary.values, mechanism=mechanism)
    hashes, rng = dictionary.encoded, generator(seed, 0, Stage.EVENTS)
    chunk = 1 << 22 if name == "HCMS" else 1 << 16
    truth = np.zeros(len(hashes), dtype=np.int64)
    warm(dictionary, dataclasses.replace(mechanism, rows=16))
    ask = ask_of(dictionary.key, mechanism, dictionary)

    def batches() -> Iterator[ReportBatch]:
        for start in range(0, reports, chunk):
            n = min(chunk, reports - start)
            values = np.repeat(np.arange(len(hashes)), counts := rng.multinomial(n, vocabulary.weights))
            truth[:] += counts
            stream = DeviceStream.simulation(seed=seed, round=0, stage=Stage.PRIVATIZE, chunk=start // chunk)
            yield ReportBatch(ask.use_case, np.arange(n), mechanism.privatize(hashes[values], stream))

    clock = Clock()
    tally = add_up(clock.devices(batches()), ask, seed)
    tallied = clock.both()
    estimate = ask.estimate(tally)
    seconds = clock.both()
    histogram = release_histogram(estimate, vocabulary.values, RULE)
    times = {"d": len(hashes), "seconds": seconds, "estimating": seconds[1] - tallied[1], "histogram": histogram}
    return times | judged(histogram, estimate, vocabulary.values, truth)


def new_words(
    path: str, devices: int, seed: int, workers: int, rows: int, share: float, z: float, lexicon: bool
) -> dict[str, Any]:
    """SFP at epsilon 8, two reports a device and day. `lexicon`: devices report only words that they do not know.

    `share` of epsilon goes to the pieces, and those above `z` standard errors are kept. Pieces are spread over five
    positions, so with half of epsilon they decide alone what can be found; with 0.64 and 3 both sketches resolve about
    the same frequencies, and the joins that a few more chance pieces make are sorted out by hash and word sketch.
    """
    (vocabulary,) = WordFrequencies(path=path, segments=("en",)).load().vocabularies
    if missing := [mark for mark in LEXICON if mark not in vocabulary.marks]:
        raise SourceError(f"{path} has no column {missing[0]}; it tells which words a device's lexicon knows")
    known = np.any([vocabulary.marks[mark] for mark in LEXICON], axis=0)
    if lexicon:
        vocabulary, known = restricted(vocabulary, ~known), np.zeros(int((~known).sum()), dtype=bool)
    puzzle = SequenceFragmentPuzzle(epsilon=8.0, rows=rows, columns=1024, hash_seed=seed, fragment_share=share)
    dictionary = Dictionary.of(key="words.en", texts=vocabulary.values, mechanism=puzzle, listed=False, nulls=True)
    fleet = EventFleet(
        held=(held_of(dictionary, vocabulary),), devices=devices, activity=ACTIVITY, cap=2, seed=seed, workers=workers,
        noise=NoiseSource.seeded(seed),
    )  # fmt: skip
    rng = generator(seed, 0, Stage.SHUFFLE)

    def decided(ask: Ask, tally: Tally, fragment_z: float) -> Decided:
        rule = WordSearch(fragment_z=fragment_z).rule(RULE)
        return rule.decide(ask, TRUST.conclude(ask, tally, rng), ())

    warm(dictionary, dataclasses.replace(puzzle, rows=16), lambda ask, tally: decided(ask, tally, 6.0))
    ask, clock = ask_of(dictionary.key, puzzle, dictionary), Clock()
    found = decided(ask, add_up(clock.devices(fleet.answer([ask])), ask, seed), z)
    histogram = found.histogram
    seconds, (sent,) = clock.both(), fleet.truth(0)
    place = {value: i for i, value in enumerate(vocabulary.values)}
    at = np.array([place.get(word, -1) for word in histogram.values], dtype=np.int64)
    real = np.where(at >= 0, sent.counts[at], 0) > 0
    reports = sent.reports
    steps = []
    for least in (1e-2, 3e-3, 1e-3, 3e-4, 1e-4):
        frequent, claimed = np.flatnonzero(sent.counts >= least * reports), histogram.counts >= least * reports
        steps.append(
            {
                "share": least,
                "words": len(frequent),
                "recall": float(np.isin(frequent, at).mean()) if len(frequent) else float("nan"),
                "found": int(claimed.sum()),
                "precision": float(real[claimed].mean()) if claimed.any() else float("nan"),
            }
        )
    return {
        "lexicon": lexicon,
        "seconds": seconds,
        "reports": reports,
        "unfit": ", ".join(f"{reason} {count:,}" for reason, count in dictionary.unfit.items()) or "none",
        "dropped": dict(sent.dropped),
        "steps": steps,
        "released": len(real),
        "held_by_none": int((~real).sum()),
        "new": [w for w, i in zip(histogram.values, at.tolist(), strict=True) if i >= 0 and not known[i]],
        "pieces": puzzle.positions * (puzzle.fragments << puzzle.puzzle_bits),
        "search": found.more,
    }


def restricted(vocabulary: Vocabulary, keep: np.ndarray) -> Vocabulary:
    """The vocabulary of the values kept."""
    weights = vocabulary.weights[keep]
    values = tuple(value for value, kept in zip(vocabulary.values, keep, strict=True) if kept)
    return Vocabulary(segment=vocabulary.segment, values=values, weights=weights / weights.sum())


def fragments(path: str, epsilon: float, devices: int, candidates: int, minimum: int, seeds: int) -> dict[str, Any]:
    """Randomized response over fragments of prompts: the count needed, and every seed's releases."""
    pool, choice = PromptFragments(path=path, candidates=candidates).load(), Choice(candidates)
    mechanism = RandomizedResponse(epsilon=epsilon, domain_size=choice.answers)
    ask, rule = ask_of("fragments", mechanism, pool), FragmentRule(minimum_count=minimum)
    need = rule.needed(TRUST, mechanism, devices, candidates)
    held_by_fewer = answered_by_fewer = released = enough = seen = 0
    for seed in range(seeds):
        answers = pool.answers(devices, ACTIVITY, seed)
        stream = DeviceStream.simulation(seed=seed, round=0, stage=Stage.PRIVATIZE, chunk=0)
        tally = mechanism.tally(mechanism.privatize(answers.values, stream))
        collected = TRUST.conclude(ask, tally, generator(seed, 0, Stage.SHUFFLE))
        found = set(rule.decide(ask, collected, pool.candidates).histogram.values)
        answered = choice.counted(answers.values)[: choice.none]
        out = np.array([fragment in found for fragment in pool.candidates])
        held_by_fewer += int((out & (answers.held < minimum)).sum())
        answered_by_fewer += int((out & (answered < minimum)).sum())
        released, enough = released + int(out.sum()), enough + int((answered >= need).sum())
        seen += int((out & (answered >= need)).sum())
    cutoff = rule.cutoff(lambda count: TRUST.support_law(mechanism, devices, count), devices, candidates)
    return {
        "epsilon": epsilon,
        "devices": devices,
        "cutoff": cutoff,
        "need": need,
        "detected": detected(mechanism, cutoff, devices, need),
        "released": released / seeds,
        "seen": seen / enough if enough else float("nan"),
        "held_by_fewer": held_by_fewer,
        "answered_by_fewer": answered_by_fewer,
    }


def detected(mechanism: Mechanism, cutoff: int, devices: int, need: float, polls: int = 2000) -> float:
    """In which share of simulated polls a fragment that `need` devices answer is released."""
    if not np.isfinite(need):
        return float("nan")
    counts, rng = np.zeros(mechanism.domain_size, dtype=np.int64), np.random.default_rng(0)
    counts[0], counts[-1] = int(need), devices - int(need)
    return float(np.mean([mechanism.simulate_tally(counts, rng).sums[0] >= cutoff for _ in range(polls)]))


ORACLES: dict[str, Callable[[float, int, int], Any]] = {
    "CMS k=65536 m=1024 (2017)": lambda e, d, s: CountMeanSketch(epsilon=e, rows=65_536, columns=1024, hash_seed=s),
    "HCMS k=1024 m=32768 (2017)": lambda e, d, s: HadamardCountMeanSketch(
        epsilon=e, rows=1024, columns=32_768, hash_seed=s
    ),
    "GRR (2016)": lambda e, d, s: RandomizedResponse(epsilon=e, domain_size=d),
    "OUE (2017)": lambda e, d, s: OptimizedUnaryEncoding(epsilon=e, domain_size=d),
    "OLH (2017)": lambda e, d, s: LocalHashing(epsilon=e, domain_size=d),
    "SS (2018)": lambda e, d, s: SubsetSelection(epsilon=e, domain_size=d),
    "HR (2019)": lambda e, d, s: HadamardResponse(epsilon=e, domain_size=d),
    "PGR (2022)": lambda e, d, s: ProjectiveGeometryResponse(epsilon=e, domain_size=d),
}


def oracle(path: str, name: str, epsilon: float, reports: int, seed: int) -> dict[str, Any]:
    """One mechanism on English emoji: error over the whole dictionary, bits, CPU seconds of both halves."""
    (vocabulary,) = EmojiFrequencies(path=path, segments=("en",)).load().vocabularies
    d = len(vocabulary)
    mechanism = ORACLES[name](epsilon, d, seed)
    dictionary = Dictionary.of(key="emoji", texts=vocabulary.values, mechanism=mechanism)
    warm(dictionary, dataclasses.replace(mechanism, rows=16) if mechanism.hashed else mechanism)
    ask, held = ask_of(dictionary.key, mechanism, dictionary), dictionary.encoded
    truth = np.random.default_rng(seed).multinomial(reports, vocabulary.weights)
    values, chunk, device = np.repeat(np.arange(d), truth), 1 << 16, 0.0

    def batches() -> Iterator[ReportBatch]:
        nonlocal device
        for start in range(0, reports, chunk):
            before = time.thread_time()
            stream = DeviceStream.simulation(seed=seed, round=0, stage=Stage.PRIVATIZE, chunk=start // chunk)
            made = mechanism.privatize(held[values[start : start + chunk]], stream)
            device += time.thread_time() - before
            yield ReportBatch(ask.use_case, np.arange(len(made)), made)

    before = time.thread_time()
    estimate = ask.estimate(add_up(batches(), ask, seed))
    server = time.thread_time() - before - device
    top = np.argsort(-truth, kind="stable")[:TOP]
    return {
        "name": name,
        "epsilon": epsilon,
        "error": float(np.sqrt(np.mean((estimate.counts - truth) ** 2))),
        "claimed": float(np.sqrt(np.mean(estimate.stderr**2))),
        "released": len(release_histogram(estimate, vocabulary.values, RULE).values),
        "top": len(set(np.argsort(-estimate.counts, kind="stable")[:TOP].tolist()) & set(top.tolist())),
        "bits": mechanism.report_bits,
        "device": device,
        "server": server,
        "d": d,
    }
