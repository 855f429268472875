"""Texts cut back: to whole sentences, to whole phrases, to where they lose the thread."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from synth.shortening import before_drift, whole_phrases, whole_sentences


@pytest.mark.parametrize(
    ("body", "whole"),
    [
        ("It rains. We stay in", "It rains."),
        ("It rains! Do we stay?", "It rains! Do we stay?"),
        ('He said "stay." And then', 'He said "stay."'),
        ("We pay 3.50 each", None),
        ("Version 2.1 is out. It costs 3.50 and", "Version 2.1 is out."),
        ("no end in sight", None),
        ("", None),
        ("We met Dr. Ruiz. He said", "We met Dr. Ruiz."),
        ("Bring bread. 2. And", "Bring bread."),
        ("See you at nine. P.", "See you at nine."),
        ("Can we meet at 5? Or", "Can we meet at 5?"),
        ("We paid for 2. And", "We paid for 2."),
        ("Is it apartment B? Or", "Is it apartment B?"),
        ("He said “stay.” And then", "He said “stay.”"),
        ("Il a dit « oui. » Puis il", "Il a dit « oui. »"),
        ("Dear all, 1. Bring bread", None),
        ("1. Bring", None),
    ],
)
def test_whole_sentences(body: str, whole: str | None) -> None:
    assert whole_sentences(body) == whole


def test_sentences_within_a_length_and_behind_what_was_begun() -> None:
    body = "One two. Three four five. Six seven eight nine."
    assert whole_sentences(body, most_words=9) == body
    assert whole_sentences(body, most_words=8) == "One two. Three four five."
    assert whole_sentences(body, most_words=1) == "One two."
    assert whole_sentences(body, most_words=1, begun="One two.") == "One two. Three four five."
    assert whole_sentences("One two. Three", most_words=9, begun="One two.") is None


@pytest.mark.parametrize(
    ("body", "most", "begun", "kept"),
    [
        ("red panda asleep on a tree in the", 6, "red panda", "red panda asleep on a tree"),
        ("red panda asleep on a tree in the", 5, "red panda", "red panda asleep"),
        ("red panda asleep on a tree", 6, "red panda", "red panda asleep on a tree"),  # fits: as it is
        ("red panda, asleep and very happy today", 3, "red panda", "red panda, asleep"),
        ("cup of green tea on the moon at night", 3, "cup of green tea", "cup of green tea"),  # never less than begun
        ("cup of green tea on the moon at night", 7, "cup of green tea", "cup of green tea on the moon"),
        ("llama with a and for the big hat", 4, "llama", "llama"),  # nor does it end with a joint
        ("one two three four", 2, "", "one two three four"),  # nothing to cut at: as it is
        ("red panda asleep on a", 5, "red panda", "red panda asleep"),  # cut off by the limit on tokens
        ("red panda,", 5, "red panda", "red panda"),
        ("red panda looking around", 5, "red panda", "red panda looking around"),
        ("in the rain", 5, "", "in the rain"),
    ],
)
def test_whole_phrases(body: str, most: int, begun: str, kept: str) -> None:
    assert whole_phrases(body, most, begun) == kept


def encode(texts: Sequence[str]) -> NDArray[np.float32]:
    """Fake: how much a text is about rent, and how much about anything else."""
    share = np.array([0.95 if "rent" in text else 0.05 for text in texts], dtype=np.float32)
    return np.stack([share, np.sqrt(1 - share**2)], axis=1)


def test_a_text_ends_before_the_first_sentence_that_drifts() -> None:
    begun = "Dear Mei, I write about the rent. It"
    whole = f"{begun} is due. The rent is 900. I love whales. Pay the rent."
    other = "The rent is due. I love whales."
    cut = before_drift([whole, other, "It rains.", "no end", ""], [begun, "", "", "", ""], 0.5, encode)
    assert cut == [f"{begun} is due. The rent is 900.", "The rent is due.", "It rains.", "no end", ""]
    # What was begun stays, whatever comes first behind it; with a floor of 0 nothing is cut.
    assert before_drift([f"{begun} loves whales."], [begun], 0.5, encode) == [f"{begun} loves whales."]
    assert before_drift([whole, other], [begun, ""], 0.0, encode) == [whole, other]


@pytest.mark.parametrize("greeting", ["Hi Tom,", "Tom,", "Dear Ms Ito:", "Hola, Ana:", "Guten Tag,", "Hi Tom!", ""])
def test_a_greeting_is_not_what_a_text_is_held_against(greeting: str) -> None:
    said = f"{greeting} The rent is due. The rent is 900. I love whales.".strip()
    kept = f"{greeting} The rent is due. The rent is 900.".strip()
    for begun in ("", greeting, f"{greeting} The rent"):
        assert before_drift([said], [begun], 0.5, encode) == [kept], begun


def test_texts_of_one_sentence_cost_no_encoding() -> None:
    def refuse(texts: Sequence[str]) -> NDArray[np.float32]:
        raise AssertionError(texts)

    assert before_drift(["It rains."], [""], 0.5, refuse) == ["It rains."]
