"""How far a poll's votes lead, from texts at random to the best that could be chosen with the truth.

    synthpoll generate n=3000 out=pool
    python -m benchmarks.frontier pool/corpus.parquet MAIL.jsonl.gz --seeds 5 --judge ~/weights/all-mpnet-base-v2
    python -m benchmarks.frontier pool/corpus.parquet MAIL.jsonl.gz --seeds 2 --levels frontier.png
    python -m benchmarks.frontier pool/corpus.parquet MAIL.jsonl.gz --seeds 2 --central

From one pool of texts so many are chosen, by each way of choosing, and held against mail of other devices. Three
disjoint parts of the mail, cut by mailbox and by how a text begins: voters, the devices of the best choice, and those
that judge. 'Share of the way' is (random - x) / (random - best) of each measure in each encoder. One mail a device; the
noise is optimized unary encoding's.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import t as student

from benchmarks.frontier.ways import Plan, central, headings_of, levels, play
from benchmarks.frontier.world import MEASURES, Picks, World, load, scale
from privacy.accounting import amplify_by_shuffling
from privacy.gaussian import gaussian_sigma
from privacy.unary_encoding import OptimizedUnaryEncoding
from synth.attributes import AttributeGrid

matplotlib.use("Agg")
import matplotlib.pyplot as plt

KNOWN_BEST = "best with the truth"
EPSILONS = (1.0, 2.0, 4.0, 8.0)
BOOTSTRAPPED = (100_000, 1_000_000)
DELTA = 1e-6
Runs = Sequence[Mapping[str, Picks]]


def show(console: Console, world: World, runs: Runs, title: str) -> None:
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


def show_gain(console: Console, world: World, runs: Runs, name: str) -> None:
    """What the votes add to diversity, with its interval over seeds."""
    if len(runs) < 2:
        return
    random, best = scale(world)
    plain, voted = (np.array([world.measured(run[row]) for run in runs]) for row in ("diversity only", name))
    gained = (plain - voted) / (random - best)
    half = student.ppf(0.975, len(runs) - 1) * gained.std(axis=0, ddof=1) / np.sqrt(len(runs))
    for i, encoder in enumerate(world.mail):
        told = ", ".join(
            f"{measure} {100 * gained[:, i, j].mean():.0f} +- {100 * half[i, j]:.0f}"
            for j, measure in enumerate(MEASURES)
        )
        console.print(f"What the votes add to diversity, {encoder}, % of the way (95%, over seeds): {told}")


def show_levels(console: Console, world: World, seeds: int, grid: AttributeGrid | None, picture: Path) -> None:
    """The same at other epsilons and numbers of devices: a table and a picture."""
    random, best = scale(world)
    table = Table(title="% of the way, similarity / FID / coverage", caption="more devices than voters: drawn again")
    for name in ("devices", "epsilon", *(f"{way}, {name}" for way in ("density", "rank") for name in world.mail)):
        table.add_column(name, justify="right")
    sizes = (len(world.voters) // 5, len(world.voters), *BOOTSTRAPPED)
    ways: dict[tuple[str, int], list[NDArray[np.float64]]] = {}
    for devices in sizes:
        for epsilon in EPSILONS:
            runs = [levels(world, Plan(seed=seed, epsilon=epsilon, devices=devices), grid) for seed in range(seeds)]
            cells = []
            for name in runs[0]:
                mean = np.mean([world.measured(run[name]) for run in runs], axis=0)
                way = 100 * (random - mean) / (random - best)
                ways.setdefault((name, devices), []).append(way)
                cells += [" / ".join(f"{share:.0f}" for share in row) for row in way]
            table.add_row(f"{devices:,}", f"{epsilon:g}", *cells)
            console.print(f"{devices:,} devices, epsilon {epsilon:g}: done", highlight=False)
    console.print(table)
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure, axes = plt.subplots(1, len(MEASURES), figsize=(11, 3.2), layout="constrained", sharey=True)
    for measure, axis in enumerate(axes):
        for place, devices in enumerate(sizes):
            for (name, size), found in ways.items():
                if size != devices:
                    continue
                shares = [way[:, measure].min() for way in found]
                axis.plot(
                    EPSILONS, shares, marker="o", color=plt.get_cmap("viridis")(place / len(sizes)),
                    linestyle="-" if name == "density" else ":", label=f"{devices:,} devices, {name}",
                )  # fmt: skip
        axis.set(title=MEASURES[measure], xlabel="epsilon of a report", xscale="log")
        axis.set_xticks(EPSILONS, [f"{epsilon:g}" for epsilon in EPSILONS])
        axis.minorticks_off()
        axis.axhline(0, color="#bbbbbb", linewidth=0.8)
        axis.axhline(100, color="#bbbbbb", linewidth=0.8)
    axes[0].set_ylabel("% of the way, in the worse encoder")
    axes[-1].legend(frameon=False, fontsize=7, bbox_to_anchor=(1.02, 1), loc="upper left")
    figure.savefig(picture, dpi=150)


def show_central(console: Console, world: World, seeds: int, epsilon: float, grid: AttributeGrid) -> None:
    """At one central epsilon and a million devices: local noise, shuffled, beside a trusted server's."""
    devices = BOOTSTRAPPED[-1]
    cohort, size = devices // world.rounds, world.slate + 1
    claim = amplify_by_shuffling(OptimizedUnaryEncoding(epsilon=epsilon, domain_size=size), cohort, DELTA)
    # One device's answer is replaced: two counts change by 1.
    sigma = gaussian_sigma(claim, delta=DELTA, sensitivity=2**0.5)
    runs, headings = [], headings_of(world, grid)
    for seed in range(seeds):
        runs.append(central(world, Plan(seed=seed, epsilon=epsilon, devices=devices), sigma, headings))
        console.print(f"seed {seed} done")
    title = f"{devices:,} devices (drawn again), local epsilon {epsilon:g}, central epsilon {claim:.3g} at delta "
    title += f"{DELTA:g}, Gaussian noise of {sigma:.1f} votes on a count of a cohort of {cohort:,}"
    show(console, world, runs, title)


def main() -> None:
    """Play all seeds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pool", help="corpus.parquet of `synthpoll generate`")
    parser.add_argument("mail", help="mail, posts or prompts, as devices.path takes them")
    for name, default in (("keep", 300), ("rounds", 5), ("slate", 300), ("seeds", 3), ("devices", 0), ("test", 1500)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--epsilon", type=float, default=4.0)
    parser.add_argument("--none-below", type=float, default=0.3)
    parser.add_argument("--min-words", type=int, default=3)
    parser.add_argument("--max-words", type=int, default=0)
    parser.add_argument("--only", action="append", default=[], metavar="FIELD=VALUE,VALUE", help="rows that count")
    parser.add_argument("--no-users", action="store_true", help="every item is a device of its own")
    parser.add_argument("--judge", action="append", default=[], help="a further sentence-transformers folder")
    parser.add_argument("--cache", default="~/.cache/synthpoll")
    parser.add_argument("--grid", default="email", help="the packaged grid that the pool was written from, or none")
    parser.add_argument("--levels", metavar="PNG", help="instead: other epsilons and numbers of devices")
    parser.add_argument("--central", action="store_true", help="instead: a million devices at one central epsilon")
    given = parser.parse_args()
    world, console = load(given), Console(width=230)
    grid = None if given.grid == "none" else AttributeGrid.packaged(given.grid)
    if given.levels:
        show_levels(console, world, given.seeds, grid, Path(given.levels))
        return
    if given.central:
        if grid is None:
            parser.error("--central compares with loops that go by heading; it needs --grid")
        show_central(console, world, given.seeds, given.epsilon, grid)
        return
    runs = []
    for seed in range(given.seeds):
        runs.append(play(world, Plan(seed=seed, epsilon=given.epsilon, devices=given.devices), grid))
        console.print(f"seed {seed} done")
    title = f"{Path(given.mail).name}: {given.keep} of {len(world.corpus)} texts, epsilon {given.epsilon:g}, "
    title += f"{given.devices or len(world.voters):,} voters, {len(world.test):,} that judge, {given.seeds} seeds"
    show(console, world, runs, title)
    for name in runs[0]:
        if name.startswith("density, ") and name.endswith(" slates"):
            console.print(f"[bold]{name}")
            show_gain(console, world, runs, name)


if __name__ == "__main__":
    main()
