"""A density and a choice at a million texts: seconds of each step, beside a plain matrix product in the same run; and
what is lost where the demand is drawn and not whole.

    python -m benchmarks.choosing [texts]

Texts are made up: 384 numbers around 400 topics, of which devices hold the r-th in proportion to 1 / r.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from aggregate.choice import Demand, cover
from aggregate.density import fit_density
from aggregate.slate_poll import SlatePoll
from privacy.unary_encoding import OptimizedUnaryEncoding

TOPICS, DIMENSION, SPREAD = 400, 384, 0.05
SLATE, POLLS, DEVICES = 300, 5, 3000
KEPT, MOST = 300, 5000
EXACT, DRAWS = 10_000, 5

Rows = NDArray[np.float32]
T = TypeVar("T")


def unit(rows: NDArray[np.float64]) -> Rows:
    """Each of length 1."""
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Seconds, and what work() gives."""
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


class Texts:
    """Made-up texts, and devices that hold items near them."""

    def __init__(self, number: int, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self._centers = self._rng.standard_normal((TOPICS, DIMENSION)) / np.sqrt(DIMENSION)
        self._held = 1 / np.arange(1.0, TOPICS + 1)
        self._held /= self._held.sum()
        self.vectors = np.concatenate(
            [self._near(self._rng.integers(TOPICS, size=len(part))) for part in self._parts(number)]
        )

    def polls(self) -> list[SlatePoll]:
        """Of slates at random, at epsilon 4."""
        found = []
        for _ in range(POLLS):
            slate = self.vectors[self._rng.choice(len(self.vectors), SLATE, replace=False)]
            items = self._near(self._rng.choice(TOPICS, size=DEVICES, p=self._held))
            counts = np.append(np.bincount((items @ slate.T).argmax(axis=1), minlength=SLATE), 0)
            made = OptimizedUnaryEncoding(epsilon=4.0, domain_size=SLATE + 1)
            found.append(SlatePoll(slate=slate, estimate=made.estimate(made.simulate_tally(counts, self._rng))))
        return found

    def _near(self, topics: NDArray[np.int64]) -> Rows:
        return unit(self._centers[topics] + SPREAD * self._rng.standard_normal((len(topics), DIMENSION)))

    @staticmethod
    def _parts(number: int) -> list[range]:
        return [range(at, min(at + 100_000, number)) for at in range(0, number, 100_000)]


def covered(pool: Rows, demand: Demand, picks: NDArray[np.int64]) -> float:
    """The demand's mean similarity to its nearest pick."""
    nearest = (demand.vectors @ pool[picks].T).max(axis=1)
    return float(demand.weights @ nearest.astype(np.float64) / demand.weights.sum())


def lost() -> tuple[float, float]:
    """Of what the exact choice gains over texts at random, the share that a drawn demand of half the places loses: mean
    and standard error."""
    texts = Texts(EXACT)
    base = np.full(EXACT, 1 / EXACT)
    shares = fit_density(texts.vectors, base, texts.polls(), np.random.default_rng(0)).over(texts.vectors, base)
    whole = Demand(vectors=texts.vectors, weights=shares)
    exact = covered(texts.vectors, whole, cover(texts.vectors, whole, KEPT, np.random.default_rng(0)))
    found = []
    for seed in range(DRAWS):
        rng = np.random.default_rng(seed)
        chosen = cover(texts.vectors, Demand.of(texts.vectors, shares, rng, most=MOST), KEPT, rng)
        chance = covered(texts.vectors, whole, rng.permutation(EXACT)[:KEPT])
        found.append((exact - covered(texts.vectors, whole, chosen)) / (exact - chance))
    return float(np.mean(found)), float(np.std(found, ddof=1) / np.sqrt(DRAWS))


def main() -> None:
    """Time every step and print the table."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    console, rng = Console(), np.random.default_rng(0)
    texts = Texts(number)
    base, polls = np.full(number, 1 / number), texts.polls()
    places = texts.vectors[rng.permutation(number)[:MOST]]
    product, _ = timed(lambda: [(texts.vectors[at : at + 2048] @ places.T).sum() for at in range(0, number, 2048)])
    fitted, density = timed(lambda: fit_density(texts.vectors, base, polls, rng))
    scored, shares = timed(lambda: density.over(texts.vectors, base))
    chose, _ = timed(lambda: cover(texts.vectors, Demand.of(texts.vectors, shares, rng, most=MOST), KEPT, rng))
    table = Table(title=f"{number:,} texts, {POLLS} polls of {SLATE} candidates")
    for name in ("step", "seconds", "matrix products"):
        table.add_column(name, justify="left" if name == "step" else "right")
    for name, seconds in (
        (f"product of the texts and {MOST:,} places", product),
        (f"fit the density at {MOST:,} places", fitted),
        ("score all texts", scored),
        (f"choose {KEPT} of them against {MOST:,} places", chose),
    ):
        table.add_row(name, f"{seconds:.1f}", f"{seconds / product:.2f}")
    console.print(table)
    mean, error = lost()
    console.print(
        f"{EXACT:,} texts: a demand of {MOST:,} places that are drawn loses {mean:.1%} +- {error:.1%} of what the "
        "exact choice gains over texts at random",
        highlight=False,
    )


if __name__ == "__main__":
    main()
