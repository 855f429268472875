"""Reading the folders of counts: numbers of all keys with `load_count`, released elements with `load_elements`.

load_count(files, config, facts, timings=[], central=None).metrics[0]["emoji.en: released"]
load_elements(run, "emoji.en").counts["😂"]              # of a run that looked for this key
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.compare.count_metrics import totals
from experiments.compare.runs import Central, Row, Run, Timing
from experiments.count.results import keys_in
from experiments.folder.damage import refuse_earlier
from experiments.folder.layout import FACTS, METRICS, Key, truth
from experiments.folder.reader import CompareError, RunFiles


@dataclass(frozen=True, kw_only=True)
class Elements:
    """What was released of one key: by element its `counts`, largest first, with the `lower` and `upper` ends of its
    interval; `truth` is there in simulations only.
    """

    counts: Mapping[str, float]
    lower: Mapping[str, float]
    upper: Mapping[str, float]
    truth: Mapping[str, int]


def load_count(
    files: RunFiles,
    config: Mapping[str, object],
    facts: Mapping[str, Any],
    *,
    timings: Sequence[Timing],
    central: Central | None,
) -> Run:
    """The numbers of a run folder of a count. Raises CompareError if it has no complete key or a damaged file."""
    refuse_earlier(files.path, config.get("_target_"))
    try:
        planned = keys_in(facts)
    except (KeyError, TypeError):
        raise files.damaged(FACTS, "its keys have no place") from None
    keys = tuple(key for key in planned if files.has(Key(key).mark))
    if not keys:
        raise CompareError(f"{files.path} has no complete key yet; compare again after it has printed its first table")
    return Run(
        files=files,
        config=config,
        facts=facts,
        complete=len(keys),
        planned=len(planned),
        metrics=_row(files, METRICS, keys, oracle=False),
        truth=_row(files, truth(METRICS), keys, oracle=True),
        arms={},
        timings=timings,
        central=central,
        kind="count",
        keys=keys,
    )


def load_elements(run: Run, key: str) -> Elements:
    """What the run released of a complete key. Raises CompareError for a damaged file."""
    name = Key(key).histogram
    columns = _columns(run.files, name, ("element", "count", "lower", "upper"))
    by = {column: dict(zip(columns["element"], columns[column], strict=True)) for column in ("count", "lower", "upper")}
    true = {}
    if run.files.has(Key(key).truth):
        told = _columns(run.files, Key(key).truth, ("element", "true_count"))
        true = dict(zip(told["element"], told["true_count"], strict=True))
    return Elements(counts=by["count"], lower=by["lower"], upper=by["upper"], truth=true)


def _columns(files: RunFiles, name: str, wanted: Sequence[str]) -> dict[str, list[Any]]:
    table = files.table(name)
    if missing := [column for column in wanted if column not in table.column_names]:
        raise files.damaged(name, f"no column {missing[0]}")
    return {column: table.column(column).to_pylist() for column in wanted}


def _row(files: RunFiles, name: str, keys: Sequence[str], *, oracle: bool) -> list[Row]:
    """The one row of a table: its numbers of the complete keys, and what these make together."""
    if not files.has(name):
        return []
    numbers = {text.get("key"): row for text, row in zip(files.text_rows(name), files.rows(name), strict=True)}
    # A run that was killed between a key and the tables lacks its row until it is continued.
    known = {key: numbers[key] for key in keys if key in numbers}
    row = {f"{key}: {metric}": value for key, of in known.items() for metric, value in of.items()}
    return [{"round": 0.0} | totals(list(known.values()), oracle=oracle) | row] if known else []
