"""The run folder's side of experiment tracking: its tables as Parquet, and what of it a tracker is told.

    write_parquet(folder, "metrics.parquet", rows)        # beside metrics.csv, whatever the tracker
    read_rows(Path("runs/town/seed0-1a2b3c4d"))[0]["oracle/similarity"]

What is read goes through experiments/compare/files.py, which decides by name which files may be shown around.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from experiments.compare.files import RunFiles
from experiments.compare.load import flatten
from experiments.store import RunFolder
from experiments.trackers.tracker import TrackedRun, Value

# Of run.json; the rest is in the configuration, or too much for a table of parameters.
_FACTS = ("privacy", "resolution", "devices", "commit")


def write_parquet(
    folder: RunFolder, name: str, rows: Sequence[Mapping[str, object]], names: Collection[str] = ()
) -> None:
    """Write rows of metrics as Parquet: the union of their columns, as in the CSV file, and null where one is missing.

    Raises ValueError for anything but a number, so that no text gets into a table of metrics; only the columns `names`
    hold text, such as the key of a use case.
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = {
        column: pa.array(values, pa.string()) if column in names else _numbers(column, values)
        for column, values in ((column, [row.get(column) for row in rows]) for column in columns)
    }
    folder.write_table(name, pa.table(table))


def read_rows(folder: Path) -> dict[int, dict[str, float]]:
    """All metrics of each round: the server's by name, the truth as 'oracle/NAME', arms as 'oracle/arms/ARM/NAME'.

    A run of use cases has one row a key instead of one a round: all in round 0, as 'KEY/NAME' and 'oracle/KEY/NAME'.
    """
    files = RunFiles(folder)
    if not files.has("metrics.csv"):
        return {}
    rows = _by_round(files, "metrics.csv")
    places = ["oracle/"] + [f"oracle/arms/{arm}/{part}" for arm in files.arms() for part in ("", "oracle/")]
    for place in places:
        if files.has(f"{place}metrics.csv"):
            for number, row in _by_round(files, f"{place}metrics.csv").items():
                # Only rounds of the run itself: its arms are played before it, and would draw longer curves.
                if number in rows:
                    rows[number] |= {f"{place}{name}": value for name, value in row.items()}
    return rows


def tracked_run(folder: Path, experiment: str, config: str, sweep: Path | None) -> TrackedRun:
    """What a tracker is told about the run in `folder`, whose configuration has the text `config`."""
    files = RunFiles(folder)
    parameters = flatten(files.yaml("config.yaml"))
    parameters.pop("watch", None)  # the id of a device is no tracker's business
    facts, statement = files.json("run.json"), files.json("privacy.json")
    known: dict[str, Any] = {name: facts[name] for name in _FACTS if name in facts}
    known["privacy"] = known["privacy"] | {"central": statement["central"]}
    parameters |= flatten(known, "run")
    identity = f"{folder.resolve()}\n{config}"
    return TrackedRun(
        experiment=experiment,
        name=folder.name,
        key=hashlib.sha256(identity.encode()).hexdigest()[:12],
        parameters={name: _value(value) for name, value in parameters.items()},
        note=str(statement["headline"]),
        sweep=sweep,
    )


def _numbers(name: str, values: list[object]) -> pa.Array:
    for value in values:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ValueError(f"metric {name} is a {type(value).__name__}; expected a number")
    whole = all(isinstance(value, int) for value in values if value is not None)
    return pa.array(values, pa.int64() if whole else pa.float64())


def _by_round(files: RunFiles, name: str) -> dict[int, dict[str, float]]:
    rows: dict[int, dict[str, float]] = {}
    for text, row in zip(files.text_rows(name), files.rows(name), strict=True):
        prefix = f"{text['key']}/" if "key" in text else ""
        number = int(row.pop("round", 0))
        rows.setdefault(number, {}).update({f"{prefix}{metric}": value for metric, value in row.items()})
    return rows


def _value(value: object) -> Value:
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
