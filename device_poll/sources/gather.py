"""The rows of one source on their way to `Items`: checks, filters, counts, time order. Every reader feeds one.

rows = Gather(source="mail.csv", fields=Fields())
rows.add("row 1", text="see you at noon then", user="ann", time=0.0)
rows.finish()          # Items(skipped={})
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import mktime_tz, parsedate_tz
from typing import Literal

from device_poll.sources.files import listed
from device_poll.sources.items import Fields, Items, SourceError

OnBadRow = Literal["error", "skip"]

_SURROGATE = re.compile("[\ud800-\udfff]")
# Scripts that put no blanks between words: each character counts as a word.
_UNSPACED = re.compile("[\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")


def count_words(text: str) -> int:
    """Pieces between blanks; a Chinese, Japanese, Thai or Lao character counts as a word of its own."""
    if text.isascii():
        return len(text.split())
    return len(_UNSPACED.findall(text)) + len(_UNSPACED.sub(" ", text).split())


def seconds(value: object) -> float | None:
    """Unix time of a number, a datetime, an ISO 8601 or an RFC 5322 date (no zone: UTC); None if it is none of them."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            return mail_seconds(str(value))
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    return None


def mail_seconds(date: str) -> float | None:
    """Unix time of an RFC 5322 date or of the date of a 'From ' line; None if it is neither."""
    try:
        parsed = parsedate_tz(date)
        return None if parsed is None else float(mktime_tz(parsed))
    except (ValueError, OverflowError, IndexError, TypeError):
        return None


class Gather:
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
        self.fields = fields
        self._source = source
        self._skips_bad_rows = on_bad_row == "skip"
        self._min_words = min_words
        self._max_words = math.inf if max_words is None else max_words
        self._skipped: Counter[str] = Counter()
        self._missing = ""
        self._texts: list[str] = []
        self._users: list[str] = []
        self._times: list[float] = []

    def bad(self, reason: str, message: str) -> None:
        """Count a bad row, or raise SourceError with `message`, which must hold nothing of the row's text."""
        if not self._skips_bad_rows:
            raise SourceError(f"{self._source}: {message}, or skip bad rows with on_bad_row=skip")
        self._skipped[reason] += 1

    def wanted(self, values: Mapping[str, object]) -> bool:
        """Whether a row with these values is one of `fields.only`; counts those that are not."""
        if all(values[name] in kept for name, kept in self.fields.only.items()):
            return True
        self._skipped["other"] += 1
        return False

    def missing(self, where: str, name: str, there: Iterable[str]) -> None:
        """Report a row that has no field `name` but the fields `there`."""
        message = f"{where} has {no_field(name, there, self.fields)}"
        self._missing = self._missing or message
        self.bad("missing", message)

    def add(self, where: str, *, text: object, user: object, time: float | None) -> None:
        """Take one row. `time` is its Unix time, or None if it has none that can be read."""
        if not isinstance(text, str):
            self.bad("not_text", f"the text of {where} is {kind(text)}; expected a string; choose another text field")
        elif _SURROGATE.search(text):
            self.bad("undecodable", f"the text of {where} holds half a surrogate pair; expected Unicode; correct it")
        elif (words := count_words(text)) < self._min_words:
            self._skipped["short"] += 1
        elif words > self._max_words:
            self._skipped["long"] += 1
        elif (name := self._name(user)) is None:
            self.bad("no_user", f"the user of {where} is {kind(user)}; expected a name or whole number; correct it")
        elif time is None:
            self.bad("undated", f"{where} has no date that can be read; expected an ISO or mail date; correct it")
        else:
            self._texts.append(text)
            self._users.append(name)
            self._times.append(time)

    def finish(self) -> Items:
        """All items, oldest first (ties in file order). Raises SourceError if there are none."""
        if not self._texts:
            counts = ", ".join(f"{n} {reason}" for reason, n in sorted(self._skipped.items()))
            hint = self._missing or "expected mail; check the path, the fields and min_words"
            raise SourceError(f"{self._source} has no usable rows ({counts or 'it is empty'}); {hint}")
        order = sorted(range(len(self._times)), key=self._times.__getitem__)
        return Items(
            texts=tuple(self._texts[i] for i in order),
            users=tuple(self._users[i] for i in order),
            skipped=dict(sorted(self._skipped.items())),
        )

    def _name(self, user: object) -> str | None:
        if self.fields.user is None:
            return f"item-{len(self._users) + 1}"
        if isinstance(user, bool) or not isinstance(user, str | int):
            return None
        return str(user).strip() or None


def no_field(name: str, there: Iterable[str], fields: Fields) -> str:
    """'no field ...' for an error message: what is missing, what is there, what to do."""
    alone = " (or user=null if every item is its own user)" if name == fields.user else ""
    return f"no field {name!r}; it has: {listed(there)}; name one of these{alone}"


def kind(value: object) -> str:
    """What `value` is, without its content."""
    if value is None:
        return "null"
    return "empty" if isinstance(value, str) else f"of type {type(value).__name__}"
