"""What every generator looks like: it writes a seed corpus and varies what a poll chose."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from synth.corpus import Corpus

Progress = Callable[[int, int], None]
"""Called with (kept so far, wanted)."""


Encode = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts to unit vectors: handed in, because synth/ does not import embed/."""


class GenerationError(RuntimeError):
    """Generation cannot go on; the message says why and what to do."""


@dataclass(frozen=True)
class Generation:
    """What one call of a generator produced: kept examples, attempts, and every drop by reason.

    `tokens` were written for it now (None: the backend does not count); `reused` answers were on disk, from before.
    """

    corpus: Corpus
    attempted: int
    drops: Mapping[str, int]
    tokens: int | None = field(default=None, compare=False)
    reused: int = field(default=0, compare=False)

    @property
    def counted(self) -> str:
        """What was kept and why the rest was not, in words."""
        dropped = ", ".join(f"{count} {reason}" for reason, count in sorted(self.drops.items()))
        share = len(self.corpus) / max(self.attempted, 1)
        return f"kept {len(self.corpus)} of {self.attempted} texts ({share:.0%}); dropped: {dropped or 'none'}"


class Generator(Protocol):
    """Writes texts. All randomness of its own comes from the `stream` it is given; see `reproducible`."""

    @property
    def name(self) -> str:
        """Which model and settings write, for lineage and cards."""

    @property
    def reproducible(self) -> str | None:
        """None if the same stream gives the same texts; otherwise one sentence why it need not."""

    @property
    def available(self) -> int:
        """How many texts there are before any is written."""

    @property
    def writes(self) -> bool:
        """Whether it writes as many more as are asked for, and varies texts."""

    def check(self) -> None:
        """Raise GenerationError now if the weights or packages are missing, before any other work starts."""

    def check_parents(self, parents: Corpus) -> None:
        """Raise GenerationError now if these could not be varied, before anybody is polled about them."""

    def with_encoder(self, encode: Encode) -> Generator:
        """The same generator, which may use `encode` (unit rows) to drop texts that miss their topic."""

    def seed(self, n: int, stream: np.random.SeedSequence, progress: Progress) -> Generation:
        """n kept examples spread over the attribute grid."""

    def vary(
        self,
        parents: Corpus,
        weights: NDArray[np.float64],
        n: int,
        round: int,
        stream: np.random.SeedSequence,
        progress: Progress,
    ) -> Generation:
        """n kept variations born in `round`; parent i gets children in proportion to weights[i] >= 0."""
