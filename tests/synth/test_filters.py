"""Every reason to drop a text fires on its own example, and a good text passes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from synth.filters import Draft, Filters, Seen, words

GOOD = (
    "Hi Ruth, we are putting up the long table on Saturday and would love to have you over. Come any time after four, "
    "and bring nothing but an appetite."
)
SHOWN = "All, the mail server will be offline on Tuesday from 10 pm to midnight while we replace two disks."
DRAFT = Draft(attributes={"topic": "planning a garden party"}, subject="Saturday", body=GOOD, shown=(SHOWN,))
REASONS = {
    "no body": replace(DRAFT, body=None),
    "too short": replace(DRAFT, body="See you on Saturday."),
    "too long": replace(DRAFT, body=" ".join(f"word{i}" for i in range(91)) + "."),
    "placeholder": replace(DRAFT, body=GOOD.replace("Ruth", "[Name]")),
    "prompt leakage": replace(DRAFT, body=GOOD + " Topic: party"),
    "assistant's voice": replace(DRAFT, body=GOOD + " I'm here to help you."),
    "two greetings": replace(DRAFT, body=GOOD + " Dear Karl, please come."),
    "repetition": replace(DRAFT, body="we will meet again soon " * 6),
    "personal data": replace(DRAFT, body=GOOD + " Call 415 555 0134."),
    "wrong language": replace(
        DRAFT, body="Liebe Ruth, wir stellen am Samstag den langen Tisch in den Garten und laden dich und Karl ein."
    ),
    "not fluent": replace(DRAFT, log_likelihood=-9.0),
    "copy of an example": replace(DRAFT, body=f"Hello you. {SHOWN[5:]} That is it."),
}


LIMITS = Filters(min_words=12, max_words=90, min_log_likelihood=-3.0)


def judge(*drafts: Draft, filters: Filters | None = None, seen: Seen | None = None) -> list[str | None]:
    return (filters or LIMITS).judge(drafts, Seen() if seen is None else seen)


def test_a_good_text_passes() -> None:
    assert judge(DRAFT) == [None]


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_fires(reason: str) -> None:
    assert judge(REASONS[reason]) == [reason]


def test_reasons_can_be_counted() -> None:
    other = replace(DRAFT, body=GOOD.replace("Saturday", "Sunday"))
    verdicts = judge(DRAFT, *REASONS.values(), *REASONS.values(), DRAFT, other)
    expected: dict[str | None, int] = {None: 2, **dict.fromkeys(REASONS, 2), "duplicate": 1}
    assert Counter(verdicts) == expected


@pytest.mark.parametrize(
    "text",
    ["[Your Name]", "{date}", "insert date here", "<First Name>", "____", "XXX", "your name", "Your Name"],
)  # fmt: skip
def test_placeholders(text: str) -> None:
    assert judge(replace(DRAFT, body=f"{GOOD} {text}.")) == ["placeholder"]
    assert judge(replace(DRAFT, subject=f"About {text}")) == ["placeholder"]


@pytest.mark.parametrize(
    "text",
    [
        *("###", "Subject: x", "body: x", "<|im_end|>", "As an AI I", "a language model"),
        *("It is from a sales clerk to a manager.", "it is from the coach to all parents"),
        *("I keep it under 100 words.", "The word count is right."),
    ],
)
def test_leakage(text: str) -> None:
    assert judge(replace(DRAFT, body=f"{GOOD} {text}")) == ["prompt leakage"]
    assert judge(replace(DRAFT, subject=text)) == ["prompt leakage"]


ASSISTANT = (
    *("I am always happy to assist.", "I'm Alex, a coach.", "Your AI assistant", "SmolLM"),
    "I can make it even more interesting.",
)


@pytest.mark.parametrize("text", ASSISTANT)
def test_the_voice_of_an_assistant(text: str) -> None:
    assert judge(replace(DRAFT, body=f"{GOOD} {text}")) == ["assistant's voice"]


@pytest.mark.parametrize(
    "text",
    [
        "I'm happy to hear it.",
        "Unfortunately, I have no chairs.",
        "I'm here until noon, as Karl hoped.",
        "It is bill #12.",
    ],
)
def test_what_only_looks_like_an_assistant_or_a_greeting_passes(text: str) -> None:
    assert judge(replace(DRAFT, body=f"{GOOD} {text}")) == [None]


def test_words_that_come_twice_in_one_line() -> None:
    line = Filters(min_words=1, min_distinct_words=0.8)
    said = ["sad dog dancing", "dog in a dog house", "dog dog"]
    assert judge(*(replace(DRAFT, body=text) for text in said), filters=line) == [None, None, "repetition"]


def test_the_tone_asked_for_is_not_named() -> None:
    asked = replace(DRAFT, attributes={**DRAFT.attributes, "tone": "matter-of-fact"})
    assert judge(replace(asked, body=f"{GOOD} This is a matter-of-fact email.")) == ["prompt leakage"]
    assert judge(replace(asked, body=f"{GOOD} It is a Matter-of-fact matter.")) == ["prompt leakage"]
    assert judge(replace(asked, body=f"{GOOD} It was a warm tone.")) == [None]


@pytest.mark.parametrize("text", ["He said: 1. Come", "So. A) We eat", "*The tent", "#rent", 'He said "yes.'])
def test_lists_and_stray_quotes(text: str) -> None:
    assert judge(replace(DRAFT, body=f"{GOOD} {text}")) == ["markup"]
    assert judge(replace(DRAFT, body=f"{GOOD} {text}"), filters=Filters(plain=False)) == [None]


def test_what_only_looks_like_a_placeholder_or_leakage_passes() -> None:
    assert judge(replace(DRAFT, body=GOOD + " It costs < 5 dollars; the subject was a_b, not xx or a name.")) == [None]
    assert judge(replace(DRAFT, body=GOOD + " It is from a friend of the family.")) == [None]


def test_thresholds_are_inclusive() -> None:
    of = {n: replace(DRAFT, body=" ".join(f"word{i}" for i in range(n))) for n in (11, 12, 90, 91)}
    assert judge(*of.values()) == ["too short", None, None, "too long"]
    exact = Filters(max_copied_words=5)
    five, six = "one two three four five", "one two three four five six"
    draft = replace(DRAFT, shown=("zero one two three four five six seven",))
    filler = "Ruth came to see us on Saturday afternoon with"
    assert judge(replace(draft, body=f"{filler} {five}."), filters=exact) == [None]
    assert judge(replace(draft, body=f"{filler} {six}."), filters=exact) == ["copy of an example"]


def test_duplicates_are_seen_across_calls_whatever_their_case_and_marks() -> None:
    seen = Seen()
    assert judge(DRAFT, seen=seen) == [None]
    assert judge(replace(DRAFT, body=GOOD.upper().replace(",", " --")), seen=seen) == ["duplicate"]
    assert judge(DRAFT) == [None]
    # What is dropped for another reason does not block a later text.
    assert judge(REASONS["too short"], REASONS["too short"]) == ["too short", "too short"]


def on_topic(texts: Sequence[str]) -> NDArray[np.float32]:
    """Stub: unit vectors at the angle of how much a text is about the table; topics are the first axis."""
    cosines = np.array([0.3 if "table" in text else 0.0 if "disks" in text else 1.0 for text in texts])
    return np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1).astype(np.float32)


def test_the_topic_filter_needs_an_encoder_and_a_topic() -> None:
    near, far = DRAFT, replace(DRAFT, body=f"Hello Ruth, {SHOWN} Regards, Tom", shown=())
    untold = replace(far, attributes={}, body=(far.body or "") + " PS")
    assert judge(near, far, untold) == [None, None, None]
    loose, tight = (Filters(min_topic_similarity=x, max_similarity=0.99) for x in (0.29, 0.31))
    assert loose.judge([near, far, untold], Seen(), on_topic) == [None, "off topic", None]
    assert tight.judge([near, far, untold], Seen(), on_topic) == ["off topic", "off topic", None]
    blind = Filters(min_topic_similarity=-1)
    assert blind.judge([near], Seen(), on_topic) == blind.judge([far], Seen(), on_topic) == [None]


def test_the_encoder_sees_only_what_is_left() -> None:
    given: list[list[str]] = []

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        given.append(list(texts))
        return on_topic(texts)

    Filters().judge([REASONS["too short"], DRAFT], Seen(), encode)
    assert given == [[GOOD], ["planning a garden party"]]
    Filters().judge([REASONS["too short"]], Seen(), encode)
    assert len(given) == 2


def test_near_duplicates_of_what_was_kept() -> None:
    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        angles = np.array([float(text.split("angle ")[1].rstrip(".")) if "angle" in text else 0.0 for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    drafts = [replace(DRAFT, body=f"{GOOD} The angle {angle}.") for angle in ("0.0", "0.1", "0.5", "0.45")]
    limits = Filters(max_similarity=float(np.cos(0.2)), min_topic_similarity=-1)
    seen = Seen()
    assert limits.judge(drafts[:3], seen, encode) == [None, "near duplicate", None]
    # Across calls, and what was dropped does not count: 0.1 left no trace at 0.25.
    late = replace(DRAFT, body=f"{GOOD} The angle 0.25.")
    assert limits.judge([drafts[3], late], seen, encode) == ["near duplicate", None]


@pytest.mark.parametrize(
    "text",
    [
        "a.b@example.org",
        "see https://example.org/x",
        "www.example.org",
        "(415) 555-0134",
        "+1 415 555 0134",
        "078-05-1120",
        "4111 1111 1111 1111",
    ],
)
def test_personal_data(text: str) -> None:
    assert judge(replace(DRAFT, body=f"{GOOD} {text}")) == ["personal data"]
    assert judge(replace(DRAFT, body=f"{GOOD} {text}"), filters=Filters(personal_data=False)) == [None]


def test_numbers_that_are_no_personal_data() -> None:
    assert judge(replace(DRAFT, body=f"{GOOD} Invoice 2207 of 2024-03-31, 412 units, 1,250.00, room 12-40.")) == [None]


def test_a_language_that_was_asked_for_is_kept() -> None:
    german = REASONS["wrong language"]
    assert judge(replace(german, attributes={"language": "German"})) == [None]
    assert judge(german, filters=Filters(language=None)) == [None]
    assert judge(replace(DRAFT, attributes={"language": "German"})) == ["wrong language"]


@pytest.mark.parametrize(("fewest", "most"), [(0, 10), (11, 10)])
def test_bad_thresholds(fewest: int, most: int) -> None:
    with pytest.raises(ValueError, match=f"filters.min_words is {fewest} and filters.max_words {most}"):
        Filters(min_words=fewest, max_words=most)


def test_words() -> None:
    assert words("Don't wait: Zoë's 2nd_draft, OK?") == ["don't", "wait", "zoë's", "2nd", "draft", "ok"]
