"""What a person wrote in a mail, without what mail programs and lists put around it.

    clean_mail("Noon is fine.\n\nOn 1 May at 10:00 Ann wrote:\n> Noon?\n-- \nBob, Example Inc.")   # 'Noon is fine.'

Left out, by rules that look at lines only: quoted replies and the line that introduces them, what follows 'Original
Message' or the copied header of the mail that is answered, the header block of a forwarded mail (its text stays), the
signature from a '-- ' line on, a phone's last line, list and free-mail footers at the end, PGP armour and other blocks
for machines. A mail that only quotes comes out empty. The words of mail programs, in two dozen languages, are in
device_poll/sources/reply_words.py; what is cleaned, and how well: docs/mail.md.
"""

from __future__ import annotations

import re

from device_poll.sources.reply_words import (
    BY_ADDRESS,
    COPIED_LINE,
    DATED,
    ENDS_ATTRIBUTION,
    FORWARDED,
    OLD_GMAIL,
    ORIGINAL,
    SENDER_LINE,
    SENT_FROM,
    SENT_LINE,
    SUBJECT_LINE,
    UNDATED,
    WROTE,
)

_INVISIBLE = re.compile("[\ufeff\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\u00ad\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]")
_ESCAPED_FROM = re.compile(r"^>(?=>*From )", re.MULTILINE)
_PGP_HEAD = re.compile(r"^-----BEGIN PGP SIGNED MESSAGE-----\n(?:\w+: [^\n]*\n)*\n?", re.MULTILINE)
_ARMOUR = re.compile(r"^-----BEGIN ([A-Z0-9 ]{3,40})-----\n.*?(?:^-----END \1-----$|\Z)", re.MULTILINE | re.DOTALL)
_UUENCODED = re.compile(r"^begin(?:-base64)? [0-7]{3,4} [^\n]+\n(?:[^\n]*\n){1,200000}?(?:end|====)$", re.MULTILINE)
# An address or a colon that was broken off the line before is no quote, nor is '>>> somewhere <<<'.
_BROKEN_OFF = re.compile(
    rf"\n>[ \t]{{0,8}}((?:{WROTE.pattern})?[ \t]{{0,8}}[:：])[ \t]*$", re.IGNORECASE | re.MULTILINE
)
_QUOTE = re.compile(r"\s{0,4}(?:>(?!.*<<\s*$)|--\]|\|\s(?!.*\|\s*$))")
# 'AE> or later?', 'Ann> Is noon fine?'; names in small letters and what shells show are no initials.
_NAMED_QUOTE = re.compile(
    r"\s{0,4}(?!SQL>|PS>|FTP>|CMD>|CLI>|GDB>|SAS>|VMS>|DOS>)(?:[A-Z]{1,3}|[A-Z][A-Za-z]{1,11})>\s*(\S?)"
)
_INTRODUCES_QUOTE = re.compile(
    rf"(?:{WROTE.pattern}|\b(?:said|says|posted|asked)\b)[^:]{{0,60}}[:,]+\s*$", re.IGNORECASE
)
_ATTRIBUTION_LINES = 3
_ATTRIBUTION_LENGTH = 400
_SHARES_LINE = re.compile(
    r"(.{1,300}?\w[^\w\s]*)[\s-]+"
    r"(On\s(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun|\d|Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\S*\s.*)$"
)
_WRAPPED = 65  # characters of a quoted line whose end can have been broken off, without its own mark
_HEADER = re.compile(
    r"\s*(?:From|To|Cc|Bcc|Date|Sent|Subject|Reply-To|Sender|Message-ID|In-Reply-To|Organization|Importance|Status|Received|Delivered-To|User-Agent"
    r"|Return-Path|Mime-Version|Content-[\w-]+|Forwarded-by|X-[\w-]+):(?:\s|$)",
    re.IGNORECASE,
)
_COPIED_LINES = 12  # of a header that are looked at
# Bounded, so that a long line of dashes costs no quadratic time.
_RULE = re.compile(r"\s*[-_=*~#+<>.]{5,200}(?:.{1,40}[-_=*~#+<>.]{5,200})?\s*$")
_FOOTER = re.compile(
    r"unsubscri|mailing list|mailing-list|listinfo|sponsored by|you are receiving this|you received this"
    r"|yahoo! groups|do you yahoo|hotmail|msn (?:photos|messenger|8)|free e-?mail|get your free|www\.ietf\.org/mailman"
    r"|to be removed|remove yourself|removal instructions|opt[- ]?out|privacy policy",
    re.IGNORECASE,
)
# What a list or a free-mail service says and a person hardly does; a link or an address to go to is as good.
_SERVICE = re.compile(
    r"https?://|www\.|[\w.+-]+@[\w-]+\.\w|^\W*(?:to (?:un)?subscribe|to be removed|you (?:are receiving|received) this"
    r"|this (?:e-?mail|message|list) (?:is|was) (?:sponsored|sent)|do you yahoo|get your free|join the world|chat with"
    r"|send and receive hotmail|your use of yahoo)",
    re.IGNORECASE | re.MULTILINE,
)
_LIST_ADDRESS = re.compile(r"\s*<?https?://\S*/listinfo/\S*\s*$", re.IGNORECASE)
_FOOTER_LINES = 15
_FOOTER_HEAD_LINES = 5
_FOOTER_PARAGRAPH_LINES = 6
_DASHES_SIGNATURE_LINES = 15
_SENT_FROM_LENGTH = 90


def clean_mail(text: str) -> str:
    """The text without quotes, signature, footers; at most one empty line in a row."""
    text = _INVISIBLE.sub("", text.replace("\r\n", "\n").replace("\r", "\n").replace("\x0c", "\n").replace("\xa0", " "))
    # Mail programs write '>From ' for a line that starts with 'From ': no quote.
    text = _BROKEN_OFF.sub(r">\1", text)
    text = _UUENCODED.sub("", _ARMOUR.sub("", _PGP_HEAD.sub("", _ESCAPED_FROM.sub("", text))))
    lines = _without_copied_headers(re.sub(r"\n{3,}", "\n\n", text).split("\n"))
    lines = _without_quotes(_without_attributions(lines))
    # A list's footer stands behind the signature, another may stand before it.
    lines = _without_phone_lines(_without_footers(_before_signature(_without_phone_lines(_without_footers(lines)))))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(line.rstrip() for line in lines)).strip("\n")


def _without_copied_headers(lines: list[str]) -> list[str]:
    """Drop what follows 'Original Message' or the copied header of an answered mail; drop the header blocks of
    forwarded mails and at the very top."""
    kept: list[str] = []
    written = False
    i = 0
    while i < len(lines):
        if written and (ORIGINAL.match(lines[i]) or _is_copied_header(lines, i)):
            while kept and not kept[-1].strip(" -_=*"):
                kept.pop()
            break
        marker = bool(FORWARDED.match(lines[i]))
        end = _header_block_end(lines, i + marker) if marker or not written else i
        if end > i:
            i = end
        else:
            kept.append(lines[i])
            written = written or bool(lines[i].strip())
            i += 1
    return kept


def _is_copied_header(lines: list[str], start: int) -> bool:
    """Whether a mail's header stands at `start`, in any language: two lines or more that name somebody and a date.

    Other lists have such lines too ('From: Boston, To: Rome, Date: 3 May'), so an address, a subject or a line that
    says when it was sent must be among them.
    """
    if not COPIED_LINE.match(lines[start]):
        return False
    block: list[str] = []
    copied = 0
    for i in range(start, min(start + _COPIED_LINES, len(lines))):
        if not (COPIED_LINE.match(lines[i]) or _continues_header(lines, i)):
            break
        copied += bool(COPIED_LINE.match(lines[i]))
        block.append(lines[i])
    whole = "\n".join(block)
    dated, addressed = bool(DATED.search(whole)), "@" in whole
    if copied == 2:
        return dated and addressed
    by_whom = any(SENDER_LINE.match(line) for line in block)
    said = any(SUBJECT_LINE.match(line) or (dated and SENT_LINE.match(line)) for line in block)
    return copied > 2 and by_whom and (said or (dated and addressed))


def _header_block_end(lines: list[str], start: int) -> int:
    """The line after the header block at `start` (empty lines before it allowed), or `start` if there is none."""
    i = start
    while i < len(lines) and not lines[i].strip():
        i += 1
    first = i
    while i < len(lines) and (_is_header(lines[i]) or (i > first and _continues_header(lines, i))):
        i += 1
    return i if i - first >= 2 else start


def _is_header(line: str) -> bool:
    return bool(_HEADER.match(line) or COPIED_LINE.match(line))


def _continues_header(lines: list[str], i: int) -> bool:
    """Whether a line is indented like the rest of a header, or wrapped by hand between two headers."""
    if not lines[i].strip():
        return False
    return lines[i][0] in "\t " or (i + 1 < len(lines) and bool(_is_header(lines[i + 1])))


def _without_attributions(lines: list[str]) -> list[str]:
    """Drop lines that say who wrote what follows, and when; where no line behind them is marked as a quote, and
    something was written before, drop what follows, too: it is the mail that is answered."""
    kept: list[str] = []
    marked = max((i for i, line in enumerate(lines) if _QUOTE.match(line)), default=-1)
    for i, line in enumerate(lines):
        own, rest = "", line
        if shared := _SHARES_LINE.match(line):
            own, rest = shared.groups()
        length = _attribution([] if own else kept, rest)
        if not length and not (own and (length := _attribution(kept, line))):
            kept.append(line)
            continue
        del kept[len(kept) - length + 1 :]
        kept += [own] if own and length == 1 else []
        if marked < i and any(before.strip() for before in kept):
            break
    return kept


def _attribution(before: list[str], line: str) -> int:
    """How many lines, up to and with this one, are an attribution; 0: it ends none. The fewest that hold a date."""
    if UNDATED.match(line) or OLD_GMAIL.match(line):
        return 1
    if not ENDS_ATTRIBUTION.search(line):
        return 0
    text = ""
    for count in range(1, _ATTRIBUTION_LINES + 1):
        part = line if count == 1 else before[-count + 1] if count <= len(before) + 1 else ""
        if not part.strip() or _QUOTE.match(part):
            return 0
        text = f"{part.strip()} {text}".strip()
        if len(text) > _ATTRIBUTION_LENGTH:
            return 0
        by_address = BY_ADDRESS.search(text)
        if DATED.search(text) and (by_address or (WROTE.search(text) and text[-1] in ":：-")):
            return count
    return 0


def _without_quotes(lines: list[str]) -> list[str]:
    """Drop quoted lines, and the up to two lines before a quote that say who wrote it."""
    kept: list[str] = []
    quoting = named = False
    for i, line in enumerate(lines):
        by_name = _NAMED_QUOTE.match(line)
        # A quote by name begins with a sentence: 'Router> show version' is what somebody typed.
        named = by_name is not None and (named or not by_name.group(1).islower())
        if _QUOTE.match(line) or named:
            if not quoting:
                _drop_introduction(kept)
            quoting = True
        elif not _is_broken_off(lines, i):
            quoting = quoting and not line.strip()
            kept.append(line)
    return kept


def _is_broken_off(lines: list[str], i: int) -> bool:
    """Whether a line stands between quoted ones and is the end of the one before, which was too long."""
    if not 0 < i < len(lines) - 1 or not lines[i].strip():
        return False
    return len(lines[i - 1]) >= _WRAPPED and all(_QUOTE.match(lines[at]) for at in (i - 1, i + 1))


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


def _without_phone_lines(lines: list[str]) -> list[str]:
    """Drop last lines such as 'Sent from my iPhone'; what follows one that is a paragraph of its own is the mail that
    is answered."""
    for i in range(1, len(lines)):
        alone = not lines[i - 1].strip() and (i + 1 == len(lines) or not lines[i + 1].strip())
        if alone and _is_phone_line(lines[i]) and any(line.strip() for line in lines[:i]):
            lines = lines[:i]
            break
    end = len(lines)
    while end and (not lines[end - 1].strip() or _is_phone_line(lines[end - 1])):
        end -= 1
    return lines[:end]


def _is_phone_line(line: str) -> bool:
    return len(line) <= _SENT_FROM_LENGTH and bool(SENT_FROM.match(re.sub(r"<https?://[^>\s]*>|[*_\[\]]", "", line)))


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
    last = "\n".join(lines[start:])
    short = 0 < len(lines) - start <= _FOOTER_PARAGRAPH_LINES
    return start if start > 0 and short and _FOOTER.search(last) and _SERVICE.search(last) else None
