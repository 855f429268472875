"""The page of a run, or of many: one HTML file with everything in it, opened from disk, without any network.

    write_page(Path("runs/town/seed0-1a2b3c4d"))                       # report.html and oracle/report.html in the run
    write_comparison(groups, Path("sweep.html"))                       # of experiments/compare/groups.py

The page may show only what experiments/folder/reader.py lets through. Its shell (experiments/page/shell.py) forbids it
to load or send anything, and any script but its own: text that a model wrote stays text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path

from experiments.compare.groups import Group, group_runs
from experiments.compare.load import load_run
from experiments.compare.metrics import Metric, find_metric
from experiments.compare.payload import build_payload, to_json
from experiments.compare.runs import Kind
from experiments.compare.sections import body_of, footer_of, navigation, switches
from experiments.folder.layout import PAGE, truth
from experiments.folder.reader import CompareError
from experiments.folder.store import RunFolder
from experiments.page.shell import COUNTS, Script, data_line, document

_SCRIPTS: Mapping[Kind, tuple[str, ...]] = {
    "refine": ("kit", "metrics", "frontier", "poll", "map", "lineage", "drift", "cost", "start"),
    "count": ("kit", "metrics", "frontier", "cost", "counts", "start"),
}
_STYLES: Mapping[Kind, tuple[str, ...]] = {"refine": ("page.css",), "count": COUNTS}


def write_page(folder: Path, *, metric: str | None = None) -> Path:
    """Write the run's own pages, to be called after each round and at the end; return the path of the first.

    report.html has released numbers only. oracle/report.html has noise-free truth, too, and is written where the run
    has an oracle/ folder. While rounds are missing the pages reload themselves, so that a run can be watched. Equal
    runs give equal pages, so without timings. Raises CompareError without a complete round.
    """
    store = RunFolder(folder)
    for oracle, name, other in ((True, truth(PAGE), f"../{PAGE}"), (False, PAGE, truth(PAGE))):
        # Seconds differ between equal runs; their place is timings.csv, and a comparison shows them.
        run = replace(load_run(folder, oracle=oracle), alone=True, timings=())
        if oracle and not run.truth:
            continue
        groups, _ = group_runs([run])
        twin = other if oracle or (folder / other).exists() else None
        store.write_bytes(name, render(groups, metric, live=not run.finished, twin=twin).encode())
    return folder / PAGE


TIMINGS_LINE = data_line("timings")


def write_comparison(groups: Sequence[Group], to: Path, *, metric: str | None = None, twin: str | None = None) -> None:
    """Write the page that compares these groups to the file `to`; `twin` as in `render`.

    Raises CompareError for damaged run folders, a metric that none has, or a file that cannot be written.
    """
    check_target(to)
    scratch = to.with_name(f".writing-{to.name}")
    page = render(groups, metric, live=False, twin=twin)
    try:
        scratch.write_text(page, encoding="utf-8")
        scratch.replace(to)
    except OSError as error:
        if scratch.is_file():
            scratch.unlink()
        raise CompareError(f"cannot write {to} ({error.strerror}); choose another place with --to PAGE.html") from None


def check_target(to: Path) -> None:
    """Raise CompareError if a page cannot be called `to`: a run folder, for instance, must not be replaced by one."""
    if to.suffix.lower() not in (".html", ".htm") or to.is_dir():
        raise CompareError(f"--to is {to}; expected a file name that ends in .html")
    if not to.parent.is_dir():
        raise CompareError(f"--to is {to}, but there is no folder {to.parent}; create it or choose another place")


def render(groups: Sequence[Group], metric: str | None, *, live: bool, twin: str | None = None) -> str:
    """The page as text. `twin` is a relative link to the page with (or without) the noise-free truth."""
    by: Metric = find_metric(groups, metric)
    data = build_payload(groups, by, live=live)
    timings = data.pop("timings")
    return document(
        title=str(data["title"]),
        navigation=navigation(groups),
        body=body_of(groups, by, data, twin),
        footer=footer_of(groups),
        content="runs",
        styles=_STYLES[groups[0].kind],
        script=Script(
            code=_script(groups[0].kind),
            data={"data": to_json(data), "timings": to_json(timings)},
            switches=switches(oracle=data["oracle"]),
        ),
    )


def _script(kind: Kind) -> str:
    """Our scripts as one, in a scope of its own."""
    folder = resources.files("experiments.compare") / "page"
    code = "\n".join((folder / f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS[kind])
    return f"(() => {{\n'use strict';\n{code}\n}})();\n"
