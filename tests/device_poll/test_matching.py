"""Nearest candidates: exact, and ties to the lowest index, on both of FAISS's code paths."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from device_poll.matching import Matcher
from device_poll.population import device_codes
from embed.compact import CompactEmbeddings, compact, exact_levels

PATHS = {"BLAS": 1, "plain loop": 2**31 - 1}  # FAISS takes BLAS from this many queries x dimensions on


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Force one of FAISS's two code paths, whatever the size of the batch."""
    monkeypatch.setattr(faiss.cvar, "distance_compute_blas_threshold", PATHS[request.param])
    return str(request.param)


def unit(n: int, dimension: int, seed: int) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(n, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def brute_force(codes: NDArray[np.int8], queries: NDArray[np.int8]) -> NDArray[np.int64]:
    """In whole numbers; numpy's argmax is the first of equals."""
    return (queries.astype(np.int64) @ codes.astype(np.int64).T).argmax(axis=1)


@settings(max_examples=60, deadline=None)
@given(
    dimension=st.sampled_from([1, 3, 17, 64, 384, 1041]),
    candidates=st.integers(1, 120),
    queries=st.integers(0, 60),
    largest=st.sampled_from([1, 2, 63, 127]),
    blas=st.sampled_from(list(PATHS.values())),
    seed=st.integers(0, 2**32 - 1),
)
def test_equal_to_brute_force_in_whole_numbers(
    dimension: int, candidates: int, queries: int, largest: int, blas: int, seed: int
) -> None:
    # Few levels make many ties; many levels make large sums.
    levels = min(largest, exact_levels(dimension))
    codes = np.random.default_rng(seed).integers(-levels, levels + 1, size=(candidates + queries, dimension))
    codes[:, 0] = np.where(codes.any(axis=1), codes[:, 0], 1)  # unit vectors never have all-zero codes
    slate, asked = np.split(codes.astype(np.int8), [candidates])
    before = faiss.cvar.distance_compute_blas_threshold
    faiss.cvar.distance_compute_blas_threshold = blas
    try:
        matches = Matcher(CompactEmbeddings(slate, 0.01)).match(asked)
    finally:
        faiss.cvar.distance_compute_blas_threshold = before
    np.testing.assert_array_equal(matches.nearest, brute_force(slate, asked))
    a, b = slate[matches.nearest].astype(float), asked.astype(float)
    cosine = (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    np.testing.assert_allclose(matches.similarity, cosine, rtol=0, atol=1e-12)


def test_chunks_change_no_bits() -> None:
    slate, queries = compact(unit(300, 384, 0)), device_codes(unit(700, 384, 1))
    whole = Matcher(slate, chunk=4096).match(queries)
    np.testing.assert_array_equal(whole.nearest, brute_force(slate.codes, queries))
    for chunk in (1, 7):
        part = Matcher(slate, chunk=chunk).match(queries)
        np.testing.assert_array_equal(part.nearest, whole.nearest)
        np.testing.assert_array_equal(part.similarity, whole.similarity)


def copies() -> NDArray[np.int64]:
    """Pairs of candidates, lower index first: some across the borders of FAISS's blocks of 1,024, then many at random.

    FAISS's BLAS path keeps one best per SIMD lane, so that which of two equals it returns depends on their places.
    """
    chosen = np.array([(0, 1500), (3, 4), (1023, 1024), (500, 2999), (1100, 2100), (2048, 2050)])
    rest = np.random.default_rng(0).permutation(np.setdiff1d(np.arange(3000), chosen))
    return np.sort(np.concatenate([chosen, rest[:600].reshape(-1, 2)]), axis=1)


def slate_with_copies() -> NDArray[np.int8]:
    slate = compact(unit(3000, 384, 2)).codes.copy()
    first, second = copies().T
    slate[second] = slate[first]
    return slate


@pytest.mark.parametrize("batch", [1, 19, 20, 306])
def test_ties_go_to_the_lowest_index(path: str, batch: int) -> None:
    assert faiss.cvar.distance_compute_blas_database_bs == 1024, "choose the copies anew for this FAISS"
    slate, first = slate_with_copies(), copies()[:, 0]
    matches = Matcher(CompactEmbeddings(slate, 0.01), chunk=batch).match(slate[first])
    np.testing.assert_array_equal(matches.nearest, first)
    np.testing.assert_allclose(matches.similarity, 1, rtol=0, atol=1e-12)


@pytest.mark.parametrize("batch", [1, 306])
def test_negative_control_the_second_copy_wins_once_the_first_is_one_level_off(path: str, batch: int) -> None:
    slate, (first, second) = slate_with_copies(), copies().T
    asked = slate[first].copy()
    largest = np.abs(asked).argmax(axis=1)
    slate[first, largest] -= np.sign(slate[first, largest])
    matches = Matcher(CompactEmbeddings(slate, 0.01), chunk=batch).match(asked)
    np.testing.assert_array_equal(matches.nearest, second)


def test_all_candidates_equal(path: str) -> None:
    slate = np.repeat(compact(unit(1, 16, 0)).codes, 5000, axis=0)
    nearest = Matcher(CompactEmbeddings(slate, 0.01)).match(device_codes(unit(300, 16, 1))).nearest
    assert set(nearest.tolist()) == {0}


def agreement(levels: int) -> tuple[float, float]:
    """Share of random queries whose nearest candidate by codes of `levels` is the one by float64 cosine, and the most
    cosine that is lost where it is not."""
    slate, queries = unit(300, 384, 3), unit(4000, 384, 4)
    cosines = queries.astype(np.float64) @ slate.T.astype(np.float64)
    coarse = CompactEmbeddings(np.rint(slate / np.abs(slate).max() * levels).astype(np.int8), 0.01)
    nearest = Matcher(compact(slate) if levels == 127 else coarse).match(device_codes(queries)).nearest
    lost = cosines.max(axis=1) - cosines[np.arange(len(queries)), nearest]
    return float((nearest == cosines.argmax(axis=1)).mean()), float(lost.max())


def test_rounding_to_int8_rarely_changes_the_nearest_candidate() -> None:
    # Random directions are the hardest case: the best of 300 cosines is hardly above the second. Measured 0.982; 5
    # standard errors of a share of 4,000 below it is 0.971.
    share, lost = agreement(127)
    assert share > 0.982 - 5 * np.sqrt(0.982 * 0.018 / 4000)
    assert lost < 0.01


def test_negative_control_rounding_to_three_levels_changes_it_often() -> None:
    share, lost = agreement(1)
    assert share < 0.8
    assert lost > 0.01
