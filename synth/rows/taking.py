"""What every reader of a table needs to know, and where it puts what it reads.

class Texts(Rows):
    def take(self, where, row, time):
        print(where, row["text"])

read_jsonl(Path("texts.jsonl"), Texts(source="texts.jsonl", columns=Columns(text="text")))
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from synth.rows.files import SourceError, listed

OnBadRow = Literal["error", "skip"]
DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
"""What can stand between the cells of a CSV file."""

_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which columns of a table are read.

    `text` must hold strings; `others` are handed over as they are, `time` as Unix seconds (None: no date is read);
    `advice` says, by column, what to do besides 'name one of these' where it is not there; `delimiter` what stands
    between the cells of a CSV file, by name, which `delimiter_key` sets. Raises SourceError for another name.
    """

    text: str
    others: tuple[str, ...] = ()
    time: str | None = None
    advice: Mapping[str, str] = field(default_factory=dict)
    delimiter: str = "comma"
    delimiter_key: str = "fields.delimiter"

    def __post_init__(self) -> None:
        if self.delimiter not in DELIMITERS:
            raise SourceError(f"{self.delimiter_key} is {self.delimiter!r}; expected one of {', '.join(DELIMITERS)}")

    @property
    def kept(self) -> tuple[str, ...]:
        """The columns that are handed over as they are, each once."""
        return tuple(dict.fromkeys((self.text, *self.others)))

    @property
    def named(self) -> tuple[str, ...]:
        """All columns that must be there, each once."""
        return tuple(dict.fromkeys((*self.kept, *(() if self.time is None else (self.time,)))))


class Rows(ABC):
    """Takes the rows of one source. One that cannot be used is an error or, with `on_bad_row` 'skip', a count.

    `source` begins every message; `skipped` counts the rows left out, by reason; `missing_field` is the first message
    about a row that lacked a field; `skip` is the setting that skips bad rows.
    """

    def __init__(
        self, *, source: object, columns: Columns, on_bad_row: OnBadRow = "error", skip: str = "on_bad_row=skip"
    ) -> None:
        self.source = source
        self.columns = columns
        self.skipped: Counter[str] = Counter()
        self.missing_field = ""
        self._skips_bad_rows = on_bad_row == "skip"
        self._skip = skip

    @abstractmethod
    def take(self, where: str, row: Mapping[str, object], time: float | None) -> None:
        """One row: `where` it stands, at least the columns `kept`, and its date.

        `time` is Unix time in seconds, 0 where no column is asked for, None if it has no date that can be read.
        """

    def wanted(self, row: Mapping[str, object]) -> bool:
        """Whether a row with these values is to be read at all; counts those that are not."""
        return True

    def bad(self, reason: str, message: str) -> None:
        """Count a bad row, or raise SourceError with `message`, which must hold nothing of the row's text."""
        if not self._skips_bad_rows:
            raise SourceError(f"{self.source}: {message}, or skip bad rows with {self._skip}")
        self.skipped[reason] += 1

    def missing(self, where: str, name: str, there: Iterable[str]) -> None:
        """Report a row that has no field `name` but the fields `there`."""
        message = f"{where} has {self.no_field(name, there)}"
        self.missing_field = self.missing_field or message
        self.bad("missing", message)

    def no_field(self, name: str, there: Iterable[str]) -> str:
        """'no field ...' for an error message: what is missing, what is there, what to do."""
        advice = self.columns.advice.get(name, "")
        return f"no field {name!r}; it has: {listed(there)}; name one of these{advice}"

    def text_of(self, where: str, value: object) -> str | None:
        """The text of a row; None (and a bad row) if it is no string or has no UTF-8 form."""
        if not isinstance(value, str):
            self.bad("not_text", f"the text of {where} is {kind(value)}; expected a string; choose another text field")
        elif has_surrogate(value):
            self.bad("undecodable", f"the text of {where} holds half a surrogate pair; expected Unicode; correct it")
        else:
            return value
        return None


def has_surrogate(text: str) -> bool:
    """Whether a string holds half a surrogate pair, and so has no UTF-8 form. JSON can escape one."""
    return not text.isascii() and _SURROGATE.search(text) is not None


def kind(value: object) -> str:
    """What `value` is, without its content."""
    if value is None:
        return "null"
    return "empty" if isinstance(value, str) else f"of type {type(value).__name__}"
