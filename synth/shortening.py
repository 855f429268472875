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

# Not behind a title, an initial or the number of a list.
_SENTENCE_END = re.compile(r"(?<!\bMr)(?<!\bMs)(?<!\bMrs)(?<!\bDr)(?<!\b[A-Z])(?<!\s\d)[.!?](?=[\"')]?(?:\s|$))[\"')]?")
_GREETING = re.compile(r"^[^.,:!?]{1,30}, ")
# A phrase can be left away from here on; a text cannot end with one of these, nor with a word of the second kind.
_JOINTS = frozenset(
    "in on at with from into under over of near by as while for to and or but wearing holding behind through inside "  # noqa: SIM905
    "during against around across after before between that who which".split()
)
_DETERMINERS = frozenset("a an the his her its their my your our very some like".split())  # noqa: SIM905


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
    """A body of one line, if it is too long, up to the last phrase that ends within so many words.

    Never less than the words it was `begun` with. A phrase ends before a preposition or conjunction, or at a comma.
    """
    if len(words(body)) <= most_words:
        return body
    spoken, least = body.split(), len(begun.split())
    fitting = [
        n
        for n in range(least, len(spoken))
        if (_bare(spoken[n]) in _JOINTS or spoken[n - 1][-1:] in (",", ".", ";"))
        and len(words(" ".join(spoken[:n]))) <= most_words
    ]
    end = fitting[-1] if fitting else least
    while end > least and _bare(spoken[end - 1]) in _JOINTS | _DETERMINERS:
        end -= 1
    return " ".join(spoken[:end]).rstrip(",.;")


def before_drift(bodies: Sequence[str], begun: Sequence[str], least_cosine: float, encode: Encode) -> list[str]:
    """Each body up to the first sentence whose cosine to the words it was begun with is below `least_cosine`.

    The first sentence that ends behind `begun` always stays; where nothing was begun, it takes its place. `encode`
    gives unit rows.
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
    return _GREETING.sub("", begun) or first, first, [sentence for sentence in later if sentence]


def _ends(body: str, begun: str) -> list[int]:
    return [match.end() for match in _SENTENCE_END.finditer(body) if match.end() > len(begun)]


def _bare(word: str) -> str:
    return word.lower().strip(",.;")
