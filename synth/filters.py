"""Which generated texts are kept. Every drop has a reason, and every reason is counted.

verdicts = filters.judge(drafts, seen=set())     # None keeps the draft, otherwise the reason
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from synth.generator import Encode

_PLACEHOLDER = re.compile(r"\[[^\]]*\]|\{[^}]*\}|<[A-Za-z _]+>|_{3,}|\bX{3,}\b|\byour name\b", re.IGNORECASE)
_LEAKAGE = re.compile(
    r"###|\b(?:Topic|Purpose|Tone|Length|Subject|Body):|<\|im_|\bas an AI\b|language model", re.IGNORECASE
)
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_LAST_SENTENCE_END = re.compile(r"^.*[.!?](?=[\"')]?(?:\s|$))[\"')]?", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A text that a model wrote, before the filters. `body` is None where no body could be read."""

    attributes: Mapping[str, str]
    subject: str
    body: str | None
    shown: tuple[str, ...]
    """The few-shot bodies in the prompt, which must not come back."""


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Thresholds of the basic filters."""

    min_words: int = 12
    max_words: int = 120
    min_distinct_trigrams: float = 0.9
    max_copied_words: int = 12
    min_topic_similarity: float = 0.2

    def __post_init__(self) -> None:
        if not 1 <= self.min_words <= self.max_words:
            raise ValueError(
                f"filters.min_words is {self.min_words} and filters.max_words {self.max_words}; "
                "expected 1 <= min_words <= max_words"
            )

    def judge(self, drafts: Sequence[Draft], seen: set[str], encode: Encode | None = None) -> list[str | None]:
        """One verdict per draft: None to keep, or the reason of the drop.

        `seen` holds the normalized texts kept so far and is extended. `encode` (unit rows) enables the topic filter.
        """
        verdicts = [self._by_itself(draft) for draft in drafts]
        for i, draft in enumerate(drafts):
            if verdicts[i] is None:
                key = " ".join(words(draft.body or ""))
                verdicts[i] = "duplicate" if key in seen else None
                seen.add(key)
        if encode is not None and self.min_topic_similarity > -1:
            left = [i for i, verdict in enumerate(verdicts) if verdict is None and "topic" in drafts[i].attributes]
            if left:
                texts = encode([drafts[i].body or "" for i in left])
                topics = encode([drafts[i].attributes["topic"] for i in left])
                for i, similarity in zip(left, (texts * topics).sum(axis=1), strict=True):
                    if similarity < self.min_topic_similarity:
                        verdicts[i] = "off topic"
        return verdicts

    def _by_itself(self, draft: Draft) -> str | None:
        if draft.body is None:
            return "no body"
        spoken = words(draft.body)
        if len(spoken) < self.min_words:
            return "too short"
        if len(spoken) > self.max_words:
            return "too long"
        if _PLACEHOLDER.search(draft.body) or _PLACEHOLDER.search(draft.subject):
            return "placeholder"
        if _LEAKAGE.search(draft.body) or _LEAKAGE.search(draft.subject):
            return "prompt leakage"
        trigrams = list(zip(spoken, spoken[1:], spoken[2:], strict=False))
        if trigrams and len(set(trigrams)) < self.min_distinct_trigrams * len(trigrams):
            return "repetition"
        if any(_longest_common_run(spoken, words(body)) > self.max_copied_words for body in draft.shown):
            return "copy of an example"
        return None


def words(text: str) -> list[str]:
    """Lower-case words of a text."""
    return [word.lower() for word in _WORD.findall(text)]


def whole_sentences(body: str) -> str | None:
    """The body up to its last finished sentence, or None if it has none (the model ran out of tokens)."""
    match = _LAST_SENTENCE_END.match(body)
    return match.group(0).strip() if match else None


def _longest_common_run(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest run of words that both share."""
    best, previous = 0, [0] * (len(b) + 1)
    for word in a:
        current = [0] * (len(b) + 1)
        for j, other in enumerate(b, start=1):
            if word == other:
                current[j] = previous[j - 1] + 1
                best = max(best, current[j])
        previous = current
    return best
