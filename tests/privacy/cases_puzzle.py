"""Mechanisms under contract: the sequence fragment puzzle. Values are the codes of d words."""

from __future__ import annotations

import itertools
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np

from privacy.fragment_puzzle import SequenceFragmentPuzzle
from privacy.hashing import hash_columns
from privacy.mechanism import Estimate, Reports, Tally
from privacy.thresholds import WORD
from tests.privacy.cases_sketches import row_probabilities
from tests.privacy.contract import Case, Channel

LETTERS = "abcdefghijklmnop"
TINY_WORDS = ("a", "b", "aa", "ab", "ba", "bb")


def tiny(**changes: Any) -> SequenceFragmentPuzzle:
    """Two letters, words of one or two, 64 possible reports."""
    small = {"rows": 1, "columns": 2, "alphabet": "ab", "word_length": 2, "fragment_length": 1, "puzzle_bits": 1}
    return SequenceFragmentPuzzle(**{"epsilon": 2.0, "hash_seed": 1} | small | changes)


def make(epsilon: float, d: int, family: int) -> SequenceFragmentPuzzle:
    if d <= len(TINY_WORDS):
        return tiny(epsilon=epsilon, hash_seed=family + 1)
    return SequenceFragmentPuzzle(
        epsilon=epsilon,
        rows=3,
        columns=37,
        hash_seed=family,
        alphabet=LETTERS,
        word_length=4,
        fragment_length=2,
        puzzle_bits=4,
    )


@lru_cache
def codes_of(d: int) -> np.ndarray:
    """uint8[d, word_length]: the codes of d different words."""
    long = itertools.islice(map("".join, itertools.product(LETTERS, repeat=4)), d)
    words = list(TINY_WORDS[:d] if d <= len(TINY_WORDS) else long)
    return make(1.0, d, 0).codes.encode(words, unfit="refuse").codes


def encode(indices: np.ndarray, d: int) -> np.ndarray:
    return codes_of(d)[indices]


def estimate(mechanism: SequenceFragmentPuzzle, tally: Tally, d: int) -> Estimate:
    return mechanism.estimate(tally, codes_of(d))


def simulate(mechanism: SequenceFragmentPuzzle, counts: np.ndarray, rng: np.random.Generator) -> Tally:
    return mechanism.simulate_tally(counts, rng, codes_of(len(counts)))


def claimed(mechanism: SequenceFragmentPuzzle, truth: np.ndarray) -> np.ndarray:
    moment = float((truth.astype(float) ** 2).sum())
    return np.array([mechanism.standard_error(int(truth.sum()), float(f), moment) for f in truth])


def sketch_law(sketch, value: int) -> dict[tuple[int, int], Fraction]:
    """P[row, bits as a number | value]."""
    q, law = Fraction(sketch.threshold, WORD), {}
    for row, p_row in enumerate(row_probabilities(sketch.rows, 64)):
        values = np.array([value], dtype=np.uint64)
        column = hash_columns(values, hash_seed=sketch.hash_seed, row=row, columns=sketch.columns)[0]
        for bits in range(1 << sketch.columns):
            flips = (bits ^ (1 << int(column))).bit_count()
            law[row, bits] = p_row * q**flips * (1 - q) ** (sketch.columns - flips)
    return law


def channel(mechanism: SequenceFragmentPuzzle) -> Channel:
    """P[position, piece's report, word's report | word] of a tiny puzzle, exactly; the two draws are independent."""
    matrix = []
    for codes in codes_of(len(TINY_WORDS)):
        row = []
        hashed = mechanism.puzzles(codes[None])
        of_word = sketch_law(mechanism.word_sketch, int(mechanism.word_values(codes[None])[0]))
        for position, p_position in enumerate(row_probabilities(mechanism.positions, 64)):
            piece = mechanism.piece_values(position, hashed, codes[None, position : position + 1])
            of_piece = sketch_law(mechanism.fragment_sketch, int(piece[0]))
            row += [p_position * a * b for a in of_piece.values() for b in of_word.values()]
        matrix.append(row)
    return matrix


def channel_column(mechanism: SequenceFragmentPuzzle, reports: np.ndarray) -> np.ndarray:
    positions, pieces, words = mechanism.split(reports)
    m, k = mechanism.columns, mechanism.rows
    a, b = ((r[:, 0].astype(np.int64) << m) + r[:, 1] for r in (pieces, words))
    return (positions * (k << m) + a) * (k << m) + b


def word_and_piece_agree(mechanism: SequenceFragmentPuzzle, reports: Reports, index: int) -> np.ndarray:
    """Whether both halves of a report speak for the word: its own bit in the word's row, its piece's in the piece's."""
    codes = codes_of(1009)[index : index + 1]
    positions, pieces, words = mechanism.split(reports)
    width, hashed = mechanism.fragment_length, mechanism.puzzles(codes)
    of_word = has_bit(mechanism.word_sketch, words, int(mechanism.word_values(codes)[0]))
    of_piece = [
        has_bit(
            mechanism.fragment_sketch,
            pieces,
            int(mechanism.piece_values(p, hashed, codes[:, p * width : (p + 1) * width])[0]),
        )
        for p in range(mechanism.positions)
    ]
    return of_word & np.stack(of_piece)[positions, np.arange(len(reports))]


def has_bit(sketch: Any, reports: Reports, value: int) -> np.ndarray:
    values = np.array([value], dtype=np.uint64)
    rows = range(sketch.rows)
    columns = [hash_columns(values, hash_seed=sketch.hash_seed, row=j, columns=sketch.columns)[0] for j in rows]
    column = np.array(columns)[reports[:, 0]]
    return reports[np.arange(len(reports)), 1 + column // 32] >> (column % 32) & 1 == 1


CASES = [
    Case(
        name="sequence_fragment_puzzle",
        make=make,
        encode=encode,
        estimate=estimate,
        claimed=claimed,
        simulate=simulate,
        channel=channel,
        column=channel_column,
        supports=word_and_piece_agree,
        families=True,
        plug_in=False,  # the standard error of an estimate rests on the other counts, too
        checked=False,  # values are codes of words: its own tests
        channel_domains=(6,),
        polls=((1.0, 7), (2.0, 64), (4.0, 64), (8.0, 301)),
        audit_floor=2.2,  # epsilon is shared by two reports; this event sees part of each
    )
]
