"""The parts of a page that only counts have: their keys, what was released of each, what a report costs.

    keys_of_runs(groups, find_metric(groups, None)), elements_of(groups), count_cost(groups)

Of an element that was withheld nothing is known here: where one configuration released it and another did not, the cell
of the other says so, and no more, not even that it was looked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from experiments.compare.count_metrics import BETWEEN
from experiments.compare.formats import in_words, shown
from experiments.compare.groups import Group
from experiments.compare.load_counts import Elements, load_elements
from experiments.compare.metrics import Metric, headlines, keys_of
from experiments.compare.overview import metric_cell, metric_head
from experiments.count.drawing import draw_intervals, name_of
from experiments.page.markup import Markup, join, scrolled, tag

KEYS_NOTE = "Keys are asked and decided on apart from each other. Mean over seeds, and from the lowest to the highest."
ELEMENTS_NOTE = (
    "The most frequent elements that any of the configurations released, with their estimated counts in reports: mean "
    "over seeds, and in how many of them. All that one run released, with intervals, is on the run's own page."
)
_DRAWN = 30
_LISTED = 40  # rows of a table; histogram.parquet has all


def keys_of_runs(groups: Sequence[Group], by: Metric) -> Markup:
    """For each key a table, one line per configuration."""
    tables = []
    for key in keys_of(groups):
        metrics = [replace(metric, name=f"{key}{BETWEEN}{metric.name}") for metric in headlines(groups, by)]
        # What no configuration has of this key is no column; `by` may be the metric of another key.
        metrics = [m for m in metrics if any(group.last(m.name, m.oracle) for group in groups)]
        head = tag("tr", tag("th", "configuration", scope="col"), *(metric_head(metric) for metric in metrics))
        rows = (
            tag("tr", tag("th", _marked(groups, i), scope="row"), *(metric_cell(group, metric) for metric in metrics))
            for i, group in enumerate(groups)
            if any(key in run.keys for run in group.runs)
        )
        tables += [tag("h3", key, class_="part"), scrolled(tag("table", tag("thead", head), tag("tbody", *rows)))]
    return join(*tables)


def elements_of(groups: Sequence[Group]) -> Markup:
    """For each key the released elements: of one run with intervals, of several runs side by side."""
    parts = []
    for key in keys_of(groups):
        released = [[load_elements(run, key) for run in group.runs if key in run.keys] for group in groups]
        runs = [elements for of_group in released for elements in of_group]
        parts.append(tag("h3", key, class_="part"))
        if not any(elements.counts for elements in runs):
            parts.append(tag("p", "Nothing is released.", class_="banner quiet"))
        elif len(runs) == 1:
            parts.append(_drawn(runs[0], key))
        else:
            parts.append(_side_by_side(groups, released))
    return join(*parts)


def count_cost(groups: Sequence[Group]) -> Markup:
    """What a device uploads; it downloads no more than which keys are asked for."""
    names = ("configuration", "upload of one report", "reports of a device", "upload of a device", "reports that came")
    head = (tag("th", name, scope="col", class_="number" * bool(i)) for i, name in enumerate(names))
    rows = []
    for i, group in enumerate(groups):
        upload, reports = group.last("bytes_up", oracle=False), group.last("reports", oracle=False)
        most = group.runs[0].fact("privacy.reports_per_device") or 1
        cells = (
            "" if upload is None else shown(upload.mean, "bytes"),
            f"at most {most:,}",
            "" if upload is None else f"at most {shown(most * upload.mean, 'bytes')}",
            "" if reports is None else shown(reports.mean, "count"),
        )
        rows.append(
            tag("tr", tag("th", _marked(groups, i), scope="row"), *(tag("td", cell, class_="number") for cell in cells))
        )
    return scrolled(tag("table", tag("thead", tag("tr", *head)), tag("tbody", *rows)))


def _marked(groups: Sequence[Group], place: int) -> Markup:
    """The name of a configuration, with its colour where there are several."""
    label = groups[place].label
    return join(label) if len(groups) == 1 else join(tag("i", class_="swatch", data_group=place), " ", label)


def _drawn(elements: Elements, key: str) -> Markup:
    """One run: counts with intervals, in the order of the counts."""
    names = list(elements.counts)[:_DRAWN]
    drawn = draw_intervals(
        names,
        [elements.counts[name] for name in names],
        [elements.lower[name] for name in names],
        [elements.upper[name] for name in names],
        [elements.truth[name] for name in names] if elements.truth else None,
        title=f"{key}: counts with intervals",
    )
    how = "Dot: the count. Bar: its interval. Logarithmic axis, in reports."
    truth = tag("span", " Amber: the truth, simulation only.", class_="oracle") if elements.truth else ""
    more = _more(len(elements.counts), len(names))
    return tag("div", drawn, tag("p", how, truth, class_="how"), more, class_="panel plot")


def _side_by_side(groups: Sequence[Group], released: Sequence[Sequence[Elements]]) -> Markup:
    """An element a line, a configuration a column; the truth is the mean over all runs that released the element."""
    counts: dict[str, list[float]] = {}
    truths: dict[str, list[int]] = {}
    for elements in (elements for of_group in released for elements in of_group):
        for name, count in elements.counts.items():
            counts.setdefault(name, []).append(count)
        for name, true_count in elements.truth.items():
            truths.setdefault(name, []).append(true_count)
    order = sorted(counts, key=lambda name: (-fmean(counts[name]), name))[:_LISTED]
    columns = [i for i, of_group in enumerate(released) if of_group]
    head = [tag("th", "element", scope="col")]
    head += [tag("th", _marked(groups, i), scope="col", class_="number") for i in columns]
    if truths:
        head.append(tag("th", "true count", scope="col", class_="number oracle"))
    rows = []
    for name in order:
        cells = [_cell([elements.counts for elements in released[i]], name) for i in columns]
        if truths:
            cells.append(tag("td", shown(fmean(truths[name]), "count"), class_="number oracle"))
        named = tag("span", f" {name_of(name)}", class_="quiet") if name_of(name) else ""
        rows.append(tag("tr", tag("th", name, named, scope="row"), *cells))
    table = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *rows))
    return join(scrolled(table), _more(len(counts), len(order)))


def _cell(runs: Sequence[Mapping[str, float]], name: str) -> Markup:
    found = [counts[name] for counts in runs if name in counts]
    if not found:
        return tag("td", "not released", class_="number quiet")
    among = tag("small", f"in {len(found)} of {in_words(len(runs), 'seed')}") if len(found) < len(runs) else ""
    return tag("td", shown(fmean(found), "count"), among, class_="number")


def _more(all_of_them: int, listed: int) -> Markup:
    more = all_of_them - listed
    return tag("p", f"{more:,} more are in histogram.parquet.", class_="note") if more > 0 else join()
