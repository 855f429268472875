"""Nearest candidate by FAISS: exact, chunked, ties to the lowest index.

Both sides are whole numbers (int8 codes), so every inner product is an integer below 2^24 and exact in float32
(embed/compact.py), and ties are real ties. Which of equals FAISS returns depends on its code path (with BLAS and SIMD
it is not the lowest index), so tied queries are settled here. The answer therefore does not depend on chunk size,
thread count, machine or FAISS's code paths.
"""

from __future__ import annotations

from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from embed.compact import CompactEmbeddings

_CHUNK = 4096  # queries a search call; a speed knob that cannot change a result


@dataclass(frozen=True, kw_only=True, eq=False)
class Matches:
    """For each query the nearest candidate (int64[n]) and the cosine between the decoded vectors (float64[n])."""

    nearest: NDArray[np.int64]
    similarity: NDArray[np.float64]


class Matcher:
    """A slate of candidates, ready for searches."""

    def __init__(self, slate: CompactEmbeddings, chunk: int = _CHUNK) -> None:
        codes = slate.codes.astype(np.float32)
        self._norms = np.linalg.norm(codes.astype(np.float64), axis=1)
        self._codes = codes
        self._chunk = chunk
        self._index = faiss.IndexFlatIP(codes.shape[1])
        self._index.add(codes)

    def match(self, queries: NDArray[np.int8]) -> Matches:
        """int8[n, dimension] codes of the devices' items -> their nearest candidates."""
        nearest = np.empty(len(queries), dtype=np.int64)
        products = np.empty(len(queries), dtype=np.float64)
        norms = np.empty(len(queries), dtype=np.float64)
        for start in range(0, len(queries), self._chunk):
            block = queries[start : start + self._chunk].astype(np.float32)
            found, index = self._index.search(block, min(2, len(self._codes)))
            tied = np.flatnonzero(found[:, 0] == found[:, -1])
            if len(tied):
                index[tied, 0] = (block[tied] @ self._codes.T).argmax(axis=1)  # exact; argmax is the first of equals
            nearest[start : start + len(block)] = index[:, 0]
            products[start : start + len(block)] = found[:, 0]
            norms[start : start + len(block)] = np.linalg.norm(block.astype(np.float64), axis=1)
        return Matches(nearest=nearest, similarity=products / (norms * self._norms[nearest]))
