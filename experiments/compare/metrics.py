"""What the metrics of a run are called, which way is better, who knows them, and which run is best at each epsilon.

metric = find_metric(groups, "coverage")            # or None: the default, see DEFAULTS
for best in best_per_epsilon(groups, metric): print(best.epsilon, best.group.label, best.interval.mean)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from experiments.compare import count_metrics
from experiments.compare.groups import Group, Interval
from experiments.compare.runs import Kind
from experiments.folder.reader import CompareError

Better = Literal["up", "down", ""]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A column of metrics.csv (or, with `oracle`, of oracle/metrics.csv) and how to show it.

    `better` is the direction of improvement, empty where there is none; `form` one of 'number', 'count', 'percent',
    'bytes'.
    """

    name: str
    title: str
    oracle: bool
    better: Better
    form: str
    meaning: str


_Columns = tuple[tuple[str, str, Better, str, str], ...]

_RELEASED: _Columns = (
    ("over_threshold", "Candidates that stand out", "up", "count", "counts that reach the run's threshold"),
    ("none_share", "Answered 'none of these'", "down", "percent", "estimated share that no candidate resembles"),
    ("largest_count", "Largest estimated count", "", "count", "votes of the first winner"),
    ("self_similarity", "Self-similarity", "", "number", "mean cosine of distinct candidates: 1 when all are alike"),
    ("topics", "Topics on the slate", "", "count", "distinct asked-for topics"),
    ("families", "Families on the slate", "", "count", "distinct seed texts that the slate descends from"),
    ("winners", "Winners", "", "count", "candidates kept for the next slate"),
    ("pool", "Texts to choose from", "", "count", "all that was written so far (decision=density)"),
    (
        "predicted_votes",
        "Votes foreseen",
        "up",
        "number",
        "correlation of this poll with what the density said before it",
    ),
    ("predicted_votes_stderr", "Standard error of that", "down", "number", "of the correlation"),
    (
        "density_places",
        "Places of the density",
        "",
        "number",
        "texts that would hold it if all were alike (1 / sum of squares)",
    ),
    ("reports", "Reports", "", "count", "devices that answered"),
    ("refused_reports", "Refused reports", "", "count", "that no honest device sends; they are not counted"),
    ("stderr", "Standard error of a count", "down", "count", "privacy noise on one count, in devices"),
    ("votes_per_candidate", "Mean votes", "up", "count", "of a candidate: reports divided by candidates"),
    ("none_share_stderr", "Standard error of 'none'", "down", "percent", "of the share that answered none of these"),
    ("attempted", "Texts written", "", "count", "texts that the model wrote for this round's variations"),
    ("bytes_down", "Download of a device", "down", "bytes", "the slate, int8"),
    ("bytes_up", "Upload of a device", "down", "bytes", "one report"),
    ("candidates", "Candidates", "", "count", "slate size"),
)
_ORACLE: _Columns = (
    ("similarity", "Similarity to real items", "up", "number", "mean cosine to the nearest candidate"),
    ("coverage", "Coverage", "up", "percent", "real items with a candidate nearby, second encoder"),
    ("recall", "Recall", "up", "percent", "real items inside the candidates' reach, second encoder"),
    ("precision", "Precision", "up", "percent", "candidates inside the real items' reach, second encoder"),
    ("topic_distance", "Topics off", "down", "percent", "total variation from the known shares, second encoder"),
    ("rank_correlation", "Rank correlation", "up", "number", "Spearman, estimated against true votes"),
    ("vote_mass_kept", "Votes kept", "up", "percent", "share of true votes that were for winners"),
    ("error_in_stderr", "Error in standard errors", "", "number", "near 1 where claimed errors are right"),
    ("none_share_true", "True share of 'none'", "", "percent", "what none_share estimates"),
)


def _known(*tables: tuple[tuple[tuple[object, ...], ...], bool]) -> dict[tuple[str, bool], Metric]:
    names = ("name", "title", "better", "form", "meaning")
    found = [
        Metric(**dict(zip(names, column, strict=False)), oracle=oracle)  # type: ignore[arg-type]
        for columns, oracle in tables
        for column in columns
    ]
    return {(metric.name, metric.oracle): metric for metric in found}


KNOWN: dict[Kind, dict[tuple[str, bool], Metric]] = {
    "refine": _known((_RELEASED, False), (_ORACLE, True)),
    "count": _known((count_metrics.RELEASED, False), (count_metrics.ORACLE, True)),
}

_HEADLINES: dict[Kind, tuple[str, ...]] = {
    "refine": ("over_threshold", "none_share", "topics", "self_similarity", "similarity", "coverage", "recall"),
    "count": count_metrics.HEADLINES,
}

# The first that all runs have decides which run is best, unless another is named. Coverage comes first because it is
# measured in the second encoder: a slate tuned to the encoder that votes should look good in another one, too. Of
# counts what is released decides: it is what a server has them for, and every server knows it.
DEFAULTS: dict[Kind, tuple[str, ...]] = {"refine": ("coverage", "similarity", "none_share"), "count": ("released",)}


def metric(name: str, oracle: bool, kind: Kind = "refine") -> Metric:
    """The metric of a column; one that is not known here is shown under its own name, without a direction.

    'emoji.en: released' is that of one key.
    """
    if (name, oracle) in KNOWN[kind]:
        return KNOWN[kind][name, oracle]
    key, between, of_key = name.partition(count_metrics.BETWEEN)
    if kind == "count" and between:
        found = metric(of_key, oracle, kind)
        return replace(found, name=name, title=f"{key}{between}{found.title}")
    distance = re.fullmatch(r"fid_pca(\d+)", name)
    if distance:
        meaning = f"Frechet distance to real items, second encoder, {distance[1]} components"
        title = "Frechet distance (FID)"
        return Metric(name=name, title=title, oracle=oracle, better="down", form="number", meaning=meaning)
    return Metric(name=name, title=name, oracle=oracle, better="", form="number", meaning="")


def metrics_of(groups: Sequence[Group]) -> list[Metric]:
    """Every metric of any run, those known here first and in their order; those of single keys last."""
    columns = {
        (name, oracle): None
        for group in groups
        for run in group.runs
        for rows, oracle in ((run.metrics, False), (run.truth, True))
        for row in rows
        for name in row
        if name != "round"
    }
    kind = groups[0].kind
    order = list(KNOWN[kind])
    # Where there is one key alone, what is said of all keys is said of it.
    alone = len(keys_of(groups)) == 1
    listed = sorted(
        (column for column in columns if not (alone and count_metrics.BETWEEN in column[0])),
        key=lambda column: (column[1], order.index(column) if column in order else len(order)),
    )
    return [metric(name, oracle, kind) for name, oracle in listed]


def keys_of(groups: Sequence[Group]) -> list[str]:
    """The keys of any run, in the order of the runs; none for refinements."""
    return list(dict.fromkeys(key for group in groups for run in group.runs for key in run.keys))


def headlines(groups: Sequence[Group], by: Metric) -> list[Metric]:
    """The few metrics that a table of runs has room for, `by` among them."""
    wanted, listed = _HEADLINES[groups[0].kind], metrics_of(groups)
    found = [m for m in listed if m.name in wanted or m.name.startswith("fid_pca") or m == by]
    if groups[0].kind == "count":
        found.sort(key=lambda m: (m.oracle, wanted.index(m.name) if m.name in wanted else len(wanted)))
    return found


def find_metric(groups: Sequence[Group], name: str | None) -> Metric:
    """The metric called `name`, or the default. Raises CompareError if no run has it."""
    everywhere = metrics_of(groups)
    if name is not None:
        for found in everywhere:
            if found.name == name:
                return found
        known = ", ".join(found.name for found in everywhere if found.better)
        shut = not any(run.files.oracle for group in groups for run in group.runs)
        more = "; metrics of the noise-free truth need --oracle" if shut else ""
        raise CompareError(f"--metric is {name!r}; expected a metric of these runs, such as {known}{more}")
    defaults = DEFAULTS[groups[0].kind]
    for wanted in defaults:
        for found in everywhere:
            if found.name == wanted and all(group.last(found.name, found.oracle) for group in groups):
                return found
    raise CompareError(f"the runs have none of {', '.join(defaults)} in common; name another with --metric")


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best group of runs at one epsilon; `close` lists those whose interval over seeds overlaps with its own."""

    epsilon: float
    group: Group
    interval: Interval
    close: tuple[Group, ...]
    others: int


def best_per_epsilon(groups: Sequence[Group], by: Metric) -> list[Best]:
    """For each local epsilon, the finished group with the best mean of the metric's last value.

    Empty for a metric without a direction.
    """
    if not by.better:
        return []
    sign = 1 if by.better == "up" else -1
    found = []
    # A run that is still at work has had fewer polls: it is compared only where none is finished.
    groups = [group for group in groups if group.finished] or groups
    # Counts of other keys are other questions.
    contests = dict.fromkeys((group.epsilon, group.runs[0].keys) for group in groups if group.epsilon is not None)
    for epsilon, keys in sorted(contests, key=lambda contest: contest[0] or 0.0):
        here = [
            (group, last)
            for group in groups
            if (group.epsilon, group.runs[0].keys) == (epsilon, keys)
            and (last := group.last(by.name, by.oracle)) is not None
        ]
        if epsilon is None or not here:
            continue
        here.sort(key=lambda pair: -sign * pair[1].mean)
        group, interval = here[0]
        close = tuple(g for g, other in here[1:] if other.low <= interval.high and interval.low <= other.high)
        found.append(Best(epsilon=epsilon, group=group, interval=interval, close=close, others=len(here) - 1))
    return found
