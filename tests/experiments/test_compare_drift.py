"""What drifted, and where a map puts it: on histories whose answer is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from experiments.compare.columns import Strings, cut, rounded
from experiments.compare.drift import changed_attributes, find_drift, words
from experiments.compare.layout import fit_plane
from experiments.compare.runs import Candidate, History, Poll, Round


def candidate(text: str, topic: str, born: int = 0, parent: str = "", family: str = "") -> Candidate:
    return Candidate(
        text=text, subject="", attributes={"topic": topic, "tone": "dry"}, operator="entity_swap" if parent else "seed",
        change="", born=born, parents=(parent,) if parent else (), family=family,
    )  # fmt: skip


def slate(
    number: int, ids: Sequence[str], counts: Sequence[float] | None, weights: Sequence[float], kept: int = 1
) -> Round:
    poll = None
    if counts is not None:
        rank = np.where(np.argsort(np.argsort(-np.array(counts))) < kept, 0, -1)
        poll = Poll(count=np.array(counts), stderr=np.full(len(ids), 3.0), rank=rank, true_votes=None)
    vectors = np.zeros((len(ids), 2), dtype=np.float32)
    return Round(number=number, ids=tuple(ids), vectors=vectors, weights=np.array(weights), poll=poll)


@pytest.fixture
def history() -> History:
    """Tennis wins and becomes soccer, which wins more; the budget dies out."""
    candidates: Mapping[str, Candidate] = {
        "a": candidate("The tennis court is wet", "tennis", family="a"),
        "b": candidate("The budget is late", "budget", family="b"),
        "c": candidate("The soccer field is wet", "soccer", 1, "a", "a"),
        "d": candidate("The soccer field is far", "soccer", 1, "a", "a"),
    }
    return History(
        rounds=(
            slate(0, ["a", "b"], [10.0, 2.0], [0.5, 0.5]),
            slate(1, ["a", "c", "d"], [4.0, 30.0, 8.0], [0.5, 0.25, 0.25]),
            slate(2, ["c", "d"], None, [0.75, 0.25]),
        ),
        candidates=candidates,
    )


def test_terms_rise_and_fall_by_the_corpus_s_weights(history):
    drift = find_drift(history)
    topics = {trend.term: trend.shares for trend in drift.topics}
    assert topics == {"soccer": (0, 0.5, 1), "tennis": (0.5, 0.5, 0), "budget": (0.5, 0, 0)}
    terms = {trend.term: trend.shares for trend in drift.words}
    assert terms["field"] == (0, 0.5, 1)
    assert terms["wet"] == (0.5, 0.75, 0.75)
    assert "the" not in terms
    gains = [trend.gain for trend in drift.words]
    assert gains == sorted(gains, reverse=True)


def test_a_swap_is_judged_by_votes_of_parents_and_children(history):
    (swap,) = find_drift(history).swaps
    assert (swap.name, swap.before, swap.after) == ("topic", "tennis", "soccer")
    assert (swap.children, swap.kept) == (2, 1)
    assert (swap.parent_votes, swap.child_votes) == (10.0, 19.0)
    # Two counts of standard error 3: the mean has 3 / sqrt(2).
    assert swap.stderr == pytest.approx(3 / np.sqrt(2))
    (operator,) = find_drift(history).operators
    assert (operator.after, operator.children) == ("entity_swap", 2)


def test_new_words_of_a_family(history):
    grown = History(rounds=history.rounds[:2], candidates=history.candidates)
    # One family is the whole slate: nothing is rarer elsewhere.
    assert find_drift(history).new_words == {"a": ()}
    other = {**history.candidates, "e": candidate("Rain over the hills", "rain", family="e")}
    last = slate(2, ["c", "d", "e"], None, [0.5, 0.25, 0.25])
    found = find_drift(History(rounds=(*grown.rounds, last), candidates=other)).new_words
    assert found == {"a": ("field", "soccer", "far"), "e": ()}


def test_words_are_those_that_say_what_a_text_is_about():
    assert words("Hello! I'll send THE e-mail about Zoë's café; it\u2019s 42.") == {"send", "mail", "zoë's", "café"}


def test_changed_attributes_names_what_one_side_lacks():
    before, after = candidate("", "x"), Candidate(
        text="", subject="", attributes={"topic": "y", "length": "long"}, operator="", change="", born=1, parents=(),
        family="",
    )  # fmt: skip
    assert changed_attributes(before, after) == [("topic", "x", "y"), ("tone", "dry", ""), ("length", "", "long")]


def test_the_plane_is_the_one_with_the_variance():
    rng = np.random.default_rng(3)
    inside = rng.normal(size=(400, 2)) * (5, 2)
    basis = np.linalg.qr(rng.normal(size=(12, 2)))[0]
    vectors = (inside @ basis.T + rng.normal(size=(400, 12)) * 0.05).astype(np.float32)
    plane = fit_plane([vectors[:200], vectors[200:]])
    assert plane.variance > 0.99
    placed = plane.place(vectors)
    # The same configuration of points: distances are kept up to the small noise outside the plane.
    assert np.linalg.norm(placed[0] - placed[1]) == pytest.approx(np.linalg.norm(inside[0] - inside[1]), abs=0.3)
    # A direction without variance shows nothing: the control.
    assert fit_plane([rng.normal(size=(400, 12)).astype(np.float32)]).variance < 0.4


def test_the_map_does_not_flip():
    vectors = np.random.default_rng(4).normal(size=(30, 5)).astype(np.float32)
    first, second = fit_plane([vectors]), fit_plane([vectors[::-1]])
    assert np.allclose(first.place(vectors), second.place(vectors), atol=1e-6)


def test_the_plane_of_spaces_that_are_too_small():
    assert (
        fit_plane([np.ones((3, 1), dtype=np.float32)]).place(np.ones((3, 1), dtype=np.float32)).tolist() == [[0, 0]] * 3
    )
    assert fit_plane([np.ones((1, 4), dtype=np.float32)]).variance == 1.0


def test_strings_are_kept_once_and_cut_at_words():
    strings = Strings()
    assert [strings.add(text) for text in ("one two three", "four", "one two three")] == [0, 1, 0]
    assert strings.cut(9) == ["one two …", "four"]
    strings.whole.add(0)
    assert strings.cut(9) == ["one two three", "four"]
    assert cut("abc", None) == "abc"
    assert [rounded(3.0), rounded(0.123456), rounded(123456.0)] == [3, 0.1235, 123500]
