"""One raw mail: who, when, and the text that a person reads.

mail = parse(b"From: Ann <ann@example.org>\\n\\nSee you at noon.\\n")
address(mail, "From"), body(mail)       # ('ann@example.org', 'See you at noon.\\n')
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from email import message_from_bytes
from email.header import decode_header
from email.message import Message
from email.policy import compat32
from typing import TypeAlias

from device_poll.sources.html_text import html_to_text
from synth.rows.dates import mail_seconds

Mail: TypeAlias = "Message[str, str]"

_ADDRESS = re.compile(r"[^\s<>\"'(),;:\[\]]+@[^\s<>\"'(),;:\[\]]+")
_MISLABELLED_HTML = re.compile(r"\s*(?:<!doctype html|<html|<body)\b[^>]*>", re.IGNORECASE)


class UndecodableError(ValueError):
    """A text part is not in the charset that it declares. Holds no text."""


def parse(raw: bytes) -> Mail:
    """The message; broken mails are read as far as they go."""
    # Not policy.default: it parses every header in full, ten times slower (3 ms a mail); three raw headers are needed.
    return message_from_bytes(raw, policy=compat32)


def address(mail: Mail, header: str) -> str | None:
    """The first address in a header, in lower case; the whole value if it holds none; None if it is not there."""
    value = str(mail.get(header, ""))
    found = _ADDRESS.search(value)
    return (found.group() if found else " ".join(value.split())).lower() or None


def sent(mail: Mail, header: str = "Date") -> float | None:
    """Unix time of a date header, or None."""
    return mail_seconds(str(mail.get(header, "")))


def subject(mail: Mail) -> str:
    """The subject on one line; what cannot be decoded shows as U+FFFD."""
    pieces = []
    for value, charset in decode_header(str(mail.get("Subject", ""))):
        try:
            pieces.append(value if isinstance(value, str) else value.decode(charset or "ascii", "replace"))
        except LookupError:
            pieces.append(value.decode("ascii", "replace"))
    return " ".join("".join(pieces).split())


def body(mail: Mail, *, fallback: str | None = None) -> str:
    """The text of a mail: its plain parts, or where there are none, its HTML as text. Attachments are left out.

    A part without a charset is taken as UTF-8. Where a charset fails, `fallback` is tried, if given.
    Raises UndecodableError if no charset fits.
    """
    if mail.get_content_type() == "multipart/alternative":
        plain = _join(_texts(mail, "text/plain", fallback))
        return plain if plain.strip() else _join(_texts(mail, "text/html", fallback))
    if mail.get_content_maintype() == "multipart":
        return _join(body(part, fallback=fallback) for part in _parts(mail))
    return _leaf(mail, fallback)


def _parts(mail: Mail) -> Iterator[Mail]:
    payload = mail.get_payload()
    if isinstance(payload, list):
        yield from (part for part in payload if isinstance(part, Message))


def _texts(mail: Mail, content_type: str, fallback: str | None) -> Iterator[str]:
    """The texts of one type inside a multipart, at any depth."""
    for part in _parts(mail):
        if part.get_content_maintype() == "multipart":
            yield from _texts(part, content_type, fallback)
        elif part.get_content_type() == content_type:
            yield _leaf(part, fallback)


def _join(texts: Iterator[str]) -> str:
    return "\n\n".join(text.strip("\r\n") for text in texts if text.strip())


def _leaf(part: Mail, fallback: str | None) -> str:
    kind = part.get_content_type()
    if kind not in {"text/plain", "text/html"} or part.get_content_disposition() == "attachment" or part.get_filename():
        return ""
    payload = part.get_payload(decode=True)
    if not isinstance(payload, bytes):  # a "text" part that holds parts: broken
        return ""
    charset = part.get_content_charset() or "utf-8"
    # What calls itself Latin-1 is mostly Windows-1252, its superset in all printable characters.
    text = _decoded(payload, ["cp1252" if charset == "iso-8859-1" else None, charset, fallback])
    if text is None:
        raise UndecodableError("a text part is not in the charset that it declares")
    return html_to_text(text) if kind == "text/html" or _MISLABELLED_HTML.match(text) else text


def _decoded(payload: bytes, charsets: list[str | None]) -> str | None:
    for charset in charsets:
        try:
            if charset is not None:
                return payload.decode(charset)
        except (LookupError, ValueError):  # an unknown charset; bytes that are not in it
            continue
    return None
