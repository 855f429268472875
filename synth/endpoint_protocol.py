"""What an endpoint sends: the events of a stream put together, and what Retry-After asks for."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from synth.writer import Answer, Prompt

_WHOLE = {"stop", "length", "eos"}  # finish reasons of a text; one that was cut at its limit is the parser's business


class NoAnswerError(Exception):
    """One attempt failed. `wait`: seconds that the server asks for; `told`: its words."""

    def __init__(self, reason: str, *, passing: bool = True, wait: float | None = None, told: str = "") -> None:
        self.reason, self.passing, self.wait, self.told = f"endpoint: {reason}", passing, wait, told
        super().__init__(self.reason)


class Reading:
    """The events of one stream, put together. The client does not validate them, so nothing is taken for granted."""

    def __init__(self, prompt: Prompt) -> None:
        self._prompt = prompt
        self._text = ""
        self._nats: list[float] = []
        self._finish: str | None = None
        self._events = self._pieces = 0
        self._counted: int | None = None
        self.stopped = False

    def take(self, event: object) -> None:
        """Raises NoAnswerError if this is no event of the protocol, or if the stream goes on and on."""
        choices = getattr(event, "choices", None)
        choice = choices[0] if isinstance(choices, list) and choices else None
        text = getattr(getattr(choice, "delta", None), "content", None) or ""
        finish = getattr(choice, "finish_reason", None)
        tokens = getattr(getattr(choice, "logprobs", None), "content", None) or []
        nats = [getattr(token, "logprob", None) for token in tokens] if isinstance(tokens, list) else [None]
        numbers = [value for value in nats if isinstance(value, int | float)]
        whole = isinstance(choices, list) and isinstance(text, str) and isinstance(finish, str | None)
        if not whole or len(numbers) < len(nats):
            raise NoAnswerError("unexpected JSON")
        self._events += 1
        self._pieces += text != ""
        self._text += text
        counted = getattr(getattr(event, "usage", None), "completion_tokens", None)
        self._counted = counted if isinstance(counted, int) else self._counted
        # One event a token and a few more; 50 characters a token are more than any language has on average.
        if self._events > 4 * self._prompt.limit + 100 or len(self._text) > 50 * self._prompt.limit + 1000:
            raise NoAnswerError("endless", passing=False)
        self._nats += numbers
        self._finish = self._finish or finish
        if self._prompt.stop and (found := re.search(self._prompt.stop, self._text)):
            self._text, self._finish, self.stopped = self._text[: found.end()], "stop", True

    def answer(self, *, otherwise: NoAnswerError) -> Answer:
        """The text. Raises `otherwise` if it is not finished, and another NoAnswerError if it is unusable."""
        if self._finish is None:
            raise otherwise
        if self._finish not in _WHOLE:
            filtered = self._finish == "content_filter"
            raise NoAnswerError("content filter" if filtered else "unusual finish", passing=not filtered)
        if not self._text:
            raise NoAnswerError("empty answer", passing=False)
        # Characters beyond 16 bits may come as halves, in two events: joined here; a half alone is replaced.
        text = self._text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        nats = sum(self._nats) / len(self._nats) if self._nats else None
        # A server that does not count (nor did one whose stream was stopped) sends about one event a token.
        tokens = self._counted if self._counted is not None else len(self._nats) or self._pieces
        return Answer(text=self._prompt.begin + text, log_likelihood=nats, tokens=tokens)


def asked_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that Retry-After asks for, a number or an HTTP date (RFC 9110, 10.2.3); None if it does not."""
    value = headers.get("retry-after", "")
    try:
        seconds = float(value)
    except ValueError:
        until, now = _moment(value), _moment(headers.get("date", ""))  # the server's own clock, if it tells
        seconds = math.nan if until is None else until - (time.time() if now is None else now)
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _moment(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None
