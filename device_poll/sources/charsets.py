"""Bytes of a text part to text, by what the web does with labels rather than by what the labels say.

decoded(b"gr\\xfc\\xdfe", "iso-8859-1")     # 'grüße'

Whoever writes a label means the superset that everybody writes under it (WHATWG, Encoding Standard; the labels are
webencodings'): Latin-1 is Windows-1252, GB2312 is GB18030. Bytes that are UTF-8 with characters of several bytes are
UTF-8, whatever they are called: another charset's text is that only by accident.
"""

from __future__ import annotations

import re

import webencodings  # type: ignore[import-untyped]

# Codecs of Python with more characters than those that webencodings names, under the same labels.
_SUPERSETS = {
    "gbk": "gb18030",
    "gb18030": "gb18030",
    "iso-2022-jp": "iso2022_jp_ext",
    "shift_jis": "cp932",
    "euc-kr": "cp949",
    "big5": "big5hkscs",
}
_META = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]{2,40})", re.IGNORECASE)
_SEVERAL_BYTES = re.compile("[^\x00-\x7f]")
_ESCAPES = b"\x1b"  # of the charsets that are ASCII and escapes, such as ISO-2022-JP


def decoded(payload: bytes, label: str | None, *, html: bool = False, fallback: str | None = None) -> str | None:
    """The text; None if the bytes are in no charset that they could be in.

    Tried in turn: UTF-8, where several bytes make a character; the label, or that of a page's own meta tag; UTF-8;
    `fallback`, if given.
    """
    as_utf8 = _strict(payload, "utf-8")
    if as_utf8 is not None and _SEVERAL_BYTES.search(as_utf8):
        return as_utf8
    if label is None and html and (meta := _META.search(payload[:4096])):
        label = meta[1].decode("ascii")
    if label is not None and (text := _strict(payload, _codec(label))) is not None:
        return text
    # An unknown label, or a wrong one: plain ASCII is the same in nearly all.
    if as_utf8 is not None and _ESCAPES not in payload:
        return as_utf8
    return None if fallback is None else _strict(payload, fallback)


def _codec(label: str) -> str | None:
    """The name of Python's codec for a label; None for one that nobody knows."""
    known = webencodings.lookup(label.strip().strip("\"'"))
    if known is not None:
        return _SUPERSETS.get(known.name, str(known.codec_info.name))
    try:
        return "".encode(label).decode() or label
    except (LookupError, ValueError):
        return None


def _strict(payload: bytes, codec: str | None) -> str | None:
    if codec is None:
        return None
    try:
        return payload.decode(codec)
    except (LookupError, ValueError):  # a codec that is none of text; bytes that are not in it
        return None
