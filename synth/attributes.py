"""The attribute grid: which topics, purposes, tones, lengths and senders a generator is asked for.

    grid = AttributeGrid.from_yaml()                       # the packaged grid, synth/grids/email.yaml
    asked = grid.sample(2_000, np.random.default_rng(0))   # topics in even shares, everything else uniform
    other = grid.change(asked[0], np.random.default_rng(1))   # the same topic, asked for in another way

A grid of one's own is a copy of that file: `AttributeGrid.from_yaml("my_grid.yaml")`.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

AXES = ("topic", "purpose", "tone", "length", "sender_role")
"""The axes of every grid, in the order in which attributes are listed."""


@dataclass(frozen=True, kw_only=True)
class AttributeGrid:
    """What a generator can be asked for.

    `axes` gives the entries of each axis of AXES; `groups` the heading of each topic; `length_words` the fewest and the
    most words of each entry of the length axis. Raises ValueError if an axis is missing, unknown or empty, if an entry
    appears twice, or if `groups` or `length_words` do not fit the axes.
    """

    axes: Mapping[str, tuple[str, ...]]
    groups: Mapping[str, str]
    length_words: Mapping[str, tuple[int, int]]

    def __post_init__(self) -> None:
        check_keys(self.axes, AXES, "the grid")
        for axis, entries in self.axes.items():
            text_list(list(entries), axis)
        if set(self.groups) != set(self.axes["topic"]):
            raise ValueError("groups does not name every topic once; give the heading of each topic and of no other")
        if set(self.length_words) != set(self.axes["length"]):
            raise ValueError("length_words does not name every length once; give a range for each and for no other")
        for name, (fewest, most) in self.length_words.items():
            if not 1 <= fewest <= most:
                raise ValueError(
                    f"length.{name} is [{fewest}, {most}]; expected [fewest, most] with 1 <= fewest <= most"
                )

    @classmethod
    def from_yaml(cls, path: str | Path | None = None) -> AttributeGrid:
        """The grid in the YAML file at `path`; None reads the packaged one.

        Raises ValueError, in one line that begins with the file, if the file is missing, is not valid YAML or does not
        describe a grid.
        """
        source = files("synth") / "grids" / "email.yaml" if path is None else Path(path)
        content = read_mapping(source)
        try:
            return cls._parse(content)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from None

    @classmethod
    def _parse(cls, content: Mapping[str, object]) -> AttributeGrid:
        check_keys(content, AXES, "the grid")
        axes = {axis: text_list(content[axis], axis) for axis in ("purpose", "tone", "sender_role")}
        groups: dict[str, str] = {}
        for heading, value in text_mapping(content["topic"], "topic").items():
            for topic in text_list(value, f"topic.{heading}"):
                if topic in groups:
                    raise ValueError(
                        f"topic.{heading} lists '{topic}', which topic.{groups[topic]} has already; keep one of them"
                    )
                groups[topic] = heading
        lengths = {name: _word_range(value, name) for name, value in text_mapping(content["length"], "length").items()}
        axes |= {"topic": tuple(groups), "length": tuple(lengths)}
        return cls(axes={axis: axes[axis] for axis in AXES}, groups=groups, length_words=lengths)

    def sample(self, n: int, rng: np.random.Generator) -> list[dict[str, str]]:
        """Attributes for n texts, each a dict with the keys AXES.

        Every topic appears floor(n / T) or ceil(n / T) times for T topics, in shuffled order; the other axes are
        independent and uniform. Raises ValueError if n is negative.
        """
        if n < 0:
            raise ValueError(f"n is {n}; expected a number of texts >= 0")
        topics = len(self.axes["topic"])
        rest = rng.permutation(topics)[: n % topics]
        numbers = {"topic": rng.permutation(np.concatenate([np.tile(np.arange(topics), n // topics), rest]))}
        numbers |= {axis: rng.integers(len(self.axes[axis]), size=n) for axis in AXES[1:]}
        columns = [[self.axes[axis][i] for i in numbers[axis]] for axis in AXES]
        return [dict(zip(AXES, row, strict=True)) for row in zip(*columns, strict=True)]

    def change(
        self, attributes: Mapping[str, str], rng: np.random.Generator, keep: Sequence[str] = ("topic",)
    ) -> dict[str, str]:
        """New attributes: those of `keep` as they are, and at least one of the others different.

        Uniform over all such combinations. Raises ValueError if `attributes` is not from this grid, if `keep` names an
        unknown axis, or if nothing is left that could change.
        """
        check_keys(attributes, AXES, "attributes")
        if unknown := [axis for axis in keep if axis not in AXES]:
            raise ValueError(f"keep names '{unknown[0]}'; the axes are {', '.join(AXES)}")
        free = [axis for axis in AXES if axis not in keep]
        sizes = tuple(len(self.axes[axis]) for axis in free)
        if math.prod(sizes) < 2:
            raise ValueError(f"keep is {list(keep)}; no other axis has a second entry, so nothing can change")
        for axis in AXES:
            if attributes[axis] not in self.axes[axis]:
                raise ValueError(
                    f"{axis} is '{attributes[axis]}', which is not in this grid; use the grid that asked for it"
                )
        # Number all combinations of the free axes, and draw one of those that are not the present one.
        present = int(np.ravel_multi_index([self.axes[axis].index(attributes[axis]) for axis in free], sizes))
        drawn = int(rng.integers(math.prod(sizes) - 1))
        chosen = np.unravel_index(drawn + (drawn >= present), sizes)
        changed = {axis: self.axes[axis][int(i)] for axis, i in zip(free, chosen, strict=True)}
        return {axis: changed.get(axis, attributes[axis]) for axis in AXES}


def _word_range(value: object, name: str) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2 or any(type(bound) is not int for bound in value):
        raise ValueError(f"length.{name} is {value!r}; expected [fewest, most] words, as in [15, 35]")
    return (value[0], value[1])


class _UniqueKeyLoader(yaml.SafeLoader):
    """The safe loader, without its habit of letting a second key silently replace the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        mapping = super().construct_mapping(node, deep=deep)
        if len(mapping) < len(node.value):
            seen = set()
            for key_node, _ in node.value:
                key = self.construct_object(key_node, deep=deep)
                if key in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"'{key}' appears twice", key_node.start_mark)
                seen.add(key)
        return mapping


def read_mapping(source: Traversable) -> dict[str, object]:
    """The mapping in a YAML file; a key may appear once.

    Raises ValueError, in one line with the file and where possible the line number, if the file cannot be read, is not
    valid YAML or holds something else than a mapping from texts.
    """
    try:
        text = source.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{source}: cannot be read ({error.strerror}); give the path of a YAML file") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{source}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    try:
        content = yaml.load(text, Loader=_UniqueKeyLoader)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that does not exist, as in 2024-02-31
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ValueError(f"{source}: not valid YAML{line}: {problem}") from None
    try:
        return text_mapping(content, "the file")
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None


def text_mapping(value: object, where: str) -> dict[str, object]:
    """`value` as a non-empty mapping from texts; ValueError naming `where` if it is something else."""
    if not isinstance(value, dict) or not value:
        raise ValueError(f"{where} is {_kind(value)}; expected a mapping with at least one entry")
    for key in value:
        if not isinstance(key, str) or not key.strip():
            raise ValueError(f"{where} has the key {key!r}; expected a text (quote it)")
    return value


def text_list(value: object, where: str, *, blank: bool = False) -> tuple[str, ...]:
    """`value` as a tuple of different texts; ValueError naming `where` and the position if it is not one.

    Texts that differ only in case or outer blanks count as the same; `blank` allows one of them to be empty. The
    message never quotes an entry.
    """
    if not isinstance(value, list) or not value:
        raise ValueError(f"{where} is {_kind(value)}; expected a list with at least one text")
    first: dict[str, int] = {}
    for position, entry in enumerate(value, start=1):
        if not isinstance(entry, str) or not (blank or entry.strip()):
            raise ValueError(f"{where}: entry {position} is {_kind(entry)}; expected a text (quote it)")
        key = entry.strip().casefold()
        if key in first:
            raise ValueError(f"{where}: entry {position} repeats entry {first[key]}; remove one of them")
        first[key] = position
    return tuple(entry.strip() for entry in value)


def check_keys(mapping: Mapping[str, object], expected: Sequence[str], where: str) -> None:
    """Raise ValueError naming `where` if `mapping` lacks a key of `expected` or has another one."""
    if unknown := [key for key in mapping if key not in expected]:
        raise ValueError(f"{where} has the unknown key '{unknown[0]}'; expected {', '.join(expected)}")
    if missing := [key for key in expected if key not in mapping]:
        raise ValueError(f"{where} lacks '{missing[0]}'; expected {', '.join(expected)}")


def _kind(value: object) -> str:
    if value is None or value in ("", [], {}):
        return "empty"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
