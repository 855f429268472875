"""Real mail: mbox files, Maildirs, and folders that hold one of either for each user.

    rows = Gather(source=path, fields=Fields(user="From"))
    read_mbox(Path("inbox.mbox"), rows)

Only what the user wrote is kept (see `clean`). A mail is dated by its Date header; where that is missing or cannot be
read, by its delivery: the 'From ' line of an mbox, the file name in a Maildir.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from device_poll.sources.clean import clean_mail
from device_poll.sources.gather import Gather
from device_poll.sources.items import Fields, SourceError
from device_poll.sources.message import UndecodableError, address, body, parse, sent
from synth.rows.dates import mail_seconds
from synth.rows.files import open_bytes

_POSTMARK = re.compile(
    rb"From .*(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) +\d{1,2} \d\d:\d\d"
)
_POSTMARK_DATE = re.compile(rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? .*")
_HEADER = re.compile(rb"[A-Z][!-9;-~]*:[ \t\r\n]")
_DELIVERED = re.compile(r"(\d{9,10})\.")


def read_mbox(path: Path, rows: Gather, *, owner: str | None = None) -> None:
    """One mbox file (also .gz); `owner` is the user of all its mails, unless `Fields.user` names a header."""
    with open_bytes(path) as file:
        for number, (offset, postmark, raw) in enumerate(split_mbox(path, file), start=1):
            found = _POSTMARK_DATE.search(postmark)
            delivered = mail_seconds(found.group().decode(errors="replace")) if found else None
            _add_mail(rows, f"message {number} (byte {offset})", raw, delivered, owner)


def split_mbox(path: Path, file: BinaryIO) -> Iterator[tuple[int, bytes, bytes]]:
    """(byte offset, 'From ' line, mail) for each mail.

    Python's `mailbox.mbox` starts a mail at every line that begins with 'From ', which cuts mails whose program did not
    escape such a line. Here a 'From ' line must carry a date, or stand behind an empty line and before a header.
    """
    start = offset = 0
    postmark, after_blank = b"", True
    lines: list[bytes] = []
    line = file.readline()
    while line:
        following = file.readline()
        if _POSTMARK.match(line) or (after_blank and line.startswith(b"From ") and _HEADER.match(following)):
            if postmark:
                yield start, postmark, b"".join(lines)
            start, postmark, lines = offset, line, []
        elif postmark:
            lines.append(line)
        elif line.strip():
            raise SourceError(f"{path} does not start with a 'From ' line; expected an mbox; choose another format")
        after_blank = not line.strip()
        offset += len(line)
        line = following
    if postmark:
        yield start, postmark, b"".join(lines)


def is_maildir(path: Path) -> bool:
    """Whether `path` is a Maildir: a folder with `cur` and `new` in it."""
    return (path / "cur").is_dir() and (path / "new").is_dir()


def read_maildir(path: Path, rows: Gather, *, owner: str | None = None) -> None:
    """One Maildir with its subfolders (.Sent, ...); `owner` as in `read_mbox`."""
    if not is_maildir(path):
        raise SourceError(f"{path} is not a Maildir; expected a folder with cur, new and tmp; choose another format")
    folders = [path, *sorted(sub for sub in path.glob(".*") if is_maildir(sub))]
    files = [file for folder in folders for part in ("cur", "new") for file in (folder / part).iterdir()]
    # A name starts with the time of delivery; the flags behind ':' are not part of the order.
    files = sorted((file for file in files if not file.name.startswith(".")), key=lambda file: (file.name, str(file)))
    for number, file in enumerate(files, start=1):
        delivered = _DELIVERED.match(file.name)
        with open_bytes(file) as opened:
            raw = opened.read()
        when = None if delivered is None else float(delivered.group(1))
        _add_mail(rows, f"message {number} in name order", raw, when, owner)


def mailboxes_in(path: Path) -> list[Path]:
    """The mailboxes directly in a folder, in name order: Maildirs, .mbox files, and Apple's .mbox folders."""
    return [child for child in sorted(path.iterdir()) if is_maildir(child) or _mbox_file(child) is not None]


def _mbox_file(path: Path) -> Path | None:
    if path.name.endswith((".mbox", ".mbox.gz")):
        return next((file for file in (path, path / "mbox") if file.is_file()), None)
    return None


def read_mailboxes(path: Path, rows: Gather) -> None:
    """A folder of mailboxes, one a user: the user is the mailbox's name without suffix."""
    mailboxes = mailboxes_in(path) if path.is_dir() else []
    if not mailboxes:
        raise SourceError(f"{path} holds no mailboxes; expected .mbox files or Maildirs in it; check the path")
    for number, mailbox in enumerate(mailboxes, start=1):
        owner = mailbox.name.removesuffix(".gz").removesuffix(".mbox")
        file = _mbox_file(mailbox)
        try:
            if file is not None:
                read_mbox(file, rows, owner=owner)
            else:
                read_maildir(mailbox, rows, owner=owner)
        except SourceError as error:
            # The name of a mailbox is often its owner's address, so errors count instead of naming.
            message = str(error).replace(str(mailbox), str(path))
            raise SourceError(f"mailbox {number} in name order: {message}") from None


def _add_mail(rows: Gather, where: str, raw: bytes, delivered: float | None, owner: str | None) -> None:
    fields = rows.fields
    mail = parse(raw)
    try:
        text = clean_mail(body(mail))
    except UndecodableError:
        expected = "expected the charset that it declares (none: UTF-8)"
        return rows.bad("undecodable", f"the text of {where} cannot be decoded; {expected}; correct it")
    user = owner
    if fields.user is not None and (owner is None or fields.user != Fields.user):
        header = "From" if fields.user == Fields.user else fields.user
        user = address(mail, header)
        if user is None:
            return rows.missing(where, header, dict.fromkeys(mail.keys()))
    when = sent(mail, fields.time or "Date")
    rows.add(where, text=text, user=user, time=delivered if when is None else when)
