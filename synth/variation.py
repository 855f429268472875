"""How a winner becomes something new: one class per operator, each saying in the lineage what it changed.

Small models do not rewrite: asked to change the topic of a text they copy it. Variation is therefore re-generation:
from changed attributes, with the winner as a further few-shot example, or from its first sentence. `Rewrite` is for
models that can, and is refused where a probe shows that they cannot (synth/probe.py).

    operators = Operators(shares={"topic_swap": 1, "winner_example": 2})
    asked = operators.ask(parent, partner, grid, rng)      # attributes, what is shown, what changed
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Protocol

import numpy as np

from synth.attributes import AttributeGrid
from synth.corpus import Example

SEED = "seed"
_FIRST_SENTENCE = re.compile(r"^.{20,200}?[.!?](?=\s)")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One text that is asked for, and what its lineage will say.

    `shown` is an example that only this request sees; `begin` the words that the answer starts with; `rewrite` a text
    that the model is told to rewrite.
    """

    attributes: Mapping[str, str]
    operator: str
    change: str = ""
    parent: Example | None = None
    shown: Example | None = None
    begin: str = ""
    rewrite: str = ""


class Operator(Protocol):
    """Makes a request from a winner; None where it does not apply to this one."""

    name: ClassVar[str]

    def ask(self, parent: Example, partner: Example, grid: AttributeGrid, rng: np.random.Generator) -> Asked | None:
        """`partner` is another winner, drawn by votes (it may be the parent itself)."""


def _changed(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """'tone: warm -> dry; length: ...' for the lineage."""
    names = [name for name in (*before, *(x for x in after if x not in before)) if before.get(name) != after.get(name)]
    return "; ".join(f"{name}: {before.get(name, '-')} -> {after.get(name, '-')}" for name in names)


@dataclass(frozen=True)
class AttributeChange:
    """Keeps the topic; everything else may change, at least one thing does."""

    name: ClassVar[str] = "attribute_change"

    def ask(self, parent: Example, partner: Example, grid: AttributeGrid, rng: np.random.Generator) -> Asked:
        """Always applies."""
        after = grid.change(parent.attributes, rng)
        return Asked(attributes=after, operator=self.name, change=_changed(parent.attributes, after), parent=parent)


@dataclass(frozen=True)
class TopicSwap:
    """Another topic under the same heading: what is near to what won, and was perhaps never asked about."""

    name: ClassVar[str] = "topic_swap"

    def ask(self, parent: Example, partner: Example, grid: AttributeGrid, rng: np.random.Generator) -> Asked | None:
        """Always applies."""
        after = grid.swap_topic(parent.attributes, rng)
        return Asked(attributes=after, operator=self.name, change=_changed(parent.attributes, after), parent=parent)


@dataclass(frozen=True)
class EntitySwap:
    """The same topic about another thing of the same kind: tennis becomes soccer."""

    name: ClassVar[str] = "entity_swap"

    def ask(self, parent: Example, partner: Example, grid: AttributeGrid, rng: np.random.Generator) -> Asked | None:
        """Applies to topics that name an entity of the grid."""
        after = grid.swap_entity(parent.attributes, rng)
        if after is None:
            return None
        return Asked(attributes=after, operator=self.name, change=_changed(parent.attributes, after), parent=parent)


@dataclass(frozen=True)
class Restyle:
    """Only tone and length change."""

    name: ClassVar[str] = "restyle"

    def ask(self, parent: Example, partner: Example, grid: AttributeGrid, rng: np.random.Generator) -> Asked | None:
        """Always applies."""
        after = grid.restyle(parent.attributes, rng)
        return Asked(attributes=after, operator=self.name, change=_changed(parent.attributes, after), parent=parent)


@dataclass(frozen=True)
class WinnerExample:
    """The winner is shown as a further example, so that its manner is continued and not only its topic."""

    name: ClassVar[str] = "winner_example"

    def ask(self, parent: Example, partner: Example, grid: AttributeGrid, rng: np.random.Generator) -> Asked | None:
        """Always applies."""
        after = grid.change(parent.attributes, rng)
        change = _changed(parent.attributes, after)
        return Asked(attributes=after, operator=self.name, change=change, parent=parent, shown=parent)


@dataclass(frozen=True)
class Crossover:
    """The topic of one winner, the other attributes from it and a second one.

    No text of the second is shown, so the child descends from the first alone and a split by family stays clean.
    """

    name: ClassVar[str] = "crossover"

    def ask(self, parent: Example, partner: Example, grid: AttributeGrid, rng: np.random.Generator) -> Asked | None:
        """Applies to two winners that differ in more than the topic."""
        after = grid.cross(parent.attributes, partner.attributes, rng)
        change = _changed(parent.attributes, after)
        if not change:
            return None
        return Asked(attributes=after, operator=self.name, change=f"with {partner.id}: {change}", parent=parent)


@dataclass(frozen=True)
class Continuation:
    """The first sentence is kept and the rest written anew."""

    name: ClassVar[str] = "continuation"

    def ask(self, parent: Example, partner: Example, grid: AttributeGrid, rng: np.random.Generator) -> Asked | None:
        """Applies to texts of more than one sentence."""
        found = _FIRST_SENTENCE.match(parent.text)
        if found is None:
            return None
        return Asked(
            attributes=dict(parent.attributes),
            operator=self.name,
            change=f"all but the first {len(found.group().split())} words",
            parent=parent,
            begin=found.group(),
        )


@dataclass(frozen=True)
class Rewrite:
    """The model is told to rewrite the winner about another topic of its heading."""

    name: ClassVar[str] = "rewrite"

    def ask(self, parent: Example, partner: Example, grid: AttributeGrid, rng: np.random.Generator) -> Asked | None:
        """Always applies; whether the model can do it is probed before."""
        after = grid.swap_topic(parent.attributes, rng)
        change = _changed(parent.attributes, after)
        return Asked(attributes=after, operator=self.name, change=change, parent=parent, rewrite=parent.text)


_ALL: tuple[Operator, ...] = (
    AttributeChange(),
    TopicSwap(),
    EntitySwap(),
    Restyle(),
    WinnerExample(),
    Crossover(),
    Continuation(),
    Rewrite(),
)
OPERATORS: Mapping[str, Operator] = MappingProxyType({operator.name: operator for operator in _ALL})


@dataclass(frozen=True, kw_only=True)
class Operators:
    """How often each operator is used; shares need not sum to 1.

    An operator that does not apply to a parent leaves its place to `attribute_change`, and the lineage says so. Raises
    ValueError for unknown names, negative shares, or none above 0.
    """

    shares: Mapping[str, float]

    def __post_init__(self) -> None:
        if unknown := [name for name in self.shares if name not in OPERATORS]:
            raise ValueError(f"generator.operators.shares has {unknown[0]!r}; expected some of {', '.join(OPERATORS)}")
        for name, share in self.shares.items():
            if not share >= 0:
                raise ValueError(f"generator.operators.shares.{name} is {share}; expected a share, 0 or more")
        if not sum(self.shares.values()) > 0:
            raise ValueError(
                "generator.operators.shares has no share above 0; give at least one operator a positive share"
            )

    @property
    def active(self) -> tuple[str, ...]:
        """The operators in use."""
        return tuple(name for name, share in self.shares.items() if share > 0)

    def ask(self, parent: Example, partner: Example, grid: AttributeGrid, rng: np.random.Generator) -> Asked:
        """One request, by an operator drawn by its share."""
        shares = np.array([self.shares[name] for name in self.active], dtype=np.float64)
        drawn = self.active[int(rng.choice(len(shares), p=shares / shares.sum()))]
        asked = OPERATORS[drawn].ask(parent, partner, grid, rng)
        return asked or AttributeChange().ask(parent, partner, grid, rng)
