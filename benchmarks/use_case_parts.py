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

from aggregate.discoveries import release_discoveries
from aggregate.fragments import FragmentRule, release_fragments
from aggregate.histogram import Histogram, ReleaseRule, intervals, release_histogram, tally_stream
from device_poll.events.activity import Activity
from device_poll.events.fleet import EventFleet, Held
from device_poll.events.fragments import PromptFragments
from device_poll.events.frequencies import EmojiFrequencies, RankedDomains, WordFrequencies
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
from privacy.hashing import hash_strings
from privacy.mechanism import Estimate, ReportBatch, Tally
from privacy.randomness import Stage, generator

ACTIVITY = Activity(mean=3.0, sigma=1.0)
MINIMUM_BATCH = 1000
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


def warm(mechanism: Any, values: np.ndarray, estimate: Callable[[Tally], object]) -> None:
    """Compile what the clock should not see."""
    reports = mechanism.privatize(values[:200], np.random.default_rng(0))
    estimate(
        tally_stream(
            [ReportBatch("warm", np.arange(len(reports)), reports)],
            mechanism,
            "warm",
            1,
            generator(0, 0, Stage.SHUFFLE),
        )
    )


def rank_correlation(estimated: np.ndarray, truth: np.ndarray) -> float:
    """Spearman's; nan for fewer than three."""
    return float(spearmanr(estimated, truth).statistic) if len(truth) > 2 else float("nan")


def emoji(path: str, locale: str, number: int, devices: int, seed: int, workers: int) -> dict[str, Any]:
    """One locale, report by report: CMS m=1024 k=65536 at epsilon 4, one report a device and day."""
    (vocabulary,) = EmojiFrequencies(path=path, segments=(locale,)).load().vocabularies
    sketch = CountMeanSketch(epsilon=4.0, rows=65_536, columns=1024, hash_seed=seed)
    hashes, key, d = hash_strings(vocabulary.values), f"emoji.{locale}", len(vocabulary)
    held = Held(key=key, encoded=hashes, weights=vocabulary.weights, fits=np.ones(d, dtype=bool), mechanism=sketch)
    fleet = EventFleet(
        held=(held,), devices=devices, activity=ACTIVITY, cap=1, seed=seed, segment_number=number, workers=workers
    )
    small = dataclasses.replace(sketch, rows=16)
    warm(small, hashes, lambda tally: small.estimate(tally, hashes))
    clock = Clock()
    tally = tally_stream(clock.devices(fleet.send(0)), sketch, key, MINIMUM_BATCH, generator(seed, 0, Stage.SHUFFLE))
    estimate = sketch.estimate(tally, hashes)
    histogram = release_histogram(estimate, vocabulary.values, RULE)
    seconds = clock.both()
    return {"locale": locale, "d": d, "seconds": seconds, "histogram": histogram} | judged(
        histogram, estimate, vocabulary.values, fleet.truth(0)[0].counts
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
    hashes, rng = hash_strings(vocabulary.values), generator(seed, 0, Stage.EVENTS)
    chunk = 1 << 22 if name == "HCMS" else 1 << 16
    truth = np.zeros(len(hashes), dtype=np.int64)
    small = dataclasses.replace(mechanism, rows=16)
    warm(small, hashes, lambda tally: small.estimate(tally, hashes))

    def batches() -> Iterator[ReportBatch]:
        for start in range(0, reports, chunk):
            n = min(chunk, reports - start)
            values = np.repeat(np.arange(len(hashes)), counts := rng.multinomial(n, vocabulary.weights))
            truth[:] += counts
            stream = DeviceStream.simulation(seed=seed, round=0, stage=Stage.PRIVATIZE, chunk=start // chunk)
            yield ReportBatch("domains", np.arange(n), mechanism.privatize(hashes[values], stream))

    clock = Clock()
    tally = tally_stream(
        clock.devices(batches()), mechanism, "domains", MINIMUM_BATCH, generator(seed, 0, Stage.SHUFFLE)
    )
    tallied = clock.both()
    estimate = mechanism.estimate(tally, hashes)
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
    words = puzzle.codes.encode(vocabulary.values, unfit="drop")
    d = len(vocabulary)
    encoded, fits = np.zeros((d, puzzle.word_length), dtype=np.uint8), np.zeros(d, dtype=bool)
    encoded[words.kept], fits[words.kept] = words.codes, True
    held = Held(key="words.en", encoded=encoded, weights=vocabulary.weights, fits=fits, mechanism=puzzle)
    fleet = EventFleet(held=(held,), devices=devices, activity=ACTIVITY, cap=2, seed=seed, workers=workers)
    small = dataclasses.replace(puzzle, rows=16)
    warm(small, words.codes, lambda tally: small.discover(tally, fragment_z=6.0))
    clock = Clock()
    tally = tally_stream(
        clock.devices(fleet.send(0)), puzzle, "words.en", MINIMUM_BATCH, generator(seed, 0, Stage.SHUFFLE)
    )
    found = puzzle.discover(
        tally, fragment_z=z, false_discovery_rate=RULE.false_discovery_rate, minimum_count=RULE.minimum_count
    )
    histogram = release_discoveries(found, RULE)
    seconds, (sent,) = clock.both(), fleet.truth(0)
    place = {value: i for i, value in enumerate(vocabulary.values)}
    at = np.array([place.get(word, -1) for word in histogram.values], dtype=np.int64)
    real = np.where(at >= 0, sent.counts[at], 0) > 0
    reports = int(sent.counts.sum())
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
        "unfit": f"{words.too_long:,} too long, {words.out_of_alphabet:,} with letters outside the alphabet",
        "dropped": dict(sent.dropped),
        "steps": steps,
        "released": len(real),
        "held_by_none": int((~real).sum()),
        "new": [w for w, i in zip(histogram.values, at.tolist(), strict=True) if i >= 0 and not known[i]],
        "pieces": puzzle.positions * (puzzle.fragments << puzzle.puzzle_bits),
        "search": {
            k: getattr(found, k) for k in ("pieces_estimated", "pieces_kept", "joined", "wrong_hash", "candidates")
        },
    }


def restricted(vocabulary: Vocabulary, keep: np.ndarray) -> Vocabulary:
    """The vocabulary of the values kept."""
    weights = vocabulary.weights[keep]
    values = tuple(value for value, kept in zip(vocabulary.values, keep, strict=True) if kept)
    return Vocabulary(segment=vocabulary.segment, values=values, weights=weights / weights.sum())


def fragments(path: str, epsilon: float, devices: int, candidates: int, minimum: int, seeds: int) -> dict[str, Any]:
    """Randomized response with a null over fragments of prompts: the count needed, and every seed's releases."""
    pool = PromptFragments(path=path, candidates=candidates).load()
    mechanism = RandomizedResponse(epsilon=epsilon, domain_size=candidates, null=True)
    rule = FragmentRule(minimum_count=minimum)
    need = rule.count_needed(mechanism, devices)
    held_by_fewer = answered_by_fewer = released = enough = seen = 0
    for seed in range(seeds):
        answers = pool.answers(devices, ACTIVITY, seed)
        stream = DeviceStream.simulation(seed=seed, round=0, stage=Stage.PRIVATIZE, chunk=0)
        tally = mechanism.tally(mechanism.privatize(answers.values, stream))
        found = set(release_fragments(mechanism, tally, pool.candidates, rule).values)
        answered = np.bincount(answers.values[answers.values >= 0], minlength=candidates)
        out = np.array([fragment in found for fragment in pool.candidates])
        held_by_fewer += int((out & (answers.held < minimum)).sum())
        answered_by_fewer += int((out & (answered < minimum)).sum())
        released, enough = released + int(out.sum()), enough + int((answered >= need).sum())
        seen += int((out & (answered >= need)).sum())
    return {
        "epsilon": epsilon,
        "devices": devices,
        "cutoff": rule.cutoff(mechanism, devices),
        "need": need,
        "detected": detected(mechanism, rule, devices, need),
        "released": released / seeds,
        "seen": seen / enough if enough else float("nan"),
        "held_by_fewer": held_by_fewer,
        "answered_by_fewer": answered_by_fewer,
    }


def detected(mechanism: RandomizedResponse, rule: FragmentRule, devices: int, need: float, polls: int = 2000) -> float:
    """In which share of simulated polls a fragment that `need` devices answer is released."""
    if not np.isfinite(need):
        return float("nan")
    counts, rng = np.zeros(mechanism.domain_size + 1, dtype=np.int64), np.random.default_rng(0)
    counts[0], counts[-1] = int(need), devices - int(need)
    cutoff = rule.cutoff(mechanism, devices)
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
    sketched = mechanism.domain_size == 1 << 64
    held = hash_strings(vocabulary.values) if sketched else np.arange(d)
    asked = held if sketched else None
    small = dataclasses.replace(mechanism, rows=16) if sketched else mechanism
    warm(small, held, lambda tally: small.estimate(tally, asked))
    truth = np.random.default_rng(seed).multinomial(reports, vocabulary.weights)
    values, chunk, device = np.repeat(np.arange(d), truth), 1 << 16, 0.0

    def batches() -> Iterator[ReportBatch]:
        nonlocal device
        for start in range(0, reports, chunk):
            before = time.thread_time()
            stream = DeviceStream.simulation(seed=seed, round=0, stage=Stage.PRIVATIZE, chunk=start // chunk)
            made = mechanism.privatize(held[values[start : start + chunk]], stream)
            device += time.thread_time() - before
            yield ReportBatch("emoji", np.arange(len(made)), made)

    before = time.thread_time()
    tally = tally_stream(batches(), mechanism, "emoji", MINIMUM_BATCH, generator(seed, 0, Stage.SHUFFLE))
    estimate = mechanism.estimate(tally, asked)
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
