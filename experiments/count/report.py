"""What a person sees of a use case on the terminal: the plan before the first report, and a table for each key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments.count.job import CountJob
from experiments.count.poll import Key
from experiments.folder.layout import FACTS, STATEMENT
from experiments.folder.layout import Key as Step
from experiments.folder.layout import truth as truth_of
from experiments.folder.store import RunFolder

DROPPED = {
    "unfit": "that the mechanism cannot take",
    "over_cap": "over the daily cap",
    "over_budget": "over the budget",
}


def print_left_out(console: Console, left_out: Mapping[str, Mapping[str, int]], keys: Sequence[Key]) -> None:
    """What of the input is not used, and why: exact numbers of the devices' data."""
    only = "(known only to the simulation)"
    for name, reasons in left_out.items():
        if reasons and any(key.use_case == name for key in keys):
            counted = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())
            console.print(f"Left out of the file of {name}: {counted} {only}", soft_wrap=True)
    for key in keys:
        if key.unfit:
            counted = ", ".join(f"{count:,} {reason}" for reason, count in key.unfit.items())
            console.print(f"{key.key}: values that the mechanism cannot take: {counted} {only}", soft_wrap=True)


def print_header(console: Console, folder: RunFolder, job: CountJob, keys: Sequence[Key]) -> None:
    """What the budget can resolve, before any report is made."""
    run, statement = folder.read_json(FACTS), folder.read_json(STATEMENT)
    what = "from their exact law" if job.exact else "report by report"
    day = f"{job.days} day{'s' if job.days > 1 else ''}"
    console.print(
        Text.assemble(
            (job.name, "bold"),
            f"  seed {job.seed}: {job.devices:,} devices, {day}, tallies {what}\n{statement['headline']}",
        ),
        soft_wrap=True,
    )
    for key in keys:
        count = run["keys"][key.key]["count_needed"]
        looks = "words on nobody's list" if key.values is None else f"{len(key.values):,} elements looked for"
        line = Text.assemble(
            f"{key.key}: {key.devices:,} devices, about {key.expected_reports:,} reports, {looks}; a count has a "
            "standard error of ",
            (f"{key.stderr(job):,.1f}", "bold"),
        )
        if count is not None:
            share = count / max(key.expected_reports, 1)
            line.append(f", and an element is released with 95% probability from {count:,.0f} reports on ({share:.2%})")
        elif key.values is not None:
            line.append(", and ").append("no element can be released", "yellow")
            line.append(": more devices or a larger epsilon are needed")
        console.print(line, soft_wrap=True)


def print_key(console: Console, folder: RunFolder, job: CountJob, key: str) -> None:
    """The table of one key: its most frequent released elements; and what was withheld."""
    step = Step(key)
    table, truth = (folder.files.table(name).to_pydict() for name in (step.histogram, step.truth))
    public, oracle = folder.read_json(step.metrics), folder.read_json(truth_of(step.metrics))
    processed = job.rule.post_processing
    shown = min(job.shown, len(table["element"]))
    console.print(
        Text.assemble(
            "\n",
            (key, "bold"),
            f": {public['reports']:,} reports; of {public['looked_at']:,} elements {public['released']:,} are "
            f"released, {public['withheld']:,} withheld",
            f"; {public['refused_reports']:,} more reports were refused" if public.get("refused_reports") else "",
        ),
        soft_wrap=True,
    )
    drawn = Table()
    drawn.add_column("element")
    names = ["count", "interval", "share", *([] if processed == "none" else [f"{processed} (biased)"]), "true count*"]
    names += ["held by*"] if "held_by" in truth else []
    for name in names:
        drawn.add_column(name, justify="right")
    if "new" in table:
        drawn.add_column("new")
    for i in range(shown):
        cells = [
            f"{table['count'][i]:,.0f}",
            f"{table['lower'][i]:,.0f} to {table['upper'][i]:,.0f}",
            f"{table['count'][i] / public['reports']:.2%}",
        ]
        cells += [] if processed == "none" else [f"{table['processed'][i]:,.0f}"]
        cells += [f"{truth['true_count'][i]:,}"]
        cells += [f"{truth['held_by'][i]:,}"] if "held_by" in truth else []
        cells += [("new" if table["new"][i] else "")] if "new" in table else []
        drawn.add_row(Text(table["element"][i]), *cells)
    if shown:
        console.print(drawn)
    else:
        console.print("Nothing is released.", style="yellow")
    for line in _notes(job, public, oracle):
        console.print(line, soft_wrap=True, style="dim", highlight=False)
    for row in folder.files.text_rows(step.by_frequency) if folder.has(step.by_frequency) else ():
        told = ", ".join(f"{name} {_percent(row[name])}" for name in ("recall", "precision"))
        console.print(
            f"* Words of at least {float(row['frequency']):.3%} ({row['words']} words): {told}, {row['wrong']} wrong",
            style="dim",
            highlight=False,
        )
    if "new" in table:
        fresh = [word for word, new in zip(table["element"], table["new"], strict=True) if new]
        console.print(f"New, in no dictionary of the device ({len(fresh)}): {', '.join(fresh[: 3 * job.shown])}")


def _percent(share: str) -> str:
    return f"{float(share):.0%}" if share else "-"


def _notes(job: CountJob, public: Mapping[str, Any], oracle: Mapping[str, Any]) -> list[str]:
    lines = [job.rule.describe(public["looked_at"])]
    if "wrong_joins" in public:
        lines.append(
            f"{public['pieces_estimated']:,} pieces estimated, {public['pieces_kept']:,} kept, {public['joined']:,} "
            f"joined, {public['wrong_joins']:,} wrong joins dropped, {public['candidates']:,} candidates tested."
        )
    if "no_match" in public:
        lines.append(f"No match: {public['no_match']:.1%} +- {public['no_match_stderr']:.1%} (standard error).")
    if "nothing" in public:
        lines.append(f"Nothing to report: {public['nothing']:.1%} +- {public['nothing_stderr']:.1%} (standard error).")
    dropped = [(told, oracle[f"dropped_{name}"]) for name, told in DROPPED.items() if f"dropped_{name}" in oracle]
    if dropped:
        told = ", ".join(f"{count:,} {why}" for why, count in dropped)
        lines.append(f"* Dropped on the devices: {told}.")
    top, rank = oracle["top_recovered"], oracle["rank_correlation"]
    lines.append(
        f"* Truth, known only to the simulation: {oracle['coverage']:.1%} of all elements' own intervals hold it; "
        f"{'-' if top is None else f'{top:.0%}'} of the true top 20 released; rank correlation of the released "
        f"{'-' if rank is None else f'{rank:.3f}'}; {oracle['false_releases']} released that nobody sent."
    )
    return lines
