"""What a person sees: the terminal's tables and the run's pictures."""

from __future__ import annotations

import io
import textwrap
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments.folder import layout
from experiments.folder.layout import DEVICES, FACTS, METRICS, STATEMENT, Round, truth
from experiments.folder.store import RunFolder
from experiments.refine.job import RefineJob
from experiments.statement.page import epsilon_in_words

# column title, metric, format, whether it is noise-free truth
_COLUMNS: tuple[tuple[str, str, str, bool], ...] = (
    ("reports", "reports", "{:,.0f}", False),
    ("> {z:g} s.e.", "over_threshold", "{:.0f}", False),
    ("winners", "winners", "{:.0f}", False),
    ("none", "none_share", "{:.1%}", False),
    ("topics", "topics", "{:.0f}", False),
    ("self-sim", "self_similarity", "{:.3f}", False),
    ("rank corr*", "rank_correlation", "{:.2f}", True),
    ("votes kept*", "vote_mass_kept", "{:.1%}", True),
    ("similarity*", "similarity", "{:.4f}", True),
    ("recall*", "recall", "{:.3f}", True),
    ("coverage*", "coverage", "{:.3f}", True),
    ("FID*", "fid", "{:.4f}", True),
    ("topics off*", "topic_distance", "{:.1%}", True),
)


def rounds_of(folder: RunFolder) -> list[dict[str, float]]:
    """One merged row of public and oracle metrics per round, as numbers."""
    merged: dict[int, dict[str, float]] = {}
    for name in (METRICS, truth(METRICS)):
        for numbers in folder.files.rows(name) if folder.has(name) else ():
            for key in [key for key in numbers if key.startswith("fid_")]:
                numbers["fid"] = numbers[key]
            merged.setdefault(int(numbers["round"]), {}).update(numbers)
    return [merged[number] for number in sorted(merged)]


def print_header(console: Console, folder: RunFolder, job: RefineJob) -> None:
    """What the budget can resolve, before any round is played."""
    run, statement, counted = (folder.read_json(name) for name in (FACTS, STATEMENT, DEVICES))
    devices, resolution = run["devices"], run["resolution"]
    console.print(
        Text.assemble(
            (job.name, "bold"),
            f"  seed {job.seed}: {devices['count']:,} devices with {counted['items']:,} items* "
            f"(unit: {devices['unit']}), {job.rounds} disjoint cohorts of {devices['asked_per_round']:,} "
            f"(* noise-free truth, known only to the simulation)\n{statement['headline']}\n"
            "A count has a standard error of ",
            (f"{resolution['stderr_of_a_count']:.1f}", "bold"),
            f" devices; with {job.candidates} candidates the mean is ",
            (f"{resolution['votes_per_candidate']:.1f}", "bold"),
            f" votes. A candidate stands out from noise at about {resolution['votes_to_resolve_one_candidate']:.0f} "
            f"votes ({job.threshold:g} standard errors).",
        ),
        soft_wrap=True,
    )
    if resolution["votes_to_resolve_one_candidate"] > 5 * resolution["votes_per_candidate"]:
        console.print(
            "This budget resolves only candidates far above average: more devices, fewer candidates, fewer rounds or a "
            "larger epsilon would resolve more.",
            style="yellow",
        )


def print_rounds(console: Console, folder: RunFolder, job: RefineJob, title: str, since: int | None) -> None:
    """One line as a round completes (`since`), or the whole table at the end (None)."""
    rows = rounds_of(folder)
    if since is not None:
        row = rows[since]
        console.print(
            f"{title} round {since}: {row['over_threshold']:.0f} candidates over {job.threshold:g} s.e., none "
            f"{row['none_share']:.1%}, similarity* {row['similarity']:.4f}, recall* {row['recall']:.3f}"
            + (f", {row['refused_reports']:.0f} reports refused" if row.get("refused_reports") else "")
        )
        return
    # An arm is no run of its own: what its devices would reveal is stated nowhere.
    what = "to compare with" if title in job.arms else epsilon_in_words(folder.read_json(STATEMENT))
    table = Table(title=f"{title}: {job.name}, {what}, seed {job.seed}", caption=(
        "* noise-free truth, known only to the simulation (oracle/). The last row is the refined corpus, not polled."
    ))  # fmt: skip
    table.add_column("round", justify="right")
    columns = [column for column in _COLUMNS if column[1] != "topic_distance" or column[1] in rows[0]]
    for name, _, _, _ in columns:
        table.add_column(name.format(z=job.threshold), justify="right")
    for row in rows:
        cells = [form.format(row[key]) if key in row else "" for _, key, form, _ in columns]
        table.add_row("final" if row["round"] == job.rounds else f"{row['round']:.0f}", *cells)
    console.print(table)


def print_shares(console: Console, folder: RunFolder) -> None:
    """Truth against estimate by label, where the population's truth is known (the town)."""
    name = Round(folder.completed_rounds() - 1).shares
    if not folder.has(name):
        return
    table = Table(
        title="The devices' topics, last poll: known truth, true votes, private estimate",
        caption="noise-free columns are known only to the simulation (oracle/)",
    )
    for heading in ("topic", "known*", "voted*", "estimated", "+- s.e.", "candidates"):
        table.add_column(heading, justify="left" if heading == "topic" else "right")
    for row in sorted(folder.files.text_rows(name), key=lambda r: -float(r["known"])):
        shares = [f"{float(row[key]):.1%}" for key in ("known", "voted", "estimated", "stderr")]
        table.add_row(row["label"], *shares, row["candidates"])
    console.print(table)


def write_plots(folder: RunFolder, job: RefineJob) -> None:
    """oracle/rounds.png: similarity and recall over rounds, this run and its arms; oracle/shares.png for the town."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    epsilon = epsilon_in_words(folder.read_json(STATEMENT))
    series = {"private": rounds_of(folder)}
    for arm in job.arms:
        series[arm.replace("_", " ")] = rounds_of(RunFolder(folder.path / layout.arm(arm)))
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    titles = {"similarity": "mean similarity to nearest candidate", "recall": "recall (second encoder)", "fid": "FID"}
    for axis, (key, title) in zip(axes, titles.items(), strict=True):
        for name, rows in series.items():
            axis.plot([row["round"] for row in rows], [row[key] for row in rows], marker="o", label=name)
        axis.set(title=title, xlabel="polls so far")
        axis.grid(alpha=0.3)
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[0].legend()
    figure.suptitle(f"{job.name}: {epsilon}, seed {job.seed} (noise-free evaluation)")
    _save(folder, layout.ROUNDS_PLOT, figure)

    name = Round(folder.completed_rounds() - 1).shares
    if folder.has(name):
        shares = sorted(folder.files.text_rows(name), key=lambda r: float(r["known"]))
        figure, (polled, corpus) = plt.subplots(1, 2, figsize=(11, 5), layout="constrained", sharey=True)
        places = range(len(shares))
        for axis in (polled, corpus):
            axis.barh(places, [float(r["known"]) for r in shares], color="lightgray", label="known share of mail")
        polled.errorbar(
            [float(r["estimated"]) for r in shares], places, xerr=[1.96 * float(r["stderr"]) for r in shares],
            fmt="o", label="private estimate, 95% interval",
        )  # fmt: skip
        polled.scatter(
            [float(r["voted"]) for r in shares], places, marker="|", s=150, color="black", label="true votes"
        )
        polled.set_yticks(list(places), [r["label"] for r in shares])
        polled.set(xlabel="share of devices", title="The last poll")
        for number, style, told in ((0, "o", "before a poll"), (job.rounds, "D", "refined")):
            texts = {r["label"]: float(r["texts"]) for r in folder.files.text_rows(Round(number).topics)}
            filled = {"facecolors": "none"} if number == 0 else {}
            corpus.scatter(
                [texts[r["label"]] for r in shares], places, marker=style, color="#0b6e99", label=f"texts, {told}",
                **filled,
            )  # fmt: skip
        off = [row["topic_distance"] for row in rounds_of(folder)]
        corpus.set(
            xlabel="share of texts", title=f"The corpus (second encoder): off by {off[0]:.0%}, then {off[-1]:.0%}"
        )
        for axis in (polled, corpus):
            axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3, frameon=False, fontsize=8)
        figure.suptitle(textwrap.fill(f"The town's topics at {epsilon}, last poll", 60))
        _save(folder, layout.SHARES_PLOT, figure)


def _save(folder: RunFolder, name: str, figure: Any) -> None:
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    # No software version in the file: equal runs give equal bytes.
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    plt.close(figure)
    folder.write_bytes(name, buffer.getvalue())
