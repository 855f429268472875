"""Verbatim overlap: how many texts share a run of words with a population of other texts. Numbers only.

    found = measure_overlap([("subject", "some text")], private_texts)
    found.shares[8], found.longest         # 0.012: of the texts have 8 words in a row in common; 11 is the longest run

Exact, not sampled or hashed: windows of words get dense numbers by doubling (as suffix arrays are built), and only
windows that occur on both sides live on, so 300 texts against 15,000 mails take seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synth.filters import words

LENGTHS = (8, 13, 20)
"""13 words in a row is a common bound for contamination; 8 catches set phrases, too; 20 is hardly ever chance."""

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Of `texts` texts, `shares[n]` have n words in a row in common with the others; `longest`: the longest such run
    of words, 0 if no word is common.
    """

    texts: int
    shares: Mapping[int, float]
    longest: int


def measure_overlap(texts: Sequence[Sequence[str]], others: Iterable[str], lengths: Sequence[int] = LENGTHS) -> Overlap:
    """Compare lower-case words, punctuation aside. A text is a sequence of parts; no run crosses parts or texts.

    Raises ValueError if there is no text or a length is below 1.
    """
    if not texts or min(lengths, default=1) < 1:
        raise ValueError(f"{len(texts)} texts, lengths {list(lengths)}; expected a text or more, and lengths >= 1")
    search = _Search.of(texts, others)
    shares = {n: len(np.unique(search.owner[search.common(n)])) / len(texts) for n in lengths}
    return Overlap(texts=len(texts), shares=shares, longest=search.longest())


class _Search:
    """All words of both sides in one row: those of the texts first, 0 between parts and for words of one side only.

    `owner` says whose a position of the texts is. `_windows[k]` numbers the windows of 2^k words that begin at each
    position, 0 where that window is not on both sides.
    """

    def __init__(self, row: Ints, owner: Ints) -> None:
        self.owner = owner
        self._windows: list[Ints] = [self._shared(row)]

    @classmethod
    def of(cls, texts: Sequence[Sequence[str]], others: Iterable[str]) -> _Search:
        known: dict[str, int] = {}
        row: list[int] = []
        owner: list[int] = []
        for number, parts in enumerate(texts):
            for part in parts:
                found = [known.setdefault(word, len(known) + 1) for word in words(part)]
                row += [*found, 0]
                owner += [number] * (len(found) + 1)
        for other in others:
            row += [known.get(word, 0) for word in words(other)]
            row.append(0)
        return cls(np.array(row, dtype=np.int64), np.array(owner, dtype=np.int64))

    def common(self, n: int) -> Ints:
        """Positions in the texts at which n words begin that are also somewhere in the others."""
        numbers = self._window(n)
        return np.flatnonzero(numbers[: len(self.owner)])

    def longest(self) -> int:
        """The largest n with anything in common, by bisection between powers of two."""
        low, high = 0, 1
        while len(self.common(high)):
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if len(self.common(middle)) else (low, middle)
        return low

    def _window(self, n: int) -> Ints:
        """Numbers of the windows of n words: two overlapping windows of the largest power of two that fits."""
        power = n.bit_length() - 1
        while len(self._windows) <= power:
            self._windows.append(self._join(self._windows[-1], 2 ** (len(self._windows) - 1)))
        half = self._windows[power]
        return half if n == 2**power else self._join(half, n - 2**power)

    def _join(self, numbers: Ints, step: int) -> Ints:
        """Windows that begin with one of `numbers` and have another one `step` words later."""
        joined = np.zeros_like(numbers)
        first, second = numbers[: len(numbers) - step], numbers[step:]
        both = np.flatnonzero((first > 0) & (second > 0)) if step < len(numbers) else np.zeros(0, dtype=np.int64)
        joined[both] = first[both] * (numbers.max(initial=0) + 1) + second[both]
        return self._shared(joined)

    def _shared(self, keys: Ints) -> Ints:
        """Dense numbers from 1 on for keys that both sides have; 0 for all others."""
        place = np.flatnonzero(keys)
        if not len(place):
            return np.zeros_like(keys)
        kinds, which = np.unique(keys[place], return_inverse=True)
        mine = place < len(self.owner)
        on_both = np.zeros(len(kinds), dtype=bool)
        on_both[which[mine]] = True
        there = np.zeros(len(kinds), dtype=bool)
        there[which[~mine]] = True
        on_both &= there
        dense = np.where(on_both, np.cumsum(on_both), 0)
        result = np.zeros_like(keys)
        result[place] = dense[which]
        return result
