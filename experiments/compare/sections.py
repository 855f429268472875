"""The parts of a page that need no script: what was compared, the facts, the runs, what differs, where it came from.

body = body_of(groups, by, build_payload(groups, by, live=False), None)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.compare.elements import ELEMENTS_NOTE, KEYS_NOTE, count_cost, elements_of, keys_of_runs
from experiments.compare.formats import in_words, short, shown
from experiments.compare.groups import Group, differences, is_seed
from experiments.compare.metrics import Metric, best_per_epsilon
from experiments.compare.overview import facts_of, overview_of
from experiments.compare.runs import Kind, Run
from experiments.page.markup import Markup, join, scrolled, tag

_ORIGIN: Mapping[Kind, str] = {
    "refine": "All texts on this page were written by a language model. Released: what the server of a real deployment "
    "would know. Simulation only: computed from noise-free votes and real items, which no deployment has.",
    "count": "All elements on this page are those that a release rule let out; nothing on it names one that was "
    "withheld. Released: what the server of a real deployment would know. Simulation only: what devices really sent, "
    "which no deployment knows.",
}
_COLUMNS = 4  # configurations that stand side by side; more are listed below each other
_SECTIONS: Mapping[Kind, tuple[tuple[str, str], ...]] = {
    "refine": (
        ("runs", "Runs"), ("metrics", "Rounds"), ("frontier", "Privacy"), ("poll", "Votes"), ("map", "Map"),
        ("drift", "Drift"), ("cost", "Cost"), ("settings", "Settings"),
    ),
    "count": (
        ("runs", "Runs"), ("keys", "Keys"), ("frontier", "Privacy"), ("elements", "Released"), ("cost", "Cost"),
        ("settings", "Settings"),
    ),
}  # fmt: skip


def navigation(groups: Sequence[Group]) -> dict[str, str]:
    """The names of the sections by id."""
    return dict(_SECTIONS[groups[0].kind])


def switches(*, oracle: bool) -> Markup:
    """What changes the whole page: simulation-only numbers shown or not, light or dark."""
    truth = tag(
        "label",
        tag("input", type="checkbox", id="oracle", checked=True),
        " simulation-only numbers",
        class_="oracle-switch",
    )
    theme = tag("button", "◐", type="button", id="theme", title="light or dark", aria_label="Switch light and dark")
    return join(truth if oracle else "", theme)


def body_of(groups: Sequence[Group], by: Metric, data: dict[str, Any], twin: str | None) -> Markup:
    """All sections. Those that are drawn are empty here, with a line that says what a script will draw."""
    many = len(groups) > 1
    return join(
        _head(groups, data, twin),
        section(
            "runs", "Runs" if many else "The run", _runs_note(groups, by), facts_of(groups), overview_of(groups, by)
        ),
        *(_of_rounds(groups) if groups[0].kind == "refine" else _of_keys(groups, by)),
        section(
            "settings", "What differs between the configurations" if many else "Configuration", "", _settings(groups)
        ),
    )


def _of_rounds(groups: Sequence[Group]) -> tuple[Markup, ...]:
    """What a refinement has: rounds, and candidates."""
    return (
        section("metrics", "Round after round", _metrics_note(groups)),
        section("frontier", "Privacy against utility", _frontier_note("what the corpus is worth after the last poll")),
        section(
            "poll",
            "What the devices voted for",
            "One poll at a time: how many devices chose each candidate, as the server can know it, and the texts that "
            "won and lost.",
        ),
        section(
            "map",
            "Map of candidates",
            "Every text of the run, placed so that similar texts lie close. Hover or use the arrow keys to read; "
            "choose a text to follow its line from parent to child.",
        ),
        section(
            "drift",
            "What the corpus turned into",
            "Shares are of the corpus as the devices' estimated votes weigh it. All of it is synthetic text.",
        ),
        section("cost", "What it costs a device", ""),
    )


def _of_keys(groups: Sequence[Group], by: Metric) -> tuple[Markup, ...]:
    """What a count has: keys, and released elements."""
    return (
        section("keys", "Key by key", KEYS_NOTE, keys_of_runs(groups, by)),
        section("frontier", "Privacy against utility", _frontier_note("what the release is worth")),
        section("elements", "What was released", ELEMENTS_NOTE, elements_of(groups)),
        section("cost", "What it costs a device", "", count_cost(groups)),
    )


def footer_of(groups: Sequence[Group]) -> Markup:
    """Provenance, and how to read the page."""
    kind = groups[0].kind
    made_by = ("commit", "generator", "encoder", "judge") if kind == "refine" else ("commit", "python")
    rows = [tag("tr", *(tag("th", name, scope="col") for name in ("run", "seed", *made_by)))]
    for run in (run for group in groups for run in group.runs):
        facts = [str(run.facts.get(name, "")) for name in made_by]
        facts[0] = facts[0][:12]
        rows.append(tag("tr", *(tag("td", text) for text in (run.label, run.seed, *facts))))
    return join(
        tag("details", tag("summary", "Where these runs came from"), scrolled(tag("table", *rows))),
        tag(
            "p",
            f"{_ORIGIN[kind]} The page loads nothing from a network and can be kept as a file.",
        ),
    )


def section(place: str, title: str, note: object, *content: object) -> Markup:
    """A section; without content, a script fills it."""
    drawn = () if content else (tag("noscript", "This part is drawn by a script, which is switched off here."),)
    return tag(
        "section", tag("h2", title), tag("p", note, class_="note"), *content, *drawn,
        tag("div", class_="drawn"), id=place,
    )  # fmt: skip


def _head(groups: Sequence[Group], data: dict[str, Any], twin: str | None) -> Markup:
    runs = [run for group in groups for run in group.runs]
    unfinished = [run for run in runs if not run.finished]
    what = in_words(len(runs), "run") + (f" in {in_words(len(groups), 'configuration')}" if len(groups) > 1 else "")
    parts = [tag("h1", data["title"]), tag("p", what, ", ", _steps(runs), ".", class_="lead")]
    if data["live"]:
        parts.append(
            tag(
                "p",
                tag("span", class_="pulse"),
                f" This run is at work: {runs[0].complete} of {runs[0].planned} {runs[0].step}s are complete. ",
                tag("label", tag("input", type="checkbox", id="follow", checked=True), " reload every 20 seconds"),
                class_="banner",
            )
        )
    elif unfinished:
        names = ", ".join(f"{run.label} ({run.complete} of {run.planned})" for run in unfinished)
        parts.append(tag("p", f"Not finished, compared as far as they are: {names}.", class_="banner"))
    longest = data["reduced"]["longest"]
    quiet = []
    if longest is not None:
        quiet.append(f"texts of candidates that neither won nor lost clearly are cut at {longest} characters")
    if not data["reduced"]["every_seed"]:
        quiet.append("votes, map and drift are shown for the first seed of each configuration")
    if quiet:
        parts.append(tag("p", f"To keep the page small, {' and '.join(quiet)}.", class_="banner quiet"))
    if twin:
        text = "The same page with released numbers only" if data["oracle"] else "The same page with noise-free truth"
        parts.append(tag("p", tag("a", text, href=twin), class_="twin"))
    return tag("div", *parts, class_="head")


def _steps(runs: Sequence[Run]) -> str:
    planned, step = sorted({run.planned for run in runs}), runs[0].step
    return in_words(planned[0], step) if len(planned) == 1 else f"{planned[0]} to {planned[-1]} {step}s"


def _runs_note(groups: Sequence[Group], by: Metric) -> Markup:
    """The answer first: which run is best, by what, and how sure that is."""
    best = [one for one in best_per_epsilon(groups, by) if one.others]
    if not best:
        return join("" if len(groups) == 1 else "No two configurations have the same epsilon: see the frontier below.")
    lines = []
    for one in best:
        interval = shown(one.interval.mean, by.form)
        said = f"; apart from all others over {one.interval.seeds} seeds"
        if one.close:
            said = f"; not clearly apart from {in_words(len(one.close), 'other')}"
        if one.interval.seeds == 1:
            said = "; one seed, so differences may be chance"
        lines.append(tag("li", f"at ε {one.epsilon:g}: ", tag("strong", one.group.label), f", {interval}{said}"))
    who = (
        tag("span", "simulation only", class_="badge oracle") if by.oracle else tag("span", "released", class_="badge")
    )
    when = f"after the last {groups[0].runs[0].step}"
    return join(f"Best by {by.title.lower()} {when} ", who, tag("ul", *lines, class_="best"))


def _metrics_note(groups: Sequence[Group]) -> str:
    seeds = max(len(group.runs) for group in groups)
    spread = (
        "Lines are means over seeds, bands reach from the lowest to the highest seed. "
        if seeds > 1
        else "One seed each: there is no interval to show. "
    )
    return (
        spread + "The horizontal axis counts polls; the last point is the refined corpus, which is not polled any more."
    )


def _frontier_note(worth: str) -> str:
    return (
        f"One point per configuration: what a device spends, and {worth}. Whiskers "
        "reach from the lowest to the highest seed; small dots are seeds."
    )


def _settings(groups: Sequence[Group]) -> Markup:
    """The configuration keys that differ; what is the same folded away."""
    first = [group.runs[0] for group in groups]
    differing = differences(first)
    same = sorted(key for key in first[0].config if key not in differing and not is_seed(key))
    names = [join(tag("i", class_="swatch", data_group=i), " ", group.label) for i, group in enumerate(groups)]
    columns = [[short(value) for value in differing[key]] for key in sorted(differing)]
    if not differing:
        shown = tag("p", "Nothing but the seed.") if len(groups[0].runs) > 1 else join()
    elif len(groups) <= _COLUMNS:
        rows = [(key, *column) for key, column in zip(sorted(differing), columns, strict=True)]
        shown = scrolled(_grid(("key", *names), rows))
    else:
        shown = scrolled(_grid(("configuration", *sorted(differing)), list(zip(names, *columns, strict=True))))
    listed = scrolled(_grid(("key", "value"), [(key, short(first[0].config[key])) for key in same]))
    title = (
        "setting"
        if len(groups) == 1
        else "setting that is the same"
        if len(same) == 1
        else "settings that are the same"
    )
    count = in_words(len(same), title) if len(groups) == 1 else f"{len(same)} {title}"
    return join(shown, tag("details", tag("summary", count), listed))


def _grid(head: Sequence[object], rows: Sequence[Sequence[object]]) -> Markup:
    """A table whose first column heads its rows."""
    top = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in head)))
    body = [tag("tr", tag("th", first, scope="row"), *(tag("td", cell) for cell in rest)) for first, *rest in rows]
    return tag("table", top, tag("tbody", *body), class_="settings")
