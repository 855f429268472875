"""What devices that lie send: for every mechanism random reports, and those that promote an attacker's values most.

    targeted_reports(mechanism, targets, 500, rng)                  # honest reports of the targets
    maximal_reports(mechanism, targets, 500, rng, checked=True)     # crafted, and such that no server refuses them
    random_reports(mechanism, 500, rng)                             # uniform over all that can be sent

These are the three attacks of Cao, Jia, Gong 2021, 'Data poisoning attacks to local differential privacy protocols'
(USENIX Security): random item attack, maximal gain attack, random perturbed-value attack. `targets` are
values as the mechanism takes them. Only reports of a mechanism's own dtype and shape are made.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import numpy as np

from privacy.binary_randomized_response import BinaryRandomizedResponse
from privacy.count_mean_sketch import CountMeanSketch
from privacy.finite_geometry import points_on_plane
from privacy.fragment_puzzle import SequenceFragmentPuzzle
from privacy.hadamard_response import HadamardResponse
from privacy.hadamard_sketch import HadamardCountMeanSketch
from privacy.hashing import hash_columns
from privacy.local_hashing import REPORT, LocalHashing
from privacy.mechanism import Mechanism, Reports
from privacy.projective_geometry import ProjectiveGeometryResponse
from privacy.randomized_response import RandomizedResponse
from privacy.subset_selection import SubsetSelection
from privacy.unary_encoding import OptimizedUnaryEncoding, SymmetricUnaryEncoding

PATTERNS = 64
"""Crafted vectors of bits, and rows of a sketch, that a coalition uses."""
SEEDS = 1000
"""Hash functions among which an attacker of local hashing looks for the best, as many as in the paper."""

Values = np.ndarray[Any, Any]


def targeted_reports(mechanism: Mechanism, targets: Values, n: int, rng: np.random.Generator) -> Reports:
    """Reports of devices that hold a random target each, and are honest otherwise."""
    return mechanism.privatize(targets[rng.integers(0, len(targets), n)], rng)


# Maximal gain


@singledispatch
def maximal_reports(
    mechanism: Mechanism, targets: Values, n: int, rng: np.random.Generator, *, checked: bool
) -> Reports:
    """Reports that add the most that the attacker finds to the counts of the targets, together.

    `checked`: within the bounds of `Mechanism.refused`, with as many bits set as an honest report has on average, or
    more only if the targets are more.
    """
    raise NotImplementedError(f"no attack on {mechanism.name} is written here")


@maximal_reports.register(RandomizedResponse)
@maximal_reports.register(BinaryRandomizedResponse)
def _(mechanism: Mechanism, targets: Values, n: int, rng: np.random.Generator, *, checked: bool) -> Reports:
    return targets[rng.integers(0, len(targets), n)].astype(mechanism.no_reports().dtype)


@maximal_reports.register(OptimizedUnaryEncoding)
@maximal_reports.register(SymmetricUnaryEncoding)
def _(mechanism: Any, targets: Values, n: int, rng: np.random.Generator, *, checked: bool) -> Reports:
    worth = np.zeros((PATTERNS, mechanism.domain_size), dtype=np.int64)
    worth[:, targets] = 1
    bits = _best_bits(worth, mechanism.p, mechanism.q, mechanism.set_bits if checked else None, rng)
    return np.packbits(bits, axis=1, bitorder="little")[rng.integers(0, PATTERNS, n)]


@maximal_reports.register
def _(mechanism: CountMeanSketch, targets: Values, n: int, rng: np.random.Generator, *, checked: bool) -> Reports:
    rows, seed, width = rng.integers(0, mechanism.rows, PATTERNS), mechanism.hash_seed, mechanism.columns
    columns = [hash_columns(targets, hash_seed=seed, row=int(row), columns=width) for row in rows]
    worth = np.array([np.bincount(found, minlength=width) for found in columns])
    bits = _best_bits(worth, 1 - mechanism.q, mechanism.q, mechanism.set_bits() if checked else None, rng)
    return mechanism.join(rows, np.packbits(bits, axis=1, bitorder="little"))[rng.integers(0, PATTERNS, n)]


@maximal_reports.register
def _(mechanism: LocalHashing, targets: Values, n: int, rng: np.random.Generator, *, checked: bool) -> Reports:
    prime, g = mechanism.prime, mechanism.hashes
    best = (0, 0, 0, 0)
    for a, b in zip(rng.integers(1, prime, SEEDS).tolist(), rng.integers(0, prime, SEEDS).tolist(), strict=True):
        found = np.bincount((targets - b) * pow(a, -1, prime) % prime * g // prime)
        best = max(best, (int(found.max()), a, b, int(found.argmax())))
    _, a, b, y = best
    return np.repeat(np.array([(a << 32 | b, y)], dtype=REPORT), n)


@maximal_reports.register
def _(mechanism: SubsetSelection, targets: Values, n: int, rng: np.random.Generator, *, checked: bool) -> Reports:
    worth = np.zeros((n, mechanism.domain_size))
    worth[:, targets] = 1
    order = np.argsort(rng.random(worth.shape) - worth, axis=1)
    return np.sort(order[:, : mechanism.subset_size], axis=1).astype(np.uint16)


@maximal_reports.register
def _(mechanism: HadamardResponse, targets: Values, n: int, rng: np.random.Generator, *, checked: bool) -> Reports:
    block = np.bincount(mechanism.blocks_of(targets)).argmax()
    return np.full(n, block * mechanism.shape[1], dtype=np.uint32)  # point 0 of the block: +1 in every row


@maximal_reports.register
def _(
    mechanism: ProjectiveGeometryResponse, targets: Values, n: int, rng: np.random.Generator, *, checked: bool
) -> Reports:
    size = mechanism.hyperplane_size
    on_targets = points_on_plane(np.repeat(targets, size), np.tile(np.arange(size), len(targets)), mechanism._geometry)
    return np.full(n, np.bincount(on_targets).argmax(), dtype=np.uint32)


@maximal_reports.register
def _(
    mechanism: HadamardCountMeanSketch, targets: Values, n: int, rng: np.random.Generator, *, checked: bool
) -> Reports:
    rows = rng.integers(0, mechanism.rows, n)
    return mechanism.join(rows, np.zeros(n), np.ones(n))  # coordinate 0: +1 for every value there is


@maximal_reports.register
def _(
    mechanism: SequenceFragmentPuzzle, targets: Values, n: int, rng: np.random.Generator, *, checked: bool
) -> Reports:
    positions, pieces, _words = mechanism.split(targeted_reports(mechanism, targets, n, rng))
    words = maximal_reports(mechanism.word_sketch, mechanism.word_values(targets), n, rng, checked=checked)
    return np.concatenate([positions[:, None].astype(np.uint32), pieces, words], axis=1)


def _best_bits(
    worth: Values, own: float, other: float, bounds: tuple[int, int] | None, rng: np.random.Generator
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """bool[patterns, width]: the bits worth most, of equal ones random ones; only those that are worth something where
    nothing bounds them."""
    width = worth.shape[1]
    wanted = (worth > 0).sum(axis=1)
    if bounds is not None:
        low, high = bounds
        usual = min(max(low, round(own + (width - 1) * other)), high)
        wanted = np.clip(wanted, usual, high)
    order = np.argsort(rng.random(worth.shape) - worth, axis=1)
    bits = np.zeros(worth.shape, dtype=np.bool_)
    np.put_along_axis(bits, order, np.arange(width) < wanted[:, None], axis=1)
    return bits


# Random


@singledispatch
def random_reports(mechanism: Mechanism, n: int, rng: np.random.Generator) -> Reports:
    """Reports that are uniform over all that can be sent, whether a server refuses them or not."""
    raise NotImplementedError(f"no attack on {mechanism.name} is written here")


@random_reports.register(RandomizedResponse)
@random_reports.register(BinaryRandomizedResponse)
def _(mechanism: Mechanism, n: int, rng: np.random.Generator) -> Reports:
    return rng.integers(0, mechanism.domain_size, n).astype(mechanism.no_reports().dtype)


@random_reports.register(OptimizedUnaryEncoding)
@random_reports.register(SymmetricUnaryEncoding)
def _(mechanism: Mechanism, n: int, rng: np.random.Generator) -> Reports:
    return np.packbits(rng.integers(0, 2, (n, mechanism.domain_size)), axis=1, bitorder="little")


@random_reports.register
def _(mechanism: CountMeanSketch, n: int, rng: np.random.Generator) -> Reports:
    bits = np.packbits(rng.integers(0, 2, (n, mechanism.columns)), axis=1, bitorder="little")
    return mechanism.join(rng.integers(0, mechanism.rows, n), bits)


@random_reports.register
def _(mechanism: LocalHashing, n: int, rng: np.random.Generator) -> Reports:
    reports = np.empty(n, dtype=REPORT)
    reports["seed"] = rng.integers(1, mechanism.prime, n) << 32 | rng.integers(0, mechanism.prime, n)
    reports["hash"] = rng.integers(0, mechanism.hashes, n)
    return reports


@random_reports.register
def _(mechanism: SubsetSelection, n: int, rng: np.random.Generator) -> Reports:
    order = np.argsort(rng.random((n, mechanism.domain_size)), axis=1)
    return np.sort(order[:, : mechanism.subset_size], axis=1).astype(np.uint16)


@random_reports.register(HadamardResponse)
@random_reports.register(ProjectiveGeometryResponse)
def _(mechanism: Any, n: int, rng: np.random.Generator) -> Reports:
    return rng.integers(0, mechanism.points, n).astype(np.uint32)


@random_reports.register
def _(mechanism: HadamardCountMeanSketch, n: int, rng: np.random.Generator) -> Reports:
    return rng.integers(0, 2 * mechanism.rows * mechanism.columns, n).astype(np.uint32)


@random_reports.register
def _(mechanism: SequenceFragmentPuzzle, n: int, rng: np.random.Generator) -> Reports:
    positions = rng.integers(0, mechanism.positions, (n, 1)).astype(np.uint32)
    pieces, words = (random_reports(part, n, rng) for part in (mechanism.fragment_sketch, mechanism.word_sketch))
    return np.concatenate([positions, pieces, words], axis=1)
