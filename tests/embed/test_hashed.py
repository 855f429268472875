import numpy as np
import pytest

from embed.hashed import HashedFakeEncoder


def test_says_that_it_is_a_fake() -> None:
    assert HashedFakeEncoder(dimension=32).name == "fake-hashed-words-32"


def test_known_vector() -> None:
    # Pins the hash: fakes must not change between versions, or recorded test results would.
    (vector,) = HashedFakeEncoder(dimension=8).encode(["the printer is broken"])
    np.testing.assert_array_equal(vector, [0, 0, 0, -0.5, 0, -0.5, -0.5, -0.5])


def test_case_and_punctuation_do_not_matter() -> None:
    a, b = HashedFakeEncoder().encode(["The printer, broken!", "the printer broken"])
    np.testing.assert_array_equal(a, b)


def test_words_that_cancel_out_leave_a_unit_vector() -> None:
    # In one dimension every second word cancels the others.
    vectors = HashedFakeEncoder(dimension=1).encode([f"word{i} word{j}" for i in range(6) for j in range(6)])
    np.testing.assert_array_equal(np.abs(vectors), 1)


def test_bad_dimension() -> None:
    with pytest.raises(ValueError, match="dimension is 0"):
        HashedFakeEncoder(dimension=0)
