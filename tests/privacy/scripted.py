"""A device stream whose words are written by the test, to walk a kernel along its thresholds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from privacy.randomness import DeviceStream


class ScriptedStream(DeviceStream):
    """Hands out the given words in order, and fails if there are too few."""

    def __init__(self, words: Sequence[int] | np.ndarray, companion: Sequence[int] | np.ndarray = ()):
        super().__init__(bytes(32), simulated=True)
        self.words = np.array(words, dtype=np.uint64).ravel()
        self.taken = 0
        if len(companion):
            self.__dict__["companion"] = ScriptedStream(companion)

    def fill(self, out: np.ndarray) -> None:
        assert self.taken + out.size <= len(self.words), "the kernel draws more than it should"
        out[...] = self.words[self.taken : self.taken + out.size].reshape(out.shape)
        self.taken += out.size
