"""The attribute grid: what a generator is asked for. Topics with slots for entities, and any further axes.

    grid = AttributeGrid.from_yaml()                       # the packaged grid, synth/grids/email.yaml
    asked = grid.sample(2_000, np.random.default_rng(0))   # topics in even shares, the rest as it goes with them
    asked[0]                                               # {'topic': 'a cancelled tennis practice', 'tone': ..., ...}
    other = grid.swap_entity(asked[0], rng)                # {'topic': 'a cancelled soccer practice', ...}

A grid of one's own is a copy of that file: `AttributeGrid.from_yaml("my_grid.yaml")`.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import numpy as np

from synth.grid_files import parse_grid
from synth.proportions import Fits, Proportions, Shares
from synth.topics import check_topics, draw_members, others, read_members, render, slots, written
from synth.yaml_files import check_keys, read_mapping, text_list, text_mapping

# device_poll/town reads its file with the same functions and takes them from here.
__all__ = ["AttributeGrid", "check_keys", "read_mapping", "text_list", "text_mapping"]


@dataclass(frozen=True, kw_only=True)
class AttributeGrid:
    """What a generator can be asked for.

    `axes` gives the entries of each axis: 'topic' first, 'length' among the others; a topic is a template whose slots
    are filled from `entities`. `groups` gives the heading of each topic, `length_words` the fewest and the most words
    of each length, `style` the axes that say how a text is written rather than what it says. `shares` and `fits` are
    those of synth.proportions.Proportions. Raises ValueError, in one line, where these do not fit together.

    Attributes are dicts: 'topic' is the topic with its slots filled, then one entry for each other axis, then
    'template' with its slots, and, only if it has slots, 'entities' with what fills them ('sport=tennis; city=Oslo').
    """

    axes: Mapping[str, tuple[str, ...]]
    groups: Mapping[str, str]
    length_words: Mapping[str, tuple[int, int]]
    entities: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    shares: Shares = field(default_factory=dict)
    fits: Fits = field(default_factory=dict)
    style: tuple[str, ...] = ("tone", "length")

    def __post_init__(self) -> None:
        if next(iter(self.axes), None) != "topic" or "length" not in self.axes:
            raise ValueError(f"axes has {', '.join(self.axes) or 'nothing'}; expected topic first, and length")
        if reserved := {"heading", "template", "entities"} & set(self.axes):
            raise ValueError(f"axes has '{min(reserved)}', which means something else here; give it another name")
        for axis, entries in self.axes.items():
            text_list(list(entries), axis)
        for name, listed in self.entities.items():
            text_list(list(listed), f"entities.{name}")
        if set(self.groups) != set(self.axes["topic"]):
            raise ValueError("groups does not name every topic once; give the heading of each topic and of no other")
        if set(self.length_words) != set(self.axes["length"]):
            raise ValueError("length_words does not name every length once; give a range for each and for no other")
        for name, (fewest, most) in self.length_words.items():
            if not 1 <= fewest <= most:
                raise ValueError(
                    f"length.{name} is [{fewest}, {most}]; expected [fewest, most] with 1 <= fewest <= most"
                )
        if unknown := [axis for axis in self.style if axis not in self.axes or axis == "topic"]:
            raise ValueError(f"style names '{unknown[0]}'; expected some of {', '.join(list(self.axes)[1:])}")
        check_topics(self.groups, self.entities)
        self._laws.check_fits()

    @classmethod
    def from_yaml(cls, path: str | Path | None = None, shares: Shares | None = None) -> AttributeGrid:
        """The grid in the YAML file at `path`; None reads the packaged grid for emails.

        `shares` takes the place of the file's shares of the axes it names. Raises ValueError, in one line that begins
        with the file, if the file is missing, is not valid YAML or does not describe a grid.
        """
        return cls.packaged("email", shares) if path is None else cls._read_file(Path(path), shares)

    @classmethod
    def packaged(cls, name: str, shares: Shares | None = None) -> AttributeGrid:
        """The packaged grid `name`: 'email' or 'genmoji'. Raises ValueError as `from_yaml`."""
        return cls._read_file(files("synth") / "grids" / f"{name}.yaml", shares)

    @classmethod
    def _read_file(cls, source: Traversable, shares: Shares | None) -> AttributeGrid:
        content = read_mapping(source)
        try:
            fields = parse_grid(content)
            return cls(**{**fields, "shares": {**fields.get("shares", {}), **(shares or {})}})
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from None

    def sample(self, n: int, rng: np.random.Generator, shares: Shares | None = None) -> list[dict[str, str]]:
        """Attributes for n texts.

        Every topic appears n times its share, rounded down or up, in shuffled order; its entities are uniform, and each
        other axis is drawn by its shares among what fits. `shares` takes the place of the grid's own for the axes it
        names, 'heading' among them, as in {'heading': {'travel': 0.3}}: what is not named divides the rest evenly.
        Raises ValueError if n is negative or shares name what is not in the grid or are no proportions.
        """
        if n < 0:
            raise ValueError(f"n is {n}; expected a number of texts >= 0")
        laws = self._laws.with_shares(shares) if shares else self._laws
        return [self._drawn(template, None, {}, laws, rng) for template in laws.spread(n, rng)]

    def estimated_shares(
        self, asked: Sequence[Mapping[str, str]], weights: Sequence[float], axis: str = "topic"
    ) -> dict[str, dict[str, float]]:
        """What `sample` takes as shares of `axis` ('heading' too), from a poll's estimate.

        `weights` are the votes of texts with the attributes `asked`; an entry's noisy votes are added up first, and
        sums below 0 count as 0. Raises ValueError if nothing is left, or attributes are not from this grid.
        """
        if axis != "heading" and axis not in self.axes:
            raise ValueError(f"axis is '{axis}'; expected one of heading, {', '.join(self.axes)}")
        votes: dict[str, float] = defaultdict(float)
        for attributes, weight in zip(asked, weights, strict=True):
            votes[self._known(attributes)[axis]] += weight
        positive = {entry: vote for entry, vote in votes.items() if vote > 0}
        if not positive:
            raise ValueError(f"no {axis} has votes above 0 among {len(asked)} texts; use even shares")
        total = sum(positive.values())
        return {axis: {entry: vote / total for entry, vote in positive.items()}}

    def change(
        self, attributes: Mapping[str, str], rng: np.random.Generator, keep: Sequence[str] = ("topic",)
    ) -> dict[str, str]:
        """New attributes: the axes of `keep` as they are, and at least one of the others different.

        Drawn as `sample` draws, given that something changes. Raises ValueError if `attributes` is not from this grid,
        if `keep` names an unknown axis, or if nothing is left that could change.
        """
        present = self._known(attributes)
        if unknown := [axis for axis in keep if axis not in self.axes]:
            raise ValueError(f"keep names '{unknown[0]}'; the axes are {', '.join(self.axes)}")
        free = [axis for axis in self.axes if axis not in keep]
        # If no free axis has another entry behind the present ones before it, the present combination is the only one.
        if not any(self._has_other(axis, present) for axis in free):
            raise ValueError(f"keep is {list(keep)}; no other axis has a second entry that fits, so nothing can change")
        kept = {axis: attributes[axis] for axis in self.axes if axis in keep and axis != "topic"}
        while True:
            if "topic" in keep:
                members: Mapping[str, str] | None = self._members(attributes)
                template = present["topic"]
            else:
                members, template = None, self._laws.spread(1, rng)[0]
            drawn = self._drawn(template, members, kept, self._laws, rng)
            if any(drawn[axis] != attributes[axis] for axis in free):
                return drawn

    def swap_topic(self, attributes: Mapping[str, str], rng: np.random.Generator) -> dict[str, str]:
        """Another topic under the same heading, other axes kept; under any heading where it is its heading's only one.

        Raises ValueError if `attributes` is not from this grid or the grid has one topic only.
        """
        present = self._known(attributes)
        rest = [topic for topic in self.axes["topic"] if topic != present["topic"]]
        if not rest:
            raise ValueError("the grid has one topic only, so it cannot be swapped; add topics")
        near = [topic for topic in rest if self.groups[topic] == present["heading"]] or rest
        template = near[int(rng.integers(len(near)))]
        return self._drawn(template, None, self._but_topic(attributes), self._laws, rng)

    def swap_entity(self, attributes: Mapping[str, str], rng: np.random.Generator) -> dict[str, str] | None:
        """Another entity in one slot of the topic, all else kept; None where no slot could be filled differently.

        Raises ValueError if `attributes` is not from this grid.
        """
        template = self._known(attributes)["topic"]
        members = self._members(attributes)
        choices = [(slot, other) for slot in members if (other := others(slot, members, self.entities))]
        if not choices:
            return None
        slot, other = choices[int(rng.integers(len(choices)))]
        members = {**members, slot: other[int(rng.integers(len(other)))]}
        return self._drawn(template, members, self._but_topic(attributes), self._laws, rng)

    def restyle(self, attributes: Mapping[str, str], rng: np.random.Generator) -> dict[str, str]:
        """At least one axis of `style` changes and no other does. Raises ValueError as `change`."""
        return self.change(attributes, rng, keep=[axis for axis in self.axes if axis not in self.style])

    def cross(self, a: Mapping[str, str], b: Mapping[str, str], rng: np.random.Generator) -> dict[str, str]:
        """The topic of a and each other axis from a or b; at least one from b where they differ.

        Uniform over the combinations that fit the topic and each other, or over all if none does. Raises ValueError if
        attributes are not from this grid.
        """
        present, other = self._known(a), self._known(b)
        differing = [axis for axis in list(self.axes)[1:] if present[axis] != other[axis]]
        if not differing:
            return dict(a)
        crossed = [
            present | {axis: other[axis] for axis, taken in zip(differing, choice, strict=True) if taken}
            for choice in itertools.product((False, True), repeat=len(differing))
            if any(choice)
        ]
        fitting = [c for c in crossed if all(c[axis] in self._laws.possible(axis, c) for axis in differing)]
        chosen = (fitting or crossed)[int(rng.integers(len(fitting or crossed)))]
        return self._drawn(present["topic"], self._members(a), self._but_topic(chosen), self._laws, rng)

    def heading(self, attributes: Mapping[str, str]) -> str:
        """The heading of the topic; ValueError if `attributes` is not from this grid."""
        return self._known(attributes)["heading"]

    def words(self, attributes: Mapping[str, str]) -> tuple[int, int]:
        """(fewest, most) words that were asked for; ValueError if `attributes` has no length of this grid."""
        length = attributes.get("length", "")
        if length not in self.length_words:
            raise ValueError(f"length is '{length}'; expected one of {', '.join(self.length_words)}")
        return self.length_words[length]

    def coverage(self, asked: Iterable[Mapping[str, str]]) -> dict[str, float]:
        """The share of headings, topics, entities and entries of every other axis that occur in `asked`.

        Entries whose share in this grid is 0 do not count. Raises ValueError if attributes are not from this grid.
        """
        seen: dict[str, set[str]] = defaultdict(set)
        members = set()
        for attributes in asked:
            for axis, entry in self._known(attributes).items():
                seen[axis].add(entry)
            template = attributes.get("template", "")
            members |= {(slots(template)[slot], member) for slot, member in self._members(attributes).items()}
        offered = {axis: set(self._laws.offered(axis)) for axis in ("heading", *self.axes)}
        shares = {axis: len(entries & seen[axis]) / len(entries) for axis, entries in offered.items()}
        total = sum(len(listed) for listed in self.entities.values())
        return shares | ({"entity": len(members) / total} if total else {})

    @cached_property
    def _laws(self) -> Proportions:
        return Proportions(axes=self.axes, groups=self.groups, shares=self.shares, fits=self.fits)

    def _drawn(
        self,
        template: str,
        members: Mapping[str, str] | None,
        kept: Mapping[str, str],
        laws: Proportions,
        rng: np.random.Generator,
    ) -> dict[str, str]:
        """Attributes with this topic and the entries `kept`; entities and the other axes are drawn."""
        if members is None:
            members = draw_members(template, self.entities, rng)
        chosen = laws.draw({"heading": self.groups[template], "topic": template, **kept}, rng)
        entries = {axis: chosen[axis] for axis in self.axes if axis != "topic"}
        filled = {"topic": render(template, members), **entries, "template": template}
        return filled | ({"entities": written(members)} if members else {})

    def _known(self, attributes: Mapping[str, str]) -> dict[str, str]:
        """The entry of each axis, 'topic' being the template, and 'heading'; ValueError if not from this grid."""
        check_keys(attributes, tuple(self.axes), "attributes", optional=("template", "entities"))
        template = attributes.get("template", attributes["topic"])
        entries = {axis: attributes[axis] for axis in self.axes} | {"topic": template}
        for axis, entry in entries.items():
            if entry not in self.axes[axis]:
                raise ValueError(f"{axis} is '{entry}', which is not in this grid; use the grid that asked for it")
        members = self._members(attributes)
        filled = slots(template)
        fits = set(members) == set(filled) and all(members[slot] in self.entities[filled[slot]] for slot in filled)
        if not fits or render(template, members) != attributes["topic"]:
            raise ValueError(f"topic is '{attributes['topic']}', which its template and entities do not give")
        return entries | {"heading": self.groups[template]}

    def _members(self, attributes: Mapping[str, str]) -> dict[str, str]:
        return read_members(attributes.get("entities", ""))

    def _but_topic(self, attributes: Mapping[str, str]) -> dict[str, str]:
        return {axis: attributes[axis] for axis in self.axes if axis != "topic"}

    def _has_other(self, axis: str, present: Mapping[str, str]) -> bool:
        if axis != "topic":
            return bool(set(self._laws.possible(axis, present)) - {present[axis]})
        slotted = slots(present["topic"]).values()
        return bool(set(self._laws.offered("topic")) - {present["topic"]}) or any(
            len(self.entities[name]) > list(slotted).count(name) for name in slotted
        )
