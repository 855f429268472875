"""Mechanisms under contract whose report names a set: subset selection, Hadamard response, projective geometry."""

from __future__ import annotations

import functools
import itertools
import math
from fractions import Fraction

import numpy as np
from scipy.linalg import hadamard

from privacy.finite_geometry import geometry_of, points_on_plane
from privacy.hadamard_response import HadamardResponse
from privacy.mechanism import Reports
from privacy.projective_geometry import ProjectiveGeometryResponse
from privacy.subset_selection import SubsetSelection
from privacy.thresholds import WORD
from tests.privacy.contract import Case, Channel


def word_shares(bound: int) -> list[Fraction]:
    """How likely floor(w * bound / 2^64) is each of 0 .. bound - 1 for a uniform 64-bit word w."""
    edges = [-(-WORD * i // bound) for i in range(bound + 1)]
    return [Fraction(b - a, WORD) for a, b in itertools.pairwise(edges)]


def drawn_sets(d: int, k: int, forced: int | None) -> dict[tuple[int, ...], Fraction]:
    """The law of the set: Floyd's steps over all draws, two draws to a word; `forced` replaces the last draw."""
    bounds = [d - k + s + 1 for s in range(k)]
    law: dict[tuple[int, ...], Fraction] = {(): Fraction(1)}
    for s in range(0, k, 2):
        pair = bounds[s : s + 2]
        after: dict[tuple[int, ...], Fraction] = {}
        for chosen, probability in law.items():
            for number, share in enumerate(word_shares(math.prod(pair))):
                draws = divmod(number, pair[1]) if len(pair) == 2 else (number,)
                grown = set(chosen)
                for step, draw in enumerate(draws, start=s):
                    t = forced if forced is not None and step == k - 1 else draw
                    grown.add(d - k + step if t in grown else t)
                key = tuple(sorted(grown))
                after[key] = after.get(key, Fraction(0)) + probability * share
        law = after
    return law


def subset_channel(m: SubsetSelection) -> Channel:
    """Rows by value, columns by the k-subsets in lexicographic order."""
    d, k = m.domain_size, m.subset_size
    subsets, own = list(itertools.combinations(range(d), k)), Fraction(m.threshold, WORD)
    anything = drawn_sets(d, k, None)
    forced = [drawn_sets(d, k, value) for value in range(d)]
    return [[own * forced[v].get(y, 0) + (1 - own) * anything[y] for y in subsets] for v in range(d)]


@functools.cache
def subset_columns(d: int, k: int) -> np.ndarray:
    """int64[2^d]: the channel's column of each set, given as the number with its values as bits."""
    columns = np.full(1 << d, -1)
    for column, subset in enumerate(itertools.combinations(range(d), k)):
        columns[sum(1 << v for v in subset)] = column
    return columns


def subset_column(m: SubsetSelection, reports: Reports) -> np.ndarray:
    return subset_columns(m.domain_size, m.subset_size)[(1 << reports.astype(np.int64)).sum(axis=1)]


def point_channel(points: int, own: Fraction, own_points: list[list[int]]) -> Channel:
    """A uniform one of `own_points[value]` with probability `own`, else a uniform one of all points."""
    anywhere = [(1 - own) * share for share in word_shares(points)]
    channel = [list(anywhere) for _ in own_points]
    for row, mine in zip(channel, own_points, strict=True):
        for point, share in zip(mine, word_shares(len(mine)), strict=True):
            row[point] += own * share
    return channel


def half_block(m: HadamardResponse, value: int) -> list[int]:
    """C_v by definition: where row 1 + v // B of the Hadamard matrix is +1, in block v mod B."""
    blocks, size = m.shape
    return [(value % blocks) * size + int(y) for y in np.flatnonzero(hadamard(size)[1 + value // blocks] == 1)]


def hyperplane(m: ProjectiveGeometryResponse, value: int) -> list[int]:
    """The points of a value's hyperplane, in the order in which they are drawn (test_projective_geometry.py compares
    them with the definition)."""
    choices = np.arange(m.hyperplane_size)
    points: list[int] = points_on_plane(
        np.full_like(choices, value), choices, geometry_of(*m.shape, m.domain_size)
    ).tolist()
    return points


def claimed_with_blocks(m: HadamardResponse, truth: np.ndarray) -> np.ndarray:
    """The standard error of each estimate, which depends on how many devices share the value's block."""
    values = np.arange(len(truth))
    in_block = np.bincount(m.blocks_of(values), weights=truth, minlength=m.shape[0])[m.blocks_of(values)]
    n = int(truth.sum())
    return np.array([m.standard_error(n, float(f), float(b)) for f, b in zip(truth, in_block, strict=True)])


CASES = [
    Case(
        name="subset_selection",
        make=lambda epsilon, d, family: SubsetSelection(epsilon=epsilon, domain_size=d),
        channel=subset_channel,
        column=subset_column,
        supports=lambda m, reports, index: (reports == index).any(axis=1),
        polls=((0.5, 2), (2.0, 7), (4.0, 64), (8.0, 65), (3.0, 301), (0.5, 301)),
    ),
    Case(
        name="hadamard_response",
        make=lambda epsilon, d, family: HadamardResponse(epsilon=epsilon, domain_size=d),
        claimed=claimed_with_blocks,
        channel=lambda m: point_channel(
            m.points, Fraction(m.threshold, WORD), [half_block(m, v) for v in range(m.domain_size)]
        ),
        column=lambda m, reports: reports.astype(np.int64),
        supports=lambda m, reports, index: np.isin(reports, half_block(m, index)),
        plug_in=False,  # the block's count is plugged in too: test_hadamard_response.py
        polls=((0.5, 2), (2.0, 7), (4.0, 64), (8.0, 65), (3.0, 301), (4.0, 96), (4.0, 97)),
        awkward=(2, 3, 6, 7, 12, 13, 28, 29, 56, 57, 60, 301),  # B (2^j - 1) and one more
    ),
    Case(
        name="projective_geometry_response",
        make=lambda epsilon, d, family: ProjectiveGeometryResponse(epsilon=epsilon, domain_size=d),
        channel=lambda m: point_channel(
            m.points, Fraction(m.threshold, WORD), [hyperplane(m, v) for v in range(m.domain_size)]
        ),
        column=lambda m, reports: reports.astype(np.int64),
        supports=lambda m, reports, index: np.isin(reports, hyperplane(m, index)),
        polls=((0.5, 2), (2.0, 7), (4.0, 64), (8.0, 65), (3.0, 301), (1.0, 121), (2.0, 73)),
        awkward=(2, 3, 4, 7, 8, 13, 14, 21, 22, 73, 74, 301),  # numbers of points and one more
    ),
]
