"""Run folders as frozen values: what a comparison works on. experiments/compare/load.py reads them.

    run = load_run(Path("runs/town/seed0-1a2b3c4d"))
    run.epsilon, run.metrics[-1]["self_similarity"], run.truth[-1].get("similarity"), run.fact("devices.count")
    history = load_rounds(run)              # candidates, estimates, vectors: only a page needs them

Numbers that a server knows (`metrics`) and numbers that only a simulation knows (`truth`, `arms`, `true_votes`) are
kept in fields of their own all the way to the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from experiments.folder.reader import RunFiles

Row = Mapping[str, float]
Kind = Literal["refine", "count"]
"""What a run did: refine a corpus, poll by poll, or count what devices hold, key by key."""


@dataclass(frozen=True, kw_only=True)
class Central:
    """A central guarantee, from privacy.json: (`epsilon`, `delta`), and the trust model that it holds under."""

    epsilon: float
    delta: float
    trust_model: str


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of one stage of one round; `arm` is None for the run itself, `round` -1 before the first."""

    round: int
    arm: str | None
    stage: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run folder without its candidates.

    `config` has flat keys ('mechanism.epsilon'); `facts` is run.json. Of a refinement, `metrics` and `truth` have one
    row a round, the refined corpus as the last, and `complete` counts complete polls, `planned` those that the
    configuration asks for. Of a count, they have one row: what is said of each key, as 'KEY: NAME', and of all
    together, as 'NAME'; `complete` counts complete `keys`, `planned` all. `alone`: it is shown on a page of its own.
    """

    files: RunFiles = field(repr=False)
    config: Mapping[str, object] = field(repr=False)
    facts: Mapping[str, Any] = field(repr=False)
    complete: int
    planned: int
    metrics: Sequence[Row] = field(repr=False)
    truth: Sequence[Row] = field(repr=False)
    arms: Mapping[str, Sequence[Row]] = field(repr=False)
    timings: Sequence[Timing] = field(repr=False)
    central: Central | None
    alone: bool = False
    kind: Kind = "refine"
    keys: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """How pages name it: by its folder, or, on its own page, which must not depend on places, by its seed."""
        return f"seed {self.seed}" if self.alone else self.path.name

    @property
    def path(self) -> Path:
        """The run folder."""
        return self.files.path

    @property
    def seed(self) -> int:
        """What the run's randomness derives from."""
        return int(str(self.config["seed"]))

    @property
    def epsilon(self) -> float | None:
        """The local budget that a device spends in the run; None under a trust model without one."""
        value = self.fact("privacy.epsilon_per_device")
        return float(value) if isinstance(value, int | float) else None

    def fact(self, path: str) -> Any:
        """A value of run.json, such as 'devices.asked_per_round'; None where the run does not say."""
        node: Any = self.facts
        for key in path.split("."):
            node = node.get(key) if isinstance(node, Mapping) else None
        return node

    @property
    def step(self) -> str:
        """What is complete or not: a poll, or a key."""
        return "poll" if self.kind == "refine" else "key"

    @property
    def finished(self) -> bool:
        """Whether all steps are complete, and the refined corpus, where there is one, is there."""
        rows = self.complete if self.kind == "refine" else 0
        return self.complete >= self.planned and len(self.metrics) > rows


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One synthetic text with its lineage. `change` is empty where the run did not record it."""

    text: str
    subject: str
    attributes: Mapping[str, str]
    operator: str
    change: str
    born: int
    parents: tuple[str, ...]
    family: str


@dataclass(frozen=True, kw_only=True)
class Poll:
    """What a poll of m candidates gave: `count`, `stderr` float64[m], `rank` int64[m] (-1: not kept).

    `true_votes` int64[m] is there in simulations only.
    """

    count: NDArray[np.float64] = field(repr=False)
    stderr: NDArray[np.float64] = field(repr=False)
    rank: NDArray[np.int64] = field(repr=False)
    true_votes: NDArray[np.int64] | None = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Round:
    """One slate: `ids` of its candidates in order, `vectors` float32[m, d], `weights` float64[m] that sum to 1.

    `poll` is None for the refined corpus, which is not polled any more.
    """

    number: int
    ids: tuple[str, ...]
    vectors: NDArray[np.float32] = field(repr=False)
    weights: NDArray[np.float64] = field(repr=False)
    poll: Poll | None = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class History:
    """All slates of a run, and every candidate by its id."""

    rounds: tuple[Round, ...]
    candidates: Mapping[str, Candidate] = field(repr=False)
