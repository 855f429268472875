"""Each operator changes what it says and nothing else, and the lineage tells it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from synth.attributes import AttributeGrid
from synth.corpus import Example
from synth.variation import OPERATORS, Operators

TOPICS = {"a cancelled {sport} practice": "sport", "a lost ball": "sport", "a late train": "travel"}
GRID = AttributeGrid(
    axes={
        "topic": tuple(TOPICS),
        "tone": ("dry", "warm"),
        "length": ("short", "long"),
        "sender_role": ("coach", "fan"),
    },
    groups=TOPICS,
    length_words={"short": (5, 10), "long": (10, 20)},
    entities={"sport": ("tennis", "soccer", "judo")},
)


def winner(template: str, text: str = "The practice is off today. See you on Friday.", **other: str) -> Example:
    rng = np.random.default_rng(0)
    asked = next(a for a in GRID.sample(60, rng) if a["template"] == template)
    return Example(
        text=text, subject="Off", attributes={**asked, **other}, operator="seed", round=0, model="m", prompt="p"
    )


PARENT = winner("a cancelled {sport} practice", tone="dry", length="short", sender_role="coach")
PARTNER = winner("a late train", tone="warm", length="long", sender_role="fan")


def changed(name: str, parent: Example = PARENT, partner: Example = PARTNER, seed: int = 0) -> tuple[set[str], str]:
    asked = OPERATORS[name].ask(parent, partner, GRID, np.random.default_rng(seed))
    assert asked is not None and asked.operator == name and asked.parent is parent
    names = set(asked.attributes) | set(parent.attributes)
    return {n for n in names if asked.attributes.get(n) != parent.attributes.get(n)}, asked.change


@pytest.mark.parametrize("seed", range(8))
def test_what_each_operator_changes(seed: int) -> None:
    topical = {"topic", "template", "entities"}
    for name, may in {
        "attribute_change": {"tone", "length", "sender_role"},
        "topic_swap": topical,
        "entity_swap": {"topic", "entities"},
        "restyle": {"tone", "length"},
        "winner_example": {"tone", "length", "sender_role"},
        "crossover": {"tone", "length", "sender_role"},
        "rewrite": topical,
    }.items():
        names, change = changed(name, seed=seed)
        assert names and names <= may, name
        assert all(f"{n}: " in change for n in names), "the lineage names what changed"


def test_an_entity_becomes_another_of_its_kind() -> None:
    _, change = changed("entity_swap")
    before = PARENT.attributes["entities"].removeprefix("sport=")
    assert f"entities: sport={before} -> sport=" in change
    assert OPERATORS["entity_swap"].ask(PARTNER, PARENT, GRID, np.random.default_rng(0)) is None


def test_what_is_shown_begun_and_rewritten() -> None:
    rng = np.random.default_rng(0)
    asked = {name: operator.ask(PARENT, PARTNER, GRID, rng) for name, operator in OPERATORS.items()}
    assert {name for name, a in asked.items() if a and a.shown is PARENT} == {"winner_example"}
    assert {name: a.begin for name, a in asked.items() if a and a.begin} == {
        "continuation": "The practice is off today."
    }
    assert {name for name, a in asked.items() if a and a.rewrite == PARENT.text} == {"rewrite"}
    crossed = asked["crossover"]
    assert crossed is not None and PARTNER.id in crossed.change and crossed.parent is PARENT
    one = winner("a late train", text="Only one sentence without a second one here")
    assert OPERATORS["continuation"].ask(one, one, GRID, rng) is None
    assert OPERATORS["crossover"].ask(PARENT, PARENT, GRID, rng) is None


def test_operators_are_drawn_by_their_shares() -> None:
    operators = Operators(shares={"topic_swap": 3, "restyle": 1, "rewrite": 0})
    assert operators.active == ("topic_swap", "restyle")
    rng = np.random.default_rng(0)
    counts = Counter(operators.ask(PARENT, PARTNER, GRID, rng).operator for _ in range(2000))
    # Binomial: 2000 draws with p = 3/4 have a standard error of 19.4; five of them are allowed.
    assert abs(counts["topic_swap"] - 1500) < 97 and set(counts) == {"topic_swap", "restyle"}
    assert abs(counts["topic_swap"] - 1000) > 97, "negative control: even shares would fail"


def test_an_operator_that_does_not_apply_leaves_its_place() -> None:
    asked = Operators(shares={"entity_swap": 1}).ask(PARTNER, PARENT, GRID, np.random.default_rng(0))
    assert asked.operator == "attribute_change"


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"mutate": 1}, "generator.operators.shares has 'mutate'; expected some of attribute_change"),
        ({"restyle": -1}, "generator.operators.shares.restyle is -1"),
        ({"restyle": 0}, "no share above 0"),
    ],
)
def test_bad_shares(shares: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Operators(shares=shares)
