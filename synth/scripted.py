"""A scripted fake generator, for tests of everything around a generator. It writes word salad about its topic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synth.corpus import Corpus, Example
from synth.generator import Encode, Generation, GenerationError, Progress

_FILLER = tuple(
    "please note that we will meet again soon because the plan for next week has changed and everyone should know "  # noqa: SIM905
    "before friday whether the room is free or somebody else needs it first".split()
)


@dataclass(frozen=True, kw_only=True)
class ScriptedFakeGenerator:
    """Fake: texts that repeat their topic's words between filler words. Deterministic in its stream, instant."""

    topics: tuple[str, ...] = ("soccer practice", "gas prices", "budget meeting", "dog adoption", "server outage")
    name: str = "scripted fake"
    reproducible: None = None
    available: int = 0
    writes: bool = True

    def check(self) -> None:
        """Nothing can be missing."""

    def check_parents(self, parents: Corpus) -> None:
        """Any text with a topic can be varied."""

    def with_encoder(self, encode: Encode) -> ScriptedFakeGenerator:
        """Itself: a fake needs no topic filter."""
        return self

    def seed(self, n: int, stream: np.random.SeedSequence, progress: Progress) -> Generation:
        """n texts, topics in turn."""
        rng = np.random.default_rng(stream)
        examples = tuple(self._example(self.topics[i % len(self.topics)], "seed", 0, rng, None) for i in range(n))
        progress(n, n)
        return Generation(Corpus(examples), n, {})

    def vary(
        self,
        parents: Corpus,
        weights: NDArray[np.float64],
        n: int,
        round: int,
        stream: np.random.SeedSequence,
        progress: Progress,
    ) -> Generation:
        """n texts on the topics of parents drawn by weight."""
        if len(parents) == 0 or not weights.sum() > 0:
            raise GenerationError("nothing to vary")
        rng = np.random.default_rng(stream)
        drawn = rng.choice(len(parents), size=n, p=weights / weights.sum())
        chosen = [parents.examples[i] for i in drawn]
        examples = tuple(self._example(p.attributes["topic"], "fake variation", round, rng, p) for p in chosen)
        progress(n, n)
        return Generation(Corpus(examples), n, {})

    def _example(
        self, topic: str, operator: str, round: int, rng: np.random.Generator, parent: Example | None
    ) -> Example:
        spoken = [*topic.split(), *rng.choice(_FILLER, size=12), *topic.split(), f"{rng.integers(10**9)}"]
        return Example(
            text=" ".join(spoken),
            subject=topic,
            attributes={"topic": topic, "tone": str(rng.choice(["warm", "dry"])), "length": "short"},
            # As real operators do, this follows the order of the parent's attributes.
            change=", ".join(parent.attributes) if parent else "",
            operator=operator,
            round=round,
            model=self.name,
            prompt="fake",
            parents=(parent.id,) if parent else (),
            family=parent.root if parent else "",
        )
