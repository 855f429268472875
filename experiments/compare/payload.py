"""What a page knows: one JSON-ready value, numbers rounded for reading, texts once each.

    data = build_payload(groups, find_metric(groups, None), live=False)
    to_json(data)                            # under `limit` bytes

`data["timings"]` holds all that differs between equal runs; everything else is the same for the same run folders.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.compare.columns import Strings, candidate_columns, rounded
from experiments.compare.groups import Group, Interval, is_seed, label_of
from experiments.compare.layout import Plane, fit_plane
from experiments.compare.load import load_rounds
from experiments.compare.metrics import Metric, best_per_epsilon, metrics_of
from experiments.compare.runs import History, Run

LIMIT = 4_500_000

_LONGEST = (None, 600, 400, 300, 200, 140, 100, 60)  # characters of a text, tried in this order; None: whole

_NONE = ("none_share", "none_share_stderr")


def build_payload(groups: Sequence[Group], by: Metric, *, live: bool, limit: int = LIMIT) -> dict[str, Any]:
    """Everything on the page of these groups. `by` is the metric that says which is best.

    Above `limit` bytes texts are cut and then only one seed of each group keeps its candidates; what was done is in
    data["reduced"]. Numbers of rounds are always all there. Raises CompareError for damaged files.
    """
    runs = [run for group in groups for run in group.runs]
    owner = [i for i, group in enumerate(groups) for _ in group.runs]
    data: dict[str, Any] = {
        "title": ", ".join(dict.fromkeys(str(run.config.get("name", run.label)) for run in runs)),
        "live": live,
        "oracle": any(run.truth for run in runs),
        "by": {"name": by.name, "oracle": by.oracle},
        "groups": [_group(group, groups) for group in groups],
        "metrics": [_metric(metric, groups) for metric in metrics_of(groups)],
        "cost": [_cost(group) for group in groups],
        "timings": _timings(runs),
    }
    if groups[0].kind == "count":  # which has no candidates
        data["runs"] = [
            {"name": run.label, "seed": run.seed, "group": group, "rounds": [], "text": []}
            for run, group in zip(runs, owner, strict=True)
        ]
        return data | {"strings": [], "reduced": {"longest": None, "every_seed": True}}
    histories = [load_rounds(run) for run in runs]
    planes = _planes(runs, histories)
    for every_seed in (True, False):
        strings = Strings()
        data["runs"] = [
            _run(run, group, history, plane, strings, with_candidates=every_seed or run is groups[group].runs[0])
            for run, group, history, plane in zip(runs, owner, histories, planes, strict=True)
        ]
        numbers = size(data)
        for longest in _LONGEST:
            data["strings"] = strings.cut(longest)
            data["reduced"] = {"longest": longest, "every_seed": every_seed}
            if numbers + size(data["strings"]) <= limit:
                return data
    return data


def size(data: object) -> int:
    """Bytes of a value in a page."""
    return len(to_json(data).encode())


def to_json(data: object) -> str:
    """JSON for a script element: nothing in it can end the element or start a comment, whatever the texts say."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _interval(interval: Interval) -> list[float | int]:
    return [*(rounded(x, 5) for x in (interval.mean, interval.low, interval.high, interval.stderr)), interval.seeds]


def _group(group: Group, groups: Sequence[Group]) -> dict[str, Any]:
    first = group.runs[0]
    central = first.central
    lines = [_line(other) for other in groups]
    other = label_of({name: value for name, value in group.settings.items() if not name.endswith("epsilon")})
    return {
        "label": group.label,
        "settings": dict(group.settings),
        "line": lines.index(_line(group)),
        "lineLabel": other or "all runs",
        "epsilon": group.epsilon,
        "central": central and {"epsilon": central.epsilon, "delta": central.delta, "model": central.trust_model},
        "seeds": [run.seed for run in group.runs],
        "complete": [run.complete for run in group.runs],
        "planned": first.planned,
        "finished": group.finished,
        "threshold": first.config.get("threshold", 3),
    }


def _line(group: Group) -> str:
    """What is the same along a line of a frontier: everything but the budget and the seed."""
    config = group.runs[0].config
    return repr({k: v for k, v in config.items() if not is_seed(k) and k.rsplit(".", 1)[-1] != "epsilon"})


def _metric(metric: Metric, groups: Sequence[Group]) -> dict[str, Any]:
    series = [
        {number: _interval(interval) for number, interval in group.per_round(metric.name, metric.oracle).items()}
        for group in groups
    ]
    places = {id(group): i for i, group in enumerate(groups)}
    return {
        "name": metric.name,
        "title": metric.title,
        "oracle": metric.oracle,
        "better": metric.better,
        "form": metric.form,
        "meaning": metric.meaning,
        "series": [[[number, *values] for number, values in one.items()] for one in series],
        "last": [last and _interval(last) for last in (group.last(metric.name, metric.oracle) for group in groups)],
        "seeds": [_last_values(group.runs, metric) for group in groups],
        "arms": [_arms(group, metric) if metric.oracle else {} for group in groups],
        "best": [
            [best.epsilon, places[id(best.group)], [places[id(group)] for group in best.close], best.others]
            for best in best_per_epsilon(groups, metric)
        ],
    }


def _last_values(runs: Sequence[Run], metric: Metric) -> list[float | int | None]:
    found = []
    for run in runs:
        values = [row[metric.name] for row in (run.truth if metric.oracle else run.metrics) if metric.name in row]
        found.append(rounded(values[-1], 5) if values else None)
    return found


def _arms(group: Group, metric: Metric) -> dict[str, list[list[float | int]]]:
    """Mean over seeds, by round, of each arm that all of the group's runs have."""
    names = [name for name in group.runs[0].arms if all(name in run.arms for run in group.runs)]
    arms = {}
    for name in names:
        values: dict[int, list[float]] = {}
        for row in (row for run in group.runs for row in run.arms[name] if metric.name in row):
            values.setdefault(int(row["round"]), []).append(row[metric.name])
        arms[name] = [[number, rounded(float(np.mean(values[number])), 5)] for number in sorted(values)]
    return {name: points for name, points in arms.items() if points}


def _cost(group: Group) -> dict[str, Any]:
    """Bytes of one device, from the first run: they do not depend on the seed."""
    rows = [row for row in group.runs[0].metrics if "bytes_down" in row]
    return {
        "down": [rounded(row["bytes_down"], 7) for row in rows],
        "up": [rounded(row["bytes_up"], 7) for row in rows],
        "bits": [rounded(row["report_bits"], 7) if "report_bits" in row else None for row in rows],
        "reports": [rounded(row["reports"], 9) for row in rows],
    }


def _timings(runs: Sequence[Run]) -> list[list[list[Any]]]:
    return [[[t.round, t.arm, t.stage, rounded(t.seconds)] for t in run.timings] for run in runs]


def _planes(runs: Sequence[Run], histories: Sequence[History]) -> list[Plane]:
    """One map for all runs of one encoder, so that they can be compared by eye."""
    spaces: dict[tuple[str, int], list[NDArray[np.float32]]] = {}
    of = [
        (str(run.facts.get("encoder")), history.rounds[0].vectors.shape[1])
        for run, history in zip(runs, histories, strict=True)
    ]
    for space, history in zip(of, histories, strict=True):
        spaces.setdefault(space, []).extend(slate.vectors for slate in history.rounds)
    planes = {space: fit_plane(slates) for space, slates in spaces.items()}
    return [planes[space] for space in of]


def _run(
    run: Run, group: int, history: History, plane: Plane, strings: Strings, *, with_candidates: bool
) -> dict[str, Any]:
    polls = [
        [rounded(row["reports"], 9), *(rounded(row[key]) if key in row else None for key in _NONE)]
        for row in run.metrics
        if "reports" in row
    ]
    head = {
        "name": run.label,
        "seed": run.seed,
        "group": group,
        "variance": rounded(plane.variance, 3),
        "polls": polls,
    }
    return head | (candidate_columns(history, plane, strings) if with_candidates else {})
