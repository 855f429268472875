"""What a person wrote in a mail, without what mail programs and lists put around it.

    clean_mail("Noon is fine.\\n\\nOn Monday Ann wrote:\\n> Noon?\\n-- \\nBob, Example Inc.")   # 'Noon is fine.'

Left out, by rules that look at lines only: quoted replies and the line that introduces them, everything from
'Original Message' on, the header block of a forwarded mail (its text stays), the signature from a '-- ' line on, list
and free-mail footers at the end, PGP armour. A mail that only quotes comes out empty.
"""

from __future__ import annotations

import re

_INVISIBLE = re.compile("[\ufeff\u200b\u00ad\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]")
_ESCAPED_FROM = re.compile(r"^>(?=From )", re.MULTILINE)
_PGP = re.compile(
    r"^-----BEGIN PGP SIGNED MESSAGE-----\n(?:\w+: [^\n]*\n)*\n?"
    r"|^-----BEGIN PGP SIGNATURE-----\n.*?(?:^-----END PGP SIGNATURE-----$|\Z)",
    re.MULTILINE | re.DOTALL,
)
_QUOTE = re.compile(r"\s{0,4}(?:(?:[A-Z]{0,3}|[A-Z][A-Za-z]{1,11})>|--\]|\|\s(?!.*\|\s*$))")
# The line needs a digit: "On Friday I wrote:" may be somebody's own words.
_DATED_LINES = r"\b(?=[^\n]*\d)[^\n]{6,}(?:\n[^\n]+){0,2}?\b"
_ON_WROTE = re.compile(
    rf"^(?:On{_DATED_LINES}wrote|Am{_DATED_LINES}schrieb[^\n:]*|Le{_DATED_LINES}a écrit|El{_DATED_LINES}escribió)"
    r"\s?:[ \t]*$",
    re.MULTILINE,
)
_INTRODUCES_QUOTE = re.compile(r"\b(?:wrote|writes|said|says|posted|asked|schrieb|écrit|escribió)\b[^:]{0,60}[:,]+\s*$")
_ORIGINAL = re.compile(r"\s*-{2,}\s*Original Message\s*-*\s*$", re.IGNORECASE)
_FORWARDED = re.compile(
    r"\s*-{2,}\s*(?:(?:Begin )?forwarded (?:message|text|by)|Original Message)\b.*$|\s*Begin forwarded message:\s*$",
    re.IGNORECASE,
)
_HEADER = re.compile(
    r"\s*(?:From|To|Cc|Bcc|Date|Sent|Subject|Reply-To|Sender|Message-ID|In-Reply-To|Organization|Importance|Status|Received|Delivered-To|User-Agent"
    r"|Return-Path|Mime-Version|Content-[\w-]+|Forwarded-by|X-[\w-]+):(?:\s|$)",
    re.IGNORECASE,
)
# Bounded, so that a long line of dashes costs no quadratic time.
_RULE = re.compile(r"\s*[-_=*~#+<>.]{5,200}(?:.{1,40}[-_=*~#+<>.]{5,200})?\s*$")
_FOOTER = re.compile(
    r"unsubscri|mailing list|mailing-list|listinfo|sponsored by|you are receiving this|you received this"
    r"|yahoo! groups|do you yahoo|hotmail|msn (?:photos|messenger|8)|free e-?mail|get your free|www\.ietf\.org/mailman"
    r"|to be removed|remove yourself|removal instructions|opt[- ]?out|privacy policy",
    re.IGNORECASE,
)
_LIST_ADDRESS = re.compile(r"\s*<?https?://\S*/listinfo/\S*\s*$", re.IGNORECASE)
_FOOTER_LINES = 15
_FOOTER_HEAD_LINES = 5
_FOOTER_PARAGRAPH_LINES = 6
_DASHES_SIGNATURE_LINES = 15


def clean_mail(text: str) -> str:
    """The text without quotes, signature, footers; at most one empty line in a row."""
    text = _INVISIBLE.sub("", text.replace("\r\n", "\n").replace("\r", "\n").replace("\x0c", "\n").replace("\xa0", " "))
    # Mail programs write '>From ' for a line that starts with 'From ': no quote.
    text = _ON_WROTE.sub("", _PGP.sub("", _ESCAPED_FROM.sub("", text)))
    lines = _without_copied_headers(text.split("\n"))
    lines = _without_quotes(lines)
    # A list's footer stands behind the signature, another may stand before it.
    lines = _without_footers(_before_signature(_without_footers(lines)))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(line.rstrip() for line in lines)).strip("\n")


def _without_copied_headers(lines: list[str]) -> list[str]:
    """Drop what follows 'Original Message'; drop the header blocks of forwarded mails and at the very top."""
    kept: list[str] = []
    i = 0
    while i < len(lines):
        written = any(line.strip() for line in kept)
        if written and _ORIGINAL.match(lines[i]):
            break
        marker = bool(_FORWARDED.match(lines[i]))
        end = _header_block_end(lines, i + marker) if marker or not written else i
        if end > i:
            i = end
        else:
            kept.append(lines[i])
            i += 1
    return kept


def _header_block_end(lines: list[str], start: int) -> int:
    """The line after the header block at `start` (empty lines before it allowed), or `start` if there is none."""
    i = start
    while i < len(lines) and not lines[i].strip():
        i += 1
    first = i
    while i < len(lines) and (_HEADER.match(lines[i]) or (i > first and _continues_header(lines, i))):
        i += 1
    return i if i - first >= 2 else start


def _continues_header(lines: list[str], i: int) -> bool:
    """Whether a line is indented like the rest of a header, or wrapped by hand between two headers."""
    if not lines[i].strip():
        return False
    return lines[i][0] in "\t " or (i + 1 < len(lines) and bool(_HEADER.match(lines[i + 1])))


def _without_quotes(lines: list[str]) -> list[str]:
    """Drop quoted lines, and the up to two lines before a quote that say who wrote it."""
    kept: list[str] = []
    quoting = False
    for line in lines:
        if _QUOTE.match(line):
            if not quoting:
                _drop_introduction(kept)
            quoting = True
        else:
            quoting = quoting and not line.strip()
            kept.append(line)
    return kept


def _drop_introduction(kept: list[str]) -> None:
    end = len(kept)
    while end and not kept[end - 1].strip():
        end -= 1
    if end and _INTRODUCES_QUOTE.search(kept[end - 1]):
        opens_paragraph = end == 1 or not kept[end - 2].strip()
        # The introduction may be broken in two; it is not the end of a longer paragraph.
        first = end - 1 if opens_paragraph or (end > 2 and kept[end - 3].strip()) else end - 2
        del kept[max(first, 0) :]


def _before_signature(lines: list[str]) -> list[str]:
    for i, line in enumerate(lines):
        # Mail programs write '-- '; a bare '--' is often typed as a mere divider, so only near the end.
        if line == "-- " or (line.rstrip() == "--" and len(lines) - i <= _DASHES_SIGNATURE_LINES):
            return lines[:i]
    return lines


def _without_footers(lines: list[str]) -> list[str]:
    """Drop footers from the end until none is left."""
    while True:
        while lines and (not lines[-1].strip() or _RULE.match(lines[-1])):
            lines = lines[:-1]
        cut = _footer_start(lines)
        if cut is None:
            return lines
        lines = lines[:cut]


def _footer_start(lines: list[str]) -> int | None:
    """Where the last footer begins: at a rule near the end, or with a short last paragraph; None if there is none."""
    first = max(1, len(lines) - _FOOTER_LINES)
    for i in range(len(lines) - 1, first - 1, -1):
        if _RULE.match(lines[i]):
            # What comes long after a rule is more likely a text's own last section than its footer.
            if _FOOTER.search("\n".join(lines[i : i + 1 + _FOOTER_HEAD_LINES])):
                return i
            break
    if len(lines) > 1 and _LIST_ADDRESS.match(lines[-1]):
        return len(lines) - 1
    start = len(lines)
    while start and lines[start - 1].strip():
        start -= 1
    short = 0 < len(lines) - start <= _FOOTER_PARAGRAPH_LINES
    return start if start > 0 and short and _FOOTER.search("\n".join(lines[start:])) else None
