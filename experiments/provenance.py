"""run.json: what ran, on what, with which budget, and what that budget can resolve. Beside the folder, the log.

What was counted among the devices' data without noise is no part of it: that is oracle/devices.json.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import math
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from aggregate.round import Rules
from aggregate.trust import Trust
from device_poll.fleet import SimulatedFleet
from device_poll.population import DeviceUnit
from experiments.job import Job
from experiments.store import DEVICES, RunFolder, StoreError
from privacy.mechanism import Mechanism

log = logging.getLogger("synthpoll")

_PACKAGES = (
    "synthpoll", "torch", "transformers", "sentence-transformers", "faiss-cpu", "numpy", "scipy", "hydra-core",
    "pyarrow", "cryptography",
)  # fmt: skip

PROTECTED = {
    DeviceUnit.USER: "one device with all of its user's items",
    DeviceUnit.ITEM: "one item (each is a pseudo-device); a person with several items spends epsilon once for each",
    DeviceUnit.SPLIT: "one pseudo-device holding part of a user's items; a person spends epsilon once for each part",
}


def describe_run(folder: RunFolder, job: Job, rules: Rules, fleet: SimulatedFleet) -> None:
    """Write run.json and oracle/devices.json, once: a resumed run keeps them. Raises StoreError if they do not fit."""
    mechanism = rules.mechanism(job.candidates + 1)
    reports = len(fleet.cohorts.answering[0])
    stderr = rules.trust.standard_error(mechanism, reports)
    why_not = rules.generator.reproducible
    description = {
        "name": job.name,
        "seed": job.seed,
        "devices": {
            "count": fleet.population.devices,
            "unit": str(fleet.population.unit),
            "opted_in": fleet.cohorts.opted_in,
            "asked_per_round": fleet.cohorts.asked_size,
        },
        "privacy": _privacy(rules.trust, mechanism, fleet.population.unit),
        "resolution": {
            "reports_per_round": reports,
            "stderr_of_a_count": stderr,
            "votes_per_candidate": reports / job.candidates,
            "votes_to_resolve_one_candidate": job.threshold * stderr,
        },
        # Where the ledger is kept is a place; whether other runs share it is part of what this run can say.
        "ledger": {"kept": kept(job), "first_day": job.first_day},
        "generator": rules.generator.name,
        "generator_repeats": {"repeats": why_not is None, "why_not": why_not},
        "encoder": rules.encoder.name,
        "judge": job.judge.name,
    }
    write_description(folder, _PACKAGES, description, {"items": len(fleet.population.embeddings)})


def write_description(
    folder: RunFolder, packages: Sequence[str], facts: Mapping[str, Any], truth: Mapping[str, Any]
) -> None:
    """Write run.json: the facts, and the versions of these packages, Python and this project; and the truth: exact
    numbers of the devices' data, in oracle/devices.json.

    Once: a resumed run keeps the first description. Raises StoreError if it is not the one that the run was begun with.
    """
    described = {
        "run.json": {
            **facts,
            "versions": {name: _version(name) for name in packages},
            "python": platform.python_version(),
            "commit": _commit(),
        },
        DEVICES: truth,
    }
    # All is compared before anything is written, or a run on other devices could leave its own numbers here.
    missing = [name for name in described if not (folder.path / name).exists()]
    for name, now in described.items():
        if name not in missing:
            _compare(folder, name, now)
    for name in missing:
        folder.write_json(name, described[name])


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"  # the fakes need no model libraries


def kept(job: Job) -> str:
    """Where the run's ledger is: a file that other runs debit too, or in memory and for this run alone."""
    return "memory" if job.ledger is None else "file"


def _privacy(trust: Trust, mechanism: Mechanism, unit: DeviceUnit) -> dict[str, Any]:
    """The guarantee in short; the whole of it is privacy.json. None stands for an epsilon that is infinite."""
    words = trust.words
    local = mechanism.epsilon if math.isfinite(mechanism.epsilon) else None
    every = "pure local differential privacy of every report"
    return {
        "trust_model": f"{trust.name}: {words.noise_from} adds the noise; the server sees {words.server_sees}",
        "guarantee": every
        if local is not None
        else "central differential privacy of the sums, none of a single report",
        "unit": PROTECTED[unit],
        "mechanism": dict(trust.parameters(mechanism)),
        "epsilon_per_report": local,
        "reports_per_device": 1,
        "epsilon_per_device": local,
        "randomness": f"simulation: {words.randomness}; not for real devices",
    }


def _compare(folder: RunFolder, name: str, now: Mapping[str, Any]) -> None:
    """Raise StoreError if the run was begun on other devices or models; other versions only are logged."""
    before = folder.read_json(name)
    # Through JSON, so that both sides have the same number and key types.
    now = json.loads(json.dumps(now))
    for key in now:
        if before.get(key) == now[key]:
            continue
        if key in ("versions", "python", "commit"):
            log.warning("continuing a run that was begun with %s %s; now %s", key, before.get(key), now[key])
            continue
        # The message is logged beside the folder, where no truth may be; of earlier versions run.json, too, holds some.
        hidden = name == DEVICES or key in ("devices", "keys", "rows_left_out")
        told = f"see {name}" if hidden else f"{before.get(key)}, now {now[key]}"
        raise StoreError(f"{folder.path} holds a run with other {key} ({told}); choose another with out=DIR")


def _commit() -> str:
    """The commit of the source tree, or the installed version where there is none."""
    root = Path(__file__).resolve().parent.parent
    try:
        found = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False, timeout=10
        )
    except FileNotFoundError:
        return "unknown (git is not installed)"
    return found.stdout.strip() if found.returncode == 0 else "unknown (not a git checkout)"


class log_file:  # noqa: N801 - used like a function
    """The log beside the run folder: it holds times of day, which the folder must not."""

    def __init__(self, folder: Path) -> None:
        self._path = folder.parent / f"{folder.name}.log"

    def __enter__(self) -> None:
        try:
            self._handler = _LogFile(self._path, encoding="utf-8")
        except OSError as error:
            raise StoreError(
                f"cannot write the log {self._path} ({error.strerror}); free space or allow writing and run the same "
                "command again, or choose another folder with out=DIR"
            ) from None
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self._before = log.level, log.propagate
        log.addHandler(self._handler)
        log.setLevel(logging.INFO)
        log.propagate = False

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            log.error("stopped by %s: %s", type(error).__name__, error)
        log.removeHandler(self._handler)
        level, log.propagate = self._before
        log.setLevel(level)
        self._handler.close()


class _LogFile(logging.FileHandler):
    """A full disk stops the run in one line, where it writes what it keeps; a log line is not worth another one."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's own name
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)

    def close(self) -> None:
        with suppress(OSError):  # the lines that could not be written are tried once more
            super().close()
