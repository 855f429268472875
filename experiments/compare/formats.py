"""Numbers as people read them, the same in the terminal and on the page.

shown(0.2563, "percent"), shown(115204, "bytes"), in_words(1, "run")     # '25.6%', '115 kB', '1 run'
"""

from __future__ import annotations

import re


def shown(value: float, form: str) -> str:
    """A metric's value. `form` is 'percent' for shares, 'bytes', 'count', or 'number'."""
    if form == "bytes":
        return size_in_words(value)
    if form == "percent":
        text = f"{value:.1%}"
    elif form == "count":
        text = f"{value:,.0f}" if abs(value) >= 100 or float(value).is_integer() else f"{value:.1f}"
    else:
        text = f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"
    return text.replace("-", "−")  # the dash of a range must not be taken for a sign


def spread(low: float, high: float, form: str) -> str:
    """A range: '8.0–50.0%', '0.32–0.36'."""
    first, last = shown(low, form), shown(high, form)
    return f"{first.removesuffix('%')}–{last}"


def size_in_words(size: float) -> str:
    """Bytes with a decimal unit."""
    for unit, scale in (("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            number = size / scale
            return f"{number:.0f} {unit}" if number >= 100 else f"{number:.3g} {unit}"
    return f"{size:.0f} B"


def in_words(count: int, noun: str) -> str:
    """'1 run', '2 runs'."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def short(value: object) -> str:
    """A configuration value as a label: the class name of a `_target_`, numbers without trailing zeros."""
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value)
    if re.fullmatch(r"([a-z_][a-z0-9_]*\.)+[A-Z]\w*", text):
        name = text.rsplit(".", 1)[1]
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).lower()
    return text
