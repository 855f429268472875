"""Read mail of any supported format for the simulated devices.

    items = read_items("mail.jsonl.gz", Fields(text="body", user="sender", time="date"))
    items = read_items("inbox.mbox", Fields(user="To"), on_bad_row="skip")

| format      | what it is                                                             | user                     |
|-------------|------------------------------------------------------------------------|--------------------------|
| jsonl       | .jsonl, .ndjson, .json (also .gz): one JSON object a line              | a field                  |
| csv         | .csv (also .gz): UTF-8, commas, a header line                          | a column                 |
| parquet     | .parquet                                                               | a column                 |
| huggingface | a folder from save_to_disk, or with .parquet, .jsonl or .csv in it     | a column                 |
| mbox        | .mbox, or a file that starts with a 'From ' line (also .gz)            | the From address         |
| maildir     | a folder with cur, new and tmp                                         | the From address         |
| mailboxes   | a folder of .mbox files or Maildirs                                    | the file or folder name  |
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from device_poll.sources.gather import Gather
from device_poll.sources.items import Fields, Items, SourceError
from device_poll.sources.mailboxes import is_maildir, mailboxes_in, read_mailboxes, read_maildir, read_mbox
from synth.rows.formats import TABLES, Formats
from synth.rows.taking import OnBadRow

Format = Literal["jsonl", "csv", "parquet", "huggingface", "mbox", "maildir", "mailboxes"]

_FORMATS: Formats[Gather] = Formats(
    readers={**TABLES.readers, "mbox": read_mbox, "maildir": read_maildir, "mailboxes": read_mailboxes},
    suffixes={**TABLES.suffixes, ".mbox": "mbox"},
    starts={b"From ": "mbox", **TABLES.starts},
    # Mail is looked for first: its folders may hold files of any name.
    folders={"maildir": is_maildir, "mailboxes": lambda path: bool(mailboxes_in(path)), **TABLES.folders},
    without="mailboxes or data files",
)


def read_items(
    path: str | Path,
    fields: Fields | None = None,
    format: Format | Literal["auto"] = "auto",
    on_bad_row: OnBadRow = "error",
    min_words: int = 3,
    max_words: int | None = None,
) -> Items:
    """The usable items at `path`, oldest first if `fields.time` is given or the items are mails.

    `on_bad_row`: a row that cannot be used (not UTF-8, not JSON, text that is no string, no user, no date, ...) is an
    error, or with "skip" left out and counted in `Items.skipped`. `min_words`, `max_words`: shorter and longer items
    are left out whole and counted as `short` and `long`; no text is ever cut.

    Raises SourceError if the path or a setting cannot be used, or if no item is left. Neither its message nor anything
    attached to it (cause, context, the variables of its traceback) holds private text.
    """
    path = Path(path).expanduser()
    if on_bad_row not in get_args(OnBadRow):
        raise SourceError(f"on_bad_row is {on_bad_row!r}; expected one of {', '.join(get_args(OnBadRow))}")
    if min_words < 1 or (max_words is not None and max_words < min_words):
        raise SourceError(
            f"min_words={min_words}, max_words={max_words}; expected 1 <= min_words <= max_words (or null)"
        )
    message = ""
    try:
        return _read(path, fields or Fields(), format, on_bad_row, min_words, max_words)
    except SourceError as error:
        message = str(error)
    except PermissionError:  # of a folder; `open_bytes` reports files
        message = f"a folder at or under {path} is not readable (permission denied); give this user read access"
    # A fresh error: the one caught carries the frames and causes (JSON and Unicode errors hold their whole input).
    raise SourceError(message)


def _read(
    path: Path,
    fields: Fields,
    format: Format | Literal["auto"],
    on_bad_row: OnBadRow,
    min_words: int,
    max_words: int | None,
) -> Items:
    if not path.exists():
        raise SourceError(f"{path} does not exist; expected a mail file or folder; check the path")
    chosen = _FORMATS.of(path, format)
    if fields.only and chosen not in TABLES.readers:
        raise SourceError(f"fields.only is set, but {path} is of format {chosen}; expected a table; unset it")
    rows = Gather(source=path, fields=fields, on_bad_row=on_bad_row, min_words=min_words, max_words=max_words)
    _FORMATS.readers[chosen](path, rows)
    return rows.finish()
