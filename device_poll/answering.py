"""What one polled device answers, before privatization: the candidate nearest to one of its recent items, or none.

The answers here are the noise-free truth. On a real device they never leave it; in a simulation only the fleet (which
privatizes them at once) and the evaluation (which writes under oracle/) call this.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from device_poll.matching import Matcher
from device_poll.population import Population, PopulationError, device_codes
from embed.compact import CompactEmbeddings
from privacy.poll import Choice
from privacy.randomness import Stage, generator


@dataclass(frozen=True, kw_only=True)
class AnswerRule:
    """A device looks at `items` of its `recent` latest items and answers with the candidate nearest to any of them,
    or 'none of these' if the best cosine is below `none_below`.
    """

    recent: int = 20
    items: int = 1
    none_below: float = 0.3

    def __post_init__(self) -> None:
        if not 1 <= self.items <= self.recent:
            raise PopulationError(
                f"answer.items is {self.items} and answer.recent {self.recent}; expected 1 <= items <= recent"
            )
        if not -1 <= self.none_below <= 1:
            raise PopulationError(f"answer.none_below is {self.none_below:g}; expected a cosine in [-1, 1]")


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """`values` int64[n]: a candidate, or `Choice.none`; `similarity` float64[n]: cosines, where there are any."""

    values: NDArray[np.int64]
    similarity: NDArray[np.float64] | None


def answer(
    population: Population,
    devices: NDArray[np.int64],
    slate: CompactEmbeddings,
    rule: AnswerRule,
    *,
    seed: int,
    round: int,
) -> Answers:
    """The true answers of `devices` in `round`, in their order."""
    rows, owner = _sample_items(population, devices, rule, seed=seed, round=round)
    matches = Matcher(slate).match(device_codes(population.embeddings[rows]))
    # Best item per device: sort by device, then by falling similarity, then by lowest candidate; take the first.
    order = np.lexsort((matches.nearest, -matches.similarity, owner))
    first = order[np.r_[True, np.diff(owner[order]) > 0]] if len(order) else order
    similarity = matches.similarity[first]
    values = np.where(similarity >= rule.none_below, matches.nearest[first], Choice(len(slate)).none)
    return Answers(values=values.astype(np.int64), similarity=similarity)


def _sample_items(
    population: Population, devices: NDArray[np.int64], rule: AnswerRule, *, seed: int, round: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the sampled items and, for each, the position of its device in `devices`."""
    ends = population.offsets[devices + 1]
    window = np.minimum(ends - population.offsets[devices], rule.recent)
    rng = generator(seed, round, Stage.SAMPLE_ITEMS)
    # The `items` smallest of `recent` uniform keys per device: sampling without replacement, in fixed shape.
    keys = rng.random((len(devices), rule.recent))
    keys[np.arange(rule.recent)[None, :] >= window[:, None]] = np.inf
    picked = np.argsort(keys, axis=1, kind="stable")[:, : rule.items]
    valid = picked < window[:, None]
    owner = np.broadcast_to(np.arange(len(devices))[:, None], picked.shape)[valid]
    rows = ends[owner] - 1 - picked[valid]
    return rows.astype(np.int64), owner.astype(np.int64)
