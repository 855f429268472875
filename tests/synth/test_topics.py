"""Topic templates: slots, articles, entities."""

from __future__ import annotations

import numpy as np
import pytest

from synth.topics import article, draw_members, others, read_members, render, slots, written

ENTITIES = {"animal": ("owl", "cat", "fox"), "city": ("Oslo", "Rome")}


@pytest.mark.parametrize(
    ("template", "members", "text"),
    [
        ("a late train", {}, "a late train"),
        ("a train to {city}", {"city": "Oslo"}, "a train to Oslo"),
        ("a {animal} in a {city} zoo", {"animal": "owl", "city": "Oslo"}, "an owl in an Oslo zoo"),
        ("An {animal}", {"animal": "cat"}, "A cat"),
        ("{animal} hugging a {animal2}", {"animal": "cat", "animal2": "owl"}, "cat hugging an owl"),
        ("a wild {animal}", {"animal": "owl"}, "a wild owl"),
        ("panda {animal}", {"animal": "owl"}, "panda owl"),
    ],
)
def test_render(template: str, members: dict[str, str], text: str) -> None:
    assert render(template, members) == text
    assert list(slots(template)) == list(members)


@pytest.mark.parametrize(
    ("phrase", "letter"),
    [
        ("accountant", "an"), ("colleague", "a"), ("IT technician", "an"), ("HR manager", "an"), ("CEO", "a"),
        ("hour", "an"), ("honest friend", "an"), ("house", "a"), ("unicorn", "a"), ("university", "a"),
        ("uninvited guest", "an"), ("uncle", "an"), ("used car", "a"), ("usher", "an"), ("European", "a"),
        ("one-way ticket", "a"), ("onion", "an"), ("8-year-old", "an"), ("18th birthday", "an"), ("80 guests", "an"),
        ("12 guests", "a"), ("very short", "a"), ("UFO", "a"), ("ukulele", "a"),
    ],
)  # fmt: skip
def test_article(phrase: str, letter: str) -> None:
    assert article(phrase) == letter


def test_entities_of_one_list_are_different_and_those_left_are_known() -> None:
    template = "a {animal}, a {animal2} and a {animal3} in {city}"
    seen = set()
    for seed in range(40):
        members = draw_members(template, ENTITIES, np.random.default_rng(seed))
        assert len({members["animal"], members["animal2"], members["animal3"]}) == 3
        assert others("animal2", members, ENTITIES) == []
        assert others("city", members, ENTITIES) == [city for city in ENTITIES["city"] if city != members["city"]]
        seen.add(tuple(members.values()))
    assert len(seen) > 8
    assert others("animal2", {"animal": "owl", "animal2": "cat"}, ENTITIES) == ["fox"]


def test_members_are_written_and_read() -> None:
    members = {"animal": "red panda", "animal2": "owl"}
    assert written(members) == "animal=red panda; animal2=owl"
    assert read_members(written(members)) == members and read_members("") == {}
    with pytest.raises(ValueError, match="entities is 'owl'; expected 'slot=entity'"):
        read_members("owl")
