"""What each round of a refinement bought, on a terminal: every metric after so many polls, and what the last changed.

console.print(by_round(group))
"""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from experiments.compare.formats import shown
from experiments.compare.groups import Group
from experiments.compare.metrics import Metric, metrics_of

MOST_GROUPS = 4  # more tables than that are too many for a terminal
_SHOWN = ("none_share", "pool", "predicted_votes", "similarity", "coverage", "recall", "topic_distance")


def by_round(group: Group) -> Table:
    """A column for each number of polls: means over seeds, below them the change since the column before."""
    metrics = [metric for metric in metrics_of([group]) if metric.name in _SHOWN or metric.name.startswith("fid_pca")]
    rows = [{n: found.mean for n, found in group.per_round(m.name, m.oracle).items()} for m in metrics]
    numbers = sorted({number for row in rows for number in row})
    table = Table(title=Text(f"What each poll bought: {group.label}"))
    table.add_column("after so many polls", no_wrap=True)
    for number in numbers:
        table.add_column(f"{number}", justify="right", no_wrap=True)
    for metric, row in zip(metrics, rows, strict=True):
        table.add_row(metric.name + "*" * metric.oracle, *(_cell(row, number, metric) for number in numbers))
    return table


def _cell(row: dict[int, float], number: int, metric: Metric) -> str:
    """The value, and its change where it is for better or worse."""
    if number not in row:
        return ""
    value = shown(row[number], metric.form)
    if number - 1 not in row or not metric.better:
        return value
    change = row[number] - row[number - 1]
    return f"{value}\n{'-' if change < 0 else '+'}{shown(abs(change), metric.form)}"
