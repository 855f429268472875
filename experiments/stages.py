"""What a run does when: seconds by stage in timings.csv, and a bar on the terminal.

    stages = Stages(Timings(folder), console, "run")
    with stages.of(round=3):
        advance = stages.enter("poll", "polling")     # ends the stage before
        advance(done, wanted)

The ports of a round are wrapped here, so that the round itself stays pure.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from experiments.folder.layout import TIMINGS
from experiments.folder.store import RunFolder
from experiments.progress import bar
from privacy.poll import Advance, Ask, Fleet, ReportBatch
from synth.corpus import Corpus
from synth.generator import Encode, Generation, Generator, Progress

log = logging.getLogger("synthpoll")


@dataclass(frozen=True)
class Timings:
    """Seconds per stage, in timings.csv: the only file of a run folder that may differ between equal runs."""

    folder: RunFolder
    _rows: list[dict[str, object]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        path = self.folder.path / TIMINGS
        if path.exists():  # a resumed run adds to what it took before
            self._rows.extend(dict[str, object](row) for row in self.folder.files.text_rows(path.name))

    @contextmanager
    def measure(self, round: int, stage: str) -> Iterator[dict[str, object]]:
        """Time a block, which may add facts to its row. `round` is -1 for work before the first."""
        start, facts = time.perf_counter(), dict[str, object]()
        yield facts
        seconds = round_to(time.perf_counter() - start, 3)
        self._rows.append({"round": round, "stage": stage, "seconds": seconds, **facts})
        self.folder.write_csv(TIMINGS, self._rows)


def effort(made: Generation) -> dict[str, object]:
    """What writing took, for its row of timings.csv: with the cache it is less, so equal runs may differ in it."""
    return {"attempted": made.attempted, "kept": len(made.corpus), "tokens": made.tokens, "reused": made.reused}


class Stages:
    """The stages of a round, one after the other: each is timed, and a terminal shows which runs now.

    with stages.of(3):
        advance = stages.enter("poll", "polling")     # ends the stage before
        advance(done, wanted)
    """

    def __init__(self, timings: Timings, console: Console, title: str) -> None:
        self._timings, self._console, self.title = timings, console, title
        self._round, self._open, self._facts = 0, ExitStack(), dict[str, object]()

    @contextmanager
    def of(self, round: int) -> Iterator[None]:
        """A round's stages. One that fails is not timed."""
        self._round = round
        with ExitStack() as self._open:
            yield

    def enter(self, stage: str, doing: str) -> Progress:
        """Begin a stage, named so in timings.csv and in words on the terminal; returns its bar."""
        self._open.close()
        self._facts = self._open.enter_context(self._timings.measure(self._round, f"{self.title}: {stage}"))
        return self._open.enter_context(bar(self._console, f"{self.title}, round {self._round}: {doing}"))

    def note(self, facts: Mapping[str, object]) -> None:
        """Facts for the row of the stage that is open."""
        self._facts.update(facts)


@dataclass(frozen=True, kw_only=True)
class StagedFleet:
    """A fleet whose polls are a stage. A round stays pure: what is timed are its ports."""

    fleet: Fleet
    stages: Stages

    def answer(self, asks: Sequence[Ask], advance: Advance | None = None) -> Iterator[ReportBatch]:
        """The fleet's reports, counted as they come; the stage tells how far they are, whoever asks."""
        yield from self.fleet.answer(asks, self.stages.enter("poll", "polling"))
        self.stages.enter("tally", "counting")


@dataclass(frozen=True, kw_only=True)
class StagedGenerator:
    """A generator whose variations are a stage."""

    generator: Generator
    stages: Stages

    @property
    def name(self) -> str:
        """The generator's."""
        return self.generator.name

    @property
    def reproducible(self) -> str | None:
        """The generator's."""
        return self.generator.reproducible

    @property
    def available(self) -> int:
        """The generator's."""
        return self.generator.available

    @property
    def writes(self) -> bool:
        """The generator's."""
        return self.generator.writes

    def check(self) -> None:
        """The generator's."""
        self.generator.check()

    def check_parents(self, parents: Corpus) -> None:
        """The generator's."""
        self.generator.check_parents(parents)

    def with_encoder(self, encode: Encode) -> StagedGenerator:
        """The same, staged."""
        return StagedGenerator(generator=self.generator.with_encoder(encode), stages=self.stages)

    def seed(self, n: int, stream: np.random.SeedSequence, progress: Progress) -> Generation:
        """The generator's; it is no part of a round."""
        return self.generator.seed(n, stream, progress)

    def vary(
        self,
        parents: Corpus,
        weights: NDArray[np.float64],
        n: int,
        round: int,
        stream: np.random.SeedSequence,
        progress: Progress,
    ) -> Generation:
        """The generator's, on this stage's bar."""
        made = self.generator.vary(parents, weights, n, round, stream, self.stages.enter("vary", "varying"))
        self.stages.note(effort(made))
        log.info("%s, round %d: %s", self.stages.title, round, made.counted)
        return made


def round_to(value: float, digits: int) -> float:
    """A float, rounded for reading."""
    return float(f"{value:.{digits}f}")
