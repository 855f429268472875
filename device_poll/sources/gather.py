"""The rows of one source on their way to `Items`: checks, filters, counts, time order. Every reader feeds one.

rows = Gather(source="mail.csv", fields=Fields())
rows.add("row 1", text="see you at noon then", user="ann", time=0.0)
rows.finish()          # Items(skipped={})
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from device_poll.sources.items import Fields, Items, SourceError
from synth.rows.dates import seconds
from synth.rows.taking import OnBadRow, Rows, kind

# How rows are dated is part of what is gathered: it is found here as well as where it is done.
__all__ = ["Gather", "count_words", "seconds"]

# Scripts that put no blanks between words: each character counts as a word. Thai, Lao, Tibetan, Burmese, Khmer, kana
# (half-width, too), Javanese, Balinese, Tai, Han.
_UNSPACED = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\u1b00-\u1b7f\u3040-\u30ff\u3400-\u4dbf"
    "\u4e00-\u9fff\ua980-\ua9df\uaa60-\uaa7f\uf900-\ufaff\uff66-\uff9d\U00020000-\U0003ffff]"
)
_WHOLE = re.compile(r"-?\d+\.0+")


def count_words(text: str) -> int:
    """Pieces between blanks; a character of a script without blanks (Chinese, Thai, Khmer, ...) counts as a word."""
    if text.isascii():
        return len(text.split())
    return len(_UNSPACED.findall(text)) + len(_UNSPACED.sub(" ", text).split())


class Gather(Rows):
    """Collects the items of one source."""

    def __init__(
        self,
        *,
        source: object,
        fields: Fields,
        on_bad_row: OnBadRow = "error",
        min_words: int = 3,
        max_words: int | None = None,
    ) -> None:
        super().__init__(source=source, columns=fields.columns, on_bad_row=on_bad_row)
        self.fields = fields
        self._min_words = min_words
        self._max_words = math.inf if max_words is None else max_words
        self._texts: list[str] = []
        self._users: list[str] = []
        self._times: list[float] = []

    def wanted(self, row: Mapping[str, object]) -> bool:
        """Whether a row with these values is one of `fields.only`; counts those that are not."""
        if all(row[name] in kept for name, kept in (self.fields.only or {}).items()):
            return True
        self.skipped["other"] += 1
        return False

    def take(self, where: str, row: Mapping[str, object], time: float | None) -> None:
        """Take one row of a table."""
        user = None if self.fields.user is None else row[self.fields.user]
        self.add(where, text=row[self.fields.text], user=user, time=time)

    def add(self, where: str, *, text: object, user: object, time: float | None) -> None:
        """Take one row or mail. `time` is its Unix time, or None if it has none that can be read."""
        usable = self.text_of(where, text)
        if usable is None:
            return
        if (words := count_words(usable)) < self._min_words:
            self.skipped["short"] += 1
        elif words > self._max_words:
            self.skipped["long"] += 1
        elif (name := self._name(user)) is None:
            self.bad("no_user", f"the user of {where} is {kind(user)}; expected a name or whole number; correct it")
        elif time is None:
            self.bad("undated", f"{where} has no date that can be read; expected an ISO or mail date; correct it")
        else:
            self._texts.append(usable)
            self._users.append(name)
            self._times.append(time)

    def finish(self) -> Items:
        """All items, oldest first (ties in file order). Raises SourceError if there are none."""
        if not self._texts:
            counts = ", ".join(f"{n} {reason}" for reason, n in sorted(self.skipped.items()))
            hint = self.missing_field or "expected mail; check the path, the fields and min_words"
            raise SourceError(f"{self.source} has no usable rows ({counts or 'it is empty'}); {hint}")
        order = sorted(range(len(self._times)), key=self._times.__getitem__)
        return Items(
            texts=tuple(self._texts[i] for i in order),
            users=tuple(self._users[i] for i in order),
            skipped=dict(sorted(self.skipped.items())),
        )

    def _name(self, user: object) -> str | None:
        if self.fields.user is None:
            return f"item-{len(self._users) + 1}"
        # One missing id makes a column of whole numbers one of floats: 7 and 7.0 are the same user.
        if isinstance(user, float) and user.is_integer():
            user = int(user)
        if isinstance(user, bool) or not isinstance(user, str | int):
            return None
        name = str(user).strip()
        return (name.partition(".")[0] if _WHOLE.fullmatch(name) else name) or None
