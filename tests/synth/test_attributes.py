from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth.attributes import AXES, AttributeGrid

SMALL = """
topic:
  office: [a late report, a new printer]
  home: [a leaking roof]
purpose: [ask, tell]
tone: [kind, curt]
length: {short: [5, 10], long: [10, 40]}
sender_role: [manager]
"""


def small_grid() -> AttributeGrid:
    return AttributeGrid(
        axes={
            "topic": ("a late report", "a new printer", "a leaking roof"),
            "purpose": ("ask", "tell"),
            "tone": ("kind", "curt"),
            "length": ("short", "long"),
            "sender_role": ("manager",),
        },
        groups={"a late report": "office", "a new printer": "office", "a leaking roof": "home"},
        length_words={"short": (5, 10), "long": (10, 40)},
    )


def write(folder: Path, text: str) -> Path:
    path = folder / "grid.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_packaged_grid_is_broad() -> None:
    grid = AttributeGrid.from_yaml()
    assert tuple(grid.axes) == AXES
    assert len(grid.axes["topic"]) >= 140
    assert len(set(grid.groups.values())) >= 15
    assert min(Counter(grid.groups.values()).values()) >= 8
    assert [len(grid.axes[axis]) >= least for axis, least in zip(AXES[1:], (12, 8, 3, 15), strict=True)] == [True] * 4
    assert all(2 <= len(topic.split()) <= 7 and not topic.endswith(".") for topic in grid.axes["topic"])


def test_a_file_of_ones_own_is_read(tmp_path: Path) -> None:
    assert AttributeGrid.from_yaml(write(tmp_path, SMALL)) == small_grid()
    assert AttributeGrid.from_yaml(str(tmp_path / "grid.yaml")) == small_grid()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("sender_role: [manager]", "", "the grid lacks 'sender_role'"),
        ("tone:", "mood:", "the grid has the unknown key 'mood'"),
        ("[kind, curt]", "[]", "tone is empty; expected a list"),
        ("[kind, curt]", "", "tone is empty; expected a list"),
        ("[kind, curt]", "kind", "tone is a str; expected a list"),
        ("[kind, curt]", "[kind, no]", "tone: entry 2 is a bool; expected a text"),
        ("[kind, curt]", "[kind, ' ']", "tone: entry 2 is a str; expected a text"),
        ("[kind, curt]", "[kind, curt, Kind]", "tone: entry 3 repeats entry 1"),
        ("a leaking roof", "a new printer", "topic.home lists 'a new printer', which topic.office has already"),
        ("a leaking roof", "A new printer", "topic: entry 3 repeats entry 2"),
        ("  home: [a leaking roof]", "  home: []", "topic.home is empty"),
        ("home:", "12:", "topic has the key 12; expected a text"),
        ("home:", "office:", "not valid YAML in line 4: 'office' appears twice"),
        ("{short: [5, 10], long: [10, 40]}", "[short, long]", "length is a list; expected a mapping"),
        ("[5, 10]", "[10, 5]", r"length.short is \[10, 5\]; expected .* with 1 <= fewest <= most"),
        ("[5, 10]", "[0, 5]", r"length.short is \[0, 5\]"),
        ("[5, 10]", "[5]", r"length.short is \[5\]; expected \[fewest, most\] words"),
        ("[5, 10]", "[5, 10.5]", r"length.short is \[5, 10.5\]; expected \[fewest, most\] words"),
        ("[kind, curt]", "[kind, curt", "not valid YAML in line 7"),
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


def test_a_grid_built_by_hand_is_checked_too() -> None:
    good = small_grid()
    with pytest.raises(ValueError, match="groups does not name every topic"):
        AttributeGrid(axes=good.axes, groups={}, length_words=good.length_words)
    with pytest.raises(ValueError, match="length_words does not name every length"):
        AttributeGrid(axes=good.axes, groups=good.groups, length_words={"short": (1, 2)})
    with pytest.raises(ValueError, match="tone is empty"):
        AttributeGrid(axes={**good.axes, "tone": ()}, groups=good.groups, length_words=good.length_words)


@given(n=st.integers(0, 700), seed=st.integers(0, 2**32))
def test_topics_are_spread_evenly(n: int, seed: int) -> None:
    grid = AttributeGrid.from_yaml() if n > 300 else small_grid()
    asked = grid.sample(n, np.random.default_rng(seed))
    topics = grid.axes["topic"]
    counts = Counter(a["topic"] for a in asked)
    assert len(asked) == n
    assert {counts[topic] for topic in topics} <= {n // len(topics), -(-n // len(topics))}
    assert all(tuple(a) == AXES and all(a[axis] in grid.axes[axis] for axis in AXES) for a in asked)
    assert asked == grid.sample(n, np.random.default_rng(seed))


def test_topics_are_shuffled_and_the_other_axes_are_uniform() -> None:
    grid = AttributeGrid.from_yaml()
    n = 162 * 40
    asked = grid.sample(n, np.random.default_rng(5))
    first = [a["topic"] for a in asked[: len(grid.axes["topic"])]]
    assert len(set(first)) < len(first)  # not one whole round of topics after the other
    for axis in AXES[1:]:
        counts = Counter(a[axis] for a in asked)
        share = 1 / len(grid.axes[axis])
        stderr = (n * share * (1 - share)) ** 0.5
        assert all(abs(counts[entry] - n * share) < 5 * stderr for entry in grid.axes[axis])


def test_a_negative_number_of_texts_is_refused() -> None:
    with pytest.raises(ValueError, match="n is -1"):
        small_grid().sample(-1, np.random.default_rng(0))


@given(seed=st.integers(0, 2**32), keep=st.lists(st.sampled_from(AXES), max_size=4, unique=True))
def test_change_keeps_what_it_should_and_changes_something(seed: int, keep: list[str]) -> None:
    grid = AttributeGrid.from_yaml()
    rng = np.random.default_rng(seed)
    before = grid.sample(1, rng)[0]
    after = grid.change(before, rng, keep)
    assert tuple(after) == AXES
    assert all(after[axis] == before[axis] for axis in keep)
    assert any(after[axis] != before[axis] for axis in AXES if axis not in keep)
    assert all(after[axis] in grid.axes[axis] for axis in AXES)


def test_change_reaches_every_other_combination_equally_often() -> None:
    grid = small_grid()
    before = {"topic": "a new printer", "purpose": "tell", "tone": "kind", "length": "long", "sender_role": "manager"}
    rng = np.random.default_rng(3)
    n = 7_000
    counts = Counter(tuple(grid.change(before, rng).values()) for _ in range(n))
    assert tuple(before.values()) not in counts
    assert len(counts) == 2 * 2 * 2 - 1
    stderr = (n * (1 / 7) * (6 / 7)) ** 0.5
    assert all(abs(count - n / 7) < 5 * stderr for count in counts.values())


def test_change_refuses_what_it_cannot_do() -> None:
    grid = small_grid()
    rng = np.random.default_rng(0)
    before = grid.sample(1, rng)[0]
    with pytest.raises(ValueError, match="keep names 'mood'"):
        grid.change(before, rng, keep=("mood",))
    with pytest.raises(ValueError, match="nothing can change"):
        grid.change(before, rng, keep=("topic", "purpose", "tone", "length"))  # there is one sender_role only
    with pytest.raises(ValueError, match="attributes lacks 'tone'"):
        grid.change({axis: before[axis] for axis in AXES if axis != "tone"}, rng)
    with pytest.raises(ValueError, match="tone is 'gloomy', which is not in this grid"):
        grid.change({**before, "tone": "gloomy"}, rng)
