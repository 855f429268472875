"""Words as rows of small numbers: the form in which the sequence fragment puzzle handles them.

    codes = WordCodes(alphabet="abc", word_length=4)
    encoded = codes.encode(["ab", "abcab", "x"], unfit="drop")    # codes [[1, 2, 0, 0]]; 1 too long, 1 outside
    codes.decode(encoded.codes)                                   # ["ab"]

Code 0 is padding, code i the i-th character of the alphabet. Characters are Unicode code points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

LARGEST_ALPHABET = 255

Unfit = Literal["refuse", "drop"]


@dataclass(frozen=True, eq=False)
class EncodedWords:
    """`codes` uint8[n, word_length] of the words that fit, `kept` int64[n] their positions in the list; and how many of
    the others were dropped, by the first reason that applies: empty, too long, with a character outside the alphabet.
    """

    codes: NDArray[np.uint8]
    kept: NDArray[np.int64]
    empty: int
    too_long: int
    out_of_alphabet: int

    @property
    def dropped(self) -> int:
        """How many words did not fit."""
        return self.empty + self.too_long + self.out_of_alphabet


@dataclass(frozen=True, kw_only=True)
class WordCodes:
    """Words of 1 .. word_length characters of an alphabet.

    Raises ValueError for an empty alphabet, one with a repeated character, the null character or more than 255
    characters, and for word_length < 1.
    """

    alphabet: str
    word_length: int

    def __post_init__(self) -> None:
        if not isinstance(self.alphabet, str) or not 1 <= len(self.alphabet) <= LARGEST_ALPHABET:
            raise ValueError(f"alphabet is {self.alphabet!r}; expected 1 to {LARGEST_ALPHABET} characters")
        if len(set(self.alphabet)) < len(self.alphabet) or "\0" in self.alphabet:
            raise ValueError(f"alphabet is {self.alphabet!r}; expected different characters, none of them null")
        if isinstance(self.word_length, bool) or not isinstance(self.word_length, int) or self.word_length < 1:
            raise ValueError(f"word_length is {self.word_length!r}; expected a whole number >= 1")

    def encode(self, words: Sequence[str], *, unfit: Unfit) -> EncodedWords:
        """The codes of the words that fit. What happens to the others is the caller's choice.

        `unfit="drop"` leaves them out and counts them; `unfit="refuse"` raises ValueError if there are any. Nothing is
        ever cut or folded to lower case. Raises TypeError for anything but a list of strings.
        """
        if unfit not in ("refuse", "drop"):
            raise ValueError(f"unfit is {unfit!r}; expected 'refuse' or 'drop'")
        if isinstance(words, str | bytes) or not all(isinstance(word, str) for word in words):
            raise TypeError("words holds something other than strings; expected a list of strings")
        n, width = len(words), self.word_length
        lengths = np.fromiter(map(len, words), dtype=np.int64, count=n)
        # One place more than fits; longer words are cut here and recognized by their length.
        characters = np.array(words, dtype=f"U{width + 1}").reshape(n)
        points = characters.view(np.uint32).reshape(n, width + 1)[:, :width]
        order, known = self._sorted_alphabet
        place = np.minimum(np.searchsorted(known, points), len(known) - 1)
        found = known[place] == points
        codes = np.where(found, order[place] + 1, 0).astype(np.uint8)
        # numpy drops null characters at the end of a string, so a word is known by all its places, not by those seen.
        inside = np.arange(width) < lengths[:, None]
        empty, too_long = lengths == 0, lengths > width
        outside = ~empty & ~too_long & (inside & ~found).any(axis=1)
        fits = ~(empty | too_long | outside)
        result = EncodedWords(
            codes[fits], np.flatnonzero(fits), int(empty.sum()), int(too_long.sum()), int(outside.sum())
        )
        if unfit == "refuse" and result.dropped:
            raise ValueError(
                f"{result.dropped} of {n} words do not fit: {result.empty} are empty, {result.too_long} are longer "
                f"than {width} characters, {result.out_of_alphabet} have characters outside the alphabet; "
                "use unfit='drop' to leave them out and count them"
            )
        return result

    def decode(self, codes: NDArray[np.uint8]) -> list[str]:
        """The words of these codes."""
        letters = "\0" + self.alphabet
        return ["".join(letters[code] for code in row if code) for row in codes.tolist()]

    def check(self, codes: NDArray[Any]) -> NDArray[np.uint8]:
        """The codes, if they are those of words, the empty one among them, which stands for no word (Mechanism.null).

        Raises TypeError for another dtype, ValueError for anything else.
        """
        codes = np.asarray(codes)
        if codes.dtype != np.uint8:
            raise TypeError(f"codes have dtype {codes.dtype}; expected uint8, as `encode` makes them")
        if codes.ndim != 2 or codes.shape[1] != self.word_length:
            raise ValueError(
                f"codes have shape {codes.shape}; expected (n, {self.word_length}), as `encode` makes them"
            )
        if codes.size and int(codes.max()) > len(self.alphabet):
            raise ValueError(f"codes reach to {int(codes.max())}; expected 0 .. {len(self.alphabet)}")
        padding = codes == 0
        if (padding[:, :-1] & ~padding[:, 1:]).any():
            raise ValueError("codes have padding before a character; expected words padded at their end")
        return codes

    @cached_property
    def _sorted_alphabet(self) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
        points = np.array([ord(character) for character in self.alphabet], dtype=np.uint32)
        order = np.argsort(points)
        return order, points[order]
