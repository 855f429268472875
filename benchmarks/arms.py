"""Runs of several seeds beside their arms: a table with the seeds' spread, and one picture.

    python -m benchmarks.arms docs/images/enron_rounds.png runs/email_polling/seed*

Each run folder must hold the noise-free evaluation (oracle/metrics.csv) and the arm `random_selection`.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import matplotlib
import numpy as np
from rich.console import Console
from rich.table import Table

matplotlib.use("Agg")
import matplotlib.pyplot as plt

METRICS = {"similarity": "higher", "coverage": "higher", "recall": "higher", "fid_pca64": "lower"}
TITLES = {"similarity": "Similarity", "coverage": "Coverage", "recall": "Recall", "fid_pca64": "FID (64 dimensions)"}
ARMS = {"polled": "#0b6e99", "random_selection": "#9a9a9a", "no_privacy": "#c8791d"}
NAMES = {"polled": "private poll", "random_selection": "random selection", "no_privacy": "poll without noise"}


def read(folder: Path, arm: str) -> np.ndarray | None:
    """float64[rounds + 1, metrics] of one arm; None if the run did not play it."""
    place = folder if arm == "polled" else folder / "oracle" / "arms" / arm
    path = place / "oracle" / "metrics.csv"
    if not path.is_file():
        return None
    with path.open(encoding="utf-8") as file:
        return np.array([[float(row[name]) for name in METRICS] for row in csv.DictReader(file)])


def main() -> None:
    """Print the table and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", help="the PNG file to write")
    parser.add_argument("runs", nargs="+", help="run folders with oracle/metrics.csv, the same run with other seeds")
    given = parser.parse_args()
    target, folders = given.picture, given.runs
    if missing := [folder for folder in folders if read(Path(folder), "polled") is None]:
        parser.error(f"{missing[0]} has no oracle/metrics.csv; give complete run folders")
    arms = {arm: [x for f in folders if (x := read(Path(f), arm)) is not None] for arm in ARMS}
    table = Table(title=f"{len(folders)} seeds: mean (lowest to highest), from the seed corpus to the refined corpus")
    for name in ("arm", "seeds", *TITLES.values()):
        table.add_column(name, justify="right")
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure, axes = plt.subplots(1, 4, figsize=(11, 2.7), layout="constrained")
    for arm, runs in arms.items():
        if not runs:
            continue
        stack = np.stack(runs)
        cells = []
        for i, axis in enumerate(axes):
            values = stack[:, :, i]
            cells.append(
                f"{values[:, 0].mean():.3f} -> {values[:, -1].mean():.3f} "
                f"({values[:, -1].min():.3f} to {values[:, -1].max():.3f})"
            )
            rounds = np.arange(values.shape[1])
            axis.plot(rounds, values.mean(axis=0), color=ARMS[arm], label=NAMES[arm], linewidth=2)
            axis.fill_between(rounds, values.min(axis=0), values.max(axis=0), color=ARMS[arm], alpha=0.18, linewidth=0)
        table.add_row(NAMES[arm], str(len(runs)), *cells)
    for axis, (name, better) in zip(axes, METRICS.items(), strict=True):
        axis.set_title(f"{TITLES[name]} ({better} is better)", fontsize=9)
        axis.set_xlabel("polls answered")
        axis.set_xticks(range(stack.shape[1]))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(target, dpi=150)
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
