"""The hash functions: stable, and as independent as the proofs about the sketches need."""

from __future__ import annotations

import hashlib
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy import hashing
from privacy.hashing import (
    PRIME,
    check_hashes,
    columns_in_rows,
    derive_seed,
    hash_columns,
    hash_family,
    hash_strings,
    row_coefficients,
)

SEEDS = st.integers(0, (1 << 64) - 1)
ELEMENTS = st.integers(0, PRIME - 1)


def columns_of(values: list[int], coefficients: tuple[int, int, int], columns: int) -> list[int]:
    a, b, c = (np.uint64(x) for x in coefficients)
    return hashing._columns(np.array(values, dtype=np.uint64), a, b, c, np.uint64(columns)).tolist()


def field_elements(column: int, columns: int) -> int:
    """How many of the field's elements fall in a column, from the definition floor(y columns / 2^61)."""
    first, end = (-(-(c << 61) // columns) for c in (column, column + 1))
    return min(end, PRIME) - min(first, PRIME)


# Strings


def test_strings_hash_to_keyed_blake2b():
    texts = ["", "a", "😂", "naïve", "x" * 1000]
    got = hash_strings(texts, hash_seed=258)
    key = bytes([2, 1, 0, 0, 0, 0, 0, 0])
    for text, value in zip(texts, got, strict=True):
        digest = hashlib.blake2b(text.encode(), digest_size=8, key=key, person=b"synthpoll value").digest()
        assert int(value) == int.from_bytes(digest, "little")
    assert got.dtype == np.uint64
    assert hash_strings([]).shape == (0,)


def test_hashes_are_the_same_on_every_machine_and_version():
    # Recorded once: reports of devices that are already in the field depend on them.
    assert hash_strings(["synthpoll", "😂"]).tolist() == [512805102310433582, 13502699570849481124]
    assert hash_strings(["synthpoll"], hash_seed=1).tolist() == [4050540202766976050]
    assert row_coefficients(0, 0) == (1230315587617911575, 879986066309337458, 809900103943736286)
    assert hash_columns(hash_strings(["synthpoll"]), hash_seed=7, row=3, columns=1000).tolist() == [501]


@pytest.mark.parametrize(
    ("strings", "error", "message"),
    [
        ("abc", TypeError, "one str"),
        (b"abc", TypeError, "one bytes"),
        (["a", 3], TypeError, r"strings\[1\] is of type int"),
        (["a", "secret\ud800"], ValueError, r"strings\[1\] has no UTF-8 form"),
    ],
)
def test_bad_strings_are_refused_without_showing_them(strings, error, message):
    with pytest.raises(error, match=message) as raised:
        hash_strings(strings)
    assert "secret" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


@pytest.mark.parametrize("seed", [-1, 1 << 64, 0.0, True, "0", None])
def test_bad_seeds_are_refused(seed):
    with pytest.raises(ValueError, match=r"hash_seed is .*expected"):
        hash_strings(["a"], hash_seed=seed)


# Values


def test_values_are_any_unsigned_or_not_negative_integers():
    assert check_hashes(np.array([0, 1 << 63, (1 << 64) - 1], dtype=np.uint64)).tolist() == [0, 1 << 63, (1 << 64) - 1]
    for dtype in (np.int64, np.int32, np.uint8):
        values = check_hashes(np.array([0, 100], dtype=dtype))
        assert values.dtype == np.uint64
        assert values.tolist() == [0, 100]
    assert check_hashes(np.array([])).shape == (0,)
    with pytest.raises(ValueError, match="down to -1"):
        check_hashes(np.array([3, -1]))
    with pytest.raises(ValueError, match="2 axes"):
        check_hashes(np.array([[3]]))
    for values in ([0.0], [True], ["😂"], [None]):
        with pytest.raises(TypeError, match="dtype"):
            check_hashes(np.array(values))


# The row hashes


@settings(deadline=None)
@given(st.integers(0, (1 << 64) - 1), SEEDS, st.integers(0, 70_000), st.integers(2, 1 << 28))
def test_columns_follow_the_definition(value, seed, row, columns):
    a, b, c = row_coefficients(seed, row)
    expected = ((a * value**2 + b * value + c) % PRIME) * columns >> 61
    values = np.array([value], dtype=np.uint64)
    assert hash_columns(values, hash_seed=seed, row=row, columns=columns).tolist() == [expected]


@settings(deadline=None)
@given(ELEMENTS, ELEMENTS, ELEMENTS, ELEMENTS)
def test_extreme_coefficients_do_not_overflow(value, a, b, c):
    for triple in ((a, b, c), (PRIME - 1,) * 3, (PRIME - 1, 0, c), (0, PRIME - 1, PRIME - 1)):
        for x in (value, PRIME - 1, PRIME - 2, 0, 1):
            expected = ((triple[0] * x * x + triple[1] * x + triple[2]) % PRIME) * 1024 >> 61
            assert columns_of([x], triple, 1024) == [expected]


@settings(max_examples=50, deadline=None)
@given(st.lists(ELEMENTS, min_size=3, max_size=3, unique=True), st.lists(ELEMENTS, min_size=3, max_size=3))
def test_three_values_are_hashed_independently(xs, ys):
    """Any three hashes of any three values come from exactly one polynomial: Lagrange's. So over the choice of
    coefficients all p^3 triples of hashes are equally likely, which is three-wise independence.
    """
    coefficients = [0, 0, 0]
    for i in range(3):
        j, k = (other for other in range(3) if other != i)
        weight = ys[i] * pow((xs[i] - xs[j]) * (xs[i] - xs[k]), -1, PRIME)
        for power, x in enumerate((1, -(xs[j] + xs[k]), xs[j] * xs[k])):
            coefficients[power] = (coefficients[power] + weight * x) % PRIME
    for columns in (2, 1000, 1 << 20):
        assert columns_of(xs, tuple(coefficients), columns) == [y * columns >> 61 for y in ys]


@pytest.mark.parametrize("columns", [2, 3, 37, 1000, 1024, 32768, 65537])
def test_two_values_collide_with_probability_one_in_columns(columns):
    """Exactly: the sum of the squared probabilities of the columns, less 1 / columns, is at most 4 columns / p^2."""
    sizes = [field_elements(c, columns) for c in range(columns)]
    assert sum(sizes) == PRIME
    assert max(sizes) - min(sizes) <= 2
    excess = Fraction(sum(size**2 for size in sizes), PRIME**2) - Fraction(1, columns)
    assert 0 <= excess <= Fraction(4 * columns, PRIME**2)


def collisions_with_the_first(family: np.ndarray, columns: int, values: np.ndarray) -> np.ndarray:
    """int64[rows]: how many other values share a column with the first."""
    rows = np.arange(len(family), dtype=np.uint64)
    own = columns_in_rows(np.repeat(values[:1], len(rows)), rows, family, columns)
    return sum(
        (columns_in_rows(np.full(len(rows), value), rows, family, columns) == own).astype(int) for value in values[1:]
    )


def spread_of_collisions(family: np.ndarray) -> float:
    """z of the empirical variance of the number of collisions, against that of independent collisions."""
    columns, others = 16, 60
    counts = collisions_with_the_first(family, columns, np.arange(others + 1, dtype=np.uint64))
    mean, variance = others / columns, others / columns * (1 - 1 / columns)
    assert abs(counts.mean() - mean) < 5 * math.sqrt(variance / len(counts))
    squares = (counts - mean) ** 2
    return abs(squares.mean() - variance) / (squares.std(ddof=1) / math.sqrt(len(squares)))


def test_collisions_of_consecutive_numbers_have_the_mean_and_variance_of_independent_ones():
    assert spread_of_collisions(hash_family(11, 20_000)) < 5


def test_negative_control_a_family_that_is_only_pairwise_independent_is_caught():
    linear = hash_family(11, 20_000).copy()
    linear[:, 0] = 0  # b x + c: two-wise independent, but 0, 1, 2, ... collide together
    assert spread_of_collisions(linear) > 5


def test_a_row_can_be_derived_alone_and_families_differ():
    family = hash_family(5, 40)
    assert [tuple(row) for row in family.tolist()] == [row_coefficients(5, row) for row in range(40)]
    assert len({tuple(row) for row in family.tolist()} | {row_coefficients(6, row) for row in range(40)}) == 80
    with pytest.raises(ValueError, match="read-only"):
        family[0, 0] = 0
    values = hash_strings([f"{i}" for i in range(700)])
    rows = (np.arange(700) % 40).astype(np.uint64)
    for row in range(40):
        mine = rows == row
        expected = hash_columns(values[mine], hash_seed=5, row=row, columns=37)
        assert (columns_in_rows(values, rows, family, 37)[mine] == expected).all()


def test_seeds_for_different_purposes_differ():
    seeds = {derive_seed(seed, purpose) for seed in range(10) for purpose in ("words", "fragments", "puzzle")}
    assert len(seeds) == 30
    assert all(0 <= seed < 1 << 64 for seed in seeds)


def test_collisions_are_counted_row_by_row():
    values, family = hash_strings([f"{i}" for i in range(30)]), hash_family(3, 50)
    columns = np.array([hash_columns(values, hash_seed=3, row=row, columns=7) for row in range(50)])
    expected = (columns[:, :, None] == columns[:, None, :]).sum(axis=0)
    assert (hashing.collision_counts(values, values, family, 7) == expected).all()
    assert (hashing.collision_counts(values, values[[3, 8]], family, 7) == expected[:, [3, 8]]).all()
