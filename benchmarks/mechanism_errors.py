"""Do the estimates err as much as the mechanisms say? Polls of the same devices, at epsilon 1, 2, 4 and 8.

    python -m benchmarks.mechanism_errors [polls]      a Markdown table; docs/images/mechanism_errors.png

100,000 devices hold 1,000 values in proportion to 1 / rank. Every poll goes through reports and, for sketches, has its
own hash family; both counts of BRR err alike. The ratio is the root mean square, over values and polls, of
error / standard_error(true count): 1 if the claim is right. Its own error comes from the spread between polls. Coverage
is the share of true counts within 1.96 of the `stderr` that the estimate itself states.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", NUMBA_NUM_THREADS="1")

import itertools
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from privacy import (
    BinaryRandomizedResponse,
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
    SymmetricUnaryEncoding,
)
from privacy.randomness import Stage

DEVICES, D = 100_000, 1000
EPSILONS = (1.0, 2.0, 4.0, 8.0)
POLLS = 10
BINARY_POLLS = 100  # times as many: it has only one count to err in
PICTURE = Path(__file__).parent.parent / "docs/images/mechanism_errors.png"

LETTERS = "abcdefghijklmnop"
WORDS = ["".join(word) for word in itertools.product(LETTERS, repeat=4)][:: 16**4 // D][:D]


def zipf(d: int) -> np.ndarray:
    """int64[d]: devices that hold each value, in proportion to 1 / rank, all DEVICES of them."""
    ends = np.rint(np.cumsum(1 / np.arange(1, d + 1)) / np.sum(1 / np.arange(1, d + 1)) * DEVICES)
    return np.diff(ends, prepend=0).astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A mechanism under test. `make(epsilon, family)`; `encode(indices)`: what devices hold; `asked`: whether
    `estimate` must be told the values; `claimed(mechanism, truth)`: standard errors at the true counts."""

    name: str
    note: str
    make: Callable[[float, int], Any]
    encode: Callable[[np.ndarray], np.ndarray] = lambda indices: indices
    asked: bool = False
    claimed: Callable[[Any, np.ndarray], np.ndarray] = lambda mechanism, truth: np.array(
        [mechanism.standard_error(int(truth.sum()), float(f)) for f in truth]
    )
    d: int = D
    color: str = "#9aa0a6"


def sketch_claim(mechanism: Any, truth: np.ndarray) -> np.ndarray:
    """With what collisions of these counts add."""
    n, moment = int(truth.sum()), float((truth**2).sum())
    return np.array([mechanism.standard_error(n, float(f), moment) for f in truth])


def block_claim(mechanism: HadamardResponse, truth: np.ndarray) -> np.ndarray:
    """With how many devices share each value's block."""
    block = mechanism.blocks_of(np.arange(len(truth)))
    held = np.bincount(block, truth)[block]
    pairs = zip(truth, held, strict=True)
    return np.array([mechanism.standard_error(int(truth.sum()), float(f), float(b)) for f, b in pairs])


def hashes_of(indices: np.ndarray) -> np.ndarray:
    """A 64-bit number for each value."""
    return np.random.default_rng(5).integers(0, 1 << 63, D, dtype=np.uint64)[indices]


def over_domain(kind: Any) -> Callable[[float, int], Any]:
    """Mechanisms over 0 .. D - 1."""
    return lambda epsilon, family: kind(epsilon=epsilon, domain_size=D)


def puzzle(epsilon: float, family: int) -> SequenceFragmentPuzzle:
    """Words of four letters in two fragments."""
    return SequenceFragmentPuzzle(
        epsilon=epsilon, rows=256, columns=1024, hash_seed=family, alphabet=LETTERS, word_length=4, fragment_length=2
    )


def word_codes(indices: np.ndarray) -> np.ndarray:
    """Values as codes of words."""
    return puzzle(1.0, 0).codes.encode(WORDS, unfit="refuse").codes[indices]


SUBJECTS = (
    Subject(name="SS", note="", make=over_domain(SubsetSelection), color="#00695c"),
    Subject(name="OLH", note="", make=over_domain(LocalHashing), color="#00695c"),
    Subject(name="PGR", note="", make=over_domain(ProjectiveGeometryResponse), color="#00695c"),
    Subject(name="OUE", note="", make=over_domain(OptimizedUnaryEncoding), color="#00695c"),
    Subject(name="HR", note="", make=over_domain(HadamardResponse), claimed=block_claim, color="#5e35b1"),
    Subject(name="SUE", note="", make=over_domain(SymmetricUnaryEncoding), color="#1e6fd9"),
    Subject(
        name="CMS",
        note="k=1024 m=1024",
        make=lambda epsilon, family: CountMeanSketch(epsilon=epsilon, rows=1024, columns=1024, hash_seed=family),
        encode=hashes_of,
        asked=True,
        claimed=sketch_claim,
        color="#1e6fd9",
    ),
    Subject(
        name="HCMS",
        note="k=256 m=4096",
        make=lambda epsilon, family: HadamardCountMeanSketch(epsilon=epsilon, rows=256, columns=4096, hash_seed=family),
        encode=hashes_of,
        asked=True,
        claimed=sketch_claim,
        color="#c2410c",
    ),
    Subject(
        name="SFP",
        note="known words, k=256 m=1024, half of epsilon",
        make=puzzle,
        encode=word_codes,
        asked=True,
        claimed=sketch_claim,
        color="#a21caf",
    ),
    Subject(name="GRR", note="", make=over_domain(RandomizedResponse), color="#b8860b"),
    Subject(name="BRR", note="d=2", make=lambda epsilon, family: BinaryRandomizedResponse(epsilon=epsilon), d=2),
)


@dataclass(frozen=True, kw_only=True)
class Result:
    """Of one mechanism at one epsilon: root mean square errors over the values, claimed and measured / claimed."""

    claimed: float
    measured: float
    ratio: float
    ratio_error: float
    coverage: float


def measure(subject: Subject, epsilon: float, polls: int) -> Result:
    """Polls through reports."""
    truth = zipf(subject.d)
    indices = np.repeat(np.arange(subject.d), truth)
    held, every = subject.encode(indices), subject.encode(np.arange(subject.d))
    squares, errors, inside = [], [], []
    mechanism, claimed = None, np.zeros(0)
    for poll in range(polls * BINARY_POLLS if subject.d == 2 else polls):
        if mechanism is None or subject.asked:
            mechanism = subject.make(epsilon, poll)
            claimed = subject.claimed(mechanism, truth) if poll == 0 else claimed
        stream = DeviceStream.simulation(seed=0, round=int(epsilon), stage=Stage.EVALUATE, chunk=poll)
        tally = mechanism.tally(mechanism.privatize(held, stream))
        estimate = mechanism.estimate(tally, every) if subject.asked else mechanism.estimate(tally)
        error = estimate.counts - truth
        squares.append(np.mean((error / claimed) ** 2))
        errors.append(np.mean(error**2))
        inside.append(np.mean(np.abs(error) <= 1.96 * estimate.stderr))
    mean, spread = float(np.mean(squares)), float(np.std(squares, ddof=1)) / math.sqrt(len(squares))
    return Result(
        claimed=math.sqrt(float(np.mean(claimed**2))),
        measured=math.sqrt(float(np.mean(errors))),
        ratio=math.sqrt(mean),
        ratio_error=spread / (2 * math.sqrt(mean)),
        coverage=float(np.mean(inside)),
    )


def markdown(results: dict[tuple[str, float], Result]) -> Iterator[str]:
    """Lines of the table: claimed error in devices, measured / claimed with its own standard error, coverage."""
    yield "| mechanism | " + " | ".join(f"epsilon {epsilon:g}" for epsilon in EPSILONS) + " | coverage of ±1.96 |"
    yield "|---" * (len(EPSILONS) + 2) + "|"
    for subject in SUBJECTS:
        row = [results[subject.name, epsilon] for epsilon in EPSILONS]
        cells = [f"{_rounded(r.claimed)} · {r.ratio:.3f} ± {r.ratio_error:.3f}" for r in row]
        name = f"{subject.name} ({subject.note})" if subject.note else subject.name
        low, high = min(r.coverage for r in row), max(r.coverage for r in row)
        yield f"| {name} | " + " | ".join(cells) + f" | {low:.1%} to {high:.1%} |"


def _rounded(devices: float) -> str:
    """Three digits or whole devices."""
    return f"{devices:,.0f}" if devices >= 100 else f"{devices:.3g}"


def draw(results: dict[tuple[str, float], Result], path: Path) -> None:
    """Left: error against epsilon, claimed as lines, measured as points. Right: error against upload at epsilon 4."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    ink, faint = "#202124", "#d7dade"
    mpl.rcParams.update({"font.size": 11, "font.family": "DejaVu Sans", "text.color": ink, "axes.labelcolor": ink})
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 6), width_ratios=(1.15, 1), layout="constrained")
    shown = [subject for subject in SUBJECTS if subject.d == D]
    grid, truth = np.geomspace(1, 8, 25), zipf(D)
    for subject in shown:
        line = [math.sqrt(np.mean(subject.claimed(subject.make(float(e), 0), truth) ** 2)) for e in grid]
        left.plot(grid, line, color=subject.color, linewidth=1.6, zorder=2)
        points = [results[subject.name, e].measured for e in EPSILONS]
        left.plot(EPSILONS, points, "o", color=subject.color, markeredgecolor="white", markersize=7.5, zorder=3)
    ends = {"GRR": "GRR", "SS  OLH  PGR": "PGR", "HR": "HR", "OUE": "OUE"}
    ends |= {"SUE  CMS": "CMS", "SFP": "SFP", "HCMS": "HCMS"}
    places = _apart({label: results[name, 8.0].measured for label, name in ends.items()})
    for label, name in ends.items():
        color = next(s.color for s in shown if s.name == name)
        left.annotate(label, (8.5, places[label]), color=color, va="center", weight="bold", annotation_clip=False)
    left.set(xscale="log", yscale="log", xlim=(0.93, 8.3), xlabel="epsilon of a report")
    left.set_xticks(EPSILONS, [f"{e:g}" for e in EPSILONS])
    left.set_xticks([], minor=True)
    left.set_title("Error of a count, in devices\nlines: claimed; points: measured through reports", loc="left")

    below = ("SUE", "OUE", "OLH", "SS", "PGR")
    for subject in shown:
        bits, error = subject.make(4.0, 0).report_bits, results[subject.name, 4.0].measured
        right.plot(bits, error, "o", color=subject.color, markeredgecolor="white", markersize=11, zorder=3)
        right.annotate(
            subject.name,
            (bits, error),
            (9, -15 if subject.name in below else 5),
            textcoords="offset points",
            color=subject.color,
            weight="bold",
        )
    right.set(xscale="log", yscale="log", xlabel="bits on the wire of one report", xlim=(7, 6000), ylim=(72, 420))
    right.set_xticks([10, 100, 1000], ["10", "100", "1,000"])
    right.set_xticks([], minor=True)
    right.set_title("What the bits buy, at epsilon 4\nerror in devices; down and left is better", loc="left")
    for axes, ticks in ((left, (10, 30, 100, 300, 1000, 3000)), (right, (100, 200, 300, 400))):
        axes.set_yticks(ticks, [f"{t:,}" for t in ticks])
        axes.set_yticks([], minor=True)
        axes.grid(color=faint, linewidth=0.8, zorder=0)
        axes.tick_params(colors=ink, length=0)
        for side, spine in axes.spines.items():
            spine.set_visible(side == "bottom")
            spine.set_color(ink)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _apart(heights: dict[str, float], gap: float = 1.27) -> dict[str, float]:
    """The same heights, pushed up where labels would overlap (log scale)."""
    places: dict[str, float] = {}
    last = 0.0
    for label, height in sorted(heights.items(), key=lambda item: item[1]):
        last = places[label] = max(height, last * gap)
    return places


def main() -> None:
    """Table and picture."""
    polls = int(sys.argv[1]) if len(sys.argv) > 1 else POLLS
    results = {}
    for subject, epsilon in itertools.product(SUBJECTS, EPSILONS):
        results[subject.name, epsilon] = measure(subject, epsilon, polls)
        print(subject.name, epsilon, results[subject.name, epsilon], file=sys.stderr, flush=True)
    print("\n".join(markdown(results)))
    draw(results, PICTURE)


if __name__ == "__main__":
    main()
