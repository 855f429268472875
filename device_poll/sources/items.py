"""What reading real mail gives: texts with their users, for the simulated devices.

items = read_items("mail.jsonl", Fields(text="body", user="owner"))
len(items), items.skipped          # 1200, {'short': 14}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from synth.rows.files import SourceError
from synth.rows.taking import Columns

# Whoever reads mail takes the error from here: what it says holds for mail as for any rows.
__all__ = ["Fields", "Items", "SourceError"]


@dataclass(frozen=True, kw_only=True)
class Fields:
    """Which column (or mail header) holds what.

    `user=None`: every item is its own user. `time=None`: file order is the time order. `only`: rows whose columns hold
    other values are left out and counted as `other`, as in {"kind": ("emoji", "image")}; for tables. `delimiter`: what
    stands between the cells of a CSV file: comma, semicolon, tab or pipe.

    Mail files (mbox, Maildir) have headers in place of columns: `text` is unused there, `user` is the header whose
    address names the user ("From", "To", "Delivered-To", ...; the default "user" stands for "From", or, in a folder
    of mailboxes, for the mailbox's own name), `time` is the header that dates a mail (None stands for "Date").
    """

    text: str = "text"
    user: str | None = "user"
    time: str | None = None
    only: Mapping[str, Sequence[str]] | None = None
    delimiter: str = "comma"

    def __post_init__(self) -> None:
        for name, values in (self.only or {}).items():
            if isinstance(values, str) or not values or not all(isinstance(value, str) for value in values):
                raise SourceError(f"fields.only.{name} is {values!r}; expected a list of values to keep")

    @property
    def columns(self) -> Columns:
        """The columns of a table that are read."""
        advice = {self.text: " with devices.fields.text=NAME"}
        if self.time is not None:
            advice[self.time] = " with devices.fields.time=NAME"
        if self.user is not None:
            advice[self.user] = " with devices.fields.user=NAME (or devices.fields.user=null: every item has its own)"
        return Columns(
            text=self.text,
            others=(*(() if self.user is None else (self.user,)), *(self.only or {})),
            time=self.time,
            advice=advice,
            delimiter=self.delimiter,
            delimiter_key="devices.fields.delimiter",
        )


@dataclass(frozen=True, kw_only=True)
class Items:
    """Private texts and whose they are: `users[i]` holds `texts[i]`; in time order within a user.

    `skipped` counts the rows left out, by reason: the filters `short`, `long` and `other`; where bad rows are skipped
    also `undecodable`, `malformed`, `missing`, `not_text`, `no_user`, `undated`. A repr prints `skipped` only.
    """

    texts: tuple[str, ...] = field(repr=False)
    users: tuple[str, ...] = field(repr=False)
    skipped: Mapping[str, int] = field(hash=False)

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.users):
            raise ValueError(f"{len(self.texts)} texts but {len(self.users)} users; expected one user for each text")

    def __len__(self) -> int:
        return len(self.texts)
