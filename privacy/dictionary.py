"""A list of values that a poll is about, as its mechanism takes them: hashes, codes of words, or numbers.

    dictionary = Dictionary.of(key="emoji.en", texts=("😂", "❤️"), mechanism=sketch)
    ask = Ask(use_case="emoji.en", round=0, mechanism=sketch, needs=dictionary)
    ask.estimate(tally)                   # of every value that the mechanism can take

A value that a mechanism cannot take (a word too long, a letter outside the alphabet) is never cut: devices drop it, and
it is counted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privacy.mechanism import Estimate, Mechanism, Tally


@dataclass(frozen=True, kw_only=True, eq=False)
class Dictionary:
    """What devices may hold under `key`, one entry of `texts` each.

    `encoded`: one entry a text on the first axis; `fits` bool[d]: whether the mechanism can take it; `unfit`: how many
    it cannot, by reason. `listed`: whether the server has this list; without it the server asks for no value, and has
    to search. `null`: the entry for 'nothing to report' (None: devices that have nothing send nothing).
    """

    key: str
    texts: tuple[str, ...] = field(repr=False)
    mechanism: Mechanism
    encoded: NDArray[Any] = field(repr=False)
    fits: NDArray[np.bool_] = field(repr=False)
    unfit: Mapping[str, int]
    listed: bool = True
    null: NDArray[Any] | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls, *, key: str, texts: tuple[str, ...], mechanism: Mechanism, listed: bool = True, nulls: bool = False
    ) -> Dictionary:
        """Encode the texts for this mechanism; `nulls`: devices that have nothing to report say so.

        Raises ValueError for a text that the mechanism takes for 'nothing to report'.
        """
        found, null = mechanism.encode(texts), mechanism.null if nulls else None
        if null is not None and (found.values[found.fits] == null).reshape(int(found.fits.sum()), -1).all(axis=1).any():
            raise ValueError(f"{key} has a value that stands for 'nothing to report'; take it off the list")
        return cls(
            key=key,
            texts=texts,
            mechanism=mechanism,
            encoded=found.values,
            fits=found.fits,
            unfit=found.unfit,
            listed=listed,
            null=null,
        )

    @property
    def values(self) -> tuple[str, ...]:
        """The texts that the mechanism can take, in order."""
        return tuple(text for text, fits in zip(self.texts, self.fits, strict=True) if fits)

    @property
    def asked(self) -> NDArray[Any]:
        """What the server estimates: every value that fits, and then null, if there is one; or none where it has no
        list."""
        if not self.listed:
            return self.encoded[:0]
        values = self.encoded[self.fits]
        return values if self.null is None else np.concatenate([values, self.null])

    def split(self, estimate: Estimate) -> tuple[Estimate, Estimate | None]:
        """An estimate of what is asked as that of the `values`, and that of null, if there is one."""
        if self.null is None or not self.listed:
            return estimate, None
        return estimate.take(slice(-1)), estimate.take(slice(-1, None))

    @cached_property
    def digest(self) -> str:
        """Names the list, or, where the server has none, the rule by which values are encoded."""
        if not self.listed:
            return hashlib.sha256(json.dumps(dict(self.mechanism.parameters), sort_keys=True).encode()).hexdigest()
        return hashlib.sha256(json.dumps(self.texts).encode()).hexdigest()

    @property
    def nbytes(self) -> int:
        """What a device downloads: the list, where values are known by their place in it."""
        return 0 if self.mechanism.hashed or not self.listed else sum(len(text.encode()) + 1 for text in self.texts)

    def estimate(self, tally: Tally) -> Estimate:
        """Counts of `values`, in their order, listed or not: what evaluation looks at."""
        values = self.encoded[self.fits]
        asked = values if self.null is None else np.concatenate([values, self.null])
        return self.mechanism.estimate_jointly(tally, asked).take(slice(len(values)))
