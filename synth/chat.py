"""Chat-format examples for supervised fine-tuning, from what is known about a synthetic text without reading it.

    conversation("subject", example, EMAIL)
    # [{'role': 'user', 'content': 'Write a subject line for this email.\\n\\nHi Tom, ...'},
    #  {'role': 'assistant', 'content': 'Delayed flight'}]

A target is honest only if somebody knew it. Known are the text, its subject, and the attributes that its writer was
asked for. The topic is what generators follow best and what their filter checks; purpose, tone and roles are asked for
and never checked, so no target states them as facts unless the task `attributes` is chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from synth.corpus import Example
from synth.prompts import EmailForm, Form, ImagePromptForm, ShownExample

Turns = list[dict[str, str]]

_NOUNS = {EmailForm.name: "email", ImagePromptForm.name: "emoji prompt"}
_BOOKKEEPING = frozenset(("template", "entities"))  # of the grid, not of the text


def noun(form: Form | None) -> str:
    """What a text of this form is called in prompts; 'text' for a form that is not known."""
    return _NOUNS.get(form.name, "text") if form else "text"


def conversation(task: str, example: Example, form: Form | None) -> Turns | None:
    """One user and one assistant turn; None where the task has no honest target for this example.

    `form` is how the generator was asked (None: not known, so the request is worded axis by axis). Raises ValueError
    for an unknown task.
    """
    check_tasks([task])
    found = _TASKS[task](example, form)
    if found is None:
        return None
    return [{"role": role, "content": content} for role, content in zip(("user", "assistant"), found, strict=True)]


def check_tasks(tasks: Sequence[str]) -> None:
    """Raise ValueError for a task that is not in TASKS."""
    for task in tasks:
        if task not in TASKS:
            raise ValueError(f"tasks has {task!r}; expected some of {', '.join(TASKS)}")


def _write(example: Example, form: Form | None) -> tuple[str, str] | None:
    """The request as the generator had it, and what it wrote."""
    if not example.attributes.get("topic"):
        return None
    answer = example.text
    if example.subject and form is not None:
        answer = form.answer(ShownExample(attributes=example.attributes, subject=example.subject, body=example.text))
    return (form.request(example.attributes) if form else _plain_request(example.attributes)), answer


def _plain_request(attributes: Mapping[str, str]) -> str:
    axes = (f"{name.replace('_', ' ').capitalize()}: {entry}." for name, entry in _asked(attributes).items())
    return " ".join(["Write a text.", *axes])


def _subject(example: Example, form: Form | None) -> tuple[str, str] | None:
    if not example.subject:
        return None
    return f"Write a subject line for this {noun(form)}.\n\n{example.text}", example.subject


def _topic(example: Example, form: Form | None) -> tuple[str, str] | None:
    topic = example.attributes.get("topic", "")
    return (f"What is this {noun(form)} about? Answer with a short phrase.\n\n{example.text}", topic) if topic else None


def _summary(example: Example, form: Form | None) -> tuple[str, str] | None:
    """Only what is known: its topic. An emoji prompt is shorter than its summary would be."""
    topic = example.attributes.get("topic", "")
    if not topic or isinstance(form, ImagePromptForm):
        return None
    return f"Summarize this {noun(form)} in one sentence.\n\n{example.text}", f"The {noun(form)} is about {topic}."


def _attributes(example: Example, form: Form | None) -> tuple[str, str] | None:
    asked = _asked(example.attributes)
    if not asked:
        return None
    names = ", ".join(name.replace("_", " ") for name in asked)
    lines = (f"{name.replace('_', ' ').capitalize()}: {entry}" for name, entry in asked.items())
    return f"Describe this {noun(form)}, one line each: {names}.\n\n{example.text}", "\n".join(lines)


def _asked(attributes: Mapping[str, str]) -> dict[str, str]:
    return {name: entry for name, entry in attributes.items() if entry != "none" and name not in _BOOKKEEPING}


_TASKS: Mapping[str, Callable[[Example, Form | None], tuple[str, str] | None]] = MappingProxyType(
    {"write": _write, "subject": _subject, "topic": _topic, "summary": _summary, "attributes": _attributes}
)
TASKS = tuple(_TASKS)
DEFAULT_TASKS = ("write", "subject", "topic", "summary")
EXPLAINED: Mapping[str, str] = MappingProxyType(
    {
        "write": "the request as the generator had it -> what it wrote",
        "subject": "text -> the subject that was written with it",
        "topic": "text -> the topic that was asked for",
        "summary": "text -> one sentence that states the topic, the only content that is known",
        "attributes": "text -> everything that was asked for, line by line; nothing has checked that the text obeys",
    }
)
