"""A fake encoder for tests and dry runs: no weights, instant, and the same on every machine.

    HashedFakeEncoder(dimension=64).encode(["the printer is broken", "a broken printer"])

It is a bag of words under signed feature hashing (Weinberger et al. 2009, section 2): texts that share words are
similar, and nothing else about their meaning is seen. Never use it for results.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from embed.encoder import Progress

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class HashedFakeEncoder:
    """FAKE. Every word adds +1 or -1 to one of `dimension` entries; the sum is normalised.

    A text without words, or whose words cancel out, gets the first unit vector. Raises ValueError if dimension < 1.
    """

    dimension: int = 64

    def __post_init__(self) -> None:
        if self.dimension < 1:
            raise ValueError(f"dimension is {self.dimension}; expected a whole number >= 1")

    @property
    def name(self) -> str:
        """Says that it is a fake."""
        return f"fake-hashed-words-{self.dimension}"

    def check(self) -> None:
        """Nothing can be missing."""

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """float32[len(texts), dimension] with unit rows."""
        sums = np.zeros((len(texts), self.dimension), dtype=np.float64)
        for row, text in zip(sums, texts, strict=True):
            for word in _WORD.findall(text.lower()):
                index, sign = _hash(word)
                row[index % self.dimension] += sign
        sums[~sums.any(axis=1), 0] = 1.0
        # Sums of squares of whole numbers are exact, so this gives the same bits whatever the order of addition.
        unit: NDArray[np.float32] = (sums / np.sqrt((sums**2).sum(axis=1, keepdims=True))).astype(np.float32)
        if progress is not None and len(texts) > 0:
            progress(len(texts), len(texts))
        return unit


@lru_cache(maxsize=100_000)
def _hash(word: str) -> tuple[int, int]:
    """An index, still to be reduced, and a sign for this word."""
    value = int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
    return value >> 1, 1 if value & 1 else -1
