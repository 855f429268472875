"""Sequence fragment puzzle (SFP): find frequent words that are on nobody's list.

Every device sends two count-mean-sketch reports: one of a fragment of its word, tagged with a small hash of the whole
word (the puzzle piece), and one of the whole word. The server finds frequent pieces, joins those with equal hash into
candidate words, and asks the word sketch which of them are real.

    puzzle = SequenceFragmentPuzzle(epsilon=8.0, rows=1024, columns=1024, hash_seed=1)
    encoded = puzzle.encode(words)                                      # encoded.unfit: how many do not fit, and why
    tally = puzzle.tally(puzzle.privatize(encoded.values[encoded.fits], rng))
    found = puzzle.discover(tally, false_discovery_rate=0.05)           # found.words, found.counts, found.stderr
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from privacy.fragment_pieces import FragmentPieces
from privacy.fragment_search import Discovery, FragmentSearch
from privacy.log_records import NUMBER, parse
from privacy.mechanism import Encoded, Estimate, Mechanism, Parameters, Reports, Tally
from privacy.randomness import DeviceStream, RandomBytes, device_stream, random_words
from privacy.sketch import check_held
from privacy.thresholds import WORD, not_below, scaled_words
from privacy.unbiased import check_tally
from privacy.validity import FALSE_REFUSAL

_RECORD = re.compile(f"{NUMBER};([^;]+);([^;]+)")
_REASONS = ("empty", "too_long", "out_of_alphabet")


@dataclass(frozen=True, kw_only=True)
class SequenceFragmentPuzzle(FragmentPieces, Mechanism):
    """Apple's Differential Privacy Team 2017, 'Learning with privacy at scale', section 'Sequence fragment puzzle'.

    A word is padded to `word_length` and cut into P = word_length / fragment_length fragments. The device draws a
    position uniformly and sends it with the count-mean-sketch report of the piece (position, `puzzle_bits`-bit hash of
    the word, fragment), a number in mixed radix and so different for different pieces, and with that of the word.

    Privacy: epsilon covers both reports together. The piece spends `fragment_share` of it and the word the rest, split
    so that their exact sum is at most epsilon (`split_epsilon`); by basic composition (Dwork and Roth 2014, theorem
    3.14) two words give the pair with probabilities within e^epsilon. The position is drawn without looking at the
    word and costs nothing.

    Values: uint8[n, word_length] codes, made by `encode`. Reports: uint32[n, 1 + 2 (1 + ceil(columns / 32))]:
    the position, the piece's report, the word's. Wire size: ceil(log2 P) + 2 (ceil(log2 rows) + columns) bits.
    Tally: int64[P + (P + 1) rows columns]: how many reports chose each position, the sketch of each position's pieces,
    the sketch of the words. A sketch of its own for every position has P times less noise than one for all.

    Variance of a word's count, in devices squared: that of `CountMeanSketch` at the word's share of epsilon. A piece of
    position l is found in n / P reports, so the standard error of its device count is sqrt(P) times that of the sketch
    at n reports: pieces decide what can be found.

    Raises ValueError for what `CountMeanSketch` and `WordCodes` refuse, a fragment_length that does not divide
    word_length, puzzle_bits outside 1 .. 16, a share outside (0, 1), or pieces that 61 bits cannot number.
    """

    name: ClassVar[str] = "sequence_fragment_puzzle"
    searchable: ClassVar[bool] = True
    log_name: ClassVar[str] = "SFP"

    @property
    def domain_size(self) -> int:
        """How many words there are."""
        return sum(len(self.alphabet) ** length for length in range(1, self.word_length + 1))

    @property
    def report_bits(self) -> int:
        """Bits on the wire of one report."""
        return (self.positions - 1).bit_length() + self.fragment_sketch.report_bits + self.word_sketch.report_bits

    @property
    def parameters(self) -> Parameters:
        """What device and server must agree on."""
        return {
            "mechanism": self.name,
            "epsilon": float(self.epsilon),
            "rows": int(self.rows),
            "columns": int(self.columns),
            "hash_seed": int(self.hash_seed),
            "alphabet": self.alphabet,
            "word_length": self.word_length,
            "fragment_length": self.fragment_length,
            "puzzle_bits": self.puzzle_bits,
            "fragment_share": self.fragment_share,
        }

    def encode(self, texts: Sequence[str]) -> Encoded:
        """The words' codes, uint8[d, word_length], zeros where a word does not fit: it is `empty`, `too_long`, or
        `out_of_alphabet` (the first reason that applies). Raises TypeError for anything but a list of strings."""
        words = self.codes.encode(texts, unfit="drop")
        values, fits = np.zeros((len(texts), self.word_length), dtype=np.uint8), np.zeros(len(texts), dtype=np.bool_)
        values[words.kept], fits[words.kept] = words.codes, True
        return Encoded(values, fits, {reason: count for reason in _REASONS if (count := getattr(words, reason))})

    @property
    def null(self) -> NDArray[np.uint8]:
        """The empty word, uint8[1, word_length]: the search never finds it, since a word begins with a letter."""
        return np.zeros((1, self.word_length), dtype=np.uint8)

    def privatize(self, values: NDArray[np.uint8], rng: RandomBytes) -> Reports:
        """Codes uint8[n, word_length] -> uint32[n, 1 + 2 (1 + ceil(columns / 32))].

        Each sketch draws from a stream and its first two companions, the position from a seventh stream; all are
        consumed in report order. Raises TypeError or ValueError for anything but codes of words.
        """
        codes = self.codes.check(values)
        stream = device_stream(rng)
        word_stream = _companion(stream, 3)
        positions = scaled_words(random_words(_companion(stream, 6), len(codes)), self.positions)
        fragments = codes.reshape(len(codes), self.positions, self.fragment_length)[np.arange(len(codes)), positions]
        pieces = self.piece_values(positions, self.puzzles(codes), fragments)
        return np.concatenate(
            [
                positions[:, None].astype(np.uint32),
                self.fragment_sketch.privatize(pieces, stream),
                self.word_sketch.privatize(self.word_values(codes), word_stream),
            ],
            axis=1,
        )

    def split(self, reports: Reports) -> tuple[NDArray[np.int64], Reports, Reports]:
        """Positions int64[n], the pieces' and the words' reports. Raises ValueError for reports of another shape."""
        reports, width = np.asarray(reports), 1 + self.word_sketch.words
        if reports.ndim != 2 or reports.dtype != np.uint32 or reports.shape[1] != 1 + 2 * width:
            raise ValueError(
                f"reports have shape {reports.shape} and dtype {reports.dtype}; expected uint32[n, {1 + 2 * width}]"
            )
        positions = reports[:, 0].astype(np.int64)
        if positions.size and int(positions.max()) >= self.positions:
            raise ValueError(f"reports name position {int(positions.max())}; expected 0 .. {self.positions - 1}")
        return positions, reports[:, 1 : 1 + width], reports[:, 1 + width :]

    def add_to(self, tally: Tally | None, reports: Reports) -> Tally:
        """In place."""
        return self.tally(reports, onto=tally)

    def tally(self, reports: Reports, *, onto: Tally | None = None) -> Tally:
        """Sums of all sketches, int64[P + (P + 1) rows columns].

        With `onto`, a tally of this mechanism, they are added to its array in place (it must not be used afterwards)
        and the result is both. Raises ValueError for anything but reports of this mechanism.
        """
        positions, pieces, words = self.split(reports)
        total = onto or Tally(np.zeros(self._shape, dtype=np.int64), 0, self.parameters)
        check_tally(total, self.parameters, self._shape)
        *by_position, of_words = self.sketch_tallies(total)
        for position, sketch in enumerate(by_position):
            self.fragment_sketch.tally(pieces[positions == position], onto=sketch)
        self.word_sketch.tally(words, onto=of_words)
        total.sums[: self.positions] += np.bincount(positions, minlength=self.positions)
        return Tally(total.sums, total.reports + len(positions), self.parameters)

    def sketch_tallies(self, tally: Tally) -> list[Tally]:
        """The tallies of the P + 1 sketches, as views: those of the positions' pieces, then that of the words."""
        counts, sums = tally.sums[: self.positions], tally.sums[self.positions :]
        sketches = sums.reshape(self.positions + 1, self.rows, self.columns)
        pieces = [
            Tally(sketch, int(count), self.fragment_sketch.parameters)
            for sketch, count in zip(sketches, counts, strict=False)
        ]
        return [*pieces, Tally(sketches[-1], tally.reports, self.word_sketch.parameters)]

    def estimate(self, tally: Tally, values: NDArray[np.uint8] | None = None) -> Estimate:
        """Unbiased counts of the words asked for (codes uint8[m, word_length]) and their standard errors."""
        check_tally(tally, self.parameters, self._shape)
        if values is None:
            raise ValueError(
                "values is None; pass the codes of the words to estimate, or look for words with `discover`"
            )
        return self.word_sketch.estimate(self.sketch_tallies(tally)[-1], self.word_values(self.codes.check(values)))

    def estimate_jointly(self, tally: Tally, values: NDArray[np.uint8] | None = None) -> Estimate:
        """Like `estimate`, with the known collisions of the words with each other taken out (`CountSketch`)."""
        check_tally(tally, self.parameters, self._shape)
        if values is None:
            return self.estimate(tally)
        words = self.word_values(self.codes.check(values))
        return self.word_sketch.estimate_jointly(self.sketch_tallies(tally)[-1], words)

    def discover(
        self,
        tally: Tally,
        *,
        fragment_z: float = 3.5,
        top_fragments: int | None = None,
        false_discovery_rate: float = 0.05,
        minimum_count: float = 0.0,
        largest_join: int = 1_000_000,
    ) -> Discovery:
        """The frequent words, most frequent first, with unbiased counts and standard errors.

        A piece is kept if its count exceeds `fragment_z` standard errors (and, if `top_fragments` is given, is among so
        many of its position); kept pieces of equal hash are joined; the words so found are tested in the word sketch,
        whose noise is independent of that of the pieces. `false_discovery_rate`: words are reported by the procedure of
        Benjamini and Hochberg 1995 at this level, so that on average at most this share of the reported words was
        typed by nobody, as far as the counts are independent. Known collisions of the words put to the test with each
        other are taken out, those with words that were not found are in the tails (`CountSketch.estimate_jointly`).
        `minimum_count` further withholds rarer words. Raises SearchError if pieces join to more
        than `largest_join` words, and ValueError for senseless parameters.
        """
        check_tally(tally, self.parameters, self._shape)
        search = FragmentSearch(
            pieces=self,
            fragment_z=fragment_z,
            top_fragments=top_fragments,
            false_discovery_rate=false_discovery_rate,
            minimum_count=minimum_count,
            largest_join=largest_join,
        )
        return search.run(self.sketch_tallies(tally))

    def simulate_tally(
        self, counts: NDArray[np.int64], rng: np.random.Generator, values: NDArray[np.uint8] | None = None
    ) -> Tally:
        """Exact law of the tally of counts[i] devices that hold the word with codes values[i].

        A word's devices divide over the positions as a multinomial; given that, the sketches are independent.
        """
        if values is None:
            raise ValueError("values is None; pass the codes of the words that the counts belong to")
        codes = self.codes.check(values)
        puzzles, width = self.puzzles(codes), self.fragment_length
        _, counts = check_held(puzzles, counts)
        held = rng.multinomial(counts, np.full(self.positions, 1 / self.positions))
        total = Tally(np.zeros(self._shape, dtype=np.int64), int(counts.sum()), self.parameters)
        total.sums[: self.positions] = held.sum(axis=0)
        *by_position, of_words = self.sketch_tallies(total)
        for position, sketch in enumerate(by_position):
            fragments = codes[:, position * width : (position + 1) * width]
            pieces = self.piece_values(position, puzzles, fragments)
            sketch.sums[:] = self.fragment_sketch.simulate_tally(held[:, position], rng, pieces).sums
        of_words.sums[:] = self.word_sketch.simulate_tally(counts, rng, self.word_values(codes)).sums
        return total

    def simulate_held(self, values: NDArray[Any], counts: NDArray[np.int64], rng: np.random.Generator) -> Tally:
        """`simulate_tally` of these codes, uint8[d, word_length]."""
        return self.simulate_tally(counts, rng, values)

    def _refused(self, reports: Reports) -> NDArray[np.int64]:
        """Numbers that are no position, and what either sketch refuses, at half of the rate each."""
        width, half = 1 + self.word_sketch.words, FALSE_REFUSAL / 2
        piece = self.fragment_sketch.refused_at(half, reports[:, 1 : 1 + width])
        word = self.word_sketch.refused_at(half, reports[:, 1 + width :])
        return np.unique(np.concatenate([not_below(reports[:, 0], self.positions), piece, word]))

    @property
    def largest_influence(self) -> float:
        """That of the word sketch, on the count of a word; a piece is found with P times as many reports."""
        return self.word_sketch.largest_influence

    @property
    def total_variation(self) -> float:
        """That of two words with different columns in both sketches: then two bits of each sketch, 1 0 or 0 1 before
        the flips, are all that tells them apart, and the law of these four bits is added up exactly.

        Where two words collide in a sketch, its bits tell nothing, which only lowers the distance; and the position and
        the rows have one law for all words.
        """
        flips = [Fraction(sketch.threshold, WORD) for sketch in (self.fragment_sketch, self.word_sketch)]
        # P[as the one word has them, both alike, as the other has them]; the other word's law is the reverse.
        one, two = (((1 - q) ** 2, 2 * q * (1 - q), q**2) for q in flips)
        gains = (one[i] * two[j] - one[2 - i] * two[2 - j] for i, j in itertools.product(range(3), repeat=2))
        return float(sum(gain for gain in gains if gain > 0))

    @property
    def tally_cells(self) -> int:
        """A count for each position, and the cells of all sketches."""
        return int(self._shape[0])

    def server_operations(self, reports: int, values: int) -> float:
        """Of both sketches, for words that are asked for; `discover` takes more."""
        return self.fragment_sketch.server_operations(reports, 0) + self.word_sketch.server_operations(reports, values)

    @property
    def log_parameters(self) -> dict[str, int | float]:
        """As of the sketches: k are the rows, m the columns."""
        return {"epsilon": self.epsilon, "k": int(self.rows), "m": int(self.columns)}

    def log_records(self, reports: Reports) -> list[str]:
        """Position, and the records of piece and word: see privacy/device_log.py."""
        positions, pieces, words = self.split(reports)
        parts = (self.fragment_sketch.log_records(pieces), self.word_sketch.log_records(words))
        return [f"{position};{piece};{word}" for position, piece, word in zip(positions.tolist(), *parts, strict=True)]

    def read_records(self, records: Sequence[str]) -> Reports:
        """The inverse of `log_records`. Raises ValueError for a malformed record or a number out of range."""
        fields = parse(records, _RECORD, "position;piece;word")
        positions = np.array([int(f[0]) for f in fields], dtype=np.int64).reshape(len(fields), 1).astype(np.uint32)
        pieces = self.fragment_sketch.read_records([f[1] for f in fields])
        words = self.word_sketch.read_records([f[2] for f in fields])
        reports = np.concatenate([positions, pieces, words], axis=1)
        self.split(reports)
        return reports

    def standard_error(self, reports: int, count: float = 0.0, second_moment: float | None = None) -> float:
        """Standard error of a word's count, in devices: that of the word sketch."""
        return self.word_sketch.standard_error(reports, count, second_moment)

    @property
    def _shape(self) -> tuple[int]:
        return (self.positions + (self.positions + 1) * self.rows * self.columns,)


def _companion(stream: DeviceStream, number: int) -> DeviceStream:
    """The stream's companion's companion ..., `number` steps away: independent of all before it."""
    for _ in range(number):
        stream = stream.companion
    return stream
