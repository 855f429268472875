"""Reading run folders: numbers of all rounds with `load_run`, candidates with `load_rounds`.

history = load_rounds(load_run(Path("runs/town/seed0-1a2b3c4d")))
len(history.rounds[0].ids), history.rounds[0].poll.count
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.compare.load_counts import load_count
from experiments.compare.runs import Candidate, Central, History, Kind, Poll, Round, Row, Run, Timing
from experiments.folder.damage import mending
from experiments.folder.layout import CONFIG, CORPUS, FACTS, METRICS, STATEMENT, TIMINGS, arm, truth
from experiments.folder.layout import Round as Step
from experiments.folder.reader import CompareError, RunFiles
from privacy.poll import Choice


def load_run(folder: Path, *, oracle: bool = True) -> Run:
    """Read a run folder's numbers. With `oracle` false nothing under oracle/ is opened.

    Raises CompareError if it is not a run folder, has no complete round or key, or holds a damaged file.
    """
    files = RunFiles(folder, oracle)
    if not files.has(CONFIG):
        raise CompareError(f"{folder} is not a run folder; expected {CONFIG} in it")
    config = flatten(files.yaml(CONFIG))
    config.pop("watch", None)  # of earlier versions: the id of a device is nobody's business
    if not isinstance(config.get("seed"), int):
        raise _no_number(folder, "seed", config)
    facts = files.json(FACTS) if files.has(FACTS) else {}
    if "keys" in facts:
        return load_count(files, config, facts, timings=_timings(files, "count"), central=_central(files))
    complete = 0
    while files.has(Step(complete).mark):
        complete += 1
    if not complete:
        raise CompareError(f"{folder} has no complete round yet; compare again after it has printed its first line")
    if not isinstance(config.get("rounds"), int):
        raise _no_number(folder, "rounds", config)
    arms = [(name, arm(name)) for name in files.arms()]
    return Run(
        files=files,
        config=config,
        facts=facts or files.json(FACTS),
        complete=complete,
        planned=int(str(config["rounds"])),
        metrics=_metrics(files, METRICS),
        truth=_metrics(files, truth(METRICS)),
        arms={
            name: _metrics(files, *(f"{place}/{each}" for each in (METRICS, truth(METRICS)))) for name, place in arms
        },
        timings=_timings(files, "refine"),
        central=_central(files),
    )


def load_rounds(run: Run) -> History:
    """Read the candidates, their vectors and estimates. Raises CompareError for a damaged file."""
    candidates: dict[str, Candidate] = {}
    rounds = []
    weights: NDArray[np.float64] | None = None
    for number in range(run.complete + (run.complete >= run.planned)):
        step = Step(number)
        if number == run.complete and not run.files.has(step.embeddings):
            break  # the refined corpus is not written or not embedded yet
        ids = _read_corpus(run.files, step.corpus, candidates)
        rounds.append(
            Round(
                number=number,
                ids=ids,
                vectors=_sized(run.files, step.embeddings, len(ids)),
                weights=np.full(len(ids), 1 / len(ids)) if weights is None else weights,
                poll=_read_poll(run.files, step, ids) if number < run.complete else None,
            )
        )
        if len(rounds[-1].weights) != len(ids):
            raise _mismatch(run.files, step.place, "the weights of the round before")
        if number < run.complete:
            weights = run.files.array(step.next_weights)
    return History(rounds=tuple(rounds), candidates=candidates)


def flatten(node: object, prefix: str = "") -> dict[str, object]:
    """A nested configuration as {'mechanism.epsilon': 4}; lists stay values, as text; 4.0 is the same as 4."""
    if isinstance(node, Mapping):
        flat: dict[str, object] = {}
        for key, value in node.items():
            flat |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
        return flat
    if isinstance(node, float) and node.is_integer():
        node = int(node)
    return {prefix: str(node) if isinstance(node, list) else node}


def _read_corpus(files: RunFiles, name: str, into: dict[str, Candidate]) -> tuple[str, ...]:
    """The ids of a corpus, whose examples are added to `into`."""
    rows = files.table(name).to_pylist()
    try:
        for row in rows:
            into[row["id"]] = Candidate(
                text=row["text"],
                subject=row["subject"],
                attributes=dict(row["attributes"]),
                operator=row["operator"],
                change=row.get("change") or "",
                born=row["round"],
                parents=tuple(row["parents"]),
                family=row["family"] or row["id"],
            )
    except KeyError as error:
        raise CompareError(f"{files.path / name} has no column {error}; the run is of another version") from None
    return tuple(row["id"] for row in rows)


def _read_poll(files: RunFiles, step: Step, ids: Sequence[str]) -> Poll:
    table = files.table(step.estimate)
    if table.column("id").to_pylist() != list(ids):
        raise _mismatch(files, *step.estimate.rsplit("/", 1))
    choice = Choice(len(ids))
    return Poll(
        count=table.column("count").to_numpy(),
        stderr=table.column("stderr").to_numpy(),
        rank=table.column("rank").to_numpy(),
        true_votes=_sized(files, step.votes, choice.answers)[: choice.none] if files.has(step.votes) else None,
    )


def _sized(files: RunFiles, name: str, length: int) -> NDArray[Any]:
    array = files.array(name)
    if len(array) != length:
        raise _mismatch(files, *name.rsplit("/", 1))
    return array


def _mismatch(files: RunFiles, place: str, what: str) -> CompareError:
    return CompareError(
        f"{files.path / place}: {what} does not belong to {CORPUS}; "
        f"{mending(files.path, f'{place}/{CORPUS}')}, or leave this run out"
    )


def _metrics(files: RunFiles, *names: str) -> list[Row]:
    """One row a round from the tables that are there, merged by round."""
    by_round: dict[float, dict[str, float]] = {}
    for name in names:
        for row in files.rows(name) if files.has(name) else []:
            if "round" not in row:
                raise CompareError(f"{files.path / name} has a row without a round; leave this run out")
            by_round.setdefault(row["round"], {}).update(row)
    return [by_round[number] for number in sorted(by_round)]


def _no_number(folder: Path, key: str, config: Mapping[str, object]) -> CompareError:
    return CompareError(f"{folder}/{CONFIG} has {key}: {config.get(key)!r}; expected a whole number")


def _timings(files: RunFiles, kind: Kind) -> list[Timing]:
    """timings.csv. Stages are named 'run: round', 'no_privacy: round' or, for what comes before, 'embed devices'.

    Those of a count, which has no arms, are named after its groups of devices: 'en: play'.
    """
    if not files.has(TIMINGS):
        return []
    found = []
    for row in files.text_rows(TIMINGS):
        try:
            owner, _, stage = row["stage"].rpartition(": ") if kind == "refine" else ("", "", row["stage"])
            arm = None if owner in ("", "run") else owner
            timing = Timing(round=int(row["round"]), arm=arm, stage=stage, seconds=float(row["seconds"]))
        except (KeyError, ValueError):
            raise files.damaged(TIMINGS, "expected round, stage, seconds") from None
        if arm is None or files.oracle:
            found.append(timing)
    return found


def _central(files: RunFiles) -> Central | None:
    """The run's central guarantee: privacy.json's {"central": {"epsilon": .., "delta": .., "trust_model": ".."}}."""
    if not files.has(STATEMENT):
        return None
    central = files.json(STATEMENT).get("central")
    if central is None:
        return None
    try:
        return Central(
            epsilon=float(central["epsilon"]), delta=float(central["delta"]), trust_model=str(central["trust_model"])
        )
    except (KeyError, TypeError, ValueError):
        raise CompareError(
            f"{files.path}/{STATEMENT}: 'central' is not an object with epsilon, delta and trust_model; "
            f"{mending(files.path, STATEMENT)}, or leave this run out"
        ) from None
