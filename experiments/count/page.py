"""The pages of a use case: one HTML file each with everything in it, opened from disk, without scripts or network.

    write_pages(Path("runs/emoji/seed0-1a2b3c4d"))     # report.html and oracle/report.html in the run

report.html has what was released and nothing else. oracle/report.html has the truth of released elements, too. Both are
made from the run folder alone, which names no withheld element.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.count.drawing import draw_intervals, name_of
from experiments.count.report import DROPPED
from experiments.count.results import keys_in
from experiments.folder.layout import DEVICES, DIFFERENCES, FACTS, PAGE, STATEMENT, STATEMENT_PAGE
from experiments.folder.layout import Key as Step
from experiments.folder.layout import truth as truth_of
from experiments.folder.store import RunFolder
from experiments.page.markup import Markup, join, scrolled, tag
from experiments.page.shell import COUNTS, document
from experiments.statement.page import rounded_up

_DRAWN = 30  # elements of a plot
_LISTED = 500  # rows of a table; histogram.parquet has all
_COMPARED = 40
_LEAST_P = 1e-300
_LEGEND = {
    False: "Dot: the count. Bar: its interval. Logarithmic axis, in reports.",
    True: "Dot: the count. Bar: its interval. Amber: the truth. Logarithmic axis, in reports.",
}


def write_pages(folder: Path) -> list[Path]:
    """Write report.html and oracle/report.html; return them. Raises StoreError for a damaged folder."""
    store, names = RunFolder(folder), (PAGE, truth_of(PAGE))
    for oracle, name in zip((False, True), names, strict=True):
        store.write_bytes(name, render(store, oracle=oracle).encode())
    return [folder / name for name in names]


def render(folder: RunFolder, *, oracle: bool) -> str:
    """The page as text, with or without what only a simulation knows."""
    run, statement = folder.read_json(FACTS), folder.read_json(STATEMENT)
    keys = [key for key in keys_in(run) if folder.is_complete(Step(key))]
    title = f"{run['name']}, seed {run['seed']}"
    body = join(
        _head(run, statement, title, oracle=oracle),
        *(_key(folder, key, oracle=oracle) for key in keys),
        *_differences(folder),
        _statement(statement),
    )
    return document(
        title=title,
        navigation={key: key for key in keys},
        parts="Keys",
        content="keys",
        styles=COUNTS,
        body=body,
        footer=tag(
            "p",
            f"Commit {run['commit']}. Privacy statement: {STATEMENT_PAGE}. All released elements: "
            f"{Step('KEY').histogram}.",
        ),
    )


def _head(run: Mapping[str, Any], statement: Mapping[str, Any], title: str, *, oracle: bool) -> Markup:
    devices = run["devices"]
    days = "1 day" if devices["days"] == 1 else f"{devices['days']} days"
    segments = ", ".join(f"{name} {count:,}" for name, count in devices["segments"].items())
    tiles = [
        (f"{devices['count']:,}", "devices", segments if len(devices["segments"]) > 1 else "no segments"),
        *_budget(statement, days),
    ]
    other, what = (f"../{PAGE}", "The page without the truth") if oracle else (truth_of(PAGE), "With the truth")
    return tag(
        "div",
        tag("h1", title),
        tag("p", statement["headline"], class_="lead"),
        tag("p", tag("a", what, href=other), class_="twin"),
        tag(
            "p",
            "This page has what only a simulation knows: true counts of released elements, in amber. Not for release.",
            class_="banner",
        )
        if oracle
        else join(),
        tag(
            "div",
            *(
                tag("div", tag("b", big), tag("span", what), tag("small", small), class_="tile")
                for big, what, small in tiles
            ),
            class_="tiles",
        ),
        class_="head",
    )


def _budget(statement: Mapping[str, Any], days: str) -> list[tuple[str, str, str]]:
    """Tiles of what a device spends: of a report where that is private by itself, and under the trust model."""
    spent, central = statement["spent"], statement["central"]
    delta = f", at delta {spent['delta']:g}" if spent["delta"] else ""
    alone = ("none", "privacy of one report alone", "only of what is made of all of them")
    tiles = [
        alone
        if spent["report"] is None
        else (rounded_up(spent["report"]), "epsilon of one report", "pure local differential privacy"),
        (
            rounded_up(spent["day"]),
            "epsilon of a device and day",
            f"{rounded_up(spent['run'])} in this run, {days}{delta}",
        ),
    ]
    if central is not None:
        told = f"at delta {central['delta']:g}, trust model {central['trust_model']}"
        tiles.append((rounded_up(central["epsilon"]), "central epsilon of this run", told))
    return tiles


def _key(folder: RunFolder, key: str, *, oracle: bool) -> Markup:
    step = Step(key)
    table = folder.files.table(step.histogram).to_pydict()
    public = folder.read_json(step.metrics)
    truth = folder.files.table(step.truth).to_pydict() if oracle else {}
    scores = folder.read_json(truth_of(step.metrics)) if oracle else {}
    told = [
        (f"{public['reports']:,}", "reports", f"standard error of a rare count {public['stderr']:,.1f}"),
        (f"{public['released']:,}", "elements released", f"of {public['looked_at']:,} looked at"),
        (f"{public['withheld']:,}", "withheld", "below the threshold; none of them is named in this folder"),
    ]
    if "new_words" in public:
        told.append((f"{public['new_words']:,}", "new words", f"{public['wrong_joins']:,} wrong joins were dropped"))
    if "no_match" in public:
        told.append((f"{public['no_match']:.1%}", "no match", f"standard error {public['no_match_stderr']:.1%}"))
    unfit = folder.read_json(DEVICES)["values_that_do_not_fit"][key] if oracle else {}
    notes = [tag("p", public["rule"], class_="note")]
    if unfit:
        counted = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in unfit.items())
        notes.append(tag("p", f"Values of the file that the mechanism cannot take: {counted}.", class_="note"))
    drawn = draw_intervals(
        table["element"][:_DRAWN],
        table["count"][:_DRAWN],
        table["lower"][:_DRAWN],
        table["upper"][:_DRAWN],
        truth["true_count"][:_DRAWN] if oracle else None,
        title=f"{key}: counts with intervals" + (", and the truth" if oracle else ""),
    )
    return tag(
        "section",
        tag("h2", key),
        *notes,
        tag(
            "div",
            *(tag("div", tag("b", a), tag("span", b), tag("small", c), class_="tile") for a, b, c in told),
            class_="tiles",
        ),
        _scores(scores) if oracle else join(),
        tag("div", drawn, tag("p", _LEGEND[oracle], class_="how"), class_="panel plot")
        if table["element"]
        else tag("p", "Nothing is released.", class_="banner quiet"),
        _table(table, public, truth),
        _by_frequency(folder, step) if oracle else join(),
        id=key,
    )


def _scores(scores: Mapping[str, Any]) -> Markup:
    def number(name: str, form: str) -> str:
        return "-" if scores[name] is None else format(scores[name], form)

    rows = [
        ("Own intervals of all elements that hold the truth", f"{number('coverage', '.2%')} (expected within "
         f"{scores['coverage_stderr']:.2%}, one standard error)"),
        ("Released intervals that hold the truth", number("coverage_released", ".1%")),
        ("Error in standard errors (1 is right)", number("error_in_stderr", ".3f")),
        ("Rank correlation of the released", number("rank_correlation", ".4f")),
        ("True top 20 released", number("top_recovered", ".0%")),
        ("Released, of those with the minimum count", number("recall", ".1%")),
        ("Released that nobody sent", number("false_releases", "d")),
        ("Released below the minimum count", number("below_minimum", "d")),
    ]  # fmt: skip
    if "held_by_fewer" in scores:
        rows.append(("Released that fewer devices hold", number("held_by_fewer", "d")))
    rows += [
        (f"Dropped on the devices: events {told}", f"{scores[f'dropped_{name}']:,}")
        for name, told in DROPPED.items()
        if f"dropped_{name}" in scores
    ]
    body = (tag("tr", tag("td", what), tag("td", value, class_="number oracle")) for what, value in rows)
    return scrolled(tag("table", tag("tbody", *body)))


def _table(table: Mapping[str, list[Any]], public: Mapping[str, Any], truth: Mapping[str, list[Any]]) -> Markup:
    processed = public["post_processing"]
    heads = ["element", "count", "interval", "share of reports", "p-value"]
    heads += [] if processed == "none" else [f"{processed} (post-processed, biased)"]
    heads += ["in the device's dictionary"] if "new" in table else []
    amber = [name for name in ("true_count", "held_by") if name in truth]
    rows = []
    for i, element in enumerate(table["element"][:_LISTED]):
        cells = [
            f"{table['count'][i]:,.0f}",
            f"{table['lower'][i]:,.0f} to {table['upper'][i]:,.0f}",
            f"{table['count'][i] / public['reports']:.3%}",
            f"{table['p_value'][i]:.1e}" if table["p_value"][i] >= _LEAST_P else f"< {_LEAST_P:g}",
        ]
        cells += [] if processed == "none" else [f"{table['processed'][i]:,.0f}"]
        cells += [("new" if table["new"][i] else "yes")] if "new" in table else []
        rows.append(
            tag(
                "tr",
                tag("td", element, *_named(element)),
                *(tag("td", cell, class_="number") for cell in cells),
                *(tag("td", f"{truth[name][i]:,}", class_="number oracle") for name in amber),
            )
        )
    head = tag(
        "tr",
        tag("th", heads[0]),
        *(tag("th", name, class_="number") for name in heads[1:]),
        *(
            tag("th", {"true_count": "true count", "held_by": "held by"}[name], class_="number oracle")
            for name in amber
        ),
    )
    more = len(table["element"]) - len(rows)
    return join(
        scrolled(tag("table", tag("thead", head), tag("tbody", *rows))) if rows else join(),
        tag("p", f"{more:,} more are in histogram.parquet.", class_="note") if more > 0 else join(),
    )


def _by_frequency(folder: RunFolder, step: Step) -> Markup:
    lines = folder.files.text_rows(step.by_frequency) if folder.has(step.by_frequency) else []
    if not lines:
        return join()
    head = list(lines[0])
    rows = (tag("tr", *(tag("td", _short(line[name]), class_="number oracle") for name in head)) for line in lines)
    return join(
        tag("h3", "Precision and recall, for words at least so frequent"),
        scrolled(
            tag(
                "table",
                tag("thead", tag("tr", *(tag("th", name, class_="number oracle") for name in head))),
                tag("tbody", *rows),
            )
        ),
    )


def _short(number: str) -> str:
    return "-" if not number else number if number.isdecimal() else f"{float(number):.3g}"


def _named(element: str) -> tuple[Markup, ...]:
    name = name_of(element)
    return (tag("span", f" {name}", class_="quiet"),) if name else ()


def _differences(folder: RunFolder) -> list[Markup]:
    sections = []
    for path in sorted((folder.path / DIFFERENCES).glob("*.parquet")):
        table = folder.files.table(folder.relative(path)).to_pydict()
        one, two = (name.removeprefix("share_") for name in table if name.startswith("share_"))
        clear = [i for i in range(len(table["element"])) if table["lower"][i] > 0 or table["upper"][i] < 0]
        rows = (
            tag(
                "tr",
                tag("td", table["element"][i], *_named(table["element"][i])),
                *(tag("td", f"{table[f'share_{name}'][i]:.3%}", class_="number") for name in (one, two)),
                tag("td", f"{table['difference'][i]:+.3%}", class_="number"),
                tag("td", f"{table['lower'][i]:+.3%} to {table['upper'][i]:+.3%}", class_="number"),
            )
            for i in clear[:_COMPARED]
        )
        heads = (f"share in {one}", f"share in {two}", "difference", "interval")
        sections.append(
            tag(
                "section",
                tag("h2", f"{one} and {two}"),
                tag(
                    "p",
                    f"{len(clear)} of {len(table['element'])} elements released in both differ by more than the "
                    "noise: their intervals, corrected for all that could be compared, do not hold 0. Largest first.",
                    class_="note",
                ),
                scrolled(
                    tag(
                        "table",
                        tag(
                            "thead",
                            tag("tr", tag("th", "element"), *(tag("th", name, class_="number") for name in heads)),
                        ),
                        tag("tbody", *rows),
                    )
                ),
            )
        )
    return sections


def _statement(statement: Mapping[str, Any]) -> Markup:
    return tag("section", tag("h2", "Privacy"), tag("p", statement["summary"], class_="note"))
