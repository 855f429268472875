"""What every encoder promises; the two real ones load once a module."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from embed.cache import CachedEncoder
from embed.encoder import Encoder
from embed.hashed import HashedFakeEncoder
from embed.sentence_transformer import SentenceTransformerEncoder
from embed.universal_sentence_encoder import UniversalSentenceEncoder
from tests.embed.texts import Steps, emails

ODD = ["", " ", "\n\n", "🎉", "a", "\x00", "word " * 2000]

KINDS = [
    "fake",
    "cached",
    "secret cached",
    pytest.param("sentence transformer", marks=pytest.mark.weights),
    pytest.param("universal", marks=pytest.mark.weights),
]


@pytest.fixture(scope="module", params=KINDS)
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    cache: Path = tmp_path_factory.mktemp("cache") / "cache.sqlite"
    made: dict[str, Encoder] = {
        "fake": HashedFakeEncoder(dimension=64),
        "cached": CachedEncoder(HashedFakeEncoder(dimension=64), cache),
        "secret cached": CachedEncoder(HashedFakeEncoder(dimension=64), cache, secret=bytes(range(32))),
        "sentence transformer": SentenceTransformerEncoder(),
        "universal": UniversalSentenceEncoder(),
    }
    chosen = made[request.param]
    chosen.check()  # `make install` brings the weights: without them this fails, it is not skipped
    return chosen


def test_rows_are_float32_unit_vectors(encoder: Encoder) -> None:
    vectors = encoder.encode(emails(11))
    assert vectors.dtype == np.float32
    assert vectors.shape == (11, encoder.dimension)
    np.testing.assert_allclose(np.linalg.norm(vectors.astype(np.float64), axis=1), 1, atol=1e-6)


def test_odd_texts_are_unit_vectors_too(encoder: Encoder) -> None:
    vectors = encoder.encode(ODD)
    np.testing.assert_allclose(np.linalg.norm(vectors.astype(np.float64), axis=1), 1, atol=1e-6)


def test_no_texts(encoder: Encoder) -> None:
    vectors = encoder.encode([])
    assert vectors.dtype == np.float32
    assert vectors.shape == (0, encoder.dimension)


def test_a_row_does_not_depend_on_the_other_texts(encoder: Encoder) -> None:
    texts = emails(21)
    together = encoder.encode(texts)
    order = np.random.default_rng(1).permutation(len(texts))
    np.testing.assert_array_equal(encoder.encode([texts[i] for i in order]), together[order])
    for i in (0, 10, 20):
        np.testing.assert_array_equal(encoder.encode([texts[i]])[0], together[i])


def test_equal_texts_have_equal_rows(encoder: Encoder) -> None:
    a, b = emails(2, seed=5)
    vectors = encoder.encode([a, b, a])
    np.testing.assert_array_equal(vectors[0], vectors[2])
    assert not np.array_equal(vectors[0], vectors[1])


def test_deterministic_and_the_input_is_left_alone(encoder: Encoder) -> None:
    texts = emails(9, seed=2)
    kept = list(texts)
    np.testing.assert_array_equal(encoder.encode(texts), encoder.encode(tuple(texts)))
    assert texts == kept


def test_similar_texts_are_nearer_than_others(encoder: Encoder) -> None:
    printer, same, garden = encoder.encode(
        ["The printer on floor two is broken.", "The broken printer is on floor two.", "I love roses and tulips!"]
    )
    assert printer @ same > printer @ garden + 0.2


def test_progress_is_told(encoder: Encoder) -> None:
    steps = Steps()
    encoder.encode(emails(70, seed=3, most=2), steps)
    steps.check(70)


def test_name_is_stable_and_survives_pickling(encoder: Encoder) -> None:
    copy = pickle.loads(pickle.dumps(encoder))
    assert copy == encoder
    assert copy.name == encoder.name == encoder.name
    assert copy.dimension == encoder.dimension
    # The model is not pickled with the encoder.
    assert len(pickle.dumps(encoder)) < 2000
