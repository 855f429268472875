"""Which fragments of prompts devices hold, for a poll of the kind 'have you seen one of these?'.

    pool = PromptFragments(path="prompts.jsonl.gz", words=(1, 2), candidates=100).load()
    pool.candidates[:2]                                           # what the server asks about: ('face', 'flag')
    pool.answers(1_000_000, Activity(), seed=0).values            # of each device a candidate, or Choice.none

Prompts are divided by a hash of their id: the server finds its candidates in the public half, devices hold prompts of
the private half. So nothing on a device decides what is asked, and a candidate may well be held by nobody.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numba import njit
from numpy.typing import NDArray

from device_poll.events.activity import Activity
from device_poll.events.rows import (
    OnBadRow,
    Problems,
    check_file,
    check_on_bad_row,
    check_table,
    listed_few,
    read_rows,
    text_of,
)
from device_poll.population import PopulationError
from device_poll.sources.items import SourceError
from privacy.budget import LARGEST_NUMBER, check_whole
from privacy.randomness import DeviceStream, Stage, random_words, seed_sequence

BLOCK = 1 << 15
"""Devices per stream."""

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_STOP_LIST = """
    a about above after again against all also am an and any are as at be because been before being below between
    both but by can could did do does doing down during each few for from further had has have having he her here hers
    him his how i if in into is it it's its itself just me more most my no nor not now of off on once only or other our
    out over own same she should so some such than that the their them then there these they this those through to too
    under until up very was we were what when where which while who whom why will with would you your
"""
_STOP_WORDS = frozenset(_STOP_LIST.split())


@dataclass(frozen=True, kw_only=True)
class PromptFragments:
    """Prompts in JSON lines (or any table, plain or .gz), and the fragments of them that a server asks about.

    `kinds`: the values of the column `kind` to read; `words`: how many words a fragment may have (1, 2 or 3);
    `candidates`: so many fragments are asked about, those in most public prompts; fragments of stop words or single
    letters alone are none. `public_share`: the share of prompts that the server knows. `text`, `kind` and `id` name the
    columns.
    """

    path: str | Path | None = None
    kinds: Sequence[str] = ("emoji", "image")
    words: Sequence[int] = (1, 2)
    candidates: int = 100
    public_share: float = 0.5
    text: str = "text"
    kind: str = "kind"
    id: str = "id"
    on_bad_row: OnBadRow = "error"

    def check(self) -> None:
        """Raises SourceError for a missing file or impossible options."""
        check_on_bad_row(self.on_bad_row)
        if isinstance(self.kinds, str) or not self.kinds:
            raise SourceError(f"vocabulary.kinds is {self.kinds!r}; expected a list of names, such as [emoji, image]")
        if not self.words or not set(self.words) <= {1, 2, 3}:
            raise SourceError(f"vocabulary.words is {list(self.words)}; expected some of 1, 2, 3: words of a fragment")
        if isinstance(self.candidates, bool) or not isinstance(self.candidates, int) or self.candidates < 2:
            raise SourceError(
                f"vocabulary.candidates is {self.candidates!r}; expected 2 or more fragments to ask about"
            )
        if not 0 < self.public_share < 1:
            raise SourceError(f"vocabulary.public_share is {self.public_share:g}; expected a share between 0 and 1")
        check_table(check_file(self.path, self._expected))

    def load(self) -> PromptPool:
        """Reads everything. Raises SourceError; also where the public half has too few fragments."""
        self.check()
        path = check_file(self.path, self._expected)
        problems = Problems(path, self.on_bad_row)
        public, private = self._halves(path, problems)
        found = Counter(fragment for prompt in public for fragment in _fragments(prompt, self.words))
        # By the number of prompts, then by name, so that the order of rows decides nothing.
        candidates = sorted(found, key=lambda fragment: (-found[fragment], fragment))[: self.candidates]
        if len(candidates) < self.candidates:
            raise SourceError(
                f"{path} has {len(candidates)} fragments in its {len(public)} public prompts; expected "
                f"{self.candidates} or more; lower vocabulary.candidates or bring more prompts"
            )
        if not private:
            raise SourceError(f"{path} has no private prompts; lower vocabulary.public_share or bring more prompts")
        number = {fragment: i for i, fragment in enumerate(candidates)}
        known = [sorted(number[f] for f in _fragments(prompt, self.words) if f in number) for prompt in private]
        return PromptPool(
            candidates=tuple(candidates),
            offsets=np.concatenate([[0], np.cumsum([len(ids) for ids in known])]).astype(np.int64),
            ids=np.array([i for ids in known for i in ids], dtype=np.int64),
            public_prompts=len(public),
            dropped=problems.dropped,
        )

    def _halves(self, path: Path, problems: Problems) -> tuple[list[str], list[str]]:
        public: list[str] = []
        private: list[str] = []
        kinds: dict[str, None] = {}
        for where, (identity, kind, text) in read_rows(path, (self.id, self.kind, self.text), problems):
            name = text_of(kind, self.kind, where, problems)
            prompt = text_of(text, self.text, where, problems) if name is not None else None
            number = text_of(identity, self.id, where, problems) if prompt is not None else None
            if name is None or prompt is None or number is None:
                continue
            kinds[name] = None
            if name in self.kinds:
                (public if _share_of(number) < self.public_share else private).append(prompt)
        for name in self.kinds:
            if name not in kinds:
                raise SourceError(
                    f"{path} has no prompts of kind {name!r}; it has: {listed_few(sorted(kinds))}; name one of "
                    "these in vocabulary.kinds"
                )
        return public, private

    @property
    def _expected(self) -> str:
        return f"JSON lines of prompts with {self.id}, {self.kind}, {self.text}, such as prompts.jsonl.gz"


@dataclass(frozen=True, kw_only=True, eq=False)
class FragmentAnswers:
    """`values` int64[devices]: each device's true answer, `Choice.none` for 'no match'. For evaluation only: `held`
    int64[candidates], how many devices have a prompt with each fragment (each is answered by a part of them).
    """

    values: NDArray[np.int64] = field(repr=False)
    held: NDArray[np.int64] = field(repr=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class PromptPool:
    """The candidates, known to everybody, and the private prompts, known only by the candidates that occur in them:
    prompt i has those numbered ids[offsets[i]] .. ids[offsets[i + 1] - 1], each once.
    """

    candidates: tuple[str, ...]
    offsets: NDArray[np.int64] = field(repr=False)
    ids: NDArray[np.int64] = field(repr=False)
    public_prompts: int
    dropped: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """Names the candidates: what a device needs to know in order to answer."""
        return hashlib.sha256(json.dumps(self.candidates).encode()).hexdigest()

    @property
    def nbytes(self) -> int:
        """What a device downloads."""
        return sum(len(text.encode()) + 1 for text in self.candidates)

    @property
    def asked(self) -> None:
        """Every candidate and 'none of these' are estimated."""

    @property
    def private_prompts(self) -> int:
        """How many prompts devices draw from."""
        return len(self.offsets) - 1

    def answers(self, devices: int, activity: Activity, seed: int, round: int = 0) -> FragmentAnswers:
        """What each of so many devices would answer in a round.

        A device holds as many prompts as `activity` says, drawn at random from the private half, and keeps them: they
        do not depend on the round. Its answer is one of the candidates that occur in them, each as likely, or 'no
        match'. Every block of devices has streams of its own. Raises PopulationError for less than one device.
        """
        if devices < 1:
            raise PopulationError(f"devices is {devices}; expected 1 or more")
        check_whole("round", round, 0, LARGEST_NUMBER)
        values = np.empty(devices, dtype=np.int64)
        held = np.zeros(len(self.candidates), dtype=np.int64)
        for block, start in enumerate(range(0, devices, BLOCK)):
            part = values[start : start + BLOCK]
            prompts, owned = self._owned(len(part), activity, seed, block)
            stream = DeviceStream.simulation(seed=seed, round=round, stage=Stage.SAMPLE_ITEMS, chunk=block)
            _answer(prompts, owned, self.offsets, self.ids, random_words(stream, len(part)), part, held)
        return FragmentAnswers(values=values, held=held)

    def _owned(
        self, devices: int, activity: Activity, seed: int, block: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The prompts of a block's devices, one device after the other, and where each device's begin."""
        root = seed_sequence(seed, 0, Stage.EVENTS)
        key = (*root.spawn_key, block)
        rng = np.random.default_rng(np.random.SeedSequence(entropy=seed, spawn_key=key))
        owned = np.concatenate([[0], np.cumsum(rng.poisson(activity.rates(devices, rng)))]).astype(np.int64)
        return rng.integers(0, self.private_prompts, int(owned[-1])), owned


def _share_of(identity: str) -> float:
    """Where an id falls in [0, 1): the same on every machine."""
    digest = hashlib.blake2b(identity.encode(), digest_size=8, person=b"synthpoll halves").digest()
    return int.from_bytes(digest, "little") / 2**64


def _fragments(prompt: str, sizes: Sequence[int]) -> set[str]:
    """The different word sequences of a prompt, in lower case, without those of stop words or single letters alone."""
    words = _WORD.findall(prompt.lower())
    return set(_sequences(words, sizes))


def _sequences(words: list[str], sizes: Sequence[int]) -> Iterator[str]:
    for size in sizes:
        for start in range(len(words) - size + 1):
            part = words[start : start + size]
            if any(len(word) > 1 and word not in _STOP_WORDS for word in part):
                yield " ".join(part)


@njit(cache=True, nogil=True)
def _answer(prompts, owned, offsets, ids, words, values, held):  # type: ignore[no-untyped-def]
    """One device after the other: collect its different candidates, count them, choose floor(word * number / 2^64)."""
    candidates = len(held)
    seen, own = np.full(candidates, -1, dtype=np.int64), np.empty(candidates, dtype=np.int64)
    low, shift = np.uint64((1 << 32) - 1), np.uint64(32)
    for device in range(len(values)):
        n = 0
        for prompt in prompts[owned[device] : owned[device + 1]]:
            for candidate in ids[offsets[prompt] : offsets[prompt + 1]]:
                if seen[candidate] != device:
                    seen[candidate] = device
                    own[n] = candidate
                    held[candidate] += 1
                    n += 1
        if n:
            carry = ((words[device] & low) * np.uint64(n)) >> shift
            values[device] = own[np.int64(((words[device] >> shift) * np.uint64(n) + carry) >> shift)]
        else:
            values[device] = candidates  # Choice.none
