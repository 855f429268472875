"""What a grid asks for, and in which shares: the packaged grids, sampling, stated and estimated shares."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.attributes import AttributeGrid
from synth.topics import slots
from tests.synth.small_grid import SMALL, asked, fits, rng, small_grid, template, write

EMAIL = AttributeGrid.from_yaml()
GENMOJI = AttributeGrid.packaged("genmoji")


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
    assert (GENMOJI.length_words["short"][0], GENMOJI.length_words["long"][1]) == (2, 14)


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
