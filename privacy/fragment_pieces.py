"""How the sequence fragment puzzle cuts and hashes words: what its device half, its server half and its search share.

pieces.codes.encode(words, unfit="drop")             # words as numbers
pieces.piece_values(position, pieces.puzzles(codes), fragments)     # what the sketch of the pieces counts
pieces.word_values(codes)                            # what the sketch of the words counts
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from privacy.count_mean_sketch import CountMeanSketch
from privacy.hashing import PRIME, check_hash_seed, derive_seed, hash_columns, polynomial_values, row_coefficients
from privacy.thresholds import check_epsilon, split_epsilon
from privacy.word_codes import WordCodes

LARGEST_PUZZLE_BITS = 16


@dataclass(frozen=True, kw_only=True)
class FragmentPieces:
    """The parameters of `SequenceFragmentPuzzle`, which describes them and the errors, and the pieces and sketches that
    follow from them.
    """

    epsilon: float
    rows: int
    columns: int
    hash_seed: int
    alphabet: str = "abcdefghijklmnopqrstuvwxyz"
    word_length: int = 10
    fragment_length: int = 2
    puzzle_bits: int = 8
    fragment_share: float = 0.5

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)
        for name in ("fragment_length", "puzzle_bits"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is {value!r}; expected a whole number >= 1")
        if self.codes.word_length % self.fragment_length:
            raise ValueError(
                f"fragment_length is {self.fragment_length}; expected a divisor of word_length, {self.word_length}"
            )
        if self.puzzle_bits > LARGEST_PUZZLE_BITS:
            raise ValueError(f"puzzle_bits is {self.puzzle_bits}; expected 1 to {LARGEST_PUZZLE_BITS}")
        if not isinstance(self.fragment_share, float) or not 0 < self.fragment_share < 1:
            raise ValueError(f"fragment_share is {self.fragment_share!r}; expected a number between 0 and 1")
        pieces = self.positions * (self.fragments << self.puzzle_bits)
        if pieces > PRIME:
            raise ValueError(
                f"there are {pieces} pieces (position, hash, fragment); 61 bits number {PRIME}: "
                "use shorter fragments, fewer puzzle_bits or a smaller alphabet"
            )
        check_hash_seed(self.hash_seed)
        for sketch in (self.fragment_sketch, self.word_sketch):  # building them checks rows, columns, tiny shares
            check_epsilon(sketch.epsilon)

    @cached_property
    def codes(self) -> WordCodes:
        """The alphabet, which turns words into the values of this mechanism and back."""
        return WordCodes(alphabet=self.alphabet, word_length=self.word_length)

    @property
    def positions(self) -> int:
        """P, the fragments of a word."""
        return self.word_length // self.fragment_length

    @property
    def fragments(self) -> int:
        """How many numbers a fragment's codes can have."""
        return int((len(self.alphabet) + 1) ** self.fragment_length)

    @cached_property
    def fragment_sketch(self) -> CountMeanSketch:
        """The sketch of the pieces."""
        epsilon, _ = split_epsilon(self.epsilon, self.fragment_share)
        return self._sketch(epsilon, "fragments")

    @cached_property
    def word_sketch(self) -> CountMeanSketch:
        """The sketch of the words."""
        _, epsilon = split_epsilon(self.epsilon, self.fragment_share)
        return self._sketch(epsilon, "words")

    def word_values(self, codes: NDArray[np.uint8]) -> NDArray[np.uint64]:
        """uint64[n]: the words as the word sketch sees them.

        The polynomial with the word's codes as coefficients at a random point of the field of 2^61 - 1 elements (Carter
        and Wegman 1979): two words are one value with probability at most word_length / 2^61.
        """
        point, _, _ = row_coefficients(derive_seed(self.hash_seed, "word values"), 0)
        return polynomial_values(codes, point)

    def puzzles(self, codes: NDArray[np.uint8]) -> NDArray[np.int64]:
        """int64[n]: the `puzzle_bits`-bit hash of each word."""
        seed = derive_seed(self.hash_seed, "puzzle")
        return hash_columns(self.word_values(codes), hash_seed=seed, row=0, columns=1 << self.puzzle_bits)

    def piece_values(
        self, positions: NDArray[np.int64] | int, puzzles: NDArray[np.int64], fragments: NDArray[np.uint8]
    ) -> NDArray[np.uint64]:
        """uint64[n]: pieces as the fragment sketch sees them; `fragments` are codes, uint8[n, fragment_length].

        In mixed radix, so no two pieces (position, hash, fragment) are one value.
        """
        base = len(self.alphabet) + 1
        number = fragments.astype(np.int64) @ (base ** np.arange(self.fragment_length, dtype=np.int64))
        values = (positions * (1 << self.puzzle_bits) + puzzles) * self.fragments + number
        return np.asarray(values).astype(np.uint64)

    def _sketch(self, epsilon: float, purpose: str) -> CountMeanSketch:
        seed = derive_seed(self.hash_seed, purpose)
        return CountMeanSketch(epsilon=epsilon, rows=self.rows, columns=self.columns, hash_seed=seed)
