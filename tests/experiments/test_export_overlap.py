"""Verbatim overlap: equal to the plain definition on small texts, and blind to what no run of words may cross."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.overlap import measure_overlap

TEXTS = st.lists(st.text("ab c.", max_size=24), min_size=1, max_size=5)


def windows(text: str, n: int) -> set[tuple[str, ...]]:
    found = text.replace(".", " ").lower().split()
    return {tuple(found[i : i + n]) for i in range(len(found) - n + 1)}


@settings(max_examples=150, deadline=None)
@given(texts=TEXTS, others=TEXTS)
def test_it_is_the_plain_definition(texts: list[str], others: list[str]) -> None:
    lengths = (1, 2, 3, 4, 5, 7, 8)
    found = measure_overlap([[text] for text in texts], others, lengths)
    for n in lengths:
        there = set().union(*(windows(other, n) for other in others))
        assert found.shares[n] == sum(bool(windows(text, n) & there) for text in texts) / len(texts)
    longest = max(
        (n for n in range(1, 25) if any(windows(a, n) & windows(b, n) for a in texts for b in others)), default=0
    )
    assert found.longest == longest and found.texts == len(texts)


def test_case_and_punctuation_do_not_hide_a_copy() -> None:
    found = measure_overlap([["“It's LATE” -- said Tom, and left."]], ["It's late, said Tom and left!"], [6])
    assert found.shares == {6: 1.0} and found.longest == 6


def test_no_run_crosses_parts_or_texts() -> None:
    assert measure_overlap([["one two", "three four"]], ["one two three four"]).longest == 2
    assert measure_overlap([["one two three four"]], ["one two", "three four"]).longest == 2
    assert measure_overlap([["one two"], ["three"]], ["two three"]).longest == 1
    assert measure_overlap([["one unknown two"]], ["one two"]).longest == 1


def test_the_longest_run_between_powers_of_two() -> None:
    for n in (1, 2, 3, 11, 16, 17, 100):
        shared = " ".join(f"w{i}" for i in range(n))
        found = measure_overlap([[f"before {shared} after"]], [f"x {shared} y"], [n, n + 1])
        assert found.longest == n and found.shares == {n: 1.0, n + 1: 0.0}


def test_what_cannot_be_measured() -> None:
    for texts, lengths in (([], [8]), ([["a"]], [0])):
        with pytest.raises(ValueError, match="expected a text or more, and lengths >= 1"):
            measure_overlap(texts, ["a"], lengths)
    assert measure_overlap([[""]], []).longest == 0
