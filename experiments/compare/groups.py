"""Runs that differ only in their seed are one group: their spread is the interval that a comparison shows.

groups, repeated = group_runs(runs)
groups[0].label                          # 'epsilon 4, mechanism optimized unary encoding'
groups[0].last("coverage", oracle=True)  # Interval(mean, low, high, stderr, seeds)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from experiments.compare.formats import short
from experiments.compare.runs import Kind, Run
from experiments.folder.reader import CompareError

_ABSENT = "-"


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Mean over seeds, smallest, largest, and the standard error of the mean (0 for one seed)."""

    mean: float
    low: float
    high: float
    stderr: float
    seeds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Interval:
        """The interval of at least one value."""
        stderr = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
        mean = float(np.mean(values))
        return cls(mean=mean, low=min(values), high=max(values), stderr=stderr, seeds=len(values))


@dataclass(frozen=True, kw_only=True)
class Group:
    """Runs of one configuration with different seeds. `label` names what differs from the other groups."""

    label: str
    settings: Mapping[str, str] = field(repr=False)
    runs: tuple[Run, ...] = field(repr=False)

    @property
    def epsilon(self) -> float | None:
        """The local budget that a device spends in the run."""
        return self.runs[0].epsilon

    @property
    def kind(self) -> Kind:
        """What its runs did."""
        return self.runs[0].kind

    @property
    def finished(self) -> bool:
        """Whether all of its runs have had all polls, or keys."""
        return all(run.finished for run in self.runs)

    def per_round(self, name: str, oracle: bool) -> dict[int, Interval]:
        """The metric's interval over seeds, by round."""
        values: dict[int, list[float]] = {}
        for run in self.runs:
            for row in run.truth if oracle else run.metrics:
                if name in row:
                    values.setdefault(int(row["round"]), []).append(row[name])
        return {number: Interval.of(values[number]) for number in sorted(values)}

    def last(self, name: str, oracle: bool) -> Interval | None:
        """The interval over seeds of each run's last value; None where no run has the metric."""
        values = [
            found[-1]
            for run in self.runs
            if (found := [row[name] for row in (run.truth if oracle else run.metrics) if name in row])
        ]
        return Interval.of(values) if values else None


def group_runs(runs: Sequence[Run]) -> tuple[list[Group], list[str]]:
    """Groups in order of appearance, and what was left out because it repeats a run ('PATH: why').

    Raises KindsError for runs of different kinds, which have nothing to compare.
    """
    _check_kinds(runs)
    by_configuration: dict[str, dict[str, Run]] = {}
    repeated = []
    for run in runs:
        same = by_configuration.setdefault(repr({k: v for k, v in run.config.items() if not is_seed(k)}), {})
        seeds = repr({k: v for k, v in run.config.items() if is_seed(k)})
        if seeds in same:
            # Counted as a second seed it would make the interval look narrower than it is.
            repeated.append(f"{run.path}: same configuration and seed as {same[seeds].path}")
        else:
            same[seeds] = run
    members = [tuple(sorted(same.values(), key=lambda run: run.seed)) for same in by_configuration.values()]
    differing = differences([group[0] for group in members])
    names = distinct_names(differing)
    groups = []
    for i, group in enumerate(members):
        settings = {name: short(differing[key][i]) for key, name in names.items()}
        name = str(group[0].config.get("name", group[0].path.name))
        groups.append(Group(label=label_of(settings) or name, settings=settings, runs=group))
    return groups, repeated


class KindsError(CompareError):
    """Runs are of different kinds; the message names one of each, and what to do."""


def _check_kinds(runs: Sequence[Run]) -> None:
    first: dict[Kind, Run] = {}
    for run in runs:
        first.setdefault(run.kind, run)
    if len(first) > 1:
        refined, counted = first["refine"].path, first["count"].path
        raise KindsError(
            f"runs of different kinds cannot be compared: {refined} refines a corpus, {counted} counts what devices "
            "hold; name runs of one kind at a time"
        )


def is_seed(key: str) -> bool:
    """Whether a configuration key is a seed: the run's own, or that of a part, such as a town or a hash."""
    name = key.rsplit(".", 1)[-1]
    return name == "seed" or name.endswith("_seed")


def differences(runs: Sequence[Run]) -> dict[str, list[object]]:
    """The configuration keys but the seed in which runs differ, with one value per run ('-': it has no such key)."""
    keys = dict.fromkeys(key for run in runs for key in run.config if not is_seed(key))
    values = {key: [run.config.get(key, _ABSENT) for run in runs] for key in keys}
    return {key: of for key, of in values.items() if any(value != of[0] for value in of)}


def distinct_names(differing: Mapping[str, Sequence[object]]) -> dict[str, str]:
    """The keys that are worth naming, with short names.

    Keys that change together tell the runs apart together: of `epsilon` and `mechanism.epsilon`, or of a generator's
    model and its checksum, the shortest stands for all. A setting that only some classes of a part have goes without
    saying where the class says it.
    """
    kept: dict[tuple[object, ...], str] = {}
    # A class name says more than the settings that come with it; after that the shortest path.
    for key in sorted(differing, key=lambda k: (k.count("."), not k.endswith("_target_"), len(k))):
        pattern = tuple(list(differing[key]).index(value) for value in differing[key])
        classes = differing.get(f"{key.rpartition('.')[0]}._target_", ())
        if key.endswith("_target_") or _ABSENT not in differing[key] or not _follows(differing[key], classes):
            kept.setdefault(pattern, key)
    names = {key: _name(key) for key in differing if key in kept.values()}
    if len(set(names.values())) < len(names):
        return {key: key for key in names}
    return names


def _follows(values: Sequence[object], classes: Sequence[object]) -> bool:
    """Whether runs with the same class have the same value."""
    return bool(classes) and len(set(map(repr, classes))) == len(set(map(repr, zip(classes, values, strict=True))))


def _name(key: str) -> str:
    parts = [part for part in key.split(".") if part not in ("_target_", "source")]
    return (parts[-1] if parts else key).replace("_", " ")


def label_of(settings: Mapping[str, str]) -> str:
    """'epsilon 4, optimized unary encoding': a mechanism speaks for itself, other values need their names."""
    return ", ".join(
        f"no {name}" if value == _ABSENT else value if name == "mechanism" else f"{name} {value}"
        for name, value in settings.items()
    )
