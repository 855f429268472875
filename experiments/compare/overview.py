"""The first look at a page: large numbers of one configuration, and the table of all, which is also the legend.

overview_of(groups, find_metric(groups, None))
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.compare.formats import in_words, shown, spread
from experiments.compare.groups import Group
from experiments.compare.metrics import Metric, best_per_epsilon, headlines
from experiments.page.markup import Markup, join, scrolled, tag


def facts_of(groups: Sequence[Group]) -> Markup:
    """Large numbers of a single configuration; for many, the table says them."""
    if len(groups) > 1:
        return join()
    run = groups[0].runs[0]
    tiles = []
    asked = run.fact("devices.count") if run.kind == "count" else None
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
    if asked:
        days = in_words(run.fact("devices.days") or 1, "day")
        tiles.append((f"{asked:,}", "devices", f"{days}; tallies {run.fact('devices.tallies')}"))
    tiles.append((f"{run.complete} of {run.planned}", f"{run.step}s complete", mechanism))
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
    head += [metric_head(metric) for metric in metrics]
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
        cells += [metric_cell(group, metric) for metric in metrics]
        rows.append(tag("tr", *cells))
    told = f"After the last {groups[0].runs[0].step}; mean over seeds, and from the lowest to the highest."
    caption = tag("caption", told, class_="unseen")
    return scrolled(tag("table", caption, tag("thead", tag("tr", *head)), tag("tbody", *rows), id="overview"))


def metric_head(metric: Metric) -> Markup:
    """The head of a metric's column."""
    arrow = {"up": " ↑", "down": " ↓", "": ""}[metric.better]
    direction = {"up": "; higher is better", "down": "; lower is better", "": ""}[metric.better]
    text = join(metric.title, arrow)
    return tag("th", text, scope="col", class_="number" + " oracle" * metric.oracle, title=metric.meaning + direction)


def metric_cell(group: Group, metric: Metric) -> Markup:
    """The metric's interval over the seeds of a group."""
    last = group.last(metric.name, metric.oracle)
    kind = "number" + " oracle" * metric.oracle
    if last is None:
        return tag("td", class_=kind)
    between = tag("small", spread(last.low, last.high, metric.form)) if last.seeds > 1 else ""
    return tag("td", shown(last.mean, metric.form), between, class_=kind)
