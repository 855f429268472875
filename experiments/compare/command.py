"""`synthpoll compare RUN [RUN ...] [--to PAGE.html]`: the arguments, the table, the page.

compare(["runs/sweep", "--to", "sweep.html"], Console())

A page goes wherever its reader is, so the noise-free truth is on it only where it was asked for by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from experiments.compare.find import find_runs
from experiments.compare.formats import size_in_words
from experiments.compare.groups import group_runs
from experiments.compare.load import load_run
from experiments.compare.metrics import find_metric
from experiments.compare.page import check_target, write_comparison
from experiments.compare.table import print_comparison
from experiments.folder.reader import CompareError

USAGE = """\
synthpoll compare RUN [RUN ...] [--to PAGE.html] [--metric NAME] [--oracle]

  RUN               a run folder, a folder that holds run folders (a sweep), or a glob of either
  --to PAGE.html    also write a page with charts and what was released: one file that needs no network
  --metric NAME     what decides which run is best at each epsilon: a column of metrics.csv; with --oracle also one of
                    oracle/metrics.csv
  --oracle          also show what only a simulation knows: true votes and counts, numbers of real items, without noise.
                    Such a page is not for release. Without this option nothing under oracle/ is opened

Runs that differ only in their seed are one line, with the spread over seeds. Runs that refine a corpus and runs that
count (experiment=emoji and others) are compared among themselves.
"""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the command line asks for."""

    runs: tuple[str, ...]
    to: Path | None = None
    metric: str | None = None
    oracle: bool = False


def compare(arguments: Sequence[str], console: Console) -> None:
    """Carry the command out. Raises CompareError, one line, for whatever cannot be compared."""
    if not arguments or arguments[0] in ("-h", "--help"):
        console.print(Text(USAGE), end="")
        return
    request = parse(arguments)
    if request.to is not None:
        check_target(request.to)
    found = find_runs(request.runs)
    groups, repeated = group_runs([load_run(folder, oracle=request.oracle) for folder in found.folders])
    by = find_metric(groups, request.metric)
    print_comparison(console, groups, by, left_out=[*found.left_out, *repeated])
    if request.to is None:
        more = "Charts, texts and a map" if groups[0].kind == "refine" else "Charts and the released elements"
        truth = "" if request.oracle else "; what only a simulation knows: add --oracle"
        console.print(f"{more}: add --to PAGE.html{truth}", soft_wrap=True)
        return
    write_comparison(groups, request.to, metric=request.metric)
    title = "Page with the truth" if any(run.truth for group in groups for run in group.runs) else "Page"
    console.print(Text(f"{title}: {request.to} ({size_in_words(request.to.stat().st_size)})"), soft_wrap=True)


def parse(arguments: Sequence[str]) -> Request:
    """The request; options may stand anywhere. Raises CompareError for one that is unknown or lacks its value."""
    runs: list[str] = []
    values: dict[str, str] = {}
    oracle = False
    rest = list(arguments)
    while rest:
        option, has_value, value = rest.pop(0).partition("=")
        if option in ("--to", "--metric"):
            if not has_value and not rest:
                raise CompareError(f"{option} needs a value; see synthpoll compare --help")
            values[option] = value if has_value else rest.pop(0)
        elif option == "--oracle" and not has_value:
            oracle = True
        elif option.startswith("-"):
            raise CompareError(f"unknown option {option}; expected --to, --metric or --oracle")
        else:
            runs.append(option + has_value + value)
    if not runs:
        raise CompareError("no run was named; expected run folders, sweep folders or globs of them")
    return Request(
        runs=tuple(runs),
        to=Path(values["--to"]) if "--to" in values else None,
        metric=values.get("--metric"),
        oracle=oracle,
    )
