"""A plot without scripts: counts with their intervals, one row an element, on a logarithmic axis.

draw_intervals(["😂"], [880.0], [820.0], [940.0], [893], title="emoji.en")     # an <svg>; the truth is a stroke
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

from experiments.page.markup import Markup, tag

_WIDTH, _ROW, _LEFT, _RIGHT, _TOP, _BOTTOM = 980, 22, 260, 30, 10, 30
_BAR = {"stroke_width": 3, "stroke_opacity": 0.45, "stroke_linecap": "round"}
_LONGEST = 34  # letters of a label; the title has all


def draw_intervals(
    labels: Sequence[str],
    counts: Sequence[float],
    lower: Sequence[float],
    upper: Sequence[float],
    truth: Sequence[int] | None,
    *,
    title: str,
) -> Markup:
    """An <svg> of these elements in their order. Ends of intervals below 1 are drawn at 1."""
    height = _TOP + _ROW * len(labels) + _BOTTOM
    least = min((max(1.0, x) for x in [*lower, *(truth or ())]), default=1.0)
    axis = _Axis(least, max((max(1.0, x) for x in [*upper, *(truth or ())]), default=1.0))
    foot = height - _BOTTOM
    parts = [tag("title", title)]
    for tick in axis.ticks:
        x = f"{axis.place(tick):.1f}"
        parts.append(tag("line", x1=x, x2=x, y1=_TOP, y2=foot, class_="gridline"))
        parts.append(tag("text", f"{tick:,.0f}", x=x, y=foot + 18, text_anchor="middle"))
    for i, label in enumerate(labels):
        y = _TOP + _ROW * i + _ROW / 2
        low, middle, high = (f"{axis.place(x):.1f}" for x in (lower[i], counts[i], upper[i]))
        named = f"{label} {name_of(label)}".strip()
        short = named if len(named) <= _LONGEST else named[: _LONGEST - 1] + "…"
        row = [
            tag("title", f"{named}: {counts[i]:,.0f}, {lower[i]:,.0f} to {upper[i]:,.0f}"),
            tag("text", short, x=_LEFT - 10, y=f"{y + 4:.1f}", text_anchor="end", class_="strong"),
            tag("line", x1=low, x2=high, y1=f"{y:.1f}", y2=f"{y:.1f}", stroke="var(--c0)", **_BAR),
            tag("circle", cx=middle, cy=f"{y:.1f}", r=4, fill="var(--c0)"),
        ]  # fmt: skip
        if truth is not None:
            x = f"{axis.place(truth[i]):.1f}"
            # Apart from the row, so that a page can leave out what only a simulation knows.
            title = tag("title", f"{named}: truth {truth[i]:,}")
            ends = {"x1": x, "x2": x, "y1": f"{y - 8:.1f}", "y2": f"{y + 8:.1f}"}
            row.append(tag("line", title, **ends, stroke="var(--oracle)", stroke_width=2, class_="oracle"))
        parts.append(tag("g", *row))
    return tag("svg", *parts, viewBox=f"0 0 {_WIDTH} {height}", role="img")


def name_of(element: str) -> str:
    """What a symbol is called, for readers whose fonts lack it; nothing for text that can be read."""
    if any(character.isascii() or character.isalnum() for character in element):
        return ""
    names = (unicodedata.name(character, "").lower() for character in element)
    joiners = ("variation selector", "zero width joiner")
    return ", ".join(name for name in names if name and not name.startswith(joiners))


class _Axis:
    """Logarithmic from `low` to `high`, both 1 or more."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = math.log10(low) - 0.03, math.log10(max(high, low * 1.5)) + 0.03

    def place(self, value: float) -> float:
        """Where a value is drawn; values below 1 as 1."""
        share = (math.log10(max(value, 1.0)) - self.low) / (self.high - self.low)
        return _LEFT + min(max(share, 0.0), 1.0) * (_WIDTH - _LEFT - _RIGHT)

    @property
    def ticks(self) -> list[float]:
        """Round numbers on the axis: a few, 1, 2 and 5 times powers of ten."""
        powers = range(math.floor(self.low), math.ceil(self.high) + 1)
        steps = (1, 2, 5) if self.high - self.low < 2.5 else (1,)
        return [s * 10.0**p for p in powers for s in steps if self.low <= math.log10(s * 10.0**p) <= self.high]
