"""The values of one key as a mechanism sees them: hashes for sketches, codes for words, numbers for known lists.

    dictionary = Dictionary.of(key="emoji.en", vocabulary=english, mechanism=sketch)
    dictionary.estimate(tally)           # of every value that the mechanism can take
    dictionary.held(share=1.0)           # what a fleet's devices hold

A value that a mechanism cannot take (a word too long, a letter outside the alphabet) is never cut: devices drop it, and
it is counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_poll.events.held import Held
from device_poll.events.vocabulary import Vocabulary
from privacy.count_mean_sketch import CountMeanSketch
from privacy.fragment_puzzle import SequenceFragmentPuzzle
from privacy.hadamard_sketch import HadamardCountMeanSketch
from privacy.hashing import hash_strings
from privacy.mechanism import Estimate, Tally

_REASONS = ("empty", "too_long", "out_of_alphabet")


@dataclass(frozen=True, kw_only=True, eq=False)
class Dictionary:
    """What devices hold and the server looks for under `key`.

    `encoded`: one entry a value on the first axis; `fits` bool[d]: whether the mechanism can take the value; `unfit`:
    how many values it cannot, by reason; `lexicon`: words that are not new to devices.
    """

    key: str
    vocabulary: Vocabulary = field(repr=False)
    mechanism: Any
    encoded: NDArray[Any] = field(repr=False)
    fits: NDArray[np.bool_] = field(repr=False)
    unfit: Mapping[str, int]
    lexicon: frozenset[str] = field(default=frozenset(), repr=False)

    @classmethod
    def of(
        cls, *, key: str, vocabulary: Vocabulary, mechanism: Any, lexicon: frozenset[str] = frozenset()
    ) -> Dictionary:
        """Encode the vocabulary's values for this mechanism."""
        values = vocabulary.values
        fits, unfit = np.ones(len(values), dtype=np.bool_), {}
        encoded: NDArray[Any]
        if isinstance(mechanism, SequenceFragmentPuzzle):
            words = mechanism.codes.encode(values, unfit="drop")
            encoded = np.zeros((len(values), mechanism.word_length), dtype=np.uint8)
            encoded[words.kept] = words.codes
            fits = np.zeros(len(values), dtype=np.bool_)
            fits[words.kept] = True
            unfit = {reason: getattr(words, reason) for reason in _REASONS if getattr(words, reason)}
        elif isinstance(mechanism, CountMeanSketch | HadamardCountMeanSketch):
            encoded = hash_strings(values)
        else:
            encoded = np.arange(len(values), dtype=np.int64)
        return cls(
            key=key,
            vocabulary=vocabulary,
            mechanism=mechanism,
            encoded=encoded,
            fits=fits,
            unfit=unfit,
            lexicon=lexicon,
        )

    @property
    def values(self) -> tuple[str, ...]:
        """The values that the mechanism can take, most frequent first."""
        return tuple(value for value, fits in zip(self.vocabulary.values, self.fits, strict=True) if fits)

    def held(self, share: float) -> Held:
        """This dictionary on the devices of a fleet, as this share of their events."""
        return Held(
            key=self.key,
            encoded=self.encoded,
            weights=self.vocabulary.weights,
            fits=self.fits,
            mechanism=self.mechanism,
            share=share,
        )

    def estimate(self, tally: Tally) -> Estimate:
        """Counts of `values`, in their order."""
        estimate: Estimate = self.mechanism.estimate(tally, self.encoded[self.fits])
        return estimate
