"""run.json: what ran, on what, with which budget, and what that budget can resolve. Beside the folder, the log.

What was counted among the devices' data without noise is no part of it: that is oracle/devices.json.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from experiments.folder.layout import DEVICES, FACTS
from experiments.folder.store import RunFolder, StoreError

log = logging.getLogger("synthpoll")
_FINGERPRINT = "fingerprint"


def write_description(
    folder: RunFolder, packages: Sequence[str], facts: Mapping[str, Any], truth: Mapping[str, Any]
) -> None:
    """Write run.json: the facts, and the versions of these packages, Python and this project; and the truth: exact
    numbers of the devices' data, in oracle/devices.json.

    Once: a resumed run keeps the first description. Raises StoreError if it is not the one that the run was begun with.
    """
    described = {
        FACTS: {
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


def fingerprint(seed: int, held: Iterable[object]) -> str:
    """A digest of all that devices hold, keyed by the run's seed; it is kept under oracle/ alone."""
    digest = hashlib.blake2b(key=f"synthpoll {seed}".encode(), digest_size=16)
    for one in held:
        part = one.tobytes() if isinstance(one, np.ndarray) else str(one).encode(errors="surrogatepass")
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def check_held(folder: RunFolder, now: str) -> None:
    """Raise StoreError if the run in the folder was begun on devices that held something else, as far as it is known.

    Before anything is embedded, and for a finished run, too: its numbers are about what devices held then.
    """
    before = folder.read_json(DEVICES).get(_FINGERPRINT) if (folder.path / DEVICES).exists() else None
    if before not in (None, now):
        raise StoreError(
            f"{folder.path} holds a run on devices that held something else: the data has changed since; bring back "
            "what it was, or begin another run with out=DIR"
        )


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"  # the fakes need no model libraries


def _compare(folder: RunFolder, name: str, now: Mapping[str, Any]) -> None:
    """Raise StoreError if the run was begun on other devices or models; other versions only are logged."""
    before = folder.read_json(name)
    # Through JSON, so that both sides have the same number and key types.
    now = json.loads(json.dumps(now))
    for key in now:
        if before.get(key) == now[key] or (key == _FINGERPRINT and key not in before):  # of an earlier version
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
