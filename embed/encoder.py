"""What every encoder looks like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Progress = Callable[[int, int], None]
"""Called with (texts done, texts in all)."""


class EncoderError(RuntimeError):
    """An encoder cannot be used; the message says why and what to do."""


class Encoder(Protocol):
    """Turns texts into unit vectors, each text on its own: a row does not depend on the other texts of the call."""

    @property
    def name(self) -> str:
        """Which model, with everything that changes its output; part of the cache key."""

    @property
    def dimension(self) -> int:
        """Length of a vector."""

    def check(self) -> None:
        """Raise EncoderError now if the weights or packages are missing, before any other work starts."""

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """float32[len(texts), dimension] with unit rows."""
