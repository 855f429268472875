"""The server's search of the sequence fragment puzzle: from sketches of pieces to words.

Position after position, and only where a word can still come from: a hash value is followed while pieces with it were
found at every position so far, and past the end of a word only padding is asked for. So most of the pieces after the
first position are never estimated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.fragment_pieces import FragmentPieces
from privacy.mechanism import Estimate, Tally

_SLICE = 1 << 20  # pieces estimated at a time


@dataclass(frozen=True, eq=False)
class Discovery:
    """Words found, most frequent first, with the `estimate` of their counts, in devices.

    `p_values`: the chance of such a count, or a larger one, for a word that nobody typed. `pieces_estimated` and
    `pieces_kept` count (position, hash, fragment) over all positions; `joined` the words that kept pieces form,
    `wrong_hash` those of them whose own hash is not that of their pieces (wrong joins, dropped), and `candidates` the
    words put to the word sketch.
    """

    words: tuple[str, ...]
    estimate: Estimate
    p_values: NDArray[np.float64]
    pieces_estimated: int
    pieces_kept: int
    joined: int
    wrong_hash: int
    candidates: int

    @property
    def counts(self) -> NDArray[np.float64]:
        """Unbiased, in devices."""
        return self.estimate.counts


def accept_discoveries(p_values: NDArray[np.float64], rate: float) -> NDArray[np.bool_]:
    """Which hypotheses to reject at this false discovery rate. Benjamini and Hochberg 1995."""
    order = np.argsort(p_values)
    below = np.flatnonzero(p_values[order] <= rate * np.arange(1, len(order) + 1) / max(len(order), 1))
    accepted = np.zeros(len(order), dtype=np.bool_)
    if len(below):
        accepted[order[: below[-1] + 1]] = True
    return accepted


class SearchError(ValueError):
    """Pieces join to more words than are allowed; the message says what to do."""


@dataclass(frozen=True, kw_only=True)
class FragmentSearch:
    """The parameters of `SequenceFragmentPuzzle.discover`, described there. Raises ValueError for senseless ones."""

    pieces: FragmentPieces
    fragment_z: float
    top_fragments: int | None
    false_discovery_rate: float
    minimum_count: float
    largest_join: int

    def __post_init__(self) -> None:
        if not self.fragment_z > 0:
            raise ValueError(f"fragment_z is {self.fragment_z}; expected a number of standard errors above 0")
        if self.top_fragments is not None and self.top_fragments < 1:
            raise ValueError(f"top_fragments is {self.top_fragments}; expected None or 1 or more")
        if not 0 < self.false_discovery_rate < 1:
            raise ValueError(f"false_discovery_rate is {self.false_discovery_rate}; expected a share between 0 and 1")
        if not self.minimum_count >= 0:
            raise ValueError(f"minimum_count is {self.minimum_count}; expected a number of devices >= 0")
        if self.largest_join < 1:
            raise ValueError(f"largest_join is {self.largest_join}; expected 1 or more")

    def run(self, tallies: list[Tally]) -> Discovery:
        """Search; `tallies` are those of the positions' pieces, then that of the words."""
        pieces = self.pieces
        words = np.zeros((1 << pieces.puzzle_bits, 0), dtype=np.uint8)  # prefixes: at first the empty one of each hash
        hashes = np.arange(1 << pieces.puzzle_bits)
        estimated = kept = 0
        for position, tally in enumerate(tallies[:-1]):
            asked, of_hash, of_fragment = self._ask(position, tally, words, hashes)
            estimated, kept = estimated + asked, kept + len(of_hash)
            words, hashes = self._join(words, hashes, of_fragment, of_hash)
        right = pieces.puzzles(words) == hashes
        candidates = words[right]
        # With the empty word, which stands for 'nothing to report' and can be frequent: its collisions are taken out.
        asked_words = pieces.word_values(np.concatenate([candidates, self._empty]))
        estimate = pieces.word_sketch.estimate_jointly(tallies[-1], asked_words).take(slice(len(candidates)))
        p_values = estimate.p_values()
        accepted = accept_discoveries(p_values, self.false_discovery_rate) & (estimate.counts >= self.minimum_count)
        order = np.flatnonzero(accepted)
        order = order[np.argsort(-estimate.counts[order], kind="stable")]
        return Discovery(
            words=tuple(pieces.codes.decode(candidates[order])),
            estimate=estimate.take(order),
            p_values=p_values[order],
            pieces_estimated=estimated,
            pieces_kept=kept,
            joined=len(words),
            wrong_hash=int((~right).sum()),
            candidates=len(candidates),
        )

    def _ask(
        self, position: int, tally: Tally, words: NDArray[np.uint8], hashes: NDArray[np.int64]
    ) -> tuple[int, NDArray[np.int64], NDArray[np.uint8]]:
        """Estimate the pieces that could continue a prefix.

        Returns how many these were, and the hashes int64[n] and fragments uint8[n, fragment_length] of those kept.
        """
        unfinished = np.unique(hashes[~_ended(words)])
        # No word is empty, so padding follows at least one fragment.
        any_prefix = np.unique(hashes) if words.shape[1] else unfinished[:0]
        letters = self._fragments_of_letters()
        padding = np.zeros((1, letters.shape[1]), dtype=np.uint8)
        asked, kept = 0, []
        for group, fragments in ((unfinished, letters), (any_prefix, padding)):
            step = max(1, _SLICE // len(fragments))
            for start in range(0, len(group), step):
                part = group[start : start + step]
                of_hash, of_fragment = np.repeat(part, len(fragments)), np.tile(fragments, (len(part), 1))
                values = self.pieces.piece_values(position, of_hash, of_fragment)
                scores = self._scores_of(position, tally, values)
                frequent = np.flatnonzero(scores > self.fragment_z)
                asked += len(values)
                kept.append((scores[frequent], of_hash[frequent], of_fragment[frequent]))
        if not kept:
            return 0, hashes[:0], padding[:0]
        scores, of_hash, of_fragment = (np.concatenate(parts) for parts in zip(*kept, strict=True))
        best = np.argsort(-scores, kind="stable")[: self.top_fragments]
        return asked, of_hash[best], of_fragment[best]

    def _scores_of(self, position: int, tally: Tally, values: NDArray[np.uint64]) -> NDArray[np.float64]:
        """Of pieces, with the collisions of the empty word's piece, which can be frequent, taken out."""
        empty = self.pieces.piece_values(
            position, self.pieces.puzzles(self._empty), self._empty[:, : self.pieces.fragment_length]
        )
        found = self.pieces.fragment_sketch.estimate_jointly(tally, np.concatenate([values, empty]))
        return _scores(found)[: len(values)]

    @property
    def _empty(self) -> NDArray[np.uint8]:
        return np.zeros((1, self.pieces.word_length), dtype=np.uint8)

    def _fragments_of_letters(self) -> NDArray[np.uint8]:
        """All fragments that start with a letter, padded at their end only: uint8[n, fragment_length]."""
        base, width = len(self.pieces.alphabet) + 1, self.pieces.fragment_length
        codes = np.stack(np.unravel_index(np.arange(self.pieces.fragments), (base,) * width), axis=1)
        gap = (codes[:, :-1] == 0) & (codes[:, 1:] != 0)
        valid: NDArray[np.uint8] = codes[(codes[:, 0] != 0) & ~gap.any(axis=1)].astype(np.uint8)
        return valid

    def _join(
        self,
        words: NDArray[np.uint8],
        hashes: NDArray[np.int64],
        fragments: NDArray[np.uint8],
        fragment_hashes: NDArray[np.int64],
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Every prefix with every fragment of its hash that can follow it."""
        order = np.argsort(fragment_hashes, kind="stable")
        fragments, fragment_hashes = fragments[order], fragment_hashes[order]
        first = np.searchsorted(fragment_hashes, hashes, side="left")
        number = np.searchsorted(fragment_hashes, hashes, side="right") - first
        if int(number.sum()) > self.largest_join:
            raise SearchError(
                f"the pieces found join to {int(number.sum())} words; expected at most largest_join = "
                f"{self.largest_join}: raise fragment_z, set top_fragments, or use more puzzle_bits"
            )
        prefix = np.repeat(np.arange(len(words)), number)
        offset = np.arange(len(prefix)) - np.repeat(np.cumsum(number) - number, number)
        piece = first[prefix] + offset
        follows = ~(_ended(words)[prefix] & (fragments[piece, 0] != 0))
        prefix, piece = prefix[follows], piece[follows]
        return np.concatenate([words[prefix], fragments[piece]], axis=1), hashes[prefix]


def _scores(estimate: Estimate) -> NDArray[np.float64]:
    """Counts in standard errors; 0 where nothing was reported."""
    return np.divide(estimate.counts, estimate.stderr, out=np.zeros(len(estimate.counts)), where=estimate.stderr > 0)


def _ended(words: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether a prefix ends in padding."""
    return words[:, -1] == 0 if words.shape[1] else np.zeros(len(words), dtype=np.bool_)
