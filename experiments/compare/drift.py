"""What the corpus turned into: words and topics that gained or lost, and which changes the devices liked.

    drift = find_drift(history)
    drift.words[0]      # Trend(term='soccer', shares=(0.01, 0.04, 0.11))
    drift.swaps[0]      # Swap(name='topic', before='tennis', after='soccer', children=4, ...)

Everything here is counted on synthetic texts, released estimates and released weights.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.compare.runs import Candidate, History, Poll

_LISTED = 12  # risers, and as many fallers
_SWAPS = 60
_SHORTEST = 3
_NEW = 0.15  # a word is new in a family if its share there is this much above its share in the slate
_NEW_WORDS = 5
_SUBJECT = ("topic", "entity")

# Words whose share says how, not what, a text is written.
_STOP = frozenset(
    re.findall(
        r"\S+",
        "about after again all also and any are because been before being but can cannot could did does doing done "
        "down each even for from get getting give going got had has have having hello her here him his hope how "
        "i'd i'll i'm i've into isn't it's its just know let let's like ll look looking made make making many may "
        "me might more most much must need new not now off one only onto other our out over own per please re same "
        "see she should since some still such sure than thank thanks that that's the their them then there there's "
        "these they they're thing things think this those though through too two under until upon use very want "
        "was way we'd we'll we're we've well were what when where whether which while who why will with won't "
        "would yes yet you you'd you'll you're you've your dear regards sincerely best ",
    )
)


@dataclass(frozen=True, kw_only=True)
class Trend:
    """A term and the share of the (weighted) corpus that has it, one number per round."""

    term: str
    shares: tuple[float, ...]

    @property
    def gain(self) -> float:
        """Last share minus first."""
        return self.shares[-1] - self.shares[0]


@dataclass(frozen=True, kw_only=True)
class Swap:
    """Children whose attribute `name` went from `before` to `after`, and how they and their parents were voted.

    `parent_votes` and `child_votes` are mean estimated counts, of the parents in the poll that they won and of the
    children in their first poll, the latter with the standard error that privacy noise gives it; `children` counts
    those that were polled, `kept` those that won.
    """

    name: str
    before: str
    after: str
    children: int
    kept: int
    parent_votes: float
    child_votes: float
    stderr: float


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Trends sorted by gain, largest first (risers, then fallers); swaps sorted by how clearly the children were liked.

    `new_words` are, by the id of a seed, words that it did not have and its descendants in the last slate do.
    """

    words: tuple[Trend, ...]
    topics: tuple[Trend, ...]
    swaps: tuple[Swap, ...]
    operators: tuple[Swap, ...]
    new_words: Mapping[str, tuple[str, ...]]


def find_drift(history: History) -> Drift:
    """Compare the first slate with the last, and every child with its parent."""
    return Drift(
        words=_trends(history, lambda candidate: words(f"{candidate.subject} {candidate.text}")),
        topics=_trends(history, lambda candidate: {topic} if (topic := candidate.attributes.get("topic")) else set()),
        swaps=_swaps(history, changed_attributes)[:_SWAPS],
        operators=_swaps(history, lambda parent, child: [("operator", "", child.operator)]),
        new_words=_new_words(history),
    )


def words(text: str) -> set[str]:
    """The distinct lower-case words of a text that say what it is about."""
    found = set(re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)*", text.lower().replace("\u2019", "'")))
    return {word for word in found if len(word) >= _SHORTEST and word not in _STOP}


def changed_attributes(parent: Candidate, child: Candidate) -> list[tuple[str, str, str]]:
    """(name, before, after) of every attribute that differs; '' where one side has none."""
    names = dict.fromkeys([*parent.attributes, *child.attributes])
    pairs = [(name, parent.attributes.get(name, ""), child.attributes.get(name, "")) for name in names]
    return [(name, before, after) for name, before, after in pairs if before != after]


def _trends(history: History, terms_of: Callable[[Candidate], Iterable[str]]) -> tuple[Trend, ...]:
    """The terms whose weighted share changed most between the first and the last slate."""
    terms = {identity: sorted(terms_of(candidate)) for identity, candidate in history.candidates.items()}
    shares: dict[str, list[float]] = defaultdict(lambda: [0.0] * len(history.rounds))
    for place, slate in enumerate(history.rounds):
        for identity, weight in zip(slate.ids, slate.weights.tolist(), strict=True):
            for term in terms[identity]:
                shares[term][place] += weight
    trends = [Trend(term=term, shares=tuple(of)) for term, of in shares.items()]
    trends.sort(key=lambda trend: (-trend.gain, trend.term))
    risers = [trend for trend in trends[:_LISTED] if trend.gain > 0]
    return (*risers, *(trend for trend in trends[-_LISTED:] if trend.gain < 0))


def _swaps(
    history: History, changes: Callable[[Candidate, Candidate], Sequence[tuple[str, str, str]]]
) -> tuple[Swap, ...]:
    """Children in their first poll against their first parent in the poll before."""
    polled = [(slate.ids, slate.poll) for slate in history.rounds if slate.poll is not None]
    seen: dict[tuple[str, str, str], list[tuple[float, float, float, bool]]] = defaultdict(list)
    for earlier, slate in itertools.pairwise(polled):
        before = _votes(*earlier)
        for identity, (votes, stderr, kept) in _votes(*slate).items():
            child = history.candidates[identity]
            if identity in before or not child.parents or child.parents[0] not in before:
                continue
            parent = history.candidates[child.parents[0]]
            for change in changes(parent, child):
                seen[change].append((before[child.parents[0]][0], votes, stderr, kept))
    swaps = [
        Swap(
            name=name,
            before=before_,
            after=after,
            children=len(found),
            kept=sum(kept for *_, kept in found),
            parent_votes=float(np.mean([parent for parent, *_ in found])),
            child_votes=float(np.mean([child for _, child, *_ in found])),
            stderr=float(np.sqrt(np.sum([stderr**2 for _, _, stderr, _ in found])) / len(found)),
        )
        for (name, before_, after), found in seen.items()
    ]
    # What a text is about matters more than how long it is; without noise (standard error 0) the mean itself decides.
    return tuple(sorted(swaps, key=lambda s: (s.name not in _SUBJECT, -s.child_votes / (s.stderr or 1), s.after)))


def _new_words(history: History) -> dict[str, tuple[str, ...]]:
    """For each family in the last slate: words that are new in it and rarer elsewhere in the slate."""
    last = history.rounds[-1].ids
    families: dict[str, list[str]] = defaultdict(list)
    for identity in last:
        families[history.candidates[identity].family].append(identity)
    terms = {
        identity: words(history.candidates[identity].text) for identity in {*last, *families} & {*history.candidates}
    }
    everywhere = Counter(term for identity in last for term in terms[identity])
    found = {}
    for seed, members in families.items():
        here = Counter(term for identity in members for term in terms[identity])
        gains = {
            term: count / len(members) - everywhere[term] / len(last)
            for term, count in here.items()
            if term not in terms.get(seed, ())
        }
        best = sorted((term for term, gain in gains.items() if gain > _NEW), key=lambda term: (-gains[term], term))
        found[seed] = tuple(best[:_NEW_WORDS])
    return found


def _votes(ids: Sequence[str], poll: Poll) -> dict[str, tuple[float, float, bool]]:
    """Estimated count, its standard error and whether it won, by id."""
    columns = zip(ids, poll.count.tolist(), poll.stderr.tolist(), poll.rank.tolist(), strict=True)
    return {identity: (count, stderr, rank >= 0) for identity, count, stderr, rank in columns}
