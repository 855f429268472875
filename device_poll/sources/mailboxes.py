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
from device_poll.sources.message import NestedError, UndecodableError, address, body, parse, sent
from synth.rows.dates import mail_seconds
from synth.rows.files import open_bytes

_POSTMARK = re.compile(
    rb"From .*(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) +\d{1,2} \d\d:\d\d"
)
_POSTMARK_DATE = re.compile(rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? .*")
# What mails begin with; a word and a colon alone can be anybody's next line.
_HEADER = re.compile(
    rb">?From |(?:From|To|Cc|Date|Subject|Sender|Reply-To|Received|Return-Path|Delivered-To|Envelope-To|Message-ID"
    rb"|MIME-Version|Status|Content-[\w-]+|DKIM-Signature|Authentication-Results|ARC-[\w-]+|List-[\w-]+|X-[\w-]+)"
    rb":[ \t\r\n]",
    re.IGNORECASE,
)
_UNDATED = re.compile(rb"From(?: +\S*)?[ \t]*\r?\n?$")
_LENGTH = re.compile(rb"content-length:[ \t]*(\d{1,12})[ \t]*\r?\n", re.IGNORECASE)
_SUFFIX = re.compile(r"\.mbox(?:\.gz)?$", re.IGNORECASE)
_LONGEST = 2**26  # bytes of a mail whose own word for its length is looked at
_LOOKED_AT = 64  # bytes behind it
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
    escape such a line. Here a 'From ' line must carry a date, or nothing but an address, stand behind an empty line and
    before a header. Where a mail says how long it is (mboxcl), and one begins or the file ends there, that counts.
    """
    lines = _Lines(file)
    start, postmark, mail = 0, b"", _Mail()
    after_blank = True
    while line := lines.read():
        if _POSTMARK.match(line) or (after_blank and _UNDATED.match(line) and _HEADER.match(lines.peek())):
            if postmark:
                yield start, postmark, mail.content
            start, postmark, mail = lines.offset - len(line), line, _Mail()
        elif postmark:
            mail.add(line)
            if not line.strip() and (length := mail.take_length()):
                mail.add(lines.through(length))
        elif line.strip():
            raise SourceError(f"{path} does not start with a 'From ' line; expected an mbox; choose another format")
        after_blank = not line.strip() or mail.content.endswith((b"\n\n", b"\r\n\r\n"))
    if postmark:
        yield start, postmark, mail.content


class _Mail:
    """The lines of a mail so far, and how long its body says it is."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._length: int | None = None
        self._in_header = True

    def add(self, line: bytes) -> None:
        self._lines.append(line)
        if self._in_header and (found := _LENGTH.match(line)):
            self._length = int(found[1])

    def take_length(self) -> int:
        """At the end of the header: how many bytes follow, 0 if it does not say; 0 from then on."""
        length = self._length if self._in_header else None
        self._in_header = False
        return length or 0

    @property
    def content(self) -> bytes:
        return b"".join(self._lines)


class _Lines:
    """A file's lines, of which the next ones can be looked at."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._ahead, self._at = file, b"", 0
        self.offset = 0

    def read(self) -> bytes:
        """The next line; nothing at the end."""
        line = self.peek()
        self._at += len(line)
        self.offset += len(line)
        return line

    def peek(self) -> bytes:
        """The same, which stays the next one."""
        end = self._ahead.find(b"\n", self._at) + 1
        if not end:
            self._ahead, self._at = self._ahead[self._at :] + self._file.readline(), 0
            end = len(self._ahead)
        return self._ahead[self._at : end]

    def through(self, length: int) -> bytes:
        """So many bytes, if a mail begins behind them or the file ends; otherwise nothing is taken."""
        if length > _LONGEST:
            return b""
        self._ahead, self._at = self._ahead[self._at :], 0
        self._ahead += self._file.read(max(0, length + 2 - len(self._ahead)))
        self._ahead += self._file.readline()
        rest = self._ahead[length : length + _LOOKED_AT].lstrip(b"\r\n")
        if len(self._ahead) < length or (rest and not rest.startswith(b"From ")):
            return b""
        self._at = length
        self.offset += length
        return self._ahead[:length]


def is_maildir(path: Path) -> bool:
    """Whether `path` is a Maildir: a folder with `cur` and `new` in it, or with one of them and mails in that.

    Archives and version control leave empty folders out.
    """
    there = [path / part for part in ("cur", "new") if (path / part).is_dir()]
    return len(there) == len(("cur", "new")) or any(
        _DELIVERED.match(file.name) for part in there for file in part.iterdir()
    )


def read_maildir(path: Path, rows: Gather, *, owner: str | None = None) -> None:
    """One Maildir with its subfolders, as Maildir++ names them (.Sent, .Sent.2023) or as plain folders (Sent/2023);
    `owner` as in `read_mbox`."""
    if not is_maildir(path):
        raise SourceError(f"{path} is not a Maildir; expected a folder with cur, new and tmp; choose another format")
    inside = (sub for sub in sorted(path.rglob("*")) if sub.is_dir() and sub.name not in ("cur", "new", "tmp"))
    folders = [path, *(sub for sub in inside if is_maildir(sub))]
    parts = [folder / part for folder in folders for part in ("cur", "new")]
    files = [file for part in parts if part.is_dir() for file in part.iterdir()]
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
    if path.name.lower().endswith((".mbox", ".mbox.gz")):
        return next((file for file in (path, path / "mbox") if file.is_file()), None)
    return None


def read_mailboxes(path: Path, rows: Gather) -> None:
    """A folder of mailboxes, one a user: the user is the mailbox's name without suffix."""
    mailboxes = mailboxes_in(path) if path.is_dir() else []
    if not mailboxes:
        raise SourceError(f"{path} holds no mailboxes; expected .mbox files or Maildirs in it; check the path")
    for number, mailbox in enumerate(mailboxes, start=1):
        owner = _SUFFIX.sub("", mailbox.name)
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
    try:
        mail = parse(raw)
        text = clean_mail(body(mail))
    except NestedError:
        return rows.bad("malformed", f"{where} has hundreds of parts in parts; expected a mail; correct it")
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
