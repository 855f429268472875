"""Chats for fine-tuning: every target is something that is known, and the tasks follow the kind of text."""

from __future__ import annotations

import json

import numpy as np
import pytest

from synth.attributes import AttributeGrid
from synth.chat import DEFAULT_TASKS, TASKS, conversation
from synth.corpus import Corpus, Example
from synth.export import Format, Release
from synth.prompts import EMAIL, Form, ImagePromptForm

GENMOJI = ImagePromptForm()


def example(text: str, subject: str = "", **attributes: str) -> Example:
    return Example(text=text, subject=subject, attributes=attributes, operator="seed", round=0, model="m", prompt="0")


MAIL = example(
    "Hi Tom, my flight leaves two hours late. See you at nine.", "Delayed flight", topic="a delayed flight",
    purpose="give an update", tone="hurried", length="short", sender_role="friend", language="English",
    template="a delayed {vehicle}", entities="vehicle=flight",
)  # fmt: skip
PANDA = example("red panda drinking tea", topic="red panda", action="drinking coffee", style="none", length="medium")


def told(task: str, of: Example, form: Form | None) -> tuple[str, str]:
    turns = conversation(task, of, form)
    assert turns is not None and [turn["role"] for turn in turns] == ["user", "assistant"]
    return turns[0]["content"], turns[1]["content"]


def test_an_email_in_every_task() -> None:
    request = "Write a short email about a delayed flight, to give an update. It is from a friend. The tone is hurried."
    assert told("write", MAIL, EMAIL) == (request, f"Subject: Delayed flight\n\n{MAIL.text}")
    assert told("subject", MAIL, EMAIL) == (f"Write a subject line for this email.\n\n{MAIL.text}", "Delayed flight")
    assert told("topic", MAIL, EMAIL)[1] == "a delayed flight"
    assert told("summary", MAIL, EMAIL)[1] == "The email is about a delayed flight."
    question, answer = told("attributes", MAIL, EMAIL)
    assert answer.splitlines() == [
        "Topic: a delayed flight", "Purpose: give an update", "Tone: hurried", "Length: short", "Sender role: friend",
        "Language: English",
    ]  # fmt: skip
    assert question.startswith("Describe this email, one line each: topic, purpose, tone, length, sender role, lang")


def test_the_request_is_the_one_that_the_generator_had() -> None:
    grid = AttributeGrid.packaged("email")
    for attributes in grid.sample(20, np.random.default_rng(0)):
        assert told("write", example("text", "subject", **attributes), EMAIL)[0] == EMAIL.request(attributes)


def test_no_default_target_states_what_nobody_checked() -> None:
    """Purpose, tone and roles are asked for and not checked: they may be in a request, never in an answer."""
    for task in set(DEFAULT_TASKS) - {"write"}:
        question, answer = told(task, MAIL, EMAIL)
        for unchecked in ("update", "hurried", "friend"):
            assert unchecked not in question.replace(MAIL.text, "") + answer
    # Negative control: the task that is not a default one states them.
    assert "attributes" not in DEFAULT_TASKS and "hurried" in told("attributes", MAIL, EMAIL)[1]


def test_an_emoji_prompt_has_no_subject_and_no_summary() -> None:
    assert told("write", PANDA, GENMOJI) == (
        "Write an emoji prompt for: red panda. Action: drinking coffee.", "red panda drinking tea"
    )  # fmt: skip
    assert told("topic", PANDA, GENMOJI)[0].startswith("What is this emoji prompt about?")
    assert conversation("subject", PANDA, GENMOJI) is conversation("summary", PANDA, GENMOJI) is None
    assert told("attributes", PANDA, GENMOJI)[1] == "Topic: red panda\nAction: drinking coffee\nLength: medium"


def test_a_text_of_an_unknown_form_is_asked_for_axis_by_axis() -> None:
    assert told("write", PANDA, None) == (
        "Write a text. Topic: red panda. Action: drinking coffee. Length: medium.", PANDA.text
    )  # fmt: skip
    assert told("summary", PANDA, None)[1] == "The text is about red panda."


def test_what_is_not_known_is_no_target() -> None:
    bare = example("Only words.")
    assert [conversation(task, bare, EMAIL) for task in TASKS] == [None] * len(TASKS)
    no_subject = example("Hi.", topic="a delayed flight")
    assert told("write", no_subject, EMAIL)[1] == "Hi."
    with pytest.raises(ValueError, match="tasks has 'sing'; expected some of write"):
        conversation("sing", MAIL, EMAIL)


def release(*examples: Example, form: Form | None, tasks: tuple[str, ...] = DEFAULT_TASKS) -> Release:
    share = np.full(len(examples), 1 / len(examples))
    return Release(
        title="t", corpus=Corpus(examples), weights=share, test_share=0.0, facts={}, privacy="", form=form, tasks=tasks
    )


def lines(made: Release) -> list[dict[str, object]]:
    return [json.loads(line) for line in made.files(Format.SFT)["train.jsonl"].decode().splitlines()]


def test_rows_have_task_weight_and_lineage() -> None:
    found = lines(release(MAIL, PANDA, form=EMAIL, tasks=("subject", "topic")))
    assert [(row["task"], row["id"]) for row in found] == [
        ("subject", MAIL.id), ("topic", MAIL.id), ("topic", PANDA.id)
    ]  # fmt: skip
    assert {row["weight"] for row in found} == {0.5} and {row["family"] for row in found} == {MAIL.id, PANDA.id}


def test_the_card_counts_and_explains_the_tasks() -> None:
    card = release(MAIL, PANDA, form=EMAIL).files(Format.SFT)["README.md"].decode()
    assert "| subject | 1 | text -> the subject that was written with it |" in card
    assert "| topic | 2 | " in card and "attributes |" not in card
    card = release(PANDA, form=GENMOJI).files(Format.SFT)["README.md"].decode()
    assert "subject" not in card and "summary" not in card and "models on emoji prompts" in card


def test_tasks_that_fit_no_example_are_refused() -> None:
    with pytest.raises(ValueError, match="no example fits the tasks subject, summary; choose others"):
        release(PANDA, form=GENMOJI, tasks=("subject", "summary")).files(Format.SFT)
