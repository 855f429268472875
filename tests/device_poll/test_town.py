import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_poll.town.build import Town, build_town, read_grammar
from synth.attributes import AttributeGrid

SMALL = """
slots:
  name: [Ann, Bob, Cy]
  day: [Monday, Friday]
greetings: ["Hi {name},", ""]
sign_offs: ["{name2}"]
topics:
  bread:
    openings: [The bread is baked.]
    middles: ["Fetch it on {day}, not on {day2}."]
    closings: [Bring a bag., ""]
  roofs:
    openings: [The roof leaks.]
    middles: [Bring a ladder.]
    closings: [Mind the gutter.]
personas:
  baker: {share: 0.25, topics: {bread: 1.0}}
  roofer: {share: 0.75, topics: {roofs: 0.8, bread: 0.2}}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "town.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def town() -> Town:
    return build_town(devices=20_000, mails_per_device=3, seed=7)


def test_the_shape_of_a_town(town: Town) -> None:
    assert len(town.texts) == len(town.users) == len(town.topics) == len(town.personas) == 60_000
    assert town.users[:4] == ("resident-000000",) * 3 + ("resident-000001",)
    assert len(set(town.users)) == 20_000
    assert all(len(set(town.personas[i : i + 3])) == 1 for i in range(0, 60_000, 3))
    mix = read_grammar()
    for topic, persona in set(zip(town.topics, town.personas, strict=True)):
        assert mix.mix[mix.personas.index(persona), mix.topics.index(topic)] > 0


def test_the_same_seed_gives_the_same_town_and_another_seed_another() -> None:
    assert build_town(50, 2, seed=3) == build_town(50, 2, seed=3)
    assert build_town(50, 2, seed=3).texts != build_town(50, 2, seed=4).texts


def test_distinct_mails_are_few_and_do_not_depend_on_the_number_of_devices(town: Town) -> None:
    assert len(set(town.texts)) <= 14 * 220
    small = build_town(devices=200, mails_per_device=3, seed=7)
    assert set(small.texts) <= set(town.texts)
    few = build_town(devices=2_000, mails_per_device=3, seed=7, variants=5)
    assert len(set(few.texts)) == 14 * 5


def test_every_topic_has_its_own_mails(town: Town) -> None:
    assert len({(text, topic) for text, topic in zip(town.texts, town.topics, strict=True)}) == len(set(town.texts))


def distance_in_standard_errors(town: Town, proportions: np.ndarray) -> float:
    """The largest |frequency - proportion|; the devices are independent, the mails of one device are not."""
    per_device = len(town.texts) // len(set(town.users))
    drawn = np.array([list(town.proportions).index(topic) for topic in town.topics]).reshape(-1, per_device)
    held = (drawn[:, :, None] == np.arange(len(proportions))).mean(axis=1)
    stderr = held.std(axis=0, ddof=1) / np.sqrt(len(held))
    return float(np.max(np.abs(held.mean(axis=0) - proportions) / stderr))


def test_the_drawn_topics_have_the_stated_proportions(town: Town) -> None:
    proportions = np.array(list(town.proportions.values()))
    assert proportions.sum() == pytest.approx(1)
    assert distance_in_standard_errors(town, proportions) < 5
    # Negative control: the same proportions, given to the wrong topics, must be found out.
    assert distance_in_standard_errors(town, np.roll(proportions, 1)) > 5
    assert distance_in_standard_errors(town, np.full(14, 1 / 14)) > 5


def test_the_personas_have_their_shares(town: Town) -> None:
    grammar = read_grammar()
    drawn = np.array([grammar.personas.index(persona) for persona in town.personas[::3]])
    counts = np.bincount(drawn, minlength=len(grammar.personas))
    stderr = np.sqrt(20_000 * grammar.shares * (1 - grammar.shares))
    assert np.all(np.abs(counts - 20_000 * grammar.shares) < 5 * stderr)


def test_the_packaged_town_is_varied_and_skewed(town: Town) -> None:
    grammar = read_grammar()
    assert len(grammar.topics) == 14
    assert len(grammar.personas) == 8
    for openings, middles, closings in grammar.fragments:
        assert len(openings) >= 6
        assert len(middles) >= 8
        assert len([text for text in closings if text]) >= 5
    assert max(town.proportions.values()) == pytest.approx(0.2, abs=0.02)
    assert min(town.proportions.values()) == pytest.approx(0.015, abs=0.002)


def test_the_packaged_mails_read_like_sentences(town: Town) -> None:
    for text in set(town.texts):
        assert 25 <= len(text.split()) <= 70
        assert not re.search(r"[{}\[\]]|  | \n|\n\n| [.,?]|\.\.", text)
        assert not re.search(r"(^|[.?!]\s|\n)[a-z]", text), "a sentence begins in lower case"
        assert not re.search(r"\b[Aa] [aeio8]|\b[Aa]n [^aeiouAEIOUhX]", text), (
            "a before a vowel, or an before a consonant"
        )
        assert not re.search(r"\b(\w+) \1\b", text), "a word twice"
        body = text.split("\n")
        assert all(line[-1] in ".?!," or len(line.split()) <= 3 for line in body)


def test_one_slot_is_one_text_in_a_mail(tmp_path: Path) -> None:
    town = build_town(400, 1, seed=1, path=write(tmp_path, SMALL))
    bread = [text for text, topic in zip(town.texts, town.topics, strict=True) if topic == "bread"]
    for text in bread:
        assert re.search(r"on Monday, not on Friday|on Friday, not on Monday", text)
        greeted = re.match(r"Hi (\w+),", text)
        assert greeted is None or greeted[1] != text.split("\n")[-1]


def test_the_topics_of_the_town_that_an_email_generator_would_not_think_of() -> None:
    grid = AttributeGrid.from_yaml()
    assert {"beekeeping honey harvest", "vintage tractor restoration"} <= set(read_grammar().topics)
    unusual = re.compile(r"\b(bees?|beek\w*|honey|hives?|tractors?)\b")
    assert not [topic for topic in grid.axes["topic"] if unusual.search(topic)]


def test_a_small_grammar_writes_what_it_can(tmp_path: Path) -> None:
    town = build_town(3_000, 2, seed=0, path=write(tmp_path, SMALL), variants=1_000)
    distinct = set(zip(town.texts, town.topics, strict=True))
    # 9 roofs: 6 pairs of reader and writer, 3 writers without a greeting. Bread: times 2 orders of days, 2 closings.
    assert Counter(topic for _, topic in distinct) == {"roofs": 9, "bread": 36}
    assert town.proportions == pytest.approx({"bread": 0.25 + 0.75 * 0.2, "roofs": 0.75 * 0.8})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"devices": 0, "mails_per_device": 1, "seed": 0}, "devices is 0; expected a whole number >= 1"),
        ({"devices": 1, "mails_per_device": 0, "seed": 0}, "mails_per_device is 0"),
        ({"devices": 1, "mails_per_device": 1, "seed": -1}, "seed is -1; expected a whole number >= 0"),
        ({"devices": 1, "mails_per_device": 1, "seed": 0, "variants": 0}, "variants is 0"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_town(**arguments)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("greetings:", "hellos:", "the town has the unknown key 'hellos'"),
        ("sign_offs: ", "# ", "the town lacks 'sign_offs'"),
        ("closings: [Mind", "endings: [Mind", "topics.roofs has the unknown key 'endings'"),
        ("[Bring a ladder.]", "[]", "topics.roofs.middles is empty"),
        ("[Bring a ladder.]", "['']", "topics.roofs.middles: entry 1 is empty"),
        ("[Bring a ladder.]", "[Bring a ladder., bring a ladder.]", "topics.roofs.middles: entry 2 repeats entry 1"),
        ("[Bring a ladder.]", "[3]", "topics.roofs.middles: entry 1 is an int; expected a text"),
        ("[Bring a ladder.]", "['Bring {tool}.']", r"topics.roofs.middles: entry 1 has the unknown slot \{tool\}"),
        ("[Bring a ladder.]", "['Bring {Tool}.']", "topics.roofs.middles: entry 1 has a stray brace"),
        ("[Bring a ladder.]", "['See {day3}.']", r"entry 1 uses \{day3\}; slots.day has 2 texts only"),
        ("[Monday, Friday]", "[Monday, '{name}']", "slots.day has a text with a brace"),
        ("[Monday, Friday]", "[Monday, Friday]\n  time: [noon]", "slots.time is not used by any fragment"),
        ("roofs: 0.8", "roofs: 0.7", "the topics of personas.roofer sum to 0.9; expected 1"),
        ("roofs: 0.8", "towers: 0.8", "personas.roofer.topics has the unknown topic 'towers'"),
        ("{roofs: 0.8, bread: 0.2}", "{bread: 1}", "topics.roofs is not used by any persona"),
        ("share: 0.75", "share: 0.7", "the shares of personas sum to 0.95; expected 1"),
        ("share: 0.75", "share: -0.75", "personas.roofer.share is -0.75; expected a number above 0"),
        ("share: 0.75", "share: .nan", "personas.roofer.share is nan; expected a number above 0"),
        ("share: 0.75", "share: most", "personas.roofer.share is 'most'; expected a number above 0"),
        ("  roofs:", "  bread:", "not valid YAML in line 12: 'bread' appears twice"),
        ("[Bring a ladder.]", "[Bring", "not valid YAML in line"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in SMALL
    path = write(tmp_path, SMALL.replace(old, new, 1))
    with pytest.raises(ValueError, match=message) as caught:
        build_town(1, 1, seed=0, path=path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert "ladder" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.yaml: cannot be read"):
        build_town(1, 1, seed=0, path=tmp_path / "none.yaml")
