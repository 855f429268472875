"""Which grid files are read, and what is said of those that are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from synth.attributes import AttributeGrid
from tests.synth.small_grid import SMALL, rng, small_grid, write


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
