"""Dates as rows write them, as Unix seconds.

seconds("2024-05-01T14:00:00+02:00")         # 1714564800.0
seconds("Wed, 1 May 2024 14:00:00 +0200")    # the same
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import mktime_tz, parsedate_tz


def seconds(value: object) -> float | None:
    """Unix time of a number, a datetime, an ISO 8601 or an RFC 5322 date (no zone: UTC); None if it is none of them."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        try:
            return float(value) if math.isfinite(value) else None
        except OverflowError:  # JSON has whole numbers of any size
            return None
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            return mail_seconds(str(value))
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    return None


def cell_seconds(cell: str) -> float | None:
    """The same of a cell of a CSV file, which has no type: a number is Unix time."""
    try:
        return seconds(float(cell))
    except ValueError:
        return seconds(cell)


def mail_seconds(date: str) -> float | None:
    """Unix time of an RFC 5322 date or of the date of a 'From ' line; None if it is neither."""
    try:
        parsed = parsedate_tz(date)
        return None if parsed is None else float(mktime_tz(parsed))
    except (ValueError, OverflowError, IndexError, TypeError):
        return None
