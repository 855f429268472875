"""The readable text of an HTML mail, without scripts, styles and quoted replies.

html_to_text("<p>See you <b>soon</b></p><blockquote type=cite>When?</blockquote>")   # 'See you soon'
"""

from __future__ import annotations

import re
from html.parser import HTMLParser

# Comments and declarations go first: mail programs write kinds that html.parser refuses, such as <![if mso]>.
_DECLARATION = re.compile(r"<!(?:--.*?--|[^>]*)(?:>|$)", re.DOTALL)
_SILENT = frozenset({"script", "style", "title"})
_BLOCKS = frozenset(
    {"address", "article", "blockquote", "br", "center", "dd", "div", "dl", "dt", "form", "h1", "h2", "h3", "h4"}
    | {"h5", "h6", "hr", "li", "ol", "p", "pre", "section", "table", "td", "th", "tr", "ul"}
)
_VOID = frozenset({"br", "hr", "img", "input", "link", "meta", "wbr"})
_QUOTE_CLASSES = ("gmail_quote", "gmail_attr", "moz-cite-prefix", "yahoo_quoted", "protonmail_quote")


def html_to_text(html: str) -> str:
    """Text with a line break at the edges of blocks and blanks as a browser shows them."""
    parser = _TextParser()
    parser.feed(_DECLARATION.sub("", html))
    parser.close()
    lines = (" ".join(line.split()) for line in "".join(parser.pieces).split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


class _TextParser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self._silent: str | None = None  # the tag that hides what follows,
        self._depth = 0  # and how many of its kind are open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._silent is not None:
            self._depth += tag == self._silent
        elif tag in _SILENT or (tag not in _VOID and _is_quote(tag, attrs)):
            self._silent, self._depth = tag, 1
        if tag in _BLOCKS:
            self.pieces.append("\n\n" if tag == "p" else "\n")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        # HTML knows no <p/>: browsers read it as <p>. Only void elements close themselves.
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if self._silent is not None:
            self._depth -= tag == self._silent
            if self._depth == 0:
                self._silent = None
        elif tag in _BLOCKS:
            self.pieces.append("\n")

    def handle_data(self, data: str) -> None:
        if self._silent is None:
            # A line break in the source is a blank on the screen.
            self.pieces.append(data.replace("\n", " ").replace("\r", " "))


def _is_quote(tag: str, attrs: list[tuple[str, str | None]]) -> bool:
    values = {name: value or "" for name, value in attrs}
    if tag == "blockquote" and values.get("type", "").lower() == "cite":
        return True
    return any(name in values.get("class", "").lower() for name in _QUOTE_CLASSES)
