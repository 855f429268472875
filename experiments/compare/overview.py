"""The first look at a page: large numbers of one configuration, and the table of all, which is also the legend.

overview_of(groups, find_metric(groups, None))
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.compare.formats import shown, spread
from experiments.compare.groups import Group
from experiments.compare.markup import Markup, join, scrolled, tag
from experiments.compare.metrics import Metric, best_per_epsilon, headlines


def facts_of(groups: Sequence[Group]) -> Markup:
    """Large numbers of a single configuration; for many, the table says them."""
    if len(groups) > 1:
        return join()
    run = groups[0].runs[0]
    tiles = []
    if run.epsilon is not None:
        unit = run.fact("privacy.unit") or ""
        tiles.append((f"ε {run.epsilon:g}", "local budget that a device spends in the run", unit))
    if run.central:
        held = f"central, at δ {run.central.delta:.0e}"
        tiles.append((f"ε {run.central.epsilon:.3g}", held, run.central.trust_model))
    if run.fact("devices.asked_per_round"):
        of = f"of {run.fact('devices.count'):,} in all"
        tiles.append((f"{run.fact('devices.asked_per_round'):,}", "devices asked in each poll", of))
    if run.fact("resolution.stderr_of_a_count"):
        mean = f"the mean candidate gets {run.fact('resolution.votes_per_candidate'):.3g} votes"
        noise = f"± {run.fact('resolution.stderr_of_a_count'):.3g}"
        tiles.append((noise, "devices: standard error of a count", mean))
    mechanism = str(run.fact("privacy.mechanism.mechanism") or "").replace("_", " ")
    tiles.append((f"{run.complete} of {run.planned}", "polls complete", mechanism))
    return tag(
        "div",
        *(tag("div", tag("b", big), tag("span", what), tag("small", more), class_="tile") for big, what, more in tiles),
        class_="tiles",
    )


def overview_of(groups: Sequence[Group], by: Metric) -> Markup:
    """One line per configuration: also the page's legend, whose buttons show and hide."""
    metrics = headlines(groups, by)
    central = any(group.runs[0].central for group in groups)
    head = [tag("th", name, scope="col", class_=kind) for name, kind in (
        ("configuration", ""), ("seeds", ""), ("ε local", "number"), *((("ε central", "number"),) if central else ()),
    )]  # fmt: skip
    head += [_metric_head(metric) for metric in metrics]
    best = {id(one.group) for one in best_per_epsilon(groups, by) if one.others}
    rows = []
    for i, group in enumerate(groups):
        button = tag(
            "button", tag("i", class_="swatch"), group.label, type="button", class_="key", data_group=i,
            aria_pressed="true", title="show or hide in all charts",
        )  # fmt: skip
        crown = tag("span", "best", class_="badge best") if id(group) in best else ""
        cells = [
            tag("td", button, crown),
            tag("td", ", ".join(str(run.seed) for run in group.runs)),
            tag("td", "" if group.epsilon is None else f"{group.epsilon:g}", class_="number"),
        ]
        if central:
            held = group.runs[0].central
            cells.append(tag("td", f"{held.epsilon:.3g} (δ {held.delta:.0e})" if held else "", class_="number"))
        cells += [_metric_cell(group, metric) for metric in metrics]
        rows.append(tag("tr", *cells))
    caption = tag(
        "caption", "After the last poll; mean over seeds, and from the lowest to the highest.", class_="unseen"
    )
    return scrolled(tag("table", caption, tag("thead", tag("tr", *head)), tag("tbody", *rows), id="overview"))


def _metric_head(metric: Metric) -> Markup:
    arrow = {"up": " ↑", "down": " ↓", "": ""}[metric.better]
    direction = {"up": "; higher is better", "down": "; lower is better", "": ""}[metric.better]
    text = join(metric.title, arrow)
    return tag("th", text, scope="col", class_="number" + " oracle" * metric.oracle, title=metric.meaning + direction)


def _metric_cell(group: Group, metric: Metric) -> Markup:
    last = group.last(metric.name, metric.oracle)
    kind = "number" + " oracle" * metric.oracle
    if last is None:
        return tag("td", class_=kind)
    between = tag("small", spread(last.low, last.high, metric.form)) if last.seeds > 1 else ""
    return tag("td", shown(last.mean, metric.form), between, class_=kind)
