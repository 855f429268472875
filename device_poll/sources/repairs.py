"""Raw mails as programs send them, mended where the standard library would lose the text.

mail = message_from_bytes(repaired(raw))
transferred(mail)                            # the bytes of a part, whatever its transfer encoding is called
"""

from __future__ import annotations

import binascii
import quopri
import re
from email.message import Message

_HEADER_LINE = re.compile(rb"[!-9;-~]+[ \t]*:")
_FOLDED_BOUNDARY = re.compile(rb'(boundary[ \t]*=[ \t]*"[^"\r\n]{0,200})\r?\n(?=[ \t][^"\r\n]{0,200}")', re.IGNORECASE)
_NO_SEMICOLON = re.compile(
    rb"^(content-type:[ \t]*[\w.+-]+/[\w.+-]+)[ \t]+(?=(?:charset|boundary|name|format|type|delsp)[ \t]*=)",
    re.IGNORECASE | re.MULTILINE,
)
_BASE64 = re.compile(rb"[A-Za-z0-9+/=\s]*")
_WORDS = re.compile(rb"\S[ \t]+\S")  # base64 has no blanks inside its lines
_ESCAPED = re.compile(rb"=(?:[0-9A-Fa-f]{2}|[ \t]*\r?\n)")
_SOFT_BREAK = re.compile(rb"=[ \t]*\r?\n")


def repaired(raw: bytes) -> bytes:
    """The mail with its headers mended: 'From ' lines and lines that are no header before others, boundaries that are
    folded inside their quotes, a missing semicolon behind a content type."""
    head, empty, rest = _split(raw)
    mended = _FOLDED_BOUNDARY.sub(rb"\1", _only_headers(head) + empty + rest)
    return _NO_SEMICOLON.sub(rb"\1; ", mended)


def _split(raw: bytes) -> tuple[bytes, bytes, bytes]:
    """Header, empty line, body."""
    found = re.search(rb"(?:^|(?<=\n))\r?\n", raw)
    return (raw, b"", b"") if found is None else (raw[: found.start()], found.group(), raw[found.end() :])


def _only_headers(head: bytes) -> bytes:
    """Without lines that are no header and go on nothing, where a header follows: the parser would end there.

    Such a line is what a gateway wrote ('>From ann Mon May 1'), or damage. If none follows, the text begins there.
    """
    lines = head.splitlines(keepends=True)
    last = max((i for i, line in enumerate(lines) if _HEADER_LINE.match(line)), default=-1)
    kept = [
        line for i, line in enumerate(lines) if i > last or _HEADER_LINE.match(line) or (i > 0 and line[:1] in b" \t")
    ]
    return b"".join(kept)


def transferred(part: Message[str, str]) -> bytes | None:
    """The bytes of a part, decoded by its transfer encoding as far as they are in it; None for one that holds parts."""
    if part.is_multipart():
        return None
    label = part.get("Content-Transfer-Encoding")
    named = re.match(r"[\w-]*", str(label or "").strip().strip("\"'"))
    encoding = named.group().lower() if named else ""
    del part["Content-Transfer-Encoding"]  # without it the library hands over the bytes as they came
    raw = part.get_payload(decode=True)
    if label is not None:
        part["Content-Transfer-Encoding"] = encoding
    if not isinstance(raw, bytes):
        return None
    if encoding == "base64":
        return _from_base64(raw)
    if encoding in ("x-uuencode", "uuencode", "uue", "x-uue"):
        found = part.get_payload(decode=True)
        return found if isinstance(found, bytes) else raw
    if encoding == "quoted-printable" or _is_quoted_printable(raw):
        return quopri.decodestring(raw)
    return raw


def _from_base64(raw: bytes) -> bytes:
    """Text that is not base64 stays as it is: it only says so."""
    if _BASE64.fullmatch(raw) and not _WORDS.search(raw):
        letters = re.sub(rb"[\s=]", b"", raw)
        whole = letters[: len(letters) - (len(letters) % 4 == 1)]
        try:
            return binascii.a2b_base64(whole + b"=" * (-len(whole) % 4))
        except binascii.Error:
            return raw
    first = re.match(rb"(?:[A-Za-z0-9+/]{40,}={0,2}\s+)+", raw)  # behind it a list's footer, in the clear
    return _from_base64(first.group()) + raw[first.end() :] if first else raw


def _is_quoted_printable(raw: bytes) -> bool:
    """Whether a part that does not say so is quoted-printable: ASCII alone, broken lines, and no '=' that is none."""
    return raw.isascii() and bool(_SOFT_BREAK.search(raw)) and len(_ESCAPED.findall(raw)) == raw.count(b"=")
