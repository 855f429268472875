"""The comparison on a terminal: one line per configuration, of counts one per key, and which is best at each epsilon.

print_comparison(Console(), groups, find_metric(groups, None), left_out=[])
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments.compare.by_round import MOST_GROUPS, by_round
from experiments.compare.count_metrics import BETWEEN
from experiments.compare.formats import in_words, shown, spread
from experiments.compare.groups import Group, Interval
from experiments.compare.metrics import Best, Metric, best_per_epsilon, headlines, keys_of, metrics_of
from experiments.compare.runs import Kind

_ON_PAGES_ONLY: Mapping[Kind, tuple[str, ...]] = {  # a terminal is narrow
    "refine": ("topics", "self_similarity"),
    "count": ("stderr", "coverage"),
}


def print_comparison(console: Console, groups: Sequence[Group], by: Metric, *, left_out: Sequence[str]) -> None:
    """Print the table, what decides, and the runs that were left out with the reason."""
    for line in left_out:
        console.print(Text(f"Left out: {line}"), soft_wrap=True)
    console.print(_table(groups, by))
    if groups[0].kind == "refine" and any(run.complete for group in groups for run in group.runs):
        if len(groups) <= MOST_GROUPS:
            for group in groups:
                console.print(by_round(group))
        else:
            told = f"What each poll bought is shown for up to {MOST_GROUPS} configurations: name fewer runs."
            console.print(Text(told), soft_wrap=True)
    notes = ["Means over seeds; below them, from the lowest seed to the highest."] * any(
        len(g.runs) > 1 for g in groups
    )
    notes += ["* noise-free truth, known only to the simulation"] * any(metric.oracle for metric in metrics_of(groups))
    for note in notes:
        console.print(Text(note), soft_wrap=True)
    best = best_per_epsilon(groups, by)
    if any(one.others for one in best):
        step = groups[0].runs[0].step
        direction = "higher is better" if by.better == "up" else "lower is better"
        truth = ", noise-free truth that only a simulation has" if by.oracle else ""
        told = f"Best per epsilon by {by.name} after the last {step} ({direction}{truth}):"
        console.print(Text(told), soft_wrap=True)
        for one in best:
            console.print(Text(f"  epsilon {one.epsilon:g}: {_verdict(one, by)}"), soft_wrap=True)


def _table(groups: Sequence[Group], by: Metric) -> Table:
    step, keys = groups[0].runs[0].step, keys_of(groups)
    hidden = _ON_PAGES_ONLY[groups[0].kind]
    metrics = [metric for metric in headlines(groups, by) if metric.name not in hidden or metric == by]
    central = any(group.runs[0].central for group in groups)
    table = Table(title=f"{in_words(sum(len(group.runs) for group in groups), 'run')}, each after its last {step}")
    table.add_column("configuration", no_wrap=True)
    for name in ("seeds", f"{step}s", *(("local epsilon", "central epsilon") if central else ("epsilon",))):
        table.add_column(name, justify="right")
    if keys:
        table.add_column("key", no_wrap=True)
    for metric in metrics:
        table.add_column(metric.name + "*" * metric.oracle, justify="right", overflow="fold")
    for group in groups:
        cells: list[Text | str] = [Text(group.label), ", ".join(str(run.seed) for run in group.runs), _steps(group)]
        cells.append("" if group.epsilon is None else f"{group.epsilon:g}")
        if central:
            held = group.runs[0].central
            cells.append(f"{held.epsilon:.3g}, delta {held.delta:.0e}" if held else "")
        if not keys:
            table.add_row(*cells, *(_cell(group.last(metric.name, metric.oracle), metric) for metric in metrics))
        for key, row in _rows_by_key(group, metrics) if keys else ():
            table.add_row(*cells, Text(key), *row)
            cells = [""] * len(cells)
        if keys:
            table.add_section()
    return table


def _rows_by_key(group: Group, metrics: Sequence[Metric]) -> Iterator[tuple[str, list[str]]]:
    """Of a configuration of counts, a line for each key, and, of several, one for all together."""
    keys = keys_of([group])
    for key in keys:
        columns = [f"{key}{BETWEEN}{metric.name}" for metric in metrics]
        yield key, [_cell(group.last(name, m.oracle), m) for name, m in zip(columns, metrics, strict=True)]
    if len(keys) > 1:
        yield "all", [_cell(group.last(metric.name, metric.oracle), metric) for metric in metrics]


def _steps(group: Group) -> str:
    fewest = min(run.complete for run in group.runs)
    return f"{fewest}" if group.finished else f"{fewest} of {group.runs[0].planned}"


def _cell(interval: Interval | None, metric: Metric) -> str:
    if interval is None:
        return ""
    mean = shown(interval.mean, metric.form)
    if interval.seeds == 1:
        return mean
    return f"{mean}\n{spread(interval.low, interval.high, metric.form)}"


def _verdict(best: Best, by: Metric) -> str:
    """The best configuration and how sure that is."""
    value = f"{best.group.label}, {shown(best.interval.mean, by.form)}"
    if not best.others:
        return f"{value} (the only one)"
    if best.interval.seeds == 1:
        return f"{value} (one seed: differences may be chance)"
    if best.close:
        return f"{value} (its seeds overlap with those of {in_words(len(best.close), 'other')})"
    return f"{value} (apart from all others over {best.interval.seeds} seeds)"
