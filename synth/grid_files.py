"""From a grid file to the fields of an AttributeGrid: what its YAML may hold, and what is said where it holds else.

    topics:   {heading: [topic, a topic with a {slot}, ...], ...}
    entities: {slot: [entity, ...], ...}                       # only if topics have slots
    axes:     {tone: [friendly, formal], length: {short: [15, 35]}, ...}
    shares:   {language: {English: 1}}                         # optional: proportions that are not even
    fits:     {heading: {jokes: {tone: [humorous]}}, ...}      # optional: what goes with what
    style:    [tone, length]                                   # optional: the axes that say how, not what

synth/grids/email.yaml explains each part for the people who write such files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from synth.yaml_files import check_keys, text_list, text_mapping


def parse_grid(content: Mapping[str, object]) -> dict[str, Any]:
    """The keyword arguments of AttributeGrid; ValueError in one line that names the key at fault.

    What the parts must be is checked here; whether they fit together, by AttributeGrid.
    """
    check_keys(content, ("topics", "axes"), "the grid", optional=("entities", "shares", "fits", "style"))
    groups = _groups(text_mapping(content["topics"], "topics"))
    axes = {"topic": tuple(groups)}
    lengths: dict[str, tuple[int, int]] = {}
    for axis, value in text_mapping(content["axes"], "axes").items():
        if axis == "length":
            ranges = text_mapping(value, "axes.length")
            lengths = {name: _word_range(bounds, name) for name, bounds in ranges.items()}
            axes[axis] = tuple(ranges)
        elif axis == "topic":
            raise ValueError("axes has the key 'topic'; list topics under topics, by heading")
        else:
            axes[axis] = text_list(value, f"axes.{axis}")
    if not lengths:
        raise ValueError("axes lacks 'length'; expected a mapping such as {short: [15, 35], long: [60, 90]}")
    fields: dict[str, Any] = {"axes": axes, "groups": groups, "length_words": lengths}
    if "entities" in content:
        lists = text_mapping(content["entities"], "entities")
        fields["entities"] = {name: text_list(value, f"entities.{name}") for name, value in lists.items()}
    if "shares" in content:
        fields["shares"] = {
            axis: {entry: _share(part, f"shares.{axis}.{entry}") for entry, part in parts.items()}
            for axis, parts in _two_levels(content["shares"], "shares").items()
        }
    if "fits" in content:
        fields["fits"] = {
            given: {
                entry: {
                    axis: text_list(value, f"fits.{given}.{entry}.{axis}")
                    for axis, value in text_mapping(suited, f"fits.{given}.{entry}").items()
                }
                for entry, suited in entries.items()
            }
            for given, entries in _two_levels(content["fits"], "fits").items()
        }
    if "style" in content:
        fields["style"] = text_list(content["style"], "style")
    return fields


def _groups(headings: Mapping[str, object]) -> dict[str, str]:
    """The heading of each topic."""
    groups: dict[str, str] = {}
    known: dict[str, str] = {}
    for heading, value in headings.items():
        for topic in text_list(value, f"topics.{heading}"):
            if topic.casefold() in known:
                raise ValueError(
                    f"topics.{heading} lists '{topic}', which topics.{known[topic.casefold()]} has already; "
                    "keep one of them"
                )
            groups[topic] = known[topic.casefold()] = heading
    return groups


def _two_levels(value: object, where: str) -> dict[str, dict[str, object]]:
    return {key: text_mapping(inner, f"{where}.{key}") for key, inner in text_mapping(value, where).items()}


def _share(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{where} is {value!r}; expected a proportion, 0 to 1")
    return float(value)


def _word_range(value: object, name: str) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2 or any(type(bound) is not int for bound in value):
        raise ValueError(f"axes.length.{name} is {value!r}; expected [fewest, most] words, as in [15, 35]")
    return (value[0], value[1])
