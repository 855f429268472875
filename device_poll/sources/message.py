"""One raw mail: who, when, and the text that a person reads.

mail = parse(b"From: Ann <ann@example.org>\\n\\nSee you at noon.\\n")
address(mail, "From"), body(mail)       # ('ann@example.org', 'See you at noon.\\n')
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from email import message_from_bytes
from email.header import decode_header
from email.message import Message
from email.policy import compat32
from typing import TypeAlias

from device_poll.sources.charsets import decoded
from device_poll.sources.html_text import html_to_text
from device_poll.sources.repairs import repaired, transferred
from synth.rows.dates import mail_seconds

Mail: TypeAlias = "Message[str, str]"

_BRACKETED = re.compile(r"<\s*([^\s<>]+@[^\s<>]+)\s*>")
_ADDRESS = re.compile(r"[^\s<>\"'(),;:\[\]]+@[^\s<>\"'(),;:\[\]]+")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_MISLABELLED_HTML = re.compile(r"\s*(?:<!doctype html|<html|<body)\b[^>]*>", re.IGNORECASE)
_SAME = 0.9  # of the words of two parts, from which on they are one text in two forms


class UndecodableError(ValueError):
    """A text part is not in the charset that it declares. Holds no text."""


class NestedError(ValueError):
    """A mail has parts in parts, deeper than anybody writes."""


def parse(raw: bytes) -> Mail:
    """The message; broken mails are read as far as they go. Raises NestedError for hundreds of parts in parts."""
    # Not policy.default: it parses every header in full, ten times slower (3 ms a mail); three raw headers are needed.
    try:
        return message_from_bytes(repaired(raw), policy=compat32)
    except RecursionError:
        pass
    raise NestedError("a mail has hundreds of parts in parts")


def address(mail: Mail, header: str) -> str | None:
    """The first address in a header, in lower case; the whole value if it holds none; None if it is not there.

    That in angle brackets counts, not one that is part of somebody's name.
    """
    value = str(mail.get(header, ""))
    for person in _QUOTED.sub(" ", value).split(","):
        found = _BRACKETED.search(person)
        if found or (found := _ADDRESS.search(person)):
            return found.group(found.lastindex or 0).lower()
    found = _ADDRESS.search(value)
    return (found.group() if found else " ".join(value.split())).lower() or None


def sent(mail: Mail, header: str = "Date") -> float | None:
    """Unix time of a date header, or None."""
    return mail_seconds(str(mail.get(header, "")))


def subject(mail: Mail) -> str:
    """The subject on one line; what cannot be decoded shows as U+FFFD."""
    pieces = []
    for value, charset in decode_header(str(mail.get("Subject", ""))):
        if isinstance(value, str):
            pieces.append(value)
        else:
            text = decoded(value, charset or "ascii")
            pieces.append(value.decode("ascii", "replace") if text is None else text)
    return " ".join("".join(pieces).split())


def body(mail: Mail, *, fallback: str | None = None) -> str:
    """The text of a mail: its plain parts, or where there are none, its HTML as text. Attachments are left out.

    A part with a file's name is read where the mail has no other text. A quote that HTML marks is a line '>'. A part
    without a charset is taken as UTF-8. Where a charset fails, `fallback` is tried, if given.
    Raises UndecodableError if no charset fits, NestedError as `parse` does.
    """
    try:
        return _body(mail, False, fallback) or _body(mail, True, fallback)
    except RecursionError:
        pass
    raise NestedError("a mail has hundreds of parts in parts")


def _body(mail: Mail, named: bool, fallback: str | None) -> str:
    """Of the parts that have a file's name, or of those that have none."""
    if mail.get_content_type() == "multipart/alternative":
        plain = _join(list(_texts(mail, "text/plain", named, fallback)))
        return plain if plain.strip() else _join(list(_texts(mail, "text/html", named, fallback)))
    if mail.get_content_maintype() == "multipart":
        return _join(_distinct([_body(part, named, fallback) for part in _parts(mail)]))
    return _leaf(mail, named, fallback)


def _parts(mail: Mail) -> Iterator[Mail]:
    payload = mail.get_payload()
    if isinstance(payload, list):
        yield from (part for part in payload if isinstance(part, Message))


def _texts(mail: Mail, content_type: str, named: bool, fallback: str | None) -> Iterator[str]:
    """The texts of one type inside a multipart, at any depth."""
    for part in _parts(mail):
        if part.get_content_maintype() == "multipart":
            yield from _texts(part, content_type, named, fallback)
        elif part.get_content_type() == content_type:
            yield _leaf(part, named, fallback)


def _distinct(texts: list[str]) -> list[str]:
    """Without a text that the one before it holds in another form, as plain text and HTML side by side do."""
    kept: list[str] = []
    before: Counter[str] = Counter()
    for text in texts:
        words = Counter(re.findall(r"\w+", text))
        if not words or (before & words).total() < _SAME * max(before.total(), words.total()):
            kept.append(text)
            before = words or before
    return kept


def _join(texts: list[str]) -> str:
    return "\n\n".join(text.strip("\r\n") for text in texts if text.strip())


def _leaf(part: Mail, named: bool, fallback: str | None) -> str:
    kind = part.get_content_type()
    if kind not in {"text/plain", "text/html"} or part.get_content_disposition() == "attachment":
        return ""
    if bool(part.get_filename()) != named:
        return ""
    payload = transferred(part)
    if payload is None:  # a "text" part that holds parts: broken
        return ""
    text = decoded(payload, part.get_content_charset(), html=kind == "text/html", fallback=fallback)
    if text is None:
        raise UndecodableError("a text part is not in the charset that it declares")
    return html_to_text(text, quote=">") if kind == "text/html" or _MISLABELLED_HTML.match(text) else text
