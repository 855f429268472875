"""The candidates of a run for its page: columns of numbers, texts once each.

strings = Strings()
columns = candidate_columns(load_rounds(run), plane, strings)
strings.cut(None)[columns["text"][0]]    # the first candidate's text
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from experiments.compare.drift import Swap, Trend, find_drift
from experiments.compare.layout import Plane
from experiments.compare.runs import History, Round

SHOWN = 12  # winners, and as many losers, of a round: their texts are never cut


@dataclass
class Strings:
    """Texts by number, each kept once: runs of a sweep share their seed corpus."""

    numbers: dict[str, int] = field(default_factory=dict)
    whole: set[int] = field(default_factory=set)

    def add(self, text: str) -> int:
        """The number of a text."""
        return self.numbers.setdefault(text, len(self.numbers))

    def cut(self, longest: int | None) -> list[str]:
        """All texts in order of their numbers, cut at a word where longer, but for those in `whole`."""
        return [text if i in self.whole else cut(text, longest) for text, i in self.numbers.items()]


def candidate_columns(history: History, plane: Plane, strings: Strings) -> dict[str, Any]:
    """Columns of numbers, one entry per candidate; texts, attributes and changes are numbers into `strings`."""
    order = {identity: i for i, identity in enumerate(history.candidates)}
    found = list(history.candidates.values())
    xy = np.zeros((len(found), 2))
    for slate in history.rounds:
        xy[[order[identity] for identity in slate.ids]] = plane.place(slate.vectors)
    names = list(dict.fromkeys(name for candidate in found for name in candidate.attributes))
    drift = find_drift(history)
    for slate in history.rounds:
        strings.whole |= {strings.add(found[order[identity]].text) for identity in _shown(slate)}
    return {
        "text": [strings.add(candidate.text) for candidate in found],
        "subject": [strings.add(candidate.subject) for candidate in found],
        "operator": [strings.add(candidate.operator.replace("_", " ")) for candidate in found],
        "change": [strings.add(candidate.change) for candidate in found],
        "born": [candidate.born for candidate in found],
        "parents": [[order[p] for p in candidate.parents if p in order] for candidate in found],
        "family": [order.get(candidate.family, i) for i, candidate in enumerate(found)],
        "attributes": {
            name: [strings.add(candidate.attributes.get(name, "")) for candidate in found] for name in names
        },
        "xy": [[round(x, 3), round(y, 3)] for x, y in xy.tolist()],
        "rounds": [
            {"number": slate.number, "ids": [order[identity] for identity in slate.ids], **_votes(slate)}
            for slate in history.rounds
        ],
        "words": _trends(drift.words),
        "topics": _trends(drift.topics),
        "swaps": [_swap(swap) for swap in drift.swaps],
        "operators": [_swap(swap) for swap in drift.operators],
        "newWords": {order[seed]: list(terms) for seed, terms in drift.new_words.items() if seed in order and terms},
    }


def _votes(slate: Round) -> dict[str, list[float | int]]:
    """Estimates of a polled slate; shares of a refined corpus."""
    if slate.poll is None:
        return {"weight": [rounded(weight, 3) for weight in slate.weights.tolist()]}
    poll = slate.poll
    stderr = [rounded(value, 3) for value in poll.stderr.tolist()]
    return {
        "count": [rounded(value) for value in poll.count.tolist()],
        # Many mechanisms have one standard error for all candidates.
        "stderr": stderr if len(set(stderr)) > 1 else stderr[:1],
        "rank": poll.rank.tolist(),
        **({} if poll.true_votes is None else {"votes": poll.true_votes.tolist()}),
    }


def _shown(slate: Round) -> list[str]:
    """The candidates whose texts a page prints: winners and losers, or the largest shares."""
    value = slate.weights if slate.poll is None else slate.poll.count
    order = np.argsort(-value, kind="stable")
    return [slate.ids[i] for i in {*order[:SHOWN].tolist(), *order[-SHOWN:].tolist()}]


def _trends(trends: Sequence[Trend]) -> list[list[Any]]:
    return [[trend.term, [rounded(share, 3) for share in trend.shares]] for trend in trends]


def _swap(swap: Swap) -> list[Any]:
    votes = [rounded(swap.parent_votes), rounded(swap.child_votes), rounded(swap.stderr, 3)]
    return [swap.name, swap.before, swap.after, swap.children, swap.kept, *votes]


def cut(text: str, longest: int | None) -> str:
    """A text of at most `longest` characters, cut at a word and marked; None: whole."""
    if longest is None or len(text) <= longest:
        return text
    return text[:longest].rsplit(" ", 1)[0] + " …"


def rounded(value: float, digits: int = 4) -> float | int:
    """A number with so many significant digits; whole ones as integers."""
    short = float(f"{value:.{digits}g}")
    return int(short) if short.is_integer() else short
