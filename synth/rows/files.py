"""Opening files of rows: plain or gzip, with errors that say what to do and hold nothing of the content.

with open_bytes(Path("texts.jsonl.gz")) as file:
    for number, offset, line in numbered_lines(file): ...
"""

from __future__ import annotations

import codecs
import gzip
import itertools
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

_FIELD_NAME = re.compile(r"\w[\w.:/-]*(?: [\w.:/-]+){0,2}")


class SourceError(ValueError):
    """Rows cannot be read; the message says what was found, what was expected, what to do (never a row's content)."""


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """The bytes of `path`, unpacked if it ends in .gz. Raises SourceError if they cannot be read."""
    try:
        with path.open("rb") as raw:
            yield cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if path.suffix.lower() == ".gz" else raw
    except FileNotFoundError:
        raise SourceError(f"{path} does not exist; expected a file or folder; check the path") from None
    except PermissionError:
        raise SourceError(f"{path} is not readable (permission denied); give this user read access") from None
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise SourceError(f"{path} is not a complete gzip file; copy it again, or drop .gz from its name") from None
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror}); check the disk or copy the file") from None


def numbered_lines(file: Iterable[bytes]) -> Iterator[tuple[int, int, bytes]]:
    """(line number from 1, byte offset from 0, line) for each line; a byte order mark is dropped.

    A file that starts with the mark of UTF-16 is read as such; its lines and offsets are those of the same in UTF-8.
    """
    offset = 0
    for number, line in enumerate(_in_utf8(file), start=1):
        marks = 3 if number == 1 and line.startswith(b"\xef\xbb\xbf") else 0
        yield number, offset + marks, line[marks:]
        offset += len(line)


def _in_utf8(file: Iterable[bytes]) -> Iterator[bytes]:
    lines = iter(file)
    first = next(lines, b"")
    if not first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        yield from (line for line in (first,) if line)
        yield from lines
        return
    decoder = codecs.getincrementaldecoder("utf-16")()
    begun = ""
    for piece in itertools.chain((first,), lines, (b"",)):
        try:
            text = decoder.decode(piece, final=not piece)
        except UnicodeDecodeError:
            text = None
        if text is None:  # outside, so that no error holds the bytes
            raise SourceError(
                "the file begins as UTF-16 and does not go on so; expected one encoding; convert it to UTF-8"
            )
        *whole, begun = (begun + text).split("\n")
        yield from ((line + "\n").encode() for line in whole)
    if begun:
        yield begun.encode()


def bad_byte(line: bytes) -> int | None:
    """The position of the first byte that is not UTF-8, or None."""
    try:
        line.decode()
    except UnicodeDecodeError as error:
        return error.start
    return None


def listed(names: Iterable[str]) -> str:
    """The field names for an error message.

    Names that do not look like names are withheld, and all others with them: a table without a header line has
    somebody's text where the names should be.
    """
    found = list(names)
    if all(len(name) <= 40 and _FIELD_NAME.fullmatch(name) for name in found):
        return ", ".join(found) or "none"
    return f"{len(found)} fields, not shown because some do not look like field names (is there a header line?)"
