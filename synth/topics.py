"""Topic templates: texts with slots that are filled from lists of entities.

    render("a cancelled {sport} practice", {"sport": "tennis"})           # 'a cancelled tennis practice'
    render("a {animal} hugging a {animal2}", {"animal": "owl", "animal2": "fox"})   # 'an owl hugging a fox'

A slot is named like its list; {animal2}, {animal3} are further entities of the list `animal`, different from the first.
"a" or "an" in front of a slot follows what fills it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

_SLOT = re.compile(r"(?:\b([Aa])n? )?\{([a-z][a-z_]*)([2-9]?)\}")
_SPOKEN_WITH_VOWEL = frozenset("AEFHILMNORSX")
_AN = re.compile(
    r"(?!uni(?![nmd])|use|usu|ut[ei]|eu|one\b|once\b|uku)[aeiou]|hour|honest|honou?r|heir\b|8|1[18](?:th)?\b"
)


def slots(template: str) -> dict[str, str]:
    """The slots of a template, in order, each with the name of its entity list: {'animal2': 'animal'}."""
    return {f"{name}{copy}": name for _, name, copy in _SLOT.findall(template)}


def render(template: str, members: Mapping[str, str]) -> str:
    """The template with every slot filled; `members` maps slots to entities."""

    def fill(slot: re.Match[str]) -> str:
        member = members[f"{slot[2]}{slot[3]}"]
        if not slot[1]:
            return member
        letter = article(member)
        return f"{letter.capitalize() if slot[1] == 'A' else letter} {member}"

    return _SLOT.sub(fill, template)


def article(phrase: str) -> str:
    """'a' or 'an', as the phrase is spoken: an hour, a unicorn, an IT technician."""
    word = phrase.split(maxsplit=1)[0]
    if len(word) > 1 and word.isupper() and word.isalpha():
        return "an" if word[0] in _SPOKEN_WITH_VOWEL else "a"
    return "an" if _AN.match(phrase.lower()) else "a"


def draw_members(template: str, entities: Mapping[str, tuple[str, ...]], rng: np.random.Generator) -> dict[str, str]:
    """A uniform entity for each slot; slots of one list get different ones."""
    orders: dict[str, list[int]] = {}
    members = {}
    for slot, name in slots(template).items():
        if name not in orders:
            orders[name] = rng.permutation(len(entities[name])).tolist()
        members[slot] = entities[name][orders[name].pop()]
    return members


def others(slot: str, members: Mapping[str, str], entities: Mapping[str, tuple[str, ...]]) -> list[str]:
    """What could stand in `slot` instead of what stands there: members of its list that no other slot has taken."""
    name = slot.rstrip("23456789")
    taken = {member for other, member in members.items() if other.rstrip("23456789") == name}
    return [entity for entity in entities[name] if entity not in taken]


def written(members: Mapping[str, str]) -> str:
    """'sport=tennis; city=Oslo': the members as one text, for lineage."""
    return "; ".join(f"{slot}={member}" for slot, member in members.items())


def read_members(text: str) -> dict[str, str]:
    """What `written` wrote; ValueError if it did not."""
    pairs = [pair.partition("=") for pair in text.split("; ")] if text else []
    if any(not equals for _, equals, _ in pairs):
        raise ValueError(f"entities is '{text}'; expected 'slot=entity', separated by '; '")
    return {slot: member for slot, _, member in pairs}


def check_topics(groups: Mapping[str, str], entities: Mapping[str, tuple[str, ...]]) -> None:
    """Raise ValueError if templates (mapped to their headings) and entity lists do not fit together.

    Every slot must have its list, with as many members as a template has slots of it; every list must be used.
    """
    for name, listed in entities.items():
        if not re.fullmatch(r"[a-z][a-z_]*", name):
            raise ValueError(f"entities has the key '{name}'; expected lower-case letters and underscores, as in sport")
        for position, entity in enumerate(listed, start=1):
            if set("{};=") & set(entity):
                raise ValueError(
                    f"entities.{name}: entry {position} has one of {{ }} ; =; expected a text without them"
                )
    used = set()
    for template, heading in groups.items():
        where = f"topics.{heading}: '{template}'"
        if set("{}") & set(_SLOT.sub("", template)):
            raise ValueError(f"{where} has a stray brace; write slots as {{name}} or {{name2}}")
        names = list(slots(template).values())
        for name in names:
            if name not in entities:
                raise ValueError(f"{where} has the unknown slot {{{name}}}; add {name} under entities")
            if names.count(name) > len(entities[name]):
                raise ValueError(
                    f"{where} has {names.count(name)} slots for {name}, but entities.{name} has only "
                    f"{len(entities[name])} entries; add some"
                )
        used.update(names)
    for name in entities:
        if name not in used:
            raise ValueError(f"entities.{name} is not used by any topic; use {{{name}}} in a topic or remove it")
