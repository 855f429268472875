"""Forms: how a model is asked for a kind of text, how its answer begins, and how it is read.

    user       Write a short email about a delayed flight. It is from a friend. The tone is hurried.
    assistant  Subject: Delayed flight

               Hi Tom,                                   (so far given, from here on written)

Small instruct models write best in the manner they were tuned on: a plain request, and an answer that is begun for
them, so that neither the form nor the topic can be missed (measured against few-shot prompts in docs/generation.md).

A form words every axis that a grid has: those it knows in a sentence, any other one by its name ("The season is
winter."). The entry "none" is left out.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import ClassVar

import numpy as np

from synth.shortening import whole_phrases, whole_sentences
from synth.topics import article
from synth.yaml_files import kind, read_yaml

_SUBJECT = "Subject:"
_CLOSERS = (
    r"(?:Best|Kind|Warm|Sincerely|Regards|Yours|Cheers|Thanks|Thank you|Love|With (?:love|best))\b[^\n.!?]{0,24}\n"
)
_CLOSING = re.compile(rf"\n\s*{_CLOSERS}")
_COURTESY = re.compile(
    r"(?P<greeting>[^.!?]{1,30}, )?(?:(?:I|We) (?:hope|trust) (?:this|that|you|all|everyone|everything)[^.!?]*[.!?] )+"
)
_GREETINGS: Mapping[str, tuple[str, ...]] = {
    "English": (
        "Hi {name},\n\n",
        "Hi {name},\n\n",
        "Hello {name},\n\n",
        "{name},\n\n",
        "Dear {name},\n\n",
        "Hey {name},\n\n",
        "Good morning {name},\n\n",
        "",
    ),
    # The text goes on in the same line: behind a blank line a model writes the next greeting, or English.
    "German": ("Hallo {name},", "Hi {name},", "Guten Morgen {name},", "Guten Tag,"),
    "Spanish": ("Hola {name},", "Hola, {name}:", "Buenos días, {name}:", "Buenas tardes:"),
    "French": ("Bonjour {name},", "Salut {name},", "Bonjour {name},", "Bonjour,"),
}
_NAMES = tuple(
    "Aaron Ahmed Alice Amy Andrew Anna Ben Brian Carla Carlos Carol Chen Chris Claire Dana Daniel Diane Elena Emma "  # noqa: SIM905
    "Eric Fatima Frank George Grace Greg Hannah Helen Ian Irene Jack James Jane Jason Jenny Joan Joe John Julia Karen "
    "Kate Kevin Laura Lee Linda Lisa Lucy Luis Marcus Maria Mark Martin Mary Matt Mei Mike Monica Nadia Nancy Nina "
    "Omar Oscar Pam Paul Peter Priya Rachel Raj Rita Robert Rosa Ruth Sam Sandra Sara Scott Sofia Steve Susan Tara Tim "
    "Tina Tom Tony Tracy Vera Victor Walter Wendy Yuki Zoe".split()
)
_DETERMINERS = frozenset(("the", "a", "an", "all", "everyone", "his", "her", "their", "some", "someone"))
_NOT_WORDED = frozenset(("topic", "template", "entities"))


@dataclass(frozen=True, kw_only=True)
class ShownExample:
    """One text that the model is shown, with the attributes it would have been asked for with."""

    attributes: Mapping[str, str]
    subject: str
    body: str


class Form(ABC):
    """A kind of text: how it is asked for, shown and read.

    `name` is also that of its packaged grid and examples; `system` is the system message; `answered` are the fields of
    an example file that make up the answer; an answer in which the regular expression `stop` is found is over.
    """

    name: ClassVar[str]
    system: ClassVar[str]
    answered: ClassVar[tuple[str, ...]]
    stop: ClassVar[str]

    @abstractmethod
    def request(self, attributes: Mapping[str, str]) -> str:
        """What the model is asked, in words. The topic stands first: a small model follows the first thing best."""

    @abstractmethod
    def rewrite(self, text: str, attributes: Mapping[str, str]) -> str:
        """The instruction to rewrite `text` about another topic: for models that can."""

    @abstractmethod
    def answer(self, shown: ShownExample) -> str:
        """The answer that `parse` reads as this example's subject and body."""

    @abstractmethod
    def begin(self, attributes: Mapping[str, str], rng: np.random.Generator) -> str:
        """The words that a new answer is begun with; empty if it begins freely."""

    @abstractmethod
    def reopen(self, subject: str, words: str) -> str:
        """The beginning of an answer that goes on from the first `words` of a text."""

    @abstractmethod
    def parse(self, continuation: str) -> tuple[str, str] | None:
        """(subject, body) of a continuation, or None if it has no body. A missing subject is empty."""

    @abstractmethod
    def shorten(self, body: str, most_words: int, begun: str) -> str | None:
        """The body without what goes beyond the length asked for; None if nothing whole follows what it begins with."""

    def is_complete(self, begun: str, attributes: Mapping[str, str]) -> bool:
        """Whether a text could end with the words it is begun with."""
        return False

    def turns(self, shown: ShownExample) -> list[dict[str, str]]:
        """Request and answer, as two turns of a chat."""
        return [
            {"role": "user", "content": self.request(shown.attributes)},
            {"role": "assistant", "content": self.answer(shown)},
        ]


@dataclass(frozen=True)
class EmailForm(Form):
    """Emails: the body first, then its subject. Asked for the subject first, small models often stop behind it.

    `openings` are first words by purpose, with {topic}, that English answers are begun with (None: none);
    `any` serves purposes that are not listed. `worded` are the axes that the request names (None: all); small models do
    best with few.
    """

    openings: Mapping[str, Sequence[str]] | None = None
    worded: Sequence[str] | None = None

    name: ClassVar[str] = "email"
    system: ClassVar[str] = (
        "You write realistic emails that someone could really have sent, with names, dates and details."
    )
    answered: ClassVar[tuple[str, ...]] = ("subject", "body")
    stop: ClassVar[str] = rf"\n{_CLOSERS}"

    def request(self, attributes: Mapping[str, str]) -> str:
        """'Write a short email about X, to ask for payment. It is from a vendor to a client. The tone is firm.'"""
        asked = {axis: entry for axis, entry in attributes.items() if entry != "none" and axis not in _NOT_WORDED}
        if self.worded is not None:
            asked = {axis: entry for axis, entry in asked.items() if axis in self.worded}
        # Without a word for it small models write letters of two hundred words.
        length = asked.pop("length", "short").replace("medium", "short")
        text = "Write an email" if length == "long" else f"Write {article(length)} {length} email"
        if (language := asked.pop("language", "English")) != "English":
            text += f" in {language}"
        text += f" about {attributes['topic']}"
        if purpose := asked.pop("purpose", ""):
            text += f", to {purpose}"
        sender, receiver = asked.pop("sender_role", ""), asked.pop("receiver_role", "")
        if sender or receiver:
            text += (
                f". It is{f' from {_person(sender)}' if sender else ''}{f' to {_person(receiver)}' if receiver else ''}"
            )
        rest = [f" The {axis.replace('_', ' ')} is {entry}." for axis, entry in asked.items()]
        return f"{text}.{''.join(rest)}"

    def rewrite(self, text: str, attributes: Mapping[str, str]) -> str:
        """The instruction, the form of the answer, then the text."""
        return (
            f"Rewrite the email below so that it is about {attributes['topic']} instead. Keep its tone and its length. "
            f"End with a line that begins with 'Subject:'.\n\n{text}"
        )

    def answer(self, shown: ShownExample) -> str:
        """The subject on a line of its own, a blank line, the body."""
        return f"{_SUBJECT} {shown.subject}\n\n{shown.body}"

    def begin(self, attributes: Mapping[str, str], rng: np.random.Generator) -> str:
        """The topic as subject, a greeting in the language asked for and, where there are any, an opening.

        The subject keeps the language of the grid, English; one English text in eight has no greeting.
        """
        subject = re.sub(r"^(?:an?|the) ", "", attributes["topic"])
        greetings = _GREETINGS.get(attributes.get("language", "English"), ("",))
        greeting = greetings[int(rng.integers(len(greetings)))]
        name = _NAMES[int(rng.integers(len(_NAMES)))]
        heading = f"{_SUBJECT} {subject[:1].upper()}{subject[1:]}\n\n"
        return heading + greeting.format(name=name) + self._opening(attributes, rng)

    def _opening(self, attributes: Mapping[str, str], rng: np.random.Generator) -> str:
        """A sentence that names the topic, as the purpose has it, and the first words of the next; English only."""
        known = self.openings or {}
        openings = known.get(attributes.get("purpose", ""), known.get("any", ()))
        if not openings or attributes.get("language", "English") != "English":
            return ""
        return openings[int(rng.integers(len(openings)))].format(topic=attributes["topic"])

    def reopen(self, subject: str, words: str) -> str:
        """The subject and the words kept."""
        return f"{_SUBJECT} {subject}\n\n{words}"

    def parse(self, continuation: str) -> tuple[str, str] | None:
        """The body is one paragraph, without a closing formula and the courtesies that small models open with."""
        text, subject = continuation.strip(), ""
        if text.startswith(_SUBJECT):
            subject, _, text = text.removeprefix(_SUBJECT).partition("\n")
        body = " ".join(_CLOSING.split(text, maxsplit=1)[0].split())
        if opened := _COURTESY.match(body):
            body = f"{opened['greeting'] or ''}{body[opened.end() :]}"
        return (subject.strip(), body) if body else None

    def shorten(self, body: str, most_words: int, begun: str) -> str | None:
        """Whole sentences."""
        return whole_sentences(body, most_words, begun)


@dataclass(frozen=True)
class ImagePromptForm(Form):
    """Prompts for a small picture, as people type them for a new emoji: one line, no subject."""

    name: ClassVar[str] = "genmoji"
    system: ClassVar[str] = "You type the short prompts with which people ask for a new emoji."
    answered: ClassVar[tuple[str, ...]] = ("prompt",)
    stop: ClassVar[str] = r"\S[^\n]*\n"

    def request(self, attributes: Mapping[str, str]) -> str:
        """'Write a short emoji prompt for: red panda. Action: sleeping. Style: watercolor.'"""
        asked = {axis: entry for axis, entry in attributes.items() if entry != "none" and axis not in _NOT_WORDED}
        length = asked.pop("length", "medium")
        text = "Write an emoji prompt" if length == "medium" else f"Write {article(length)} {length} emoji prompt"
        if (language := asked.pop("language", "English")) != "English":
            text += f" in {language}"
        rest = [f" {axis.replace('_', ' ').capitalize()}: {entry}." for axis, entry in asked.items()]
        return f"{text} for: {attributes['topic']}.{''.join(rest)}"

    def rewrite(self, text: str, attributes: Mapping[str, str]) -> str:
        """The instruction, then the prompt."""
        return f"Rewrite this emoji prompt so that it is for {attributes['topic']}. Answer with one line.\n\n{text}"

    def begin(self, attributes: Mapping[str, str], rng: np.random.Generator) -> str:
        """The topic, half of the time behind style and mood, if any: small models forget what comes later."""
        first = [attributes.get(axis, "none") for axis in ("style", "mood")]
        return " ".join([entry for entry in first if entry != "none" and rng.random() < 0.5] + [attributes["topic"]])

    def reopen(self, subject: str, words: str) -> str:
        """The words kept."""
        return words

    def answer(self, shown: ShownExample) -> str:
        """The prompt alone."""
        return shown.body

    def parse(self, continuation: str) -> tuple[str, str] | None:
        """The first line that holds more than quotes and blanks; a model's quotes around it are not part of it."""
        for line in continuation.splitlines():
            if body := " ".join(line.split()).strip("\"'“”").removesuffix(".").strip():
                return "", body
        return None

    def shorten(self, body: str, most_words: int, begun: str) -> str | None:
        """Whole phrases."""
        return whole_phrases(body, most_words, begun)

    def is_complete(self, begun: str, attributes: Mapping[str, str]) -> bool:
        """If nothing that was asked for is missing and few words will do."""
        details = [attributes.get(axis, "none") for axis in ("action", "accessory", "style", "mood")]
        missing = [entry for entry in details if entry != "none" and f" {entry} " not in f" {begun} "]
        return attributes.get("length") == "short" and not missing


EMAIL = EmailForm()


def load_openings(path: str | Path | None = None) -> dict[str, list[str]]:
    """Openings of emails by purpose, from a YAML file; None reads the packaged ones.

    Raises ValueError, in one line, for anything but lists of sentences that contain {topic} and no other slot.
    """
    source = files("synth") / "grids" / "email_openings.yaml" if path is None else Path(path)
    content = read_yaml(source)
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{source}: expected purposes with lists of sentences, got {kind(content)}")
    for purpose, sentences in content.items():
        if not isinstance(sentences, list) or not sentences:
            raise ValueError(f"{source}: {purpose!r} is {kind(sentences)}; expected a list of sentences")
        for sentence in sentences:
            if not isinstance(sentence, str) or re.findall(r"\{[^}]*\}?", sentence) != ["{topic}"]:
                raise ValueError(
                    f"{source}: {purpose!r} has {sentence!r}; expected a sentence with {{topic}} in it once"
                )
    return {str(purpose): list(sentences) for purpose, sentences in content.items()}


def load_examples(
    path: str | Path | None = None, form: Form = EMAIL, language: str = "English"
) -> tuple[ShownExample, ...]:
    """The few-shot examples of a YAML file; None reads the packaged ones of the form, in `language`.

    Raises ValueError, in one line, if there are fewer than three, if one lacks a field, has
    a field that the first does not have, holds something else than a text or repeats another, or if the file is missing
    or not valid YAML.
    """
    name = f"{form.name}_examples{'' if language == 'English' else f'_{language.lower()}'}.yaml"
    source = files("synth") / "grids" / name if path is None else Path(path)
    entries = read_yaml(source)
    if not isinstance(entries, list) or len(entries) < 3:
        raise ValueError(f"{source}: expected a list of at least three examples")
    examples: list[ShownExample] = []
    for number, entry in enumerate(entries, start=1):
        try:
            fields = _fields(entry, entries[0], form)
        except ValueError as error:
            raise ValueError(f"{source}: example {number} {error}") from None
        answer = [fields.pop(name) for name in form.answered]
        shown = ShownExample(attributes=fields, subject=answer[0] if len(answer) > 1 else "", body=answer[-1])
        for earlier, other in enumerate(examples, start=1):
            if other.body.casefold() == shown.body.casefold():
                raise ValueError(f"{source}: example {number} repeats example {earlier}; remove one of them")
        examples.append(shown)
    return tuple(examples)


def _fields(entry: object, first: object, form: Form) -> dict[str, str]:
    """The fields of one example; the first example shows which ones all have."""
    if not isinstance(entry, dict):
        raise ValueError(f"is {kind(entry)}; expected a mapping with topic and {' and '.join(form.answered)}")
    if missing := [name for name in ("topic", *form.answered) if name not in entry]:
        raise ValueError(f"lacks '{missing[0]}'; expected topic, {', '.join(form.answered)} and axes of the grid")
    expected = set(first) if isinstance(first, dict) else set()
    if odd := sorted(map(str, expected ^ set(entry))):
        raise ValueError(
            f"differs from the first in '{odd[0]}'; give all examples the same fields ('none' is possible)"
        )
    fields = {}
    for name, value in entry.items():
        if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
            raise ValueError(f"has a {name} that is {kind(value)}; expected a text (quote it)")
        fields[str(name)] = str(value).strip()
    return fields


def _person(role: str) -> str:
    """'an accountant', 'the team'."""
    return role if role.split(maxsplit=1)[0].lower() in _DETERMINERS else f"{article(role)} {role}"
