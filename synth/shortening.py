"""Cutting what a small model wrote back to where it still made sense.

    whole_sentences("We met. He said", 35)                              'We met.'
    whole_phrases("red panda asleep on a tree in the", 6, "red panda")  'red panda asleep on a tree'
    before_drift(["We met about the rent. It is due. I love whales."], ["We met about the rent."], 0.25, encode)

Small models write on and on, and lose the thread: the beginning of a text is its best part.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from synth.filters import words
from synth.generator import Encode

# A full stop behind a title, an initial or the number of a list ends nothing.
_SENTENCE_END = re.compile(
    r"(?:(?<!\bMr)(?<!\bMs)(?<!\bMrs)(?<!\bDr)(?<!\b[A-Z])(?<![.!?:,]\s\d)(?<!^\d)\.|[!?])"
    r"(?=(?:[\"')”’]|\s?»)?(?:\s|$))(?:[\"')”’]|\s?»)?"
)
# Of one that is spoken to, or the bare name.
_GREETING = re.compile(
    r"^(?:(?:Dear|Hi|Hello|Hey|Good \w+|Hallo|Guten \w+|Hola|Buen[oa]s \w+|Bonjour|Salut)\b[^.,:!?]{0,24}[,:!]"
    r"|[A-Z][\w'’-]+[,:])(?:\s+|$)"
)
# A phrase can be left away from one of these on; a text cannot end with one of `_DANGLING`.
_JOINTS = frozenset(
    "in on at with from into under over of near by as while for to and or but wearing holding behind through inside "  # noqa: SIM905
    "during against around across after before between that who which".split()
)
_DANGLING = frozenset(
    "in on at with from into under of as for to and or but wearing holding that who which between during against "  # noqa: SIM905
    "a an the his her its their my your our very some like".split()
)


def whole_sentences(body: str, most_words: int | None = None, begun: str = "") -> str | None:
    """The body up to its last finished sentence; None if none ends behind the words it was `begun` with.

    With `most_words`, up to the last sentence that ends within so many words, or else the first behind `begun`.
    """
    ends = _ends(body, begun)
    if not ends:
        return None
    fitting = [end for end in ends if most_words is None or len(words(body[:end])) <= most_words]
    return body[: (fitting or ends)[-1 if fitting else 0]].strip()


def whole_phrases(body: str, most_words: int, begun: str = "") -> str:
    """A body of one line up to the last phrase that ends within so many words.

    Never less than the words it was `begun` with; as it is where nothing was begun and no phrase ends in time. A phrase
    ends before a preposition or conjunction, or at a comma. What is left dangling goes, also where the body was short.
    """
    spoken, least = body.split(), len(begun.split())
    ends = [
        n
        for n in range(max(least, 1), len(spoken))
        if _bare(spoken[n]) in _JOINTS or spoken[n - 1][-1:] in (",", ".", ";")
    ]
    fitting = [n for n in (*ends, len(spoken)) if len(words(" ".join(spoken[:n]))) <= most_words]
    end = fitting[-1] if fitting else least or len(spoken)
    while end > least and _bare(spoken[end - 1]) in _DANGLING:
        end -= 1
    return " ".join(spoken[:end]).rstrip(",.;")


def before_drift(bodies: Sequence[str], begun: Sequence[str], least_cosine: float, encode: Encode) -> list[str]:
    """Each body up to the first sentence whose cosine to the words it was begun with is below `least_cosine`.

    The first sentence that ends behind `begun` always stays; where no more than a greeting was begun, it takes its
    place. `encode` gives unit rows.
    """
    split = [_split(body, start) for body, start in zip(bodies, begun, strict=True)]
    asked = list(dict.fromkeys(text for anchor, _, later in split if later for text in (anchor, *later)))
    if not asked:
        return list(bodies)
    vectors = dict(zip(asked, encode(asked), strict=True))
    cut = []
    for body, (anchor, first, later) in zip(bodies, split, strict=True):
        kept = [first]
        for sentence in later:
            if float(vectors[sentence] @ vectors[anchor]) < least_cosine:
                break
            kept.append(sentence)
        cut.append(body if len(kept) > len(later) else " ".join(kept))
    return cut


def _split(body: str, begun: str) -> tuple[str, str, list[str]]:
    """What later sentences are held against, the text up to the first end behind `begun`, and the later sentences."""
    ends = _ends(body, begun) or [len(body)]
    first = body[: ends[0]].strip()
    later = [body[start:end].strip() for start, end in zip(ends, [*ends[1:], len(body)], strict=True)]
    later = [sentence for sentence in later if sentence]
    return _said(begun) or _said(first) or "".join(later[:1]), first, later


def _said(text: str) -> str:
    """The text without its greeting."""
    while found := _GREETING.match(text):
        text = text[found.end() :]
    return text


def _ends(body: str, begun: str) -> list[int]:
    return [match.end() for match in _SENTENCE_END.finditer(body) if match.end() > len(begun)]


def _bare(word: str) -> str:
    return word.lower().strip(",.;")
