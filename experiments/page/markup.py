"""HTML that cannot be broken by its content: every text is escaped unless it is Markup, which only this module makes.

tag("td", "<script>", class_="number")   # '<td class="number">&lt;script&gt;</td>'
"""

from __future__ import annotations

import html


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """An element. Without a name its escaped children alone. `class_` is class, `data_x` is data-x.

    An attribute that is True stands without a value; None and False leave it out.
    """
    inside = "".join(child if isinstance(child, Markup) else html.escape(str(child)) for child in children)
    if not name:
        return Markup(inside)
    given = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{html.escape(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    return Markup(f"<{name}{given}>{inside}</{name}>")


def join(*children: object) -> Markup:
    """Elements and texts, one after the other."""
    return tag("", *children)


def scrolled(table: Markup) -> Markup:
    """A table that may be wider than the window; focusable, so that it can be scrolled with keys."""
    return tag("div", table, class_="scroll", tabindex=0)
