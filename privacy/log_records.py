"""Reports as text, one record a report: the parts of which mechanisms make their records of the device's log.

    plain_records(reports)                       # ["3,17,40", ...], or bytes in hexadecimal digits
    plain_reports(records, form=reports[:0])     # the same reports, to the last bit
    parse(records, re.compile(f"{NUMBER},{NUMBER}"), "row,coordinate")      # [("3", "17"), ...]

What a log is, and the records of all mechanisms: privacy/device_log.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

NUMBER = "(0|[1-9][0-9]{0,8})"
"""The pattern of a number below 10^9 in the only way to write it."""

_WIDE_NUMBER = re.compile("0|[1-9][0-9]{0,19}")
_BYTES = re.compile("(?:[0-9a-f]{2})+")


def plain_records(reports: NDArray[Any]) -> list[str]:
    """The numbers of each report with commas between them, or (uint8[n, bytes]) its bytes in hexadecimal digits."""
    if reports.dtype == np.uint8 and reports.ndim == 2:
        return [bytes(row).hex() for row in reports]
    if reports.ndim == 1 and reports.dtype.names is None:
        return [str(report) for report in reports.tolist()]
    return [",".join(str(number) for number in row) for row in reports.tolist()]


def plain_reports(records: Sequence[str], form: NDArray[Any]) -> NDArray[Any]:
    """What `plain_records` wrote. `form` is any array of such reports, an empty one too: dtype and shape are its.

    Raises ValueError for a record with another number of numbers or bytes, or with a number that the dtype cannot hold.
    """
    width = len(form.dtype.names or ()) or (form.shape[1] if form.ndim == 2 else 1)
    in_bytes = form.dtype == np.uint8 and form.ndim == 2
    rows = []
    for i, record in enumerate(records):
        numbers = record.split(",")
        if in_bytes and _BYTES.fullmatch(record):
            rows.append(tuple(bytes.fromhex(record)))
        elif not in_bytes and all(_WIDE_NUMBER.fullmatch(number) for number in numbers):
            rows.append(tuple(int(number) for number in numbers))
        if len(rows) <= i or len(rows[i]) != width:
            raise ValueError(f"record {i} is not {width} {'bytes in hexadecimal digits' if in_bytes else 'numbers'}")
    try:
        if form.dtype.names:
            return np.array(rows, dtype=form.dtype)
        return np.array(rows, dtype=form.dtype).reshape(len(rows), *form.shape[1:])
    except OverflowError:
        raise ValueError(f"a record has a number that {form.dtype} cannot hold") from None


def parse(records: Sequence[str], pattern: re.Pattern[str], shape: str) -> list[tuple[str, ...]]:
    """The groups of the pattern in each record. Raises ValueError, which names the `shape`, for any other record."""
    matches = [pattern.fullmatch(record) for record in records]
    for i, match in enumerate(matches):
        if match is None:
            raise ValueError(f"record {i} is not of the form '{shape}'")
    return [match.groups() for match in matches if match]


def reversed_bits(packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The bits of every byte in reverse order, uint8[n, bytes]."""
    return np.packbits(np.unpackbits(packed, axis=1, bitorder="little"), axis=1, bitorder="big")
