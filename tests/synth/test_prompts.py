"""The few-shot chat: what is asked, how it is rendered, how answers are read, and which example files are refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from synth.prompts import ShownEmail, finished, load_examples, own_part, parse, request, shared_prefix

ASKED = {
    "topic": "a late train",
    "purpose": "give an update",
    "tone": "dry",
    "length": "short",
    "sender_role": "friend",
}
SHOWN = ShownEmail(attributes={"topic": "a lost cat"}, subject="Minka", body="Our cat is gone.")


class ChatTokenizer:
    """Fake: the chat format of many small models, which puts a system message of its own where none is given."""

    chat_template = "chat"

    def apply_chat_template(self, turns: list[dict[str, str]], *, tokenize: bool, add_generation_prompt: bool) -> str:
        assert not tokenize
        if turns[0]["role"] != "system":
            turns = [{"role": "system", "content": "DEFAULT"}, *turns]
        text = "".join(f"<{turn['role']}>{turn['content']}</>" for turn in turns)
        return text + ("<assistant>" if add_generation_prompt else "")


class BaseTokenizer:
    """Fake: a model without a chat format."""

    chat_template = None


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        (ASKED, "Write a short email about a late train, from a friend who wants to give an update. The tone is dry."),
        ({"topic": "a late train", "length": "long"}, "Write a long email about a late train."),
        ({"topic": "a late train", "length": "medium"}, "Write an? email about a late train."),
        ({"topic": "a late train", "tone": "dry"}, "Write an? email about a late train. The tone is dry."),
        ({"topic": "a late train", "sender_role": "clerk"}, "Write an? email about a late train, from a clerk."),
    ],
)
def test_request(attributes: dict[str, str], text: str) -> None:
    assert re.fullmatch(text, request(attributes))


@pytest.mark.parametrize("tokenizer", [ChatTokenizer(), BaseTokenizer()])
@pytest.mark.parametrize("parent", [None, SHOWN])
def test_the_prefix_and_the_own_part_make_one_chat(tokenizer: Any, parent: ShownEmail | None) -> None:
    examples = [ShownEmail(attributes={"topic": "toner"}, subject="Toner", body="No toner left."), SHOWN]
    whole = shared_prefix(tokenizer, examples) + own_part(tokenizer, ASKED, parent)
    assert whole.count("You write realistic emails") == 1
    assert "DEFAULT" not in whole
    places = [whole.index("No toner left.\nSubject: Toner"), whole.index(request(ASKED))]
    assert places == sorted(places)
    assert whole.count("Our cat is gone.\nSubject: Minka") == (2 if parent else 1)
    assert whole.endswith("<assistant>" if tokenizer.chat_template else "Assistant:")


def test_a_shown_email_is_a_request_and_its_answer() -> None:
    asked, answered = SHOWN.turns()
    assert asked == {"role": "user", "content": request(SHOWN.attributes)}
    assert answered == {"role": "assistant", "content": "Our cat is gone.\nSubject: Minka"}
    assert parse(answered["content"]) == ("Minka", "Our cat is gone.")


@pytest.mark.parametrize(
    ("continuation", "result"),
    [
        ("Hello.\nSubject: Hi\n", ("Hi", "Hello.")),
        (" Hello\n\n  there.  \nSubject:  Hi  there \nmore\nSubject: no", ("Hi  there", "Hello there.")),
        ("Hello.", ("", "Hello.")),
        ("Hello.\nSubject:", ("", "Hello.")),
        ("Hello.\nSubject:\n", ("", "Hello.")),
        ("", None),
        (" \n ", None),
    ],
)
def test_parse(continuation: str, result: tuple[str, str] | None) -> None:
    assert parse(continuation) == result


@pytest.mark.parametrize(
    ("continuation", "ended"),
    [
        ("Hello.\nSubject: Hi\n", True),
        ("Hello.\nSubject: Hi", False),
        ("Hello.\n\n", False),
        ("The Subject: of it\n", False),
        ("", False),
    ],
)
def test_finished(continuation: str, ended: bool) -> None:
    assert finished(continuation) is ended


def test_the_packaged_examples() -> None:
    examples = load_examples()
    assert len(examples) >= 6
    assert len({example.body for example in examples}) == len(examples)
    for example in examples:
        assert set(example.attributes) == {"topic", "purpose", "tone", "length", "sender_role"}
        assert example.subject and parse(example.turns()[1]["content"]) == (example.subject, example.body)


def entry(**changes: object) -> dict[str, object]:
    return {**ASKED, "subject": "Train", "body": "I am late."} | changes


def write(folder: Path, content: object) -> Path:
    path = folder / "examples.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return path


def test_examples_of_ones_own(tmp_path: Path) -> None:
    examples = load_examples(write(tmp_path, [entry(body=f"I am late {i}.", subject=2207) for i in range(3)]))
    assert [example.body for example in examples] == ["I am late 0.", "I am late 1.", "I am late 2."]
    assert examples[0].subject == "2207" and examples[0].attributes == ASKED


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([entry()] * 2, "expected a list of at least three examples"),
        ({"examples": []}, "expected a list of at least three examples"),
        ("", "expected a list of at least three examples"),
        ([entry(), entry(), "text"], "example 3 must have exactly the fields topic, purpose, tone, length"),
        ([entry(), entry(extra=1), entry()], "example 2 must have exactly the fields"),
        ([{"topic": "x"}, entry(), entry()], "example 1 must have exactly the fields"),
        ("- topic: [a\n- b: c: d", "not valid YAML in line 2"),
    ],
)
def test_example_files_that_are_refused(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load_examples(write(tmp_path, content))
    assert "examples.yaml" in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_example_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.yaml: the file of few-shot examples does not exist"):
        load_examples(tmp_path / "none.yaml")
