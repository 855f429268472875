"""What a run folder holds, by name. No other file knows these names.

    Round(0).tally                 # 'rounds/000/tally.npz'
    Key("emoji.en").histogram      # 'segments/emoji.en/histogram.parquet'
    truth(METRICS)                 # 'oracle/metrics.csv'

A run is a row of steps: rounds of a refinement, keys of a count. A step is a folder; its `mark` is written last and
means that the step is complete, so a run continues behind the last mark. What only a simulation knows stands in a
folder oracle/ beside what it is the truth of, and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

ORACLE = "oracle"

CONFIG = "config.yaml"
FACTS = "run.json"
STATEMENT = "privacy.json"
STATEMENT_PAGE = "privacy.md"
METRICS = "metrics.csv"
METRICS_TABLE = "metrics.parquet"
TIMINGS = "timings.csv"
AUDIT = "audit.json"
PAGE = "report.html"
SEED_CORPUS = "seed_corpus.json"
CORPUS = "corpus.parquet"
DATASET = "dataset"
CARD = f"{DATASET}/README.md"

DEVICES = f"{ORACLE}/devices.json"
"""What was counted among the devices' data without noise; on resume it must be the same."""
NOISE_KEY = f"{ORACLE}/noise.key"
"""The devices' secret, where noise is not drawn from the seed."""
POLLS = f"{ORACLE}/polls.json"
"""What the reports of every poll depended on, by a keyed name."""
WATCHED = f"{ORACLE}/watched.json"
"""The id of the device whose report log is kept: it may be a person's address."""
OVERLAP = f"{ORACLE}/overlap.json"
ROUNDS_PLOT = f"{ORACLE}/rounds.png"
SHARES_PLOT = f"{ORACLE}/shares.png"

ROUNDS, KEYS, DIFFERENCES, ARMS = "rounds", "segments", "differences", f"{ORACLE}/arms"
SWEEP = "sweep.json"


def truth(name: str) -> str:
    """Where the truth of a file is: beside it, under oracle/."""
    place, _, file = name.rpartition("/")
    return f"{place}/{ORACLE}/{file}" if place else f"{ORACLE}/{file}"


def is_truth(name: str) -> bool:
    """Whether a file holds noise-free truth, which only a simulation knows."""
    return ORACLE in name.split("/")


def arm(name: str) -> str:
    """The folder of an arm of the evaluation, laid out as a run's own."""
    return f"{ARMS}/{name}"


def difference(first: str, second: str) -> str:
    """How the shares of the key `first` differ from those of another segment."""
    return f"{DIFFERENCES}/{first}-{second}.parquet"


class Step(Protocol):
    """A step of a run."""

    @property
    def place(self) -> str:
        """Its folder."""

    @property
    def mark(self) -> str:
        """The file that is written last."""


@dataclass(frozen=True)
class Round:
    """A round of a refinement; the one behind the last poll holds the refined corpus, which is not polled."""

    number: int

    @property
    def place(self) -> str:
        """Its folder."""
        return f"{ROUNDS}/{self.number:03d}"

    @property
    def mark(self) -> str:
        """Written last: what the round was, in short."""
        return f"{self.place}/round.json"

    @property
    def corpus(self) -> str:
        """The candidates, with lineage."""
        return f"{self.place}/{CORPUS}"

    @property
    def pool(self) -> str:
        """The texts that were written for this round, of which and of all before the candidates are chosen, if so."""
        return f"{self.place}/pool.parquet"

    @property
    def embeddings(self) -> str:
        """Their vectors, float32."""
        return f"{self.place}/embeddings.npy"

    @property
    def tally(self) -> str:
        """The sum of the reports."""
        return f"{self.place}/tally.npz"

    @property
    def estimate(self) -> str:
        """Count, standard error and rank of each candidate."""
        return f"{self.place}/estimate.parquet"

    @property
    def next_weights(self) -> str:
        """Each member of the next corpus: its share of the votes."""
        return f"{self.place}/next_weights.npy"

    @property
    def metrics(self) -> str:
        """The round's row of metrics.csv."""
        return f"{self.place}/metrics.json"

    @property
    def votes(self) -> str:
        """True votes."""
        return f"{self.place}/{ORACLE}/votes.npy"

    @property
    def shares(self) -> str:
        """Known, true and estimated shares, where a population's truth is known."""
        return f"{self.place}/{ORACLE}/shares.csv"

    @property
    def topics(self) -> str:
        """Known shares, and those of the corpus's texts, where a population's truth is known."""
        return f"{self.place}/{ORACLE}/topics.csv"

    @property
    def report_log(self) -> str:
        """What the watched device sent."""
        return f"{self.place}/{ORACLE}/report_log.json"

    @property
    def ledger(self) -> str:
        """Who was silent, and what other use cases cost."""
        return f"{self.place}/{ORACLE}/ledger.json"

    @property
    def kept(self) -> tuple[str, ...]:
        """What every complete round has; some have more."""
        return (
            self.corpus, self.embeddings, self.tally, self.estimate, self.metrics, self.next_weights, self.mark,
            self.votes, truth(self.metrics),
        )  # fmt: skip


@dataclass(frozen=True)
class Key:
    """A key of a count: a use case in one segment."""

    name: str

    @property
    def place(self) -> str:
        """Its folder."""
        return f"{KEYS}/{self.name}"

    @property
    def mark(self) -> str:
        """Written last: how many were looked at, released, withheld."""
        return f"{self.place}/segment.json"

    @property
    def histogram(self) -> str:
        """What was released."""
        return f"{self.place}/histogram.parquet"

    @property
    def metrics(self) -> str:
        """The key's row of metrics.csv."""
        return f"{self.place}/metrics.json"

    @property
    def truth(self) -> str:
        """True counts of what was released."""
        return f"{self.place}/{ORACLE}/truth.parquet"

    @property
    def by_frequency(self) -> str:
        """Precision and recall of a word search."""
        return f"{self.place}/{ORACLE}/by_frequency.csv"


def rounds(folder: Path, name: Callable[[Round], str] = lambda step: step.mark) -> list[Path]:
    """This file of every round that has it, in order: by default the mark."""
    numbers = sorted(int(place.name) for place in folder.glob(f"{ROUNDS}/*") if place.name.isdecimal())
    return [path for number in numbers if (path := folder / name(Round(number))).exists()]


def arms(folder: Path) -> list[str]:
    """The arms that a run folder has."""
    return sorted(place.parent.name for place in folder.glob(f"{ARMS}/*/{METRICS}"))


def _pattern(names: Iterable[str]) -> re.Pattern[str]:
    """A pattern of names in which * stands for a part of a path."""
    return re.compile("|".join(re.escape(name).replace(r"\*", "[A-Za-z0-9_-][A-Za-z0-9_.-]*") for name in names))


_ANY_ROUND, _ANY_KEY = "rounds/*", "segments/*"

RELEASED = _pattern(
    [
        CONFIG,
        FACTS,
        STATEMENT,
        AUDIT,
        *(f"{_ANY_ROUND}/{name}" for name in ("round.json", "corpus.parquet", "next_weights.npy")),
    ]
)
"""What a data set is made of, and what decides whether it may be."""

SHOWN = _pattern(
    [
        CONFIG, FACTS, STATEMENT, METRICS, TIMINGS,
        *(f"{_ANY_ROUND}/{name}.{kind}" for name, kind in (
            ("round", "json"), ("corpus", "parquet"), ("estimate", "parquet"), ("embeddings", "npy"),
            ("next_weights", "npy"),
        )),
        *(f"{_ANY_KEY}/{name}" for name in ("segment.json", "metrics.json", "histogram.parquet")),
        f"{DIFFERENCES}/*",
        # Simulation only, numbers only, and names of elements that were released.
        truth(METRICS), f"{_ANY_ROUND}/{ORACLE}/votes.npy", f"{ARMS}/*/{METRICS}", f"{ARMS}/*/{truth(METRICS)}",
        *(f"{_ANY_KEY}/{ORACLE}/{name}" for name in ("truth.parquet", "metrics.json")),
    ]
)  # fmt: skip
"""What may reach a page, which is meant to be shown around: a report log, for instance, is not among it. Of oracle/
only where its truth was asked for: a page says so, and is kept under oracle/ where the program chooses the place."""
