"""When an endpoint is asked again, and when not.

backoff = Backoff(base=1.0, most=60.0, retries=5)
backoff.wait(0, NoAnswerError("HTTP 500"), rng)         # 0.5 to 1 s, then up to 2, 4, 8, 16; then None: give up
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synth.endpoint_protocol import NoAnswerError


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """At most `retries` times, after about `base` * 2^k seconds or what the server asks for, never more than `most`."""

    base: float
    most: float
    retries: int

    def wait(self, attempt: int, fault: NoAnswerError, rng: np.random.Generator) -> float | None:
        """Seconds before the attempt behind number `attempt` (from 0); None: no more attempts.

        Who is asked to wait longer than `most` gives up: to ask earlier would only do harm.
        """
        jitter = rng.random()
        seconds = min(self.most, self.base * 2.0 ** min(attempt, 60)) * (1 + jitter) / 2
        if fault.wait:
            # A little later than asked, so that not all come at once.
            seconds = max(fault.wait, min(self.most, fault.wait + self.base * jitter))
        return None if not fault.passing or attempt >= self.retries or seconds > self.most else seconds


@dataclass
class Health:
    """What the workers of one call know of the endpoint."""

    heard: bool = False  # it has said something, be it an error
    misses: int = 0  # prompts in a row without an answer
