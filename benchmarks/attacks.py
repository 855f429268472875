"""What a coalition of devices that lie gains, with the server's checks and without, beside theory.

    python -m benchmarks.attacks [--epsilon 1 4] [--polls 10]      Markdown tables
    python -m benchmarks.attacks --one-report                     the most that a single report does
    python -m benchmarks.attacks --speed                          what the checks cost

100,000 devices hold 1,000 values in proportion to 1 / rank; a coalition joins them that makes 0.1%, 1% or 5% of all
reports and promotes its targets: one rare value, ten of them, or all. Its reports are random, honest reports of the
targets, or crafted (benchmarks/poisoning.py). The gain is by how much the estimated shares of the targets grow, added
up. 'Without checks' is a server that adds up whatever has the shape of a report, 'with checks' the front door
(aggregate.intake), for which reports are crafted to pass. Measured: the mean over polls with its standard error; each
poll has its own noise.

Theory: reports that add g devices each to the targets' counts, as a share b of all that are counted, gain b (g - f),
where f is the targets' true share (Cao, Jia, Gong 2021). g is 1 for honest reports of targets,
`Mechanism.largest_gain` for the best there is, and `random_gain` for random ones. The best report for targets that are
given can be worse than the best for any targets, so for PGR and for a sketch's set bits theory is a bound where the
targets are all values.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", NUMBA_NUM_THREADS="1")

import argparse
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binom

from aggregate.intake import PermutedSum
from benchmarks.mechanism_errors import DEVICES, SUBJECTS, D, Subject, zipf
from benchmarks.poisoning import maximal_reports, random_reports, targeted_reports
from privacy import (
    CountMeanSketch,
    HadamardCountMeanSketch,
    HadamardResponse,
    OptimizedUnaryEncoding,
    ProjectiveGeometryResponse,
    SequenceFragmentPuzzle,
    SymmetricUnaryEncoding,
)
from privacy.mechanism import Reports, Tally
from privacy.poll import Ask
from privacy.randomness import DeviceStream, Stage
from privacy.unbiased import two_level_gain

SHARES = (0.001, 0.01, 0.05)
ATTACKS = (("random", 10), ("targeted", 1), ("targeted", 10), ("maximal", 1), ("maximal", 10), ("maximal", D))
UNARY = (OptimizedUnaryEncoding, SymmetricUnaryEncoding)


@dataclass(frozen=True)
class Anything:
    """What a poll of these values needs of its devices (privacy.poll.Needs)."""

    asked: Any
    digest: str = "values"
    nbytes: int = 0


def targets_of(subject: Subject, number: int) -> np.ndarray:
    """The rarest values; of a question with two answers, one or both."""
    return np.arange(subject.d - min(number, subject.d), subject.d)


def attack(mechanism: Any, name: str, targets: np.ndarray, n: int, rng: np.random.Generator, checked: bool) -> Reports:
    """The coalition's reports."""
    if name == "random":
        return random_reports(mechanism, n, rng)
    if name == "targeted":
        return targeted_reports(mechanism, targets, n, rng)
    return maximal_reports(mechanism, targets, n, rng, checked=checked)


# Theory


def random_gain(mechanism: Any, targets: int, checked: bool) -> tuple[float, float]:
    """(g, share that is counted) of reports that are uniform over all that can be sent."""
    if isinstance(mechanism, SequenceFragmentPuzzle):
        of_word, passed = random_gain(mechanism.word_sketch, targets, checked)
        return of_word, passed**2  # the piece has as many bits
    if isinstance(mechanism, HadamardResponse):
        return 0.0, 1.0  # the points of a block add up to 0 in every row but the first, which is no value's
    if isinstance(mechanism, HadamardCountMeanSketch):
        return -targets / (mechanism.columns - 1), 1.0
    passed, bit = 1.0, 0.5  # of the bits of unary encodings and sketches
    if isinstance(mechanism, (*UNARY, CountMeanSketch)):
        sketch = isinstance(mechanism, CountMeanSketch)
        width = mechanism.columns if sketch else mechanism.domain_size
        if checked:
            law, (low, high) = binom(width, 0.5), mechanism.set_bits() if sketch else mechanism.set_bits
            numbers = np.arange(low, high + 1)
            passed = float(law.pmf(numbers).sum())
            bit = float((law.pmf(numbers) * numbers).sum()) / width / passed
        if sketch:
            each = ((bit - mechanism.q) / mechanism.contrast - 1 / width) * width / (width - 1)
            return targets * each, passed
        return targets * (bit - mechanism.q) / (mechanism.p - mechanism.q), passed
    reports = random_reports(mechanism, 1, np.random.default_rng(0))
    if isinstance(mechanism, ProjectiveGeometryResponse):
        supported = mechanism.hyperplane_size / mechanism.points
    elif reports.dtype.names:
        supported = 1 / mechanism.hashes
    else:
        supported = (reports.shape[1] if reports.ndim > 1 else 1) / mechanism.domain_size
    return targets * (supported - mechanism.q) / (mechanism.p - mechanism.q), 1.0


def theory(mechanism: Any, name: str, targets: int, checked: bool) -> tuple[float, float]:
    """(g, share that is counted)."""
    if name == "random":
        return random_gain(mechanism, targets, checked)
    if name == "targeted":
        return 1.0, 1.0
    if isinstance(mechanism, UNARY) and not checked:
        return two_level_gain(targets, targets, mechanism.p, mechanism.q), 1.0
    return mechanism.largest_gain(targets), 1.0


# Measured


def counted(mechanism: Any, reports: Reports, checked: bool) -> Tally:
    """What the server adds up."""
    if not checked or not len(reports):
        return mechanism.tally(reports)
    total = PermutedSum(Ask(use_case="k", round=0, mechanism=mechanism, needs=Anything(None)), np.random.default_rng(0))
    total.add(reports)
    return total.close() if total.reports else mechanism.tally(mechanism.no_reports())


@dataclass(frozen=True)
class Row:
    """One attack: for every share of fakes, with and without checks, (gain, its standard error, theory)."""

    subject: str
    attack: str
    targets: int
    gains: dict[tuple[float, bool], tuple[float, float, float]]


def measure(subject: Subject, epsilon: float, polls: int) -> Iterator[Row]:
    """All attacks on one mechanism."""
    truth = zipf(subject.d)
    every, shares = subject.encode(np.arange(subject.d)), truth / truth.sum()
    attacks = list(dict.fromkeys((name, min(number, subject.d)) for name, number in ATTACKS))
    found: dict[tuple[str, int, float, bool], list[float]] = {}
    for poll in range(polls):
        mechanism = subject.make(epsilon, poll)
        rng = np.random.default_rng([poll, int(1000 * epsilon)])
        stream = DeviceStream.simulation(seed=1, round=int(epsilon), stage=Stage.EVALUATE, chunk=poll)
        honest = mechanism.tally(mechanism.privatize(np.repeat(every, truth, axis=0), stream))
        for name, number in attacks:
            targets = every[targets_of(subject, number)]
            before = mechanism.estimate(honest, targets).counts.sum() / DEVICES
            for share in SHARES:
                fakes = round(share * DEVICES / (1 - share))
                for checked in (False, True):
                    tally = counted(mechanism, attack(mechanism, name, targets, fakes, rng, checked), checked)
                    both = Tally(honest.sums + tally.sums, DEVICES + tally.reports, honest.parameters)
                    after = mechanism.estimate(both, targets).counts.sum() / both.reports
                    found.setdefault((name, number, share, checked), []).append(after - before)
    mechanism = subject.make(epsilon, 0)
    for name, number in attacks:
        gains = {}
        for share, checked in ((share, checked) for share in SHARES for checked in (False, True)):
            g, passed = theory(mechanism, name, number, checked)
            lying = passed * round(share * DEVICES / (1 - share))
            expected = lying / (DEVICES + lying) * (g - shares[targets_of(subject, number)].sum())
            values = np.array(found[name, number, share, checked])
            gains[share, checked] = (values.mean(), values.std(ddof=1) / math.sqrt(polls), expected)
        yield Row(subject.name, name, number, gains)


def markdown(rows: list[Row]) -> Iterator[str]:
    """Lines of the table; in each cell measured ± its standard error (theory), in percent of all reports."""
    heads = [f"{share:.1%} fakes{', checked' * checked}" for share in SHARES for checked in (False, True)]
    yield "| mechanism | attack | targets | " + " | ".join(heads) + " |"
    yield "|---" * (3 + len(heads)) + "|"
    for row in rows:
        cells = [f"{gain:.2%} ± {error:.2%} ({expected:.2%})" for gain, error, expected in row.gains.values()]
        yield f"| {row.subject} | {row.attack} | {row.targets} | " + " | ".join(cells) + " |"


# One report


def one_report(epsilons: list[float]) -> Iterator[str]:
    """What a server holds one report to, and what it can then do at most, in devices."""
    heads = [f"{head}, epsilon {epsilon:g}" for epsilon in epsilons for head in ("bits set", "one count", "10", "all")]
    yield "| mechanism | " + " | ".join(heads) + " |"
    yield "|---" * (1 + len(heads)) + "|"
    for subject in SUBJECTS:
        cells = []
        for epsilon in epsilons:
            mechanism = subject.make(epsilon, 0)
            bits = getattr(mechanism, "set_bits", None)
            low, high = (bits() if callable(bits) else bits) or ("", "")
            several = [f"{mechanism.largest_gain(min(r, subject.d)):,.3g}" for r in (10, subject.d)]
            cells += [f"{low} to {high}" if bits else "-", f"{mechanism.largest_influence:,.4g}", *several]
        yield f"| {subject.name} | " + " | ".join(cells) + " |"


# Speed


def best_of(what: Callable[[], Any], repeats: int = 7) -> float:
    """CPU seconds of the fastest of several calls, compiled beforehand."""
    what()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        what()
        times.append(time.process_time() - start)
    return min(times)


def speed(epsilon: float) -> Iterator[str]:
    """What the checks cost: nanoseconds a report, and their share of the tally and of the front door."""
    yield "| mechanism | check, ns | tally, ns | front door, ns | check / tally | check / front door |"
    yield "|---|---|---|---|---|---|"
    for subject in SUBJECTS:
        mechanism = subject.make(epsilon, 0)
        n = 1 << 20 if mechanism.no_reports().ndim == 1 else 1 << 15
        reports = mechanism.privatize(
            subject.encode(np.arange(n) % subject.d),
            DeviceStream.simulation(seed=1, round=0, stage=Stage.EVALUATE, chunk=0),
        )
        ask = Ask(use_case="k", round=0, mechanism=mechanism, needs=Anything(None))

        def door(ask: Ask = ask, reports: Reports = reports) -> Tally:
            total = PermutedSum(ask, np.random.default_rng(0))
            total.add(reports)
            return total.close()

        times = (
            best_of(lambda m=mechanism, r=reports: m.refused(r)),
            best_of(lambda m=mechanism, r=reports: m.tally(r)),
            best_of(door),
        )
        check, tally, whole = (1e9 * seconds / n for seconds in times)
        parts = f"{check / tally:.0%} | {check / whole:.0%}"
        yield f"| {subject.name} | {check:.2f} | {tally:.2f} | {whole:.1f} | {parts} |"


def main() -> None:
    """The tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epsilon", type=float, nargs="+", default=[1.0, 4.0])
    parser.add_argument("--polls", type=int, default=10)
    parser.add_argument("--one-report", action="store_true")
    parser.add_argument("--speed", action="store_true")
    given = parser.parse_args()
    if given.one_report:
        print("\n".join(one_report(given.epsilon)))
        return
    if given.speed:
        print("\n".join(speed(given.epsilon[-1])))
        return
    for epsilon in given.epsilon:
        print(f"\nEpsilon {epsilon:g}, {given.polls} polls\n", flush=True)
        print("\n".join(markdown([row for subject in SUBJECTS for row in measure(subject, epsilon, given.polls)])))


if __name__ == "__main__":
    main()
