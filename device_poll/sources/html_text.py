"""The readable text of an HTML mail, without scripts, styles and quoted replies.

html_to_text("<p>See you <b>soon</b></p><blockquote type=cite>When?</blockquote>")   # 'See you soon'

The page is parsed as browsers do it (selectolax, lexbor), in time in proportion to its length, whatever is in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from selectolax.lexbor import LexborHTMLParser, LexborNode

_SILENT = frozenset({"script", "style", "title", "head", "template", "noscript", "-comment"})
_BLOCKS = frozenset(
    {"address", "article", "blockquote", "br", "center", "dd", "div", "dl", "dt", "form", "h1", "h2", "h3", "h4"}
    | {"h5", "h6", "hr", "li", "ol", "p", "pre", "section", "table", "td", "th", "tr", "ul"}
)
_QUOTES = frozenset({"blockquote", "div", "span", "table", "section"})
# Classes and ids of what Gmail, Thunderbird, Yahoo, Proton, Zoho, Tuta and mobile Outlook put a quoted mail into.
_QUOTE_NAMES = (
    *("gmail_quote", "gmail_attr", "moz-cite-prefix", "yahoo_quoted", "protonmail_quote", "zmail_extra"),
    *("tutanota_quote", "mail-editor-reference-message-container", "outlookmessageheader"),
)


def html_to_text(html: str, *, quote: str = "") -> str:
    """Text with a line break at the edges of blocks and blanks as a browser shows them; <pre> as it is.

    `quote` is a line in place of every quoted reply, so that what introduces one can be told from what does not.
    """
    root = LexborHTMLParser(html).root
    if root is None:
        return ""
    lines = (line if kept else " ".join(line.split()) for line, kept in _lines(_pieces(root, quote)))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _pieces(root: LexborNode, quote: str) -> Iterator[tuple[str, bool]]:
    """Texts and line breaks in order, and whether blanks are kept. Not recursive: mails nest without end."""
    node, above = root, 0  # how many elements are open around it
    kept = 0  # <pre> that are open
    while True:
        tag, inside = node.tag or "", None
        if tag == "-text":
            text = (node.text_content or "").replace("\r\n", "\n").replace("\r", "\n")
            # A line break in the source is a blank on the screen.
            yield (text, True) if kept else (text.replace("\n", " "), False)
        elif tag in _QUOTES and _is_quote(node):
            yield (f"\n{quote}\n" if quote else "\n"), False
        elif tag not in _SILENT:
            yield _edge(tag, opens=True), False
            inside = node.first_child
            if inside is None:
                yield _edge(tag, opens=False), False
        if inside is not None:
            kept += tag == "pre"
            node, above = inside, above + 1
            continue
        while above and node.next is None and node.parent is not None:
            node, above = node.parent, above - 1
            kept -= node.tag == "pre"
            yield _edge(node.tag or "", opens=False), False
        if not above or node.next is None:
            return
        node = node.next


def _edge(tag: str, *, opens: bool) -> str:
    if tag not in _BLOCKS or (tag in ("br", "hr") and not opens):
        return ""
    return "\n\n" if tag == "p" and opens else "\n"


def _lines(pieces: Iterator[tuple[str, bool]]) -> Iterator[tuple[str, bool]]:
    """Each line, and whether all of it is preformatted."""
    line, kept = "", True
    for piece, blanks in pieces:
        first, *others = piece.split("\n")
        line, kept = line + first, kept and (blanks or not first.strip())
        for other in others:
            yield line, kept
            line, kept = other, blanks or not other.strip()
    yield line, kept


def _is_quote(node: LexborNode) -> bool:
    values = node.attributes
    if node.tag == "blockquote" and (values.get("type") or "").lower() == "cite":
        return True
    names = f"{values.get('class') or ''} {values.get('id') or ''}".lower()
    return any(name in names for name in _QUOTE_NAMES)
