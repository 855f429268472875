"""How attributes vary, which are refused, and how much of the grid they cover."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.attributes import AttributeGrid
from tests.synth.small_grid import asked, fits, rng, small_grid, template

EMAIL = AttributeGrid.from_yaml()
GENMOJI = AttributeGrid.packaged("genmoji")
TOPIC_KEYS = ("topic", "template", "entities")


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
