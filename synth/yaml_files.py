"""Reading YAML files that people write: one clear line for everything that can be wrong with them.

    content = read_mapping(Path("my_grid.yaml"))              # ValueError: my_grid.yaml: not valid YAML in line 7: ...
    tones = text_list(content["tone"], "tone")                # ValueError: tone: entry 3 repeats entry 1; ...

A key may appear once: YAML's own habit of letting the second replace the first hides mistakes.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from importlib.resources.abc import Traversable
from typing import Any

import yaml


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


def read_yaml(source: Traversable) -> object:
    """The content of a YAML file.

    Raises ValueError, in one line with the file and where possible the line number, if the file cannot be read or is
    not valid YAML.
    """
    try:
        text = source.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{source}: cannot be read ({error.strerror}); give the path of a YAML file") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{source}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    try:
        return yaml.load(text, Loader=_UniqueKeyLoader)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that does not exist, as in 2024-02-31
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ValueError(f"{source}: not valid YAML{line}: {problem}") from None


def read_mapping(source: Traversable) -> dict[str, object]:
    """The mapping in a YAML file; ValueError as `read_yaml`, or if the file holds something else."""
    content = read_yaml(source)
    try:
        return text_mapping(content, "the file")
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None


def text_mapping(value: object, where: str) -> dict[str, object]:
    """`value` as a non-empty mapping from texts; ValueError naming `where` if it is something else."""
    if not isinstance(value, dict) or not value:
        raise ValueError(f"{where} is {kind(value)}; expected a mapping with at least one entry")
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
        raise ValueError(f"{where} is {kind(value)}; expected a list with at least one text")
    first: dict[str, int] = {}
    for position, entry in enumerate(value, start=1):
        if not isinstance(entry, str) or not (blank or entry.strip()):
            raise ValueError(f"{where}: entry {position} is {kind(entry)}; expected a text (quote it)")
        key = entry.strip().casefold()
        if key in first:
            raise ValueError(f"{where}: entry {position} repeats entry {first[key]}; remove one of them")
        first[key] = position
    return tuple(entry.strip() for entry in value)


def check_keys(
    mapping: Mapping[str, object], expected: Sequence[str], where: str, optional: Sequence[str] = ()
) -> None:
    """Raise ValueError naming `where` if `mapping` lacks a key of `expected` or has one that is not in either list."""
    if unknown := [key for key in mapping if key not in expected and key not in optional]:
        raise ValueError(f"{where} has the unknown key '{unknown[0]}'; expected {', '.join([*expected, *optional])}")
    if missing := [key for key in expected if key not in mapping]:
        raise ValueError(f"{where} lacks '{missing[0]}'; expected {', '.join(expected)}")


def kind(value: object) -> str:
    """What `value` is, for a message: 'empty', 'a list', 'an int'."""
    if value is None or value in ("", [], {}):
        return "empty"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
