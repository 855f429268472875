"""The run folder's side of experiment tracking: what of it a tracker is told.

    read_rows(Path("runs/town/seed0-1a2b3c4d"))[0]["oracle/similarity"]

What is read goes through experiments/folder/reader.py, which decides by name which files may be shown around.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from experiments.compare.load import flatten
from experiments.count.results import keys_in
from experiments.folder.layout import CONFIG, FACTS, METRICS, STATEMENT, arm, truth
from experiments.folder.reader import RunFiles
from experiments.trackers.tracker import TrackedRun, Value

# Of run.json; the rest is in the configuration, or too much for a table of parameters.
_FACTS = ("privacy", "resolution", "devices", "keys", "commit")


def read_rows(folder: Path) -> dict[int, dict[str, float]]:
    """All metrics of each round: the server's by name, the truth as 'oracle/NAME', arms as 'oracle/arms/ARM/NAME'.

    A count has one row a key instead, as 'KEY/NAME' and 'oracle/KEY/NAME'. Its number is the place of the key among all
    keys, whether the ones before are complete or not, so a key that is logged keeps its number.
    """
    files = RunFiles(folder)
    if not files.has(METRICS):
        return {}
    rows = _by_round(files, METRICS)
    tables = [truth(METRICS)]
    tables += [f"{arm(name)}/{table}" for name in files.arms() for table in (METRICS, truth(METRICS))]
    for table in tables:
        if files.has(table):
            for number, row in _by_round(files, table).items():
                # Only rounds of the run itself: its arms are played before it, and would draw longer curves.
                if number in rows:
                    rows[number] |= {f"{table.removesuffix(METRICS)}{name}": value for name, value in row.items()}
    return rows


def tracked_run(folder: Path, experiment: str, config: str, sweep: Path | None) -> TrackedRun:
    """What a tracker is told about the run in `folder`, whose configuration has the text `config`."""
    files = RunFiles(folder)
    parameters = flatten(files.yaml(CONFIG))
    parameters.pop("watch", None)  # the id of a device is no tracker's business
    facts, statement = files.json(FACTS), files.json(STATEMENT)
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


def _by_round(files: RunFiles, name: str) -> dict[int, dict[str, float]]:
    texts, numbers = files.text_rows(name), files.rows(name)
    if not texts or "key" not in texts[0]:
        return {int(row.pop("round")): row for row in numbers}
    places = {key: place for place, key in enumerate(keys_in(files.json(FACTS)))}
    return {
        places[text["key"]]: {f"{text['key']}/{metric}": value for metric, value in row.items()}
        for text, row in zip(texts, numbers, strict=True)
    }


def _value(value: object) -> Value:
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
