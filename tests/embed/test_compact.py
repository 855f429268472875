import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from embed.compact import CompactEmbeddings, compact, exact_levels


def unit(n: int, dimension: int, seed: int = 0) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(n, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@given(st.integers(1, 2**24 - 1))
def test_levels_are_the_largest_that_stay_exact(dimension: int) -> None:
    levels = exact_levels(dimension)
    assert 1 <= levels <= 127
    assert dimension * levels**2 < 2**24
    assert levels == 127 or dimension * (levels + 1) ** 2 >= 2**24


@pytest.mark.parametrize("dimension", [1, 384, 512, 1040, 1041, 4096])
def test_float32_inner_products_are_exact_in_any_order(dimension: int) -> None:
    # The worst case: every code as large as it may be, all signs equal, and then random codes.
    levels = exact_levels(dimension)
    rng = np.random.default_rng(0)
    codes = rng.integers(-levels, levels + 1, size=(40, dimension))
    codes[0], codes[1] = levels, -levels
    exact = codes @ codes.T
    floats = codes.astype(np.float32)
    for order in (np.arange(dimension), rng.permutation(dimension)):
        product = floats[:, order] @ floats[:, order].T
        assert product.dtype == np.float32
        np.testing.assert_array_equal(product.astype(np.int64), exact)
        one_by_one = np.cumsum(floats[0, order] * floats[2, order], dtype=np.float32)[-1]
        assert int(one_by_one) == exact[0, 2]


def test_one_level_more_would_not_be_exact() -> None:
    # Negative control: above the bound float32 rounds, and the order of addition shows.
    dimension = 4096
    codes = np.full(dimension, 127, dtype=np.float32)
    codes[0] = 126
    exact = int((codes.astype(np.int64) ** 2).sum())
    assert exact > 2**24
    assert int(np.cumsum(codes * codes, dtype=np.float32)[-1]) != exact


def test_faiss_gives_the_same_bits_whatever_its_blocking() -> None:
    import faiss

    slate, queries = compact(unit(300, 384)), compact(unit(50, 384, seed=1))
    exact = queries.codes.astype(np.int64) @ slate.codes.astype(np.int64).T
    index = faiss.IndexFlatIP(384)
    index.add(slate.codes.astype(np.float32))
    for size in (1, 7, 50):
        for start in range(0, 50, size):
            block = queries.codes[start : start + size].astype(np.float32)
            products, columns = index.search(block, 300)
            np.testing.assert_array_equal(
                products.astype(np.int64), np.take_along_axis(exact[start : start + size], columns, axis=1)
            )


@pytest.mark.parametrize(("dimension", "rms"), [(64, 0.0020), (384, 0.0010), (1024, 0.0006), (4096, 0.0007)])
def test_inner_products_of_decoded_vectors(dimension: int, rms: float) -> None:
    vectors = unit(400, dimension)
    slate = compact(vectors)
    decoded = slate.decode().astype(np.float64)
    error = decoded @ decoded.T - vectors.astype(np.float64) @ vectors.astype(np.float64).T
    bound = slate.scale * dimension**0.5 / 2
    assert np.abs(error).max() <= 2 * bound + bound**2
    assert error[np.triu_indices(400, 1)].std() < rms


@given(st.integers(1, 12), st.integers(1, 600), st.integers(0, 2**32 - 1))
def test_any_shape(n: int, dimension: int, seed: int) -> None:
    vectors = unit(n, dimension, seed)
    slate = compact(vectors)
    assert slate.codes.shape == (n, dimension) and slate.codes.dtype == np.int8
    assert len(slate) == n
    assert slate.nbytes == n * dimension + 4
    assert np.abs(slate.codes).max() == exact_levels(dimension)
    assert slate.scale == float(np.float32(slate.scale))
    assert slate.decode().dtype == np.float32
    assert np.abs(slate.decode() - vectors).max() <= slate.scale / 2 * (1 + 1e-4)


def test_inner_products_of_codes_are_those_of_the_decoded_vectors_times_a_constant() -> None:
    slate, query = compact(unit(200, 384)), compact(unit(1, 384, seed=1))
    by_codes = slate.codes.astype(np.int64) @ query.codes[0].astype(np.int64)
    by_vectors = slate.decode().astype(np.float64) @ query.decode()[0].astype(np.float64)
    np.testing.assert_array_equal(np.rint(by_vectors / (slate.scale * query.scale)), by_codes)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.ones(4, np.float32), r"shape \(4,\)"),
        (np.ones((0, 4), np.float32), r"shape \(0, 4\)"),
        (np.ones((4, 0), np.float32), r"shape \(4, 0\)"),
        (np.array([[1, 0], [np.nan, 1]], np.float32), "vector 1 holds NaN"),
        (np.array([[1, 0], [0, 1], [np.inf, 1]], np.float32), "vector 2 holds NaN"),
        (np.zeros((3, 4), np.float32), r"largest entry of all vectors is 0\.0"),
        (np.full((3, 4), 1e-40, np.float32), "largest entry of all vectors is"),
    ],
)
def test_bad_vectors(vectors: NDArray[np.float32], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compact(vectors)


@pytest.mark.parametrize(
    ("codes", "scale", "message"),
    [
        (np.ones(4, np.int8), 1.0, r"shape \(4,\)"),
        (np.ones((2, 4), np.int16), 1.0, "type int16"),
        (np.ones((0, 4), np.int8), 1.0, r"shape \(0, 4\)"),
        (np.ones((2, 4), np.int8), 0.0, r"scale is 0\.0"),
        (np.ones((2, 4), np.int8), float("nan"), "scale is nan"),
        (np.full((2, 4), -128, np.int8), 1.0, "a code is 128"),
        (np.full((2, 4096), 64, np.int8), 1.0, "exact up to 63"),
    ],
)
def test_a_slate_that_would_not_be_exact_is_refused(codes: NDArray[np.int8], scale: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CompactEmbeddings(codes, scale)


@pytest.mark.parametrize("dimension", [0, 2**24])
def test_bad_dimension(dimension: int) -> None:
    with pytest.raises(ValueError, match=f"dimension is {dimension}"):
        exact_levels(dimension)
