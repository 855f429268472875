"""What every backend looks like to the generator: prompts go in, one text or one counted failure each comes out.

    writer.check()
    for answer in writer.write(shared, prompts, stream):
        drops[answer.reason] += 1 if isinstance(answer, Failure) else 0

The generator knows grids, operators and filters; a writer knows a model. Everything that differs between a transformers
model, an endpoint and a fake stands behind these five names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

Turn = Mapping[str, str]
"""One turn of a chat: {'role': 'system' | 'user' | 'assistant', 'content': ...}."""


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One text that is asked for.

    `turns` is its own part of the chat, which follows the shared turns: an optional parent example as a user and an
    assistant turn, then the user's request, last. `limit` is the most new tokens. `begin` are words that the answer
    starts with (only for writers that can continue an answer); an answer that matches the regular expression `stop` is
    over (empty: only the model ends it).
    """

    turns: tuple[Turn, ...]
    limit: int
    begin: str = ""
    stop: str = ""

    def __post_init__(self) -> None:
        if not self.turns or self.turns[-1].get("role") != "user":
            roles = [turn.get("role") for turn in self.turns]
            raise ValueError(f"prompt.turns has the roles {roles}; expected a user's request as the last turn")
        if self.limit < 1:
            raise ValueError(f"prompt.limit is {self.limit}; expected 1 or more new tokens")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What was written.

    Where the backend knows them: `log_likelihood`, the model's own, in nats per token; `tokens`, how many were written
    (by an endpoint that does not count: the events of its stream, about one a token).
    `reused` answers were on disk: they cost no time.
    """

    text: str
    log_likelihood: float | None = None
    tokens: int | None = None
    reused: bool = field(default=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """No text came. `reason` is a short code that is counted among the drops, such as 'endpoint: rate limited'."""

    reason: str


class Writer(Protocol):
    """Answers chats. All randomness comes from the `stream` it is given."""

    @property
    def name(self) -> str:
        """Which model and settings write, for lineage and cards."""

    @property
    def chunk(self) -> int:
        """Prompts per call that suit this backend."""

    @property
    def continues(self) -> bool:
        """Whether an answer can be begun for it (`Prompt.begin`)."""

    @property
    def reproducible(self) -> str | None:
        """None if texts depend only on weights, settings and stream; otherwise one sentence why they do not."""

    def check(self) -> None:
        """Raise synth.generator.GenerationError, before any work, if something is missing, and say what to do."""

    def write(
        self, shared: Sequence[Turn], prompts: Sequence[Prompt], stream: np.random.SeedSequence
    ) -> list[Answer | Failure]:
        """One entry per prompt, in order: the assistant's answer after `shared` and its own turns, or a failure.

        Raises synth.generator.GenerationError if no further prompt could be answered either.
        """
