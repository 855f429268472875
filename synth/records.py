"""The few-shot record: how a small model is asked for an email, and how its answer is read.

Small instruct models ignore instructions but continue patterns: three records inside a chat turn, then the head of a
fourth, gave no placeholders where a plain instruction gave 38% (docs/generation.md).

    ### Email
    Topic: a delayed flight
    Purpose: give an update
    Tone: hurried
    Length: short
    From: friend
    Subject: Landing two hours late
    Body: Tom, we are stuck in Denver ...
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

_HEAD = "### Email"
_LABELS = {"topic": "Topic", "purpose": "Purpose", "tone": "Tone", "length": "Length", "sender_role": "From"}
_INSTRUCTION = (
    "Write realistic short emails as records. Each has its own people, names, dates and details, and reads like a "
    "message that someone really sent."
)


@dataclass(frozen=True, kw_only=True)
class Record:
    """One email with the attributes it was asked for."""

    attributes: Mapping[str, str]
    subject: str
    body: str

    def render(self) -> str:
        """The record as the model sees it, with a blank line behind."""
        return f"{request(self.attributes)} {self.subject}\nBody: {self.body}\n\n"


def request(attributes: Mapping[str, str]) -> str:
    """The head of a record, up to and with 'Subject:'."""
    lines = [f"{label}: {attributes[axis]}" for axis, label in _LABELS.items() if axis in attributes]
    return "\n".join([_HEAD, *lines, "Subject:"])


def prefix(tokenizer: Any, examples: Sequence[Record]) -> str:
    """What all requests of a batch share: the chat turn, opened, with the examples in the model's own answer.

    A tokenizer without a chat template (a base model) gets the instruction as plain text.
    """
    shown = "".join(example.render() for example in examples)
    if tokenizer.chat_template is None:
        return f"{_INSTRUCTION}\n\n{shown}"
    messages = [{"role": "user", "content": _INSTRUCTION}]
    turn: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return turn + shown


def finished(continuation: str) -> bool:
    """Whether a continuation of a request has run into the next record."""
    return continuation.endswith(("\n\n", "\n#")) or "\n###" in continuation or "\n\n" in continuation.lstrip()


def parse(continuation: str) -> tuple[str, str] | None:
    """(subject, body) of a continuation, or None if it has no body.

    The body ends at the first line break: records hold one paragraph.
    """
    subject, separator, rest = continuation.lstrip("\n").partition("\nBody:")
    if not separator:
        return None
    body = rest.strip().split("\n", 1)[0].strip()
    return (subject.strip(), body) if body else None


def load_examples(path: str | Path | None = None) -> tuple[Record, ...]:
    """The few-shot records of a YAML file; None reads the packaged ones.

    Raises ValueError, in one line, if an entry lacks a field or the file is missing.
    """
    source = files("synth") / "grids" / "email_examples.yaml" if path is None else Path(path)
    if not source.is_file():
        raise ValueError(f"{source}: the file of few-shot records does not exist")
    entries = yaml.safe_load(source.read_text(encoding="utf-8"))
    if not isinstance(entries, list) or len(entries) < 3:
        raise ValueError(f"{source}: expected a list of at least three records")
    records = []
    for number, entry in enumerate(entries, start=1):
        wanted = {*_LABELS, "subject", "body"}
        if not isinstance(entry, dict) or set(entry) != wanted:
            raise ValueError(f"{source}: record {number} must have exactly the fields {', '.join(sorted(wanted))}")
        fields = {key: str(value) for key, value in entry.items()}
        records.append(Record(subject=fields.pop("subject"), body=fields.pop("body"), attributes=fields))
    return tuple(records)
