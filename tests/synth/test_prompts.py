"""The forms: what is asked, how it is rendered, how answers are read, and which example files are refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from synth.attributes import AttributeGrid
from synth.filters import words
from synth.languages import likely_language
from synth.prompts import EmailForm, Form, ImagePromptForm, ShownExample, load_examples, load_openings

EMAIL, IMAGE = EmailForm(), ImagePromptForm()
FORMS: list[Form] = [EMAIL, IMAGE]
ASKED = {
    "topic": "a late train",
    "purpose": "give an update",
    "tone": "dry",
    "length": "short",
    "sender_role": "friend",
}
SHOWN = ShownExample(attributes={"topic": "a lost cat"}, subject="Minka", body="Our cat is gone.")


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        (
            ASKED,
            "Write a short email about a late train, to give an update. It is from a friend. The tone is dry.",
        ),
        (
            ASKED | {"receiver_role": "accountant"},
            "Write a short email about a late train, to give an update. It is from a friend to an accountant. "
            "The tone is dry.",
        ),
        (
            ASKED | {"sender_role": "IT technician", "receiver_role": "the team", "language": "German"},
            "Write a short email in German about a late train, to give an update. It is from an IT technician to the "
            "team. The tone is dry.",
        ),
        ({"topic": "a late train", "length": "long"}, "Write an email about a late train."),
        ({"topic": "a late train", "length": "elaborate"}, "Write an elaborate email about a late train."),
        ({"topic": "a late train", "length": "medium"}, "Write a short email about a late train."),
        ({"topic": "a late train", "language": "English"}, "Write a short email about a late train."),
        ({"topic": "a late train", "tone": "none"}, "Write a short email about a late train."),
        ({"topic": "a late train", "tone": "dry"}, "Write a short email about a late train. The tone is dry."),
        (
            {"topic": "a late train", "receiver_role": "all parents"},
            "Write a short email about a late train. It is to all parents.",
        ),
        ({"topic": "a late train", "purpose": "complain"}, "Write a short email about a late train, to complain."),
        (
            {
                "topic": "a train to Oslo",
                "time_of_year": "winter",
                "template": "a train to {city}",
                "entities": "city=Oslo",
            },
            "Write a short email about a train to Oslo. The time of year is winter.",
        ),
    ],
)
def test_an_email_is_asked_for(attributes: dict[str, str], text: str) -> None:
    assert EMAIL.request(attributes) == text


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ({"topic": "red panda"}, "Write an emoji prompt for: red panda."),
        (
            {"topic": "red panda", "length": "short", "action": "none", "accessory": "scarf", "template": "red panda"},
            "Write a short emoji prompt for: red panda. Accessory: scarf.",
        ),
        (
            {
                "topic": "owl",
                "length": "medium",
                "action": "waving",
                "style": "3D",
                "mood": "sad",
                "language": "French",
            },
            "Write an emoji prompt in French for: owl. Action: waving. Style: 3D. Mood: sad.",
        ),
    ],
)
def test_an_emoji_prompt_is_asked_for(attributes: dict[str, str], text: str) -> None:
    assert IMAGE.request(attributes) == text


@pytest.mark.parametrize("form", FORMS)
def test_requests_of_the_packaged_grids_are_short_and_say_everything(form: Form) -> None:
    grid = AttributeGrid.packaged(form.name)
    for attributes in grid.sample(300, np.random.default_rng(0)):
        text = form.request(attributes)
        assert text.startswith("Write a") and text.endswith(".") and len(text.split()) <= 50
        assert not re.search(r"[{}=]|none|\ba [aeioAEIO]|  ", text), text
        silent = {"language", "length", "template", "entities"}
        assert all(entry in text for axis, entry in attributes.items() if axis not in silent and entry != "none")


@pytest.mark.parametrize(
    ("form", "answer", "read"),
    [
        (EMAIL, "Subject: Minka\n\nOur cat is gone.", ("Minka", "Our cat is gone.")),
        (IMAGE, "Our cat is gone.", ("", "Our cat is gone")),
    ],
)
def test_a_shown_example_is_a_request_and_its_answer(form: Form, answer: str, read: tuple[str, str]) -> None:
    asked, answered = form.turns(SHOWN)
    assert asked == {"role": "user", "content": form.request(SHOWN.attributes)}
    assert answered == {"role": "assistant", "content": answer}
    assert form.parse(answer) == read


@pytest.mark.parametrize("form", FORMS)
def test_a_rewriting_instruction_holds_topic_and_text(form: Form) -> None:
    text = form.rewrite("Our cat is gone.", ASKED)
    assert "a late train" in text and text.endswith("\n\nOur cat is gone.")


@pytest.mark.parametrize(
    ("continuation", "result"),
    [
        ("Subject: Hi\n\nHello.\n", ("Hi", "Hello.")),
        (" Subject:  Hi  there \n Hello\n\n  there.  ", ("Hi  there", "Hello there.")),
        ("Hello.", ("", "Hello.")),
        ("Subject: Hi", None),
        ("Subject:\nHello.", ("", "Hello.")),
        ("Subject: Hi\n\nHi Tom,\n\nSee you.\n\nBest regards,\nDana\n\nP.S. Bring bread.", ("Hi", "Hi Tom, See you.")),
        ("Hi Tom,\n\nI hope this finds you well. See you.", ("", "Hi Tom, See you.")),
        ("I hope you are well. I hope that Ann is too. See you.", ("", "See you.")),
        ("I hope you", ("", "I hope you")),
        ("Best wishes from Oslo are in the post. See you.", ("", "Best wishes from Oslo are in the post. See you.")),
        ("", None),
        (" \n ", None),
    ],
)
def test_an_email_is_read(continuation: str, result: tuple[str, str] | None) -> None:
    assert EMAIL.parse(continuation) == result


@pytest.mark.parametrize(
    ("continuation", "result"),
    [
        ("sad wet dog", ("", "sad wet dog")),
        ("\n  sad  wet dog \nhappy dry dog\n", ("", "sad wet dog")),
        ('"sad wet dog"', ("", "sad wet dog")),
        ("“sad wet dog” ", ("", "sad wet dog")),
        ("", None),
        ("\n \n", None),
        ('""\n', None),
    ],
)
def test_an_emoji_prompt_is_read(continuation: str, result: tuple[str, str] | None) -> None:
    assert IMAGE.parse(continuation) == result


@pytest.mark.parametrize(
    ("form", "continuation", "ended"),
    [
        (EMAIL, "Hello.\n\nBest regards,\n", True),
        (EMAIL, "Hello.\nThank you\n", True),
        (EMAIL, "Hello.\n\nBest regards", False),
        (EMAIL, "Hello.\n\nBest wishes from Oslo. See you.\n", False),
        (EMAIL, "Hello.\n\n", False),
        (EMAIL, "", False),
        (IMAGE, "sad wet dog\n", True),
        (IMAGE, "\nsad wet dog\n", True),
        (IMAGE, "sad wet dog", False),
        (IMAGE, "\n\n", False),
        (IMAGE, "", False),
    ],
)
def test_where_an_answer_is_over(form: Form, continuation: str, ended: bool) -> None:
    assert (re.search(form.stop, continuation) is not None) is ended


def test_how_an_email_begins() -> None:
    rng = np.random.default_rng(0)
    begun = [EMAIL.begin(ASKED, rng) for _ in range(200)]
    assert all(text.startswith("Subject: Late train\n\n") for text in begun)
    assert len(set(begun)) > 100 and "Subject: Late train\n\n" in begun, "greetings differ, and some have none"
    assert EMAIL.reopen("Hi", "It rains.") == "Subject: Hi\n\nIt rains."
    assert IMAGE.begin(ASKED, rng) == "a late train"
    assert {IMAGE.begin({"topic": "dog", "mood": "sad"}, rng) for _ in range(20)} == {"dog", "sad dog"}
    assert IMAGE.reopen("", "sad dog") == "sad dog"


@pytest.mark.parametrize("form", FORMS)
def test_the_packaged_examples(form: Form) -> None:
    grid, examples = AttributeGrid.packaged(form.name), load_examples(None, form)
    assert len(examples) >= 24
    assert {example.attributes["length"] for example in examples} == set(grid.axes["length"])
    for example in examples:
        assert set(example.attributes) == set(grid.axes) - {"language"}
        assert all(example.attributes[axis] in grid.axes[axis] for axis in example.attributes if axis != "topic")
        assert example.attributes["topic"] not in grid.axes["topic"]  # what is asked for must not be in the examples
        assert form.parse(form.answer(example)) == (example.subject, example.body)
        assert bool(example.subject) == (form is EMAIL)
        fewest, most = grid.words(example.attributes)
        assert fewest <= len(example.body.split()) <= most, example.body
        assert not set("[]{}<>_") & set(example.body)
    assert load_examples() == load_examples(None, EMAIL)


@pytest.mark.parametrize("language", ["German", "Spanish", "French"])
def test_the_packaged_examples_in_other_languages(language: str) -> None:
    grid, examples = AttributeGrid.packaged("email"), load_examples(language=language)
    topics = {example.attributes["topic"] for example in load_examples()}
    assert len(examples) >= 6 and language in grid.axes["language"]
    for example in examples:
        assert example.attributes["language"] == language and f" in {language} about" in EMAIL.request(
            example.attributes
        )
        assert set(example.attributes) == set(grid.axes)
        assert all(example.attributes[axis] in grid.axes[axis] for axis in example.attributes if axis != "topic")
        assert example.attributes["topic"] in topics  # which are not in the grid
        assert likely_language(words(example.body)) in (language, None)
        fewest, most = grid.words(example.attributes)
        assert fewest <= len(words(example.body)) <= most, example.body
    assert sum(likely_language(words(example.body)) == language for example in examples) >= 4
    with pytest.raises(ValueError, match=r"email_examples_latin\.yaml: cannot be read"):
        load_examples(language="Latin")


def test_an_email_greets_in_its_language() -> None:
    rng = np.random.default_rng(0)
    for language, greeting in (("German", "Guten Tag,"), ("Spanish", "Buenas tardes:"), ("French", "Bonjour,")):
        begun = {EMAIL.begin(ASKED | {"language": language}, rng) for _ in range(100)}
        assert f"Subject: Late train\n\n{greeting}" in begun
        assert all(text[-1] in ",:" for text in begun), "a blank would be part of the next token"
        assert not any(text.startswith("Subject: Late train\n\nGood morning") for text in begun)
    assert EMAIL.begin(ASKED | {"language": "Klingon"}, rng) == "Subject: Late train\n\n"


def entry(**changes: object) -> dict[str, object]:
    return {**ASKED, "subject": "Train", "body": "I am late."} | changes


def entries(*changes: dict[str, object]) -> list[dict[str, object]]:
    """Three examples, changed one by one."""
    padded = [*changes, *({} for _ in range(3 - len(changes)))]
    return [entry(body=f"I am late {i}.") | change for i, change in enumerate(padded)]


def write(folder: Path, content: object) -> Path:
    path = folder / "examples.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return path


def test_examples_of_ones_own(tmp_path: Path) -> None:
    examples = load_examples(write(tmp_path, entries({"subject": 2207})))
    assert [example.body for example in examples] == ["I am late 0.", "I am late 1.", "I am late 2."]
    assert examples[0].subject == "2207" and examples[0].attributes == ASKED
    prompts = load_examples(write(tmp_path, [{"topic": "owl", "prompt": f"owl {i}"} for i in range(4)]), IMAGE)
    assert prompts[3] == ShownExample(attributes={"topic": "owl"}, subject="", body="owl 3")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([entry()] * 2, "expected a list of at least three examples"),
        ({"examples": []}, "expected a list of at least three examples"),
        ("", "expected a list of at least three examples"),
        (
            [entry(), entry(body="Other."), "text"],
            "example 3 is a str; expected a mapping with topic and subject and body",
        ),
        (entries({}, {"extra": 1}), "example 2 differs from the first in 'extra'; give all examples the same fields"),
        ([{"topic": "x"}, entry(), entry()], "example 1 lacks 'subject'; expected topic, subject, body and axes"),
        (
            [entry(), {"topic": "x", "subject": "y", "body": "z"}, entry()],
            "example 2 differs from the first in 'length'",
        ),
        (entries({}, {}, {"tone": None}), "example 3 has a tone that is empty; expected a text"),
        (entries({"tone": False}, {}, {}), "example 1 has a tone that is a bool; expected a text"),
        (entries({}, {"body": " "}), "example 2 has a body that is a str; expected a text"),
        (entries({}, {"body": "i am LATE 0."}), "example 2 repeats example 1; remove one of them"),
        ("- topic: [a\n- b: c: d", "not valid YAML in line 2"),
        ("- {topic: a, topic: b}", "not valid YAML in line 1: 'topic' appears twice"),
    ],
)
def test_example_files_that_are_refused(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load_examples(write(tmp_path, content))
    assert str(caught.value).startswith(f"{tmp_path / 'examples.yaml'}: ") and "\n" not in str(caught.value)


def test_a_missing_example_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.yaml: cannot be read \(No such file"):
        load_examples(tmp_path / "none.yaml")


def test_an_email_opens_as_its_purpose_has_it() -> None:
    form = EmailForm(openings={"give an update": ["News of {topic}:"], "any": ["About {topic}."]})
    rng = np.random.default_rng(0)
    assert all(form.begin(ASKED, rng).endswith("News of a late train:") for _ in range(10))
    assert form.begin(ASKED | {"purpose": "complain"}, rng).endswith("About a late train.")
    assert not form.begin(ASKED | {"language": "German"}, rng).endswith("train:"), "openings are English"


def test_a_request_can_name_fewer_axes() -> None:
    form = EmailForm(worded=["length", "tone"])
    assert form.request(ASKED) == "Write a short email about a late train. The tone is dry."


def test_the_packaged_openings_fit_the_grid() -> None:
    openings = load_openings()
    purposes = AttributeGrid.packaged("email").axes["purpose"]
    assert set(openings) == {"any", *purposes}
    assert all(len(set(sentences)) == len(sentences) >= 3 for sentences in openings.values())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "expected purposes with lists"),
        ("any: About it.", "'any' is"),
        ("any: []", "'any' is"),
        ("any: [About it.]", "with {topic} in it once"),
        ("any: ['{topic} and {city}']", "with {topic} in it once"),
    ],
)
def test_openings_that_are_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "openings.yaml"
    path.write_text(content)
    with pytest.raises(ValueError, match=re.escape(message)):
        load_openings(path)


def test_a_prompt_opens_with_style_and_mood_half_of_the_time() -> None:
    asked = {"topic": "red panda", "style": "pixel art", "mood": "happy"}
    rng = np.random.default_rng(0)
    begun = {IMAGE.begin(asked, rng) for _ in range(60)}
    assert begun == {"red panda", "happy red panda", "pixel art red panda", "pixel art happy red panda"}
    assert IMAGE.begin({"topic": "red panda", "style": "none"}, rng) == "red panda"


def test_when_a_prompt_may_end_with_the_words_it_is_begun_with() -> None:
    asked = {"topic": "red panda", "length": "short", "style": "pixel art", "action": "none"}
    assert IMAGE.is_complete("pixel art red panda", asked)
    assert not IMAGE.is_complete("red panda", asked) and IMAGE.is_complete("red panda", asked | {"style": "none"})
    assert not IMAGE.is_complete("pixel art red panda", asked | {"length": "medium"})
    assert not IMAGE.is_complete("saddle", {"topic": "saddle", "length": "short", "mood": "sad"})
    assert not EMAIL.is_complete("Dear Mei,", asked)


def test_forms_shorten_to_what_is_whole() -> None:
    assert EMAIL.shorten("It rains. We stay in", 9, "") == "It rains."
    assert IMAGE.shorten("red panda asleep on a tree", 4, "red panda") == "red panda asleep"
