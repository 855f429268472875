"""The shell of every page: one HTML file with everything in it, opened from disk, without any network.

    document(title="town", navigation={"runs": "Runs"}, body=body, footer=footer, content="runs")
    document(..., script=Script(code="...", data={"data": to_json(data)}, switches=switches))

A policy in its head forbids the page to load or send anything, and allows no style and no script but its own, by hash:
a text that a model or a device wrote stays text. Without a script there is none on the page, and none is allowed.
"""

from __future__ import annotations

import base64
import hashlib
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

from experiments.page.markup import Markup, join, tag

COUNTS = ("page.css", "counts.css")


@dataclass(frozen=True, kw_only=True)
class Script:
    """What makes a page move: `code`; `data`, JSON by the id of its element; `switches`, what it offers at the top."""

    code: str
    data: Mapping[str, str]
    switches: Markup


def document(
    *,
    title: str,
    navigation: Mapping[str, str],
    body: Markup,
    footer: Markup,
    content: str,
    parts: str = "Sections",
    styles: Sequence[str] = ("page.css",),
    script: Script | None = None,
) -> str:
    """The page as text. `navigation`: the names of the sections by id; `parts`: what these are, `content`: what a
    reader may skip to, both for those who hear the page; `styles`: files beside this one, COUNTS for a count.
    """
    style = "".join(_asset(name) for name in styles)
    policy = f"default-src 'none'; base-uri 'none'; form-action 'none'; style-src '{_digest(style)}'"
    if script is not None:
        policy += f"; script-src '{_digest(script.code)}'"
    return string.Template(_asset("page.html")).substitute(
        policy=policy,
        title=tag("", title),
        style=style,
        first=tag("", next(iter(navigation), "")),
        content=tag("", content),
        parts=tag("", parts),
        nav=join(*(tag("a", name, href=f"#{place}") for place, name in navigation.items())),
        switches="" if script is None else f'    <div class="switches">{script.switches}</div>\n',
        body=body,
        footer=footer,
        scripted="" if script is None else _scripted(script),
    )


def data_line(name: str) -> str:
    """How the line with the JSON of this name begins."""
    return f'<script type="application/json" id="{name}">'


def _scripted(script: Script) -> str:
    return (
        '<div id="tip" role="tooltip" hidden></div>\n<div id="said" class="unseen" aria-live="polite"></div>\n'
        + "".join(f"{data_line(name)}{content}</script>\n" for name, content in script.data.items())
        + f"<script>{script.code}</script>\n"
    )


def _asset(name: str) -> str:
    return (resources.files("experiments.page") / name).read_text(encoding="utf-8")


def _digest(content: str) -> str:
    """How a content security policy names an inline script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
