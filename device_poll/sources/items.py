"""What reading real mail gives: texts with their users, for the simulated devices.

items = read_items("mail.jsonl", Fields(text="body", user="owner"))
len(items), items.skipped          # 1200, {'short': 14}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


class SourceError(ValueError):
    """Mail cannot be read; the message says what was found, what was expected, what to do (never private text)."""


@dataclass(frozen=True, kw_only=True)
class Fields:
    """Which column (or mail header) holds what.

    `user=None`: every item is its own user. `time=None`: file order is the time order.

    Mail files (mbox, Maildir) have headers in place of columns: `text` is unused there, `user` is the header whose
    address names the user ("From", "To", "Delivered-To", ...; the default "user" stands for "From", or, in a folder
    of mailboxes, for the mailbox's own name), `time` is the header that dates a mail (None stands for "Date").
    """

    text: str = "text"
    user: str | None = "user"
    time: str | None = None


@dataclass(frozen=True, kw_only=True)
class Items:
    """Private texts and whose they are: `users[i]` holds `texts[i]`; in time order within a user.

    `skipped` counts the rows left out, by reason: the filters `short` and `long`, and, where bad rows are skipped,
    `undecodable`, `malformed`, `missing`, `not_text`, `no_user`, `undated`. A repr prints `skipped` only.
    """

    texts: tuple[str, ...] = field(repr=False)
    users: tuple[str, ...] = field(repr=False)
    skipped: Mapping[str, int] = field(hash=False)

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.users):
            raise ValueError(f"{len(self.texts)} texts but {len(self.users)} users; expected one user for each text")

    def __len__(self) -> int:
        return len(self.texts)
