"""What the metrics of a run are called, which way is better, who knows them, and which run is best at each epsilon.

metric = find_metric(groups, "coverage")            # or None: the default, see DEFAULTS
for best in best_per_epsilon(groups, metric): print(best.epsilon, best.group.label, best.interval.mean)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from experiments.compare.files import CompareError
from experiments.compare.groups import Group, Interval

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
    ("reports", "Reports", "", "count", "devices that answered"),
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
    ("rank_correlation", "Rank correlation", "up", "number", "Spearman, estimated against true votes"),
    ("vote_mass_kept", "Votes kept", "up", "percent", "share of true votes that were for winners"),
    ("error_in_stderr", "Error in standard errors", "", "number", "near 1 where claimed errors are right"),
    ("none_share_true", "True share of 'none'", "", "percent", "what none_share estimates"),
)
KNOWN = tuple(
    Metric(name=name, title=title, oracle=oracle, better=better, form=form, meaning=meaning)
    for columns, oracle in ((_RELEASED, False), (_ORACLE, True))
    for name, title, better, form, meaning in columns
)

_HEADLINES = ("over_threshold", "none_share", "topics", "self_similarity", "similarity", "coverage", "recall")

# The first that all runs have decides which run is best, unless another is named. Coverage comes first because it is
# measured in the second encoder: a slate tuned to the encoder that votes should look good in another one, too.
DEFAULTS = ("coverage", "similarity", "none_share")


def metric(name: str, oracle: bool) -> Metric:
    """The metric of a column; one that is not known here is shown under its own name, without a direction."""
    for known in KNOWN:
        if (known.name, known.oracle) == (name, oracle):
            return known
    distance = re.fullmatch(r"fid_pca(\d+)", name)
    if distance:
        meaning = f"Frechet distance to real items, second encoder, {distance[1]} components"
        title = "Frechet distance (FID)"
        return Metric(name=name, title=title, oracle=oracle, better="down", form="number", meaning=meaning)
    return Metric(name=name, title=name, oracle=oracle, better="", form="number", meaning="")


def metrics_of(groups: Sequence[Group]) -> list[Metric]:
    """Every metric of any run, those known here first and in their order."""
    columns = {
        (name, oracle): None
        for group in groups
        for run in group.runs
        for rows, oracle in ((run.metrics, False), (run.truth, True))
        for row in rows
        for name in row
        if name != "round"
    }
    order = [(known.name, known.oracle) for known in KNOWN]
    listed = sorted(columns, key=lambda column: (column[1], order.index(column) if column in order else len(order)))
    return [metric(name, oracle) for name, oracle in listed]


def headlines(groups: Sequence[Group], by: Metric) -> list[Metric]:
    """The few metrics that a table of runs has room for, `by` among them."""
    return [m for m in metrics_of(groups) if m.name in _HEADLINES or m.name.startswith("fid_pca") or m == by]


def find_metric(groups: Sequence[Group], name: str | None) -> Metric:
    """The metric called `name`, or the default. Raises CompareError if no run has it."""
    everywhere = metrics_of(groups)
    if name is not None:
        for found in everywhere:
            if found.name == name:
                return found
        known = ", ".join(found.name for found in everywhere if found.better)
        raise CompareError(f"--metric is {name!r}; expected a metric of these runs, such as {known}")
    for wanted in DEFAULTS:
        for found in everywhere:
            if found.name == wanted and all(group.last(found.name, found.oracle) for group in groups):
                return found
    raise CompareError(f"the runs have none of {', '.join(DEFAULTS)} in common; name another with --metric")


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
    for epsilon in sorted({group.epsilon for group in groups if group.epsilon is not None}):
        lasts = [(group, group.last(by.name, by.oracle)) for group in groups if group.epsilon == epsilon]
        here = [(group, last) for group, last in lasts if last is not None]
        if not here:
            continue
        here.sort(key=lambda pair: -sign * pair[1].mean)
        group, interval = here[0]
        close = tuple(g for g, other in here[1:] if other.low <= interval.high and interval.low <= other.high)
        found.append(Best(epsilon=epsilon, group=group, interval=interval, close=close, others=len(here) - 1))
    return found
