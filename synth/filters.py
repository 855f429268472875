"""Which generated texts are kept. Every drop has a reason, and every reason is counted.

    verdicts = filters.judge(drafts, Seen(), encode)     # None keeps the draft, otherwise the reason

The cheap reasons are looked for first; a draft gets the first that holds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from synth.generator import Encode
from synth.languages import in_another_language

_PLACEHOLDER = re.compile(
    r"\[[^\]]*\]|\{[^}]*\}|<[A-Za-z _]+>|_{3,}|\bX{3,}\b|\b(?:your|recipient's|sender's) name\b|\(?\binsert \w+ here\b",
    re.IGNORECASE,
)
_LEAKAGE = re.compile(
    r"###|\b(?:Topic|Purpose|Tone|Length|Subject|Body|Action|Accessory|Style|Mood|Assistant|User):|<\|im_"
    r"|\bas an AI\b|language model|\bthe tone is\b|\bwrite (?:an?|the) (?:\w+ )?e-?mail\b"
    r"|\bhere is (?:an?|the|your) (?:\w+ )?(?:e-?mail|draft)\b|\b(?:sample|example) (?:message|e-?mail)\b"
    r"|\b(?:short|brief|formal|polite|professional) e-?mail\b|\bthe recipient\b|\bthe text is\b|\bof the tone\b"
    r"|\b(?:under|over|in|within|about|around) \d+ words\b|\bword (?:limit|count)\b"
    r"|\bit is from (?:an?|the|his|her) (?:\w+ ){1,4}to (?:an?|the|all|his|her)\b",
    re.IGNORECASE,
)
# What the assistant that a model was tuned to be says of itself.
_ASSISTANT = re.compile(
    r"\bI(?:'m|’m| am) (?:always |very )?(?:here|ready|available|happy|glad) to "
    r"(?:help|assist|support|answer|provide|serve|offer)\b|\b(?:personal|virtual) assistant\b|\bAI\b|\bSmolLM\b"
    r"|\bmake it (?:even )?more (?:interesting|engaging|concise|personal|formal|professional)\b"
    r"|\bchatbot\b|\bmy blog\b|\bI(?:'m|’m| am) (?:Mrs?\. )?[A-Z][a-z]+, (?:an?|the|your)\b",
)
# A greeting, or a name that is spoken to, in the middle of a text.
_SECOND_GREETING = re.compile(
    r"[.!?:,] (?:(?:Dear|Hi|Hello|Hey)(?: (?:Ms|Mr|Mrs|Dr)\.)?,? [A-Z][^.!?]{0,40}[,:]"
    r"|Ladies and gentlemen\b|[A-Z][a-z]{2,}, (?:I|we) hope\b)"
)
_PERSONAL = re.compile(
    r"[\w.+-]+@[\w-]+\.\w+"  # an address
    r"|\b(?:https?://|www\.)\S+"
    r"|(?<!\d)(?:\+?\d{1,2}[ .-])?\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}(?!\d)"  # a telephone number
    r"|(?<!\d)\d{3}-\d{2}-\d{4}(?!\d)"  # a social security number
    r"|(?<!\d)(?:\d[ -]?){12,18}\d(?!\d)"  # an account or card number
)
# Bold, items of lists, table bars, an odd number of quotation marks, emojis.
_MARKUP = re.compile(
    r"\*\*|(?:^|[.:]\s)(?:\d\.|[A-D]\)|[-*])\s|(?:^|\s)(?:\*\S|#[A-Za-z]|[*#|>](?:\s|$))|\\n|\.\.\.\.|[\u2600-\u27bf\U0001f300-\U0001faff]"
    r"|\A[^\"]*(?:\"[^\"]*\"[^\"]*)*\"[^\"]*\Z"
)
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A text that a model wrote, before the filters.

    `body` is None where no body could be read; `begun` are the words that it was begun with; `shown` are the bodies in
    its prompt, which must not come back; `log_likelihood` is the model's own, in nats per token.
    """

    attributes: Mapping[str, str]
    subject: str
    body: str | None
    shown: tuple[str, ...]
    begun: str = ""
    log_likelihood: float | None = None


@dataclass(eq=False)
class Seen:
    """The texts kept so far, for the duplicate filters."""

    keys: set[str] = field(default_factory=set)
    vectors: list[NDArray[np.float32]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Thresholds of the filters; the similarities are cosines and need an encoder.

    `min_log_likelihood` (nats per token, None: off) drops what the model itself finds unlikely: the incoherent texts
    that pass everything else. `min_distinct_words` is for texts of one line, in which hardly a word comes twice.
    `plain` drops texts with markup or emojis. `language` None keeps every language. `min_sentence_similarity` (None:
    off) is for models that lose the thread: a text ends before the first sentence that is further from how it began.
    """

    min_words: int = 12
    max_words: int = 120
    min_distinct_trigrams: float = 0.9
    min_distinct_words: float = 0.0
    max_copied_words: int = 12
    min_topic_similarity: float = 0.4
    max_similarity: float = 0.95
    min_sentence_similarity: float | None = None
    min_log_likelihood: float | None = None
    personal_data: bool = True
    plain: bool = True
    language: str | None = "English"

    def __post_init__(self) -> None:
        if not 1 <= self.min_words <= self.max_words:
            raise ValueError(
                f"filters.min_words is {self.min_words} and filters.max_words {self.max_words}; "
                "expected 1 <= min_words <= max_words"
            )
        if not 0 < self.max_similarity <= 1:
            raise ValueError(f"filters.max_similarity is {self.max_similarity}; expected a cosine in (0, 1]")

    def judge(self, drafts: Sequence[Draft], seen: Seen, encode: Encode | None = None) -> list[str | None]:
        """One verdict per draft: None to keep, or the reason of the drop.

        `seen` is extended by what is kept. `encode` (unit rows) enables the topic and the near-duplicate filter.
        """
        verdicts = [self._by_itself(draft) for draft in drafts]
        for i, draft in enumerate(drafts):
            if verdicts[i] is None:
                key = " ".join(words(draft.body or ""))
                verdicts[i] = "duplicate" if key in seen.keys else None
                seen.keys.add(key)
        left = [i for i, verdict in enumerate(verdicts) if verdict is None]
        if encode is not None and left:
            texts = encode([drafts[i].body or "" for i in left])
            topics = encode([drafts[i].attributes.get("topic", "") for i in left])
            for i, text, similarity in zip(left, texts, (texts * topics).sum(axis=1), strict=True):
                if "topic" in drafts[i].attributes and similarity < self.min_topic_similarity:
                    verdicts[i] = "off topic"
                elif seen.vectors and float((np.stack(seen.vectors) @ text).max()) > self.max_similarity:
                    verdicts[i] = "near duplicate"
                else:
                    seen.vectors.append(text)
        return verdicts

    def _by_itself(self, draft: Draft) -> str | None:
        if draft.body is None:
            return "no body"
        spoken = words(draft.body)
        both = f"{draft.body}\n{draft.subject}"
        if len(spoken) < self.min_words:
            return "too short"
        if len(spoken) > self.max_words:
            return "too long"
        for reason, pattern, wanted in (
            ("placeholder", _PLACEHOLDER, True),
            ("prompt leakage", _LEAKAGE, True),
            ("assistant's voice", _ASSISTANT, True),
            ("two greetings", _SECOND_GREETING, True),
            ("markup", _MARKUP, self.plain),
            ("personal data", _PERSONAL, self.personal_data),
        ):
            if wanted and pattern.search(both):
                return reason
        tone = re.escape(draft.attributes.get("tone", "polite"))
        if re.search(rf"\b{tone} (?:e-?mail|tone|matter|manner)\b", both, re.IGNORECASE):
            return "prompt leakage"
        trigrams = list(zip(spoken, spoken[1:], spoken[2:], strict=False))
        for told, least in ((trigrams, self.min_distinct_trigrams), (spoken, self.min_distinct_words)):
            if len(set(told)) < least * len(told):
                return "repetition"
        if any(_longest_common_run(spoken, words(body)) > self.max_copied_words for body in draft.shown):
            return "copy of an example"
        asked = draft.attributes.get("language", self.language)
        if self.language is not None and asked is not None and in_another_language(spoken, asked):
            return "wrong language"
        if (
            self.min_log_likelihood is not None
            and draft.log_likelihood is not None
            and draft.log_likelihood < self.min_log_likelihood
        ):
            return "not fluent"
        return None


def words(text: str) -> list[str]:
    """Lower-case words of a text."""
    return [word.lower() for word in _WORD.findall(text)]


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
