"""The run folder's side of experiment tracking: what of it a tracker is told.

    read_rows(Path("runs/town/seed0-1a2b3c4d"))[0]["reports"]
    read_truth(Path("runs/town/seed0-1a2b3c4d"))[0]["oracle/similarity"]     # for tracker.oracle=true

What is read goes through experiments/folder/reader.py, which decides by name which files may be shown around, and which
are what only a simulation knows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.compare.load import flatten
from experiments.count.results import keys_in
from experiments.folder.layout import CONFIG, FACTS, METRICS, STATEMENT, arm, truth
from experiments.folder.reader import RunFiles
from experiments.trackers.tracker import Rows, TrackedRun, Value

# Of run.json; the rest is in the configuration, or too much for a table of parameters.
_FACTS = ("privacy", "resolution", "devices", "keys", "commit")
# Of these the server itself knows: whom it asks, and for what. How many can answer it learns when reports come:
# 'resolution' and a key's 'expected_reports' are computed from the simulated devices. Earlier versions also wrote exact
# numbers of the devices' data there, so names are listed that may pass, not those that may not.
_DEVICES = ("count", "unit", "opted_in", "asked_per_round", "segments", "opt_in_rate", "days", "tallies")
_KEY = ("place", "devices", "elements_looked_for")


def read_rows(folder: Path) -> dict[int, dict[str, float]]:
    """The metrics of each round that the server itself knows, by name. No file under oracle/ can be opened here.

    A count has one row a key instead, as 'KEY/NAME'. Its number is the place of the key among all keys, whether the
    ones before are complete or not, so a key that is logged keeps its number.
    """
    files = RunFiles(folder, oracle=False)
    return _by_round(files, METRICS) if files.has(METRICS) else {}


def read_truth(folder: Path) -> dict[int, dict[str, float]]:
    """What only a simulation knows of the same rounds: 'oracle/NAME', 'oracle/KEY/NAME', 'oracle/arms/ARM/NAME'."""
    files, found = RunFiles(folder), dict[int, dict[str, float]]()
    rounds: Rows = read_rows(folder)
    tables = [truth(METRICS)]
    tables += [f"{arm(name)}/{table}" for name in files.arms() for table in (METRICS, truth(METRICS))]
    for table in tables:
        if files.has(table):
            for number, row in _by_round(files, table).items():
                # Only rounds of the run itself: its arms are played before it, and would draw longer curves.
                if number in rounds:
                    told = {f"{table.removesuffix(METRICS)}{name}": value for name, value in row.items()}
                    found.setdefault(number, {}).update(told)
    return found


def tracked_run(folder: Path, experiment: str, config: str, sweep: Path | None, *, oracle: bool = False) -> TrackedRun:
    """What a tracker is told about the run in `folder`, whose configuration has the text `config`.

    With `oracle` it is the run of its truth: another key, in the experiment EXPERIMENT.oracle.
    """
    files = RunFiles(folder, oracle=oracle)
    parameters = flatten(files.yaml(CONFIG))
    parameters.pop("watch", None)  # of earlier versions: the id of a device is nobody's business
    facts, statement = files.json(FACTS), files.json(STATEMENT)
    known: dict[str, Any] = {name: facts[name] for name in _FACTS if name in facts}
    if not oracle:
        known = _public(known)
    known["privacy"] = known["privacy"] | {"central": statement["central"]}
    parameters |= flatten(known, "run")
    identity = f"{folder.resolve()}\n{config}" + ("\noracle" if oracle else "")
    return TrackedRun(
        experiment=f"{experiment}.oracle" if oracle else experiment,
        name=folder.name,
        key=hashlib.sha256(identity.encode()).hexdigest()[:12],
        parameters={name: _value(value) for name, value in parameters.items()},
        note=("Noise-free truth of a simulation, never to be released. " if oracle else "")
        + str(statement["headline"]),
        sweep=sweep,
    )


def _public(known: Mapping[str, Any]) -> dict[str, Any]:
    """Of facts of run.json those that the server itself knows."""
    public = {name: value for name, value in known.items() if name != "resolution"}
    public["devices"] = _only(known["devices"], _DEVICES)
    if "keys" in known:
        public["keys"] = {key: _only(facts, _KEY) for key, facts in known["keys"].items()}
    return public


def _only(facts: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: facts[name] for name in names if name in facts}


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
