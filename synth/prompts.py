"""The few-shot chat: how a small model is asked for an email, and how its answer is read.

Small instruct models ignore instructions but continue patterns. Each example is a whole turn of a chat, request and
answer, and the request for the new email is the last turn (measured against other forms in docs/generation.md):

    user       Write a short email about a delayed flight, from a friend who wants to give an update. ...
    assistant  Tom, we are stuck in Denver because of the snow ...
               Subject: Landing two hours late
    user       Write an email about ...
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

_SYSTEM = "You write realistic emails that someone could really have sent, with names, dates and details."
_SUBJECT = "\nSubject:"
_FIELDS = ("topic", "purpose", "tone", "length", "sender_role", "subject", "body")


@dataclass(frozen=True, kw_only=True)
class ShownEmail:
    """One email that the model is shown, with the attributes it would have been asked for with."""

    attributes: Mapping[str, str]
    subject: str
    body: str

    def turns(self) -> list[dict[str, str]]:
        """Request and answer."""
        answer = f"{self.body}{_SUBJECT} {self.subject}"
        return [{"role": "user", "content": request(self.attributes)}, {"role": "assistant", "content": answer}]


def request(attributes: Mapping[str, str]) -> str:
    """What the model is asked, in words. The topic stands first: a small model follows the first thing best."""
    length = attributes.get("length", "medium")
    what = "an email" if length == "medium" else f"a {length} email"
    text = f"Write {what} about {attributes['topic']}"
    if "sender_role" in attributes:
        text += f", from a {attributes['sender_role']}"
        if "purpose" in attributes:
            text += f" who wants to {attributes['purpose']}"
    return text + (f". The tone is {attributes['tone']}." if "tone" in attributes else ".")


def shared_prefix(tokenizer: Any, examples: Sequence[ShownEmail]) -> str:
    """What all requests of a chunk share: the system message and the examples as turns."""
    turns = [{"role": "system", "content": _SYSTEM}, *(turn for example in examples for turn in example.turns())]
    return _render(tokenizer, turns)


def own_part(tokenizer: Any, attributes: Mapping[str, str], parent: ShownEmail | None) -> str:
    """What follows the shared prefix for one request: the parent as a further example, if any, and the request."""
    turns = [*(parent.turns() if parent else []), {"role": "user", "content": request(attributes)}]
    # A template may put a default system message in front of turns that have none; the prefix has ours already, so the
    # part is cut out of a rendering that begins with a known turn.
    mark = [{"role": "system", "content": _SYSTEM}]
    return _render(tokenizer, [*mark, *turns], answer=True).removeprefix(_render(tokenizer, mark))


def finished(continuation: str) -> bool:
    """Whether a continuation has its subject line and goes on to something else."""
    return _SUBJECT in continuation and continuation.endswith("\n")


def parse(continuation: str) -> tuple[str, str] | None:
    """(subject, body) of a continuation, or None if it has no body. A missing subject is empty."""
    body, _, subject = continuation.strip().partition(_SUBJECT)
    body = " ".join(body.split())
    return (subject.strip().split("\n", 1)[0].rstrip(), body) if body else None


def load_examples(path: str | Path | None = None) -> tuple[ShownEmail, ...]:
    """The few-shot examples of a YAML file; None reads the packaged ones.

    Raises ValueError, in one line, if an entry has other fields, there are fewer than three, or the file is missing or
    not valid YAML.
    """
    source = files("synth") / "grids" / "email_examples.yaml" if path is None else Path(path)
    if not source.is_file():
        raise ValueError(f"{source}: the file of few-shot examples does not exist")
    try:
        entries = yaml.safe_load(source.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"{source}: not valid YAML{line}: {error.problem}") from None
    if not isinstance(entries, list) or len(entries) < 3:
        raise ValueError(f"{source}: expected a list of at least three examples")
    examples = []
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict) or set(entry) != set(_FIELDS):
            raise ValueError(f"{source}: example {number} must have exactly the fields {', '.join(_FIELDS)}")
        fields = {key: str(value) for key, value in entry.items()}
        examples.append(ShownEmail(subject=fields.pop("subject"), body=fields.pop("body"), attributes=fields))
    return tuple(examples)


def _render(tokenizer: Any, turns: Sequence[Mapping[str, str]], *, answer: bool = False) -> str:
    """The turns in the tokenizer's own chat format; base models without one get plain labelled paragraphs."""
    if tokenizer.chat_template is None:
        text = "".join(f"{turn['role'].capitalize()}: {turn['content']}\n\n" for turn in turns)
        return text + ("Assistant:" if answer else "")
    rendered: str = tokenizer.apply_chat_template(list(turns), tokenize=False, add_generation_prompt=answer)
    return rendered
