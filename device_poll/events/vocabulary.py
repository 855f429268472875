"""What the devices of a segment type, visit or edit, and how often: the values and their relative frequencies.

    loaded = WordFrequencies(path="words_by_locale.tsv.gz", segments=("en",)).load()
    (english,) = loaded.vocabularies
    english.values[:2], english.weights[:2]      # ('the', 'to'), array([0.067, 0.034])
    loaded.dropped                               # {'duplicate': 3}

A vocabulary describes a world that is simulated. The server of a real use case has a dictionary and no frequencies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

EVERYWHERE = "all"
"""The segment of a file that knows no segments."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Vocabulary:
    """What devices of one segment hold, and how often.

    `segment`: the keyboard locale ('en'), or 'all'; `values`: different strings, most frequent first; `weights`
    float64[d] > 0 with sum 1; `marks`: what else is known of each value, bool[d] (for evaluation, and for the device's
    lexicon). Raises ValueError, which shows no value, if these do not fit together.
    """

    segment: str
    values: tuple[str, ...] = field(repr=False)
    weights: NDArray[np.float64] = field(repr=False)
    marks: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        d = len(self.values)
        if not d:
            raise ValueError(f"the vocabulary of segment {self.segment!r} has no values; expected one or more")
        if len(set(self.values)) < d:
            raise ValueError(f"the vocabulary of segment {self.segment!r} has a value twice; expected different values")
        for name, array in (("weights", self.weights), *self.marks.items()):
            if array.shape != (d,):
                raise ValueError(f"{name} has shape {array.shape}; expected ({d},), one entry a value")
        if not (np.all(self.weights > 0) and abs(float(self.weights.sum()) - 1) < 1e-9):
            raise ValueError(
                f"weights sum to {self.weights.sum():g}, the least is {self.weights.min():g}; expected > 0, sum 1"
            )
        if np.any(np.diff(self.weights) > 0):
            raise ValueError("weights rise somewhere; expected the most frequent value first")

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, kw_only=True, eq=False)
class Loaded:
    """`vocabularies` in the order in which the segments were asked for; `dropped`: rows left out, by reason."""

    vocabularies: tuple[Vocabulary, ...]
    dropped: Mapping[str, int]


class Frequencies(Protocol):
    """Where vocabularies come from."""

    def check(self) -> None:
        """Raises SourceError for a missing file or impossible options, before any work."""

    def load(self) -> Loaded:
        """Reads everything. Raises SourceError (file, line, what was found, what to do; never a value)."""


def most_frequent_first(
    segment: str,
    values: list[str],
    weights: NDArray[np.float64],
    marks: Mapping[str, NDArray[np.bool_]] | None = None,
) -> Vocabulary:
    """The vocabulary of these values, sorted (ties in the order given), with weights > 0 of any sum."""
    order = np.argsort(-weights, kind="stable")
    ordered = weights[order]
    return Vocabulary(
        segment=segment,
        values=tuple(values[i] for i in order.tolist()),
        weights=ordered / ordered.sum(),
        marks={name: mark[order] for name, mark in (marks or {}).items()},
    )
