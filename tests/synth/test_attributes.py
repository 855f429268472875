"""The attribute grid: what it asks for, in which shares, how it varies, and which files it refuses."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.attributes import AttributeGrid
from synth.topics import slots

SMALL = """
topics:
  office:
    - a late report
    - a broken {device}
  home: [a leaking roof, "{animal} and {animal2} at play"]
entities:
  device: [phone, old phone, oven]
  animal: [owl, cat]
axes:
  purpose: [ask, tell]
  tone: [kind, curt, sad]
  length: {short: [5, 10], long: [10, 40]}
  sender_role: [manager, parent]
  language: [English, German]
shares:
  language: {English: 1}
fits:
  heading:
    office: {sender_role: [manager]}
  purpose:
    ask: {tone: [kind, curt]}
style: [tone, length]
"""
EMAIL = AttributeGrid.from_yaml()
GENMOJI = AttributeGrid.packaged("genmoji")
TOPIC_KEYS = ("topic", "template", "entities")


def small_grid() -> AttributeGrid:
    return AttributeGrid(
        axes={
            "topic": ("a late report", "a broken {device}", "a leaking roof", "{animal} and {animal2} at play"),
            "purpose": ("ask", "tell"),
            "tone": ("kind", "curt", "sad"),
            "length": ("short", "long"),
            "sender_role": ("manager", "parent"),
            "language": ("English", "German"),
        },
        groups={
            "a late report": "office",
            "a broken {device}": "office",
            "a leaking roof": "home",
            "{animal} and {animal2} at play": "home",
        },
        length_words={"short": (5, 10), "long": (10, 40)},
        entities={"device": ("phone", "old phone", "oven"), "animal": ("owl", "cat")},
        shares={"language": {"English": 1.0}},
        fits={"heading": {"office": {"sender_role": ("manager",)}}, "purpose": {"ask": {"tone": ("kind", "curt")}}},
        style=("tone", "length"),
    )


def asked(topic: str = "a late report", **changes: str) -> dict[str, str]:
    made = {"topic": topic, "purpose": "tell", "tone": "kind", "length": "long", "sender_role": "manager"}
    return made | {"language": "English", "template": topic} | changes


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def write(folder: Path, text: str) -> Path:
    path = folder / "grid.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def template(attributes: Mapping[str, str]) -> str:
    return attributes["template"]


def fits(grid: AttributeGrid, attributes: Mapping[str, str]) -> bool:
    """Whether every entry suits the heading and the entries before it, read off `grid.fits` in another way."""
    entries = {**attributes, "heading": grid.heading(attributes), "topic": template(attributes)}
    return not any(
        entries[given] == entry and entries[axis] not in listed
        for given, by_entry in grid.fits.items()
        for entry, suited in by_entry.items()
        for axis, listed in suited.items()
    )


def distance_in_standard_errors(entries: Sequence[str], shares: Mapping[str, float]) -> float:
    """The largest |count - n share|; an entry that has no share must not occur."""
    counts, n = Counter(entries), len(entries)
    assert set(counts) <= {entry for entry, share in shares.items() if share > 0}
    return max(
        abs(counts[entry] - n * share) / (n * share * (1 - share)) ** 0.5
        for entry, share in shares.items()
        if 0 < share < 1
    )


# The packaged grids.


def test_the_packaged_email_grid_is_broad() -> None:
    assert tuple(EMAIL.axes)[:6] == ("topic", "purpose", "tone", "length", "sender_role", "receiver_role")
    assert len(EMAIL.axes["topic"]) >= 300
    assert len(set(EMAIL.groups.values())) >= 20
    assert min(Counter(EMAIL.groups.values()).values()) >= 8
    assert len(EMAIL.axes["purpose"]) >= 20 and len(EMAIL.axes["tone"]) >= 12
    assert len(EMAIL.axes["sender_role"]) >= 25 and len(EMAIL.axes["receiver_role"]) >= 25
    assert all(6 <= len(entities) <= 15 for entities in EMAIL.entities.values())
    assert {a["language"] for a in EMAIL.sample(500, rng())} == {"English"}


def test_the_packaged_genmoji_grid_is_broad() -> None:
    headings = Counter(GENMOJI.groups.values())
    assert tuple(GENMOJI.axes) == ("topic", "length", "action", "accessory", "style", "mood", "language")
    assert len(GENMOJI.axes["topic"]) >= 500 and len(headings) >= 20
    assert sum(len(set(slots(topic))) >= 2 for topic in GENMOJI.axes["topic"]) >= 30  # compositions
    assert (GENMOJI.length_words["short"][0], GENMOJI.length_words["long"][1]) == (2, 12)


@pytest.mark.parametrize(("grid", "longest"), [(EMAIL, 10), (GENMOJI, 9)])
def test_rendered_topics_read_well(grid: AttributeGrid, longest: int) -> None:
    for attributes in grid.sample(4_000, rng(1)):
        topic = attributes["topic"]
        assert 1 <= len(topic.split()) <= longest and not re.search(r"[{}]|  |[.!]$", topic), topic
        assert not re.search(r"\b[Aa] [aeio]|\b[Aa]n [^aeiouhAEFHILMNORSX]", topic), topic
        assert not re.search(r"\b(\w+) \1\b", topic), topic


@pytest.mark.parametrize("grid", [EMAIL, GENMOJI])
def test_a_large_sample_covers_a_packaged_grid(grid: AttributeGrid) -> None:
    covered = grid.coverage(grid.sample(6_000, rng(2)))
    assert set(covered) == {"heading", *grid.axes, "entity"}
    assert min(covered.values()) > 0.93
    # Negative control: a small sample cannot, and nothing covers nothing.
    few = grid.coverage(grid.sample(50, rng(2)))
    assert few["topic"] < 0.2 and few["entity"] < 0.5
    assert set(grid.coverage([]).values()) == {0.0}


# Sampling.


@settings(deadline=None, max_examples=60)
@given(n=st.integers(0, 900), seed=st.integers(0, 2**32))
def test_topics_are_spread_evenly(n: int, seed: int) -> None:
    grid = EMAIL if n > 400 else small_grid()
    drawn = grid.sample(n, rng(seed))
    topics = grid.axes["topic"]
    counts = Counter(template(a) for a in drawn)
    assert len(drawn) == n
    assert {counts[topic] for topic in topics} <= {n // len(topics), -(-n // len(topics))}
    assert drawn == grid.sample(n, rng(seed))
    for a in drawn:
        assert tuple(a)[:-1] == (*grid.axes, "template") or tuple(a) == (*grid.axes, "template")
        assert ("entities" in a) == ("{" in template(a))
        assert all(a[axis] in grid.axes[axis] for axis in grid.axes if axis != "topic")
        assert fits(grid, a)


def test_topics_are_shuffled_and_entities_uniform() -> None:
    drawn = small_grid().sample(6_000, rng(5))
    assert len({template(a) for a in drawn[:4]}) < 4 or len({template(a) for a in drawn[4:8]}) < 4
    devices = [a["topic"].removeprefix("a broken ").removeprefix("an ") for a in drawn if "{device}" in template(a)]
    assert Counter(a["topic"] for a in drawn if a["template"] == "a broken {device}").keys() == {
        "a broken phone", "a broken old phone", "a broken oven",
    }  # fmt: skip
    third = {"phone": 1 / 3, "old phone": 1 / 3, "oven": 1 / 3}
    assert distance_in_standard_errors(devices, third) < 5
    assert distance_in_standard_errors(devices, {"phone": 0.4, "old phone": 0.3, "oven": 0.3}) > 5  # negative control
    pairs = [a["topic"] for a in drawn if "{animal}" in template(a)]
    assert distance_in_standard_errors(pairs, {"owl and cat at play": 0.5, "cat and owl at play": 0.5}) < 5


def test_the_other_axes_are_uniform_among_what_fits() -> None:
    drawn = small_grid().sample(12_000, rng(6))
    home = [a for a in drawn if small_grid().heading(a) == "home"]
    assert distance_in_standard_errors([a["purpose"] for a in drawn], {"ask": 0.5, "tell": 0.5}) < 5
    assert distance_in_standard_errors([a["sender_role"] for a in home], {"manager": 0.5, "parent": 0.5}) < 5
    tones = {p: [a["tone"] for a in drawn if a["purpose"] == p] for p in ("ask", "tell")}
    assert distance_in_standard_errors(tones["ask"], {"kind": 0.5, "curt": 0.5}) < 5
    assert distance_in_standard_errors(tones["tell"], {"kind": 1 / 3, "curt": 1 / 3, "sad": 1 / 3}) < 5
    assert distance_in_standard_errors(tones["tell"], {"kind": 0.4, "curt": 0.3, "sad": 0.3}) > 5  # negative control


@settings(deadline=None, max_examples=60)
@given(n=st.integers(1, 500), seed=st.integers(0, 2**32))
def test_stated_shares_of_headings_and_topics(n: int, seed: int) -> None:
    grid = small_grid()
    headings = Counter(map(grid.heading, grid.sample(n, rng(seed), {"heading": {"office": 0.2}})))
    assert abs(headings["office"] - 0.2 * n) <= 2  # two topics, each rounded
    topics = Counter(template(a) for a in grid.sample(n, rng(seed), {"topic": {"a leaking roof": 0.7}}))
    assert abs(topics["a leaking roof"] - 0.7 * n) < 1 and abs(topics["a late report"] - 0.1 * n) < 1
    only = grid.sample(n, rng(seed), {"topic": {"a late report": 1}})
    assert {a["topic"] for a in only} == {"a late report"}


def test_stated_shares_of_other_axes() -> None:
    shares = {"language": {"German": 0.25, "English": 0.75}, "tone": {"kind": 0.8}}
    drawn = small_grid().sample(8_000, rng(7), shares)
    assert distance_in_standard_errors([a["language"] for a in drawn], shares["language"]) < 5
    tell = [a["tone"] for a in drawn if a["purpose"] == "tell"]
    assert distance_in_standard_errors(tell, {"kind": 0.8, "curt": 0.1, "sad": 0.1}) < 5
    ask = [a["tone"] for a in drawn if a["purpose"] == "ask"]  # among what fits
    assert distance_in_standard_errors(ask, {"kind": 0.8 / 0.9, "curt": 0.1 / 0.9}) < 5
    parents = small_grid().sample(200, rng(7), {"sender_role": {"parent": 1}})
    assert {a["sender_role"] for a in parents} == {"parent"}  # a stated share wins over what fits the office


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"mood": {"glad": 1}}, "shares has the unknown key 'mood'; expected one of heading, topic, purpose, tone"),
        ({"tone": {"gloomy": 1}}, "shares.tone names 'gloomy', which is not in the grid; expected one of kind, curt"),
        ({"heading": {"sea": 1}}, "shares.heading names 'sea', which is not in the grid; expected one of office, home"),
        ({"topic": {"a broken phone": 1}}, "shares.topic names 'a broken phone'"),
        ({"tone": {"kind": -0.5}}, "shares.tone.kind is -0.5; expected a proportion, 0 to 1"),
        ({"tone": {"kind": float("nan")}}, "shares.tone.kind is nan; expected a proportion"),
        ({"tone": {"kind": 0.8, "sad": 0.4}}, "the shares of tone sum to 1.2; expected 1, or less where"),
        ({"purpose": {"ask": 0.2, "tell": 0.2}}, "the shares of purpose sum to 0.4; expected 1"),
        ({"heading": {"home": 1}, "topic": {"a late report": 1}}, "shares names both heading and topic"),
    ],
)
def test_shares_that_are_refused(shares: dict[str, dict[str, float]], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        small_grid().sample(1, rng(), shares)
    assert "\n" not in str(caught.value)


def test_a_negative_number_of_texts_is_refused() -> None:
    with pytest.raises(ValueError, match="n is -1"):
        small_grid().sample(-1, rng())


def test_a_polls_estimate_becomes_shares() -> None:
    grid = small_grid()
    texts = [
        asked(),
        asked("a broken phone", template="a broken {device}", entities="device=phone"),
        asked("a broken oven", template="a broken {device}", entities="device=oven"),
        asked("a leaking roof", sender_role="parent"),
    ]
    topics = grid.estimated_shares(texts, [30.0, 80.0, -20.0, -5.0])
    assert topics == {"topic": {"a late report": 1 / 3, "a broken {device}": 2 / 3}}
    assert {template(a) for a in grid.sample(30, rng(), topics)} == {"a late report", "a broken {device}"}
    assert grid.estimated_shares(texts, [1, 1, 1, 1], "heading") == {"heading": {"office": 0.75, "home": 0.25}}
    assert grid.estimated_shares(texts, [1, 1, 1, 1], "sender_role")["sender_role"]["parent"] == 0.25
    grid.sample(5, rng(), grid.estimated_shares(texts, [0.1, 0.2, 0.3, 0.7], "heading"))
    with pytest.raises(ValueError, match="no topic has votes above 0 among 4 texts"):
        grid.estimated_shares(texts, [-1.0, -2.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="axis is 'mood'"):
        grid.estimated_shares(texts, [1.0] * 4, "mood")


def test_shares_can_be_given_with_the_file(tmp_path: Path) -> None:
    grid = AttributeGrid.from_yaml(write(tmp_path, SMALL), shares={"language": {"German": 1}})
    assert {a["language"] for a in grid.sample(20, rng())} == {"German"}
    with pytest.raises(ValueError, match=r"grid.yaml: shares.language names 'Klingon'"):
        AttributeGrid.from_yaml(tmp_path / "grid.yaml", shares={"language": {"Klingon": 1}})


# Variation.


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32), keep=st.lists(st.sampled_from(tuple(EMAIL.axes)), max_size=2, unique=True))
def test_change_keeps_what_it_should_and_changes_something(seed: int, keep: list[str]) -> None:
    before = EMAIL.sample(1, rng(seed))[0]
    after = EMAIL.change(before, rng(seed), keep)
    assert all(after[axis] == before[axis] for axis in keep)
    assert any(after[axis] != before[axis] for axis in EMAIL.axes if axis not in keep)
    assert ("topic" not in keep) or all(after.get(key) == before.get(key) for key in TOPIC_KEYS)
    assert EMAIL.heading(after) and EMAIL.words(after)


def test_change_reaches_every_other_fitting_combination_equally_often() -> None:
    grid = replace(small_grid(), fits={"heading": {"office": {"sender_role": ("manager",)}}})
    before, n = asked(), 11_000
    counts = Counter(tuple(grid.change(before, rng(3 * i)).values()) for i in range(n))
    assert tuple(before.values()) not in counts
    assert len(counts) == 2 * 3 * 2 - 1
    stderr = (n * (1 / 11) * (10 / 11)) ** 0.5
    assert all(abs(count - n / 11) < 5 * stderr for count in counts.values())


def test_change_refuses_what_it_cannot_do() -> None:
    grid, before = small_grid(), asked()
    with pytest.raises(ValueError, match="keep names 'mood'"):
        grid.change(before, rng(), keep=("mood",))
    with pytest.raises(ValueError, match="nothing can change"):
        grid.change(
            before, rng(), keep=("topic", "purpose", "tone", "length")
        )  # one sender fits, one language has a share
    with pytest.raises(ValueError, match="nothing can change"):
        replace(grid, style=("language",)).restyle(before, rng())
    assert grid.change(before | {"language": "German"}, rng(), ["topic", "purpose", "tone", "length", "sender_role"])


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({key: value for key, value in asked().items() if key != "tone"}, "attributes lacks 'tone'"),
        (asked(mood="glad"), "attributes has the unknown key 'mood'"),
        (asked(tone="gloomy"), "tone is 'gloomy', which is not in this grid; use the grid that asked for it"),
        (asked("a lost key"), "topic is 'a lost key', which is not in this grid"),
        (asked("a late report", entities="device=oven"), "topic is 'a late report', which its template and entities"),
        (asked("a broken oven", template="a broken {device}"), "which its template and entities do not give"),
        (asked("a broken oven", template="a broken {device}", entities="device=phone"), "do not give"),
        (asked("a broken sofa", template="a broken {device}", entities="device=sofa"), "do not give"),
        (asked("a broken oven", template="a broken {device}", entities="oven"), "entities is 'oven'; expected"),
    ],
)
def test_attributes_of_another_grid_are_refused(attributes: dict[str, str], message: str) -> None:
    grid = small_grid()
    for operate in (grid.change, grid.swap_topic, grid.swap_entity, grid.restyle):
        with pytest.raises(ValueError, match=message):
            operate(attributes, rng())
    with pytest.raises(ValueError, match=message):
        grid.cross(asked(), attributes, rng())
    with pytest.raises(ValueError, match=message):
        grid.coverage([attributes])


def test_attributes_without_a_template_have_the_topic_as_theirs() -> None:
    grid = small_grid()
    plain = {key: value for key, value in asked().items() if key != "template"}
    assert grid.heading(plain) == "office"
    assert grid.restyle(plain, rng())["template"] == "a late report"


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32))
def test_swap_topic_stays_under_the_heading(seed: int) -> None:
    before = EMAIL.sample(1, rng(seed))[0]
    after = EMAIL.swap_topic(before, rng(seed))
    assert template(after) != template(before) and EMAIL.heading(after) == EMAIL.heading(before)
    assert all(after[axis] == before[axis] for axis in EMAIL.axes if axis != "topic")


def test_swap_topic_leaves_a_heading_of_one_topic() -> None:
    axes = {"topic": ("a late report", "a leaking roof"), "length": ("any",)}
    groups = {"a late report": "office", "a leaking roof": "home"}
    grid = AttributeGrid(axes=axes, groups=groups, length_words={"any": (1, 9)}, style=("length",))
    before = {"topic": "a late report", "length": "any"}
    assert grid.swap_topic(before, rng())["topic"] == "a leaking roof"
    one = replace(grid, axes={**axes, "topic": ("a late report",)}, groups={"a late report": "office"})
    with pytest.raises(ValueError, match="one topic only"):
        one.swap_topic(before, rng())


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32), email=st.booleans())
def test_swap_entity_changes_one_entity(seed: int, email: bool) -> None:
    grid = EMAIL if email else GENMOJI
    before = grid.sample(1, rng(seed))[0]
    after = grid.swap_entity(before, rng(seed))
    if "entities" not in before:
        assert after is None
        return
    assert after is not None and after["topic"] != before["topic"]
    pairs = [dict(part.split("=") for part in a["entities"].split("; ")) for a in (before, after)]
    assert sum(pairs[0][slot] != pairs[1][slot] for slot in pairs[0]) == 1
    assert len(set(pairs[1].values())) == len(pairs[1])
    assert all(after[key] == before[key] for key in before if key not in ("topic", "entities"))


def test_swap_entity_needs_another_entity() -> None:
    grid = small_grid()
    pair = asked("owl and cat at play", template="{animal} and {animal2} at play", entities="animal=owl; animal2=cat")
    assert grid.swap_entity(pair, rng()) is None  # both animals are in the topic
    assert grid.swap_entity(asked(), rng()) is None
    phone = asked("a broken phone", template="a broken {device}", entities="device=phone")
    reached = {(grid.swap_entity(phone, rng(i)) or {})["entities"] for i in range(30)}
    assert reached == {"device=old phone", "device=oven"}


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32))
def test_restyle_changes_tone_or_length_only(seed: int) -> None:
    before = EMAIL.sample(1, rng(seed))[0]
    after = EMAIL.restyle(before, rng(seed))
    changed = {key for key in before | after if before.get(key) != after.get(key)}
    assert changed and changed <= {"tone", "length"}
    assert fits(EMAIL, after)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32))
def test_cross_takes_from_both(seed: int) -> None:
    a, b = EMAIL.sample(2, rng(seed))
    child = EMAIL.cross(a, b, rng(seed))
    axes = [axis for axis in EMAIL.axes if axis != "topic"]
    assert all(child.get(key) == a.get(key) for key in TOPIC_KEYS)
    assert all(child[axis] in (a[axis], b[axis]) for axis in axes)
    differing = [axis for axis in axes if a[axis] != b[axis]]
    assert not differing or any(child[axis] == b[axis] for axis in differing)


def test_cross_prefers_what_fits() -> None:
    grid = small_grid()
    ask, sad = asked(purpose="ask"), asked("a leaking roof", tone="sad", sender_role="parent")
    children = [grid.cross(ask, sad, rng(i)) for i in range(60)]
    assert all(fits(grid, child) for child in children)  # never a parent at the office, never ask and sad
    assert {(child["purpose"], child["tone"]) for child in children} == {("tell", "kind"), ("tell", "sad")}
    only = grid.cross(asked(), asked("a leaking roof", sender_role="parent"), rng())
    assert only["sender_role"] == "parent"  # nothing that differs fits, but they do differ
    assert grid.cross(asked(), asked("a leaking roof"), rng()) == asked()


# Metrics.


def test_heading_words_and_coverage() -> None:
    grid = small_grid()
    phone = asked("a broken phone", template="a broken {device}", entities="device=phone", length="short")
    assert grid.heading(phone) == "office" and grid.words(phone) == (5, 10) and grid.words(asked()) == (10, 40)
    assert grid.coverage([asked(), phone, phone]) == pytest.approx(
        {"heading": 1 / 2, "topic": 1 / 2, "purpose": 1 / 2, "tone": 1 / 3, "length": 1, "sender_role": 1 / 2}
        | {"language": 1, "entity": 1 / 5}
    )
    with pytest.raises(ValueError, match="length is 'tiny'; expected one of short, long"):
        grid.words({"length": "tiny"})


# Files and grids built by hand.


def test_a_file_of_ones_own_is_read(tmp_path: Path) -> None:
    assert AttributeGrid.from_yaml(write(tmp_path, SMALL)) == small_grid()
    assert AttributeGrid.from_yaml(str(tmp_path / "grid.yaml")) == small_grid()


def test_axes_of_ones_own(tmp_path: Path) -> None:
    text = "topics: {sea: [a storm, a calm]}\naxes: {season: [winter, summer], length: {any: [1, 9]}}\nstyle: [season]"
    grid = AttributeGrid.from_yaml(write(tmp_path, text))
    assert tuple(grid.axes) == ("topic", "season", "length")
    assert {a["season"] for a in grid.sample(30, rng())} == {"winter", "summer"}
    assert grid.restyle({"topic": "a calm", "season": "winter", "length": "any"}, rng())["season"] == "summer"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("axes:", "axis:", "the grid has the unknown key 'axis'; expected topics, axes, entities, shares, fits, style"),
        (SMALL, "axes: {length: {short: [1, 2]}}", "the grid lacks 'topics'"),
        (SMALL, "topics: {}\naxes: {tone: [a]}", "topics is empty; expected a mapping"),
        ("  length: {short: [5, 10], long: [10, 40]}", "", "axes lacks 'length'"),
        ("  purpose:", "  topic: [x]\n  purpose:", "axes has the key 'topic'; list topics under topics"),
        ("  purpose:", "  template: [x]\n  purpose:", "axes has 'template', which means something else here"),
        ("[kind, curt, sad]", "[]", "axes.tone is empty; expected a list"),
        ("[kind, curt, sad]", "", "axes.tone is empty; expected a list"),
        ("[kind, curt, sad]", "kind", "axes.tone is a str; expected a list"),
        ("[kind, curt, sad]", "[kind, no]", "axes.tone: entry 2 is a bool; expected a text"),
        ("[kind, curt, sad]", "[kind, ' ']", "axes.tone: entry 2 is a str; expected a text"),
        ("[kind, curt, sad]", "[kind, curt, Kind]", "axes.tone: entry 3 repeats entry 1"),
        ("a leaking roof", "a late report", "topics.home lists 'a late report', which topics.office has already"),
        ("a leaking roof", "A late report", "topics.home lists 'A late report', which topics.office has already"),
        ("a broken {device}", "A late report", "topics.office: entry 2 repeats entry 1"),
        ("home: [a leaking roof,", "sea: []\n  home: [a leaking roof,", "topics.sea is empty"),
        ("home: [a", "12: [a", "topics has the key 12; expected a text"),
        ("home: [a", "office: [a", "not valid YAML in line 6: 'office' appears twice"),
        (
            "a broken {device}",
            "a broken {tool}",
            r"topics.office: 'a broken \{tool\}' has the unknown slot \{tool\}; add",
        ),
        ("a broken {device}", "a broken {device", "has a stray brace"),
        ("a broken {device}", "a broken {Device}", "has a stray brace"),
        ("animal: [owl, cat]", "animal: [owl]", "has 2 slots for animal, but entities.animal has only 1 entries"),
        ("animal: [owl, cat]", "animal: [owl, Owl]", "entities.animal: entry 2 repeats entry 1"),
        ("animal: [owl, cat]", 'animal: [owl, "a=b"]', "entities.animal: entry 2 has one of"),
        ("animal: [owl, cat]", "animal: [owl, cat]\n  fish: [eel]", "entities.fish is not used by any topic"),
        ("animal: [owl, cat]", "animal: [owl, cat]\n  Fish: [eel]", "entities has the key 'Fish'; expected lower-case"),
        ("animal: [owl, cat]", "animal: {owl: 1}", "entities.animal is a dict; expected a list"),
        ("{short: [5, 10], long: [10, 40]}", "[short, long]", "axes.length is a list; expected a mapping"),
        ("[5, 10]", "[10, 5]", r"length.short is \[10, 5\]; expected .* with 1 <= fewest <= most"),
        ("[5, 10]", "[0, 5]", r"length.short is \[0, 5\]"),
        ("[5, 10]", "[5]", r"axes.length.short is \[5\]; expected \[fewest, most\] words"),
        ("[5, 10]", "[5, 10.5]", r"axes.length.short is \[5, 10.5\]; expected \[fewest, most\] words"),
        (
            "{English: 1}",
            "{Klingon: 1}",
            "shares.language names 'Klingon', which is not in the grid; expected one of En",
        ),
        ("{English: 1}", "{English: much}", "shares.language.English is 'much'; expected a proportion, 0 to 1"),
        ("{English: 1}", "{English: 2}", "shares.language.English is 2; expected a proportion"),
        (
            "  language: {English: 1}",
            "  tongue: {x: 1}",
            "shares has the unknown key 'tongue'; expected one of heading",
        ),
        ("  language: {English: 1}", "  - tongue", "shares is a list; expected a mapping"),
        ("    office: {sender", "    sea: {sender", "fits.heading names 'sea', which is not in the grid"),
        (
            "{sender_role: [manager]}",
            "{mood: [manager]}",
            "fits.heading.office has 'mood'; expected one of purpose, tone",
        ),
        ("{sender_role: [manager]}", "{sender_role: [boss]}", "fits.heading.office.sender_role names 'boss'"),
        ("{sender_role: [manager]}", "{sender_role: []}", "fits.heading.office.sender_role is empty"),
        ("{tone: [kind, curt]}", "{purpose: [tell]}", "fits.purpose.ask has 'purpose'; expected one of tone, length"),
        ("  purpose:\n    ask", "  aim:\n    ask", "fits has the unknown key 'aim'"),
        ("{sender_role: [manager]}", "{tone: [sad]}", "fits leaves no tone .* for heading 'office', purpose 'ask'"),
        ("{sender_role: [manager]}", "{language: [German]}", "fits leaves no language .* for heading 'office'"),
        ("style: [tone, length]", "style: [mood]", "style names 'mood'; expected some of purpose, tone, length"),
        ("style: [tone, length]", "style: [topic]", "style names 'topic'"),
        ("[kind, curt, sad]", "[kind, curt, sad", "not valid YAML in line 13"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in SMALL
    path = write(tmp_path, SMALL.replace(old, new, 1))
    with pytest.raises(ValueError, match=message) as caught:
        AttributeGrid.from_yaml(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- a\n- b\n", "the file is a list; expected a mapping"),
        (b"", "the file is empty"),
        (b"topic: \xff", "byte 7 is not UTF-8"),
        (b"topic: \x00", "not valid YAML"),
        (b"topic: 2024-02-31", "not valid YAML: day"),
        (b"? [a, b]\n: c\n", "not valid YAML in line 1|the key"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "grid.yaml").write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        AttributeGrid.from_yaml(tmp_path / "grid.yaml")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.yaml: cannot be read \(No such file"):
        AttributeGrid.from_yaml(tmp_path / "none.yaml")
    with pytest.raises(ValueError, match="cannot be read"):
        AttributeGrid.from_yaml(tmp_path)
    with pytest.raises(ValueError, match=r"letters\.yaml: cannot be read"):
        AttributeGrid.packaged("letters")


def test_a_grid_built_by_hand_is_checked_too() -> None:
    good = small_grid()
    with pytest.raises(ValueError, match="groups does not name every topic"):
        replace(good, groups={})
    with pytest.raises(ValueError, match="length_words does not name every length"):
        replace(good, length_words={"short": (1, 2)})
    with pytest.raises(ValueError, match="tone is empty"):
        replace(good, axes={**good.axes, "tone": ()})
    with pytest.raises(ValueError, match=r"entities\.animal: entry 2 repeats entry 1"):
        replace(good, entities={**good.entities, "animal": ("owl", "Owl")})
    with pytest.raises(ValueError, match="axes has tone; expected topic first, and length"):
        replace(good, axes={"tone": ("kind",)})
    with pytest.raises(ValueError, match="axes has nothing; expected topic first"):
        replace(good, axes={})
