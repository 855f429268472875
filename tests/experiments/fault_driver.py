"""Runs the `synthpoll` command in children that are killed, stopped, or refused by the disk, at a chosen step.

    driver = shared_driver()
    steps = driver.run(*arguments).steps                # every change that the command makes on disk, by name
    outcome = driver.run(*arguments, kill=17)           # SIGKILL before the 17th of them; outcome.code == -9
    outcome = driver.run(*arguments, fail=[17, 28])     # from there on the disk is full; outcome.error

The driver is a process of its own (fault_children.py) that imports everything once, so a child costs no start; with
`mounts` it lives in a mount namespace of its own, where it may mount small disks that nobody else sees and that vanish
with it.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
GRID = """
topics:
  office: [a late report, a broken printer]
  home: [a leaking roof, a lost cat]
axes:
  tone: [kind, curt, sad]
  length: {short: [5, 10]}
"""


@dataclass(frozen=True)
class Outcome:
    """How a child ended: its exit status (negative: the signal), what it printed, and the steps that it took."""

    code: int
    out: str
    error: str
    steps: list[str]
    seconds: float

    def count(self, name: str) -> int:
        """How many steps have this text in their name."""
        return sum(name in step for step in self.steps)


class Driver:
    """The client's side. `mounts`: in a mount namespace; Driver.can_mount() says whether that is possible."""

    def __init__(self, *, mounts: bool) -> None:
        self.mounts = mounts
        command = [sys.executable, "-m", "tests.experiments.fault_children"]
        if mounts:
            command = [*_namespace(), *command]
        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
        self._process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **one}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    @staticmethod
    def can_mount() -> bool:
        """Whether this user may mount a disk in a namespace of its own."""
        if shutil.which("unshare") is None or shutil.which("mount") is None:
            return False
        return in_namespace("mount", "-t", "tmpfs", "none", "/mnt").returncode == 0

    def close(self) -> None:
        """End the driver, and with it the disks that it mounted."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)

    def run(self, *arguments: str, **faults: Any) -> Outcome:
        """Run `synthpoll ARGUMENTS` to its end."""
        return self.wait(self.start(*arguments, **faults))

    def start(self, *arguments: str, **faults: Any) -> int:
        """Start it, and give the number of its process.

        `kill=k`, `stop=k`: SIGKILL, SIGSTOP before step k (from 0); [NAME] or [NAME, n] instead of k: before the first
        step, or the n-th after it, in whose name the expression NAME is found. `tear`: a file that was to be flushed in
        that step keeps only its first half. `after=s`: SIGKILL after s seconds. `fail=[k, errno]`: from step k on the
        disk gives that error. `largest=n`: no file can grow beyond n bytes. `sabotage`: a change to the program that a
        test must notice.
        """
        return int(self._ask({"start": arguments, **faults}))

    def wait(self, child: int) -> Outcome:
        """The end of a started command."""
        return Outcome(**self._ask({"wait": child}))

    def signal(self, child: int, number: int) -> None:
        """Send a signal to a started command."""
        self._ask({"signal": [child, int(number)]})

    def stopped(self, child: int) -> None:
        """Wait until a started command has stopped itself."""
        self._ask({"stopped": child})

    def contents(self, folder: Path) -> dict[str, str]:
        """A digest of every file but timings.csv, by relative name."""
        found: dict[str, str] = self._ask({"contents": str(folder)})
        return found

    def mount(self, *arguments: str) -> None:
        """Run `mount ARGUMENTS` in the driver's namespace."""
        self._ask({"mount": arguments})

    def _ask(self, request: dict[str, Any]) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the driver has died"
        return json.loads(answer)


@cache
def shared_driver() -> Driver:
    """One driver for all tests of a session, with mounts where that is possible."""
    driver = Driver(mounts=Driver.can_mount())
    atexit.register(driver.close)
    return driver


def in_namespace(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command that may mount disks of its own."""
    return subprocess.run([*_namespace(), *command], cwd=ROOT, capture_output=True, text=True, check=False)


def _namespace() -> list[str]:
    return ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]


def small_job(place: Path, name: str, cache: str = "cache") -> list[str]:
    """Arguments of a tiny main job with everything in it: a cache of texts, two of vectors."""
    grid = place / "grid.yaml"
    if not grid.exists():
        grid.write_text(GRID)
    return [
        "run", "experiment=smoke", "rounds=2", "candidates=20", "minimum_batch=20", "devices.devices=200",
        "evaluation.sample=40", f"out={place / name}", f"cache={place / cache}", *plain_writer(grid, place),
    ]  # fmt: skip


def small_generation(place: Path, name: str, n: int, cache: str = "cache") -> list[str]:
    """Arguments of `synthpoll generate` with the same writer."""
    grid = place / "grid.yaml"
    if not grid.exists():
        grid.write_text(GRID)
    return [
        "generate", f"n={n}", f"out={place / name}", f"cache={place / cache}", "encoder=hashed_fake",
        *plain_writer(grid, place),
    ]  # fmt: skip


def plain_writer(grid: Path, weights: Path) -> list[str]:
    """Overrides for a generator whose writer is all real but for the model."""
    return [
        "generator=local", "generator.writer._target_=tests.experiments.fault_children.plain_local_writer",
        f"generator.writer.source.model={weights}", "generator.writer.chunk=8", f"generator.grid.path={grid}",
        "generator.filters.min_words=1", "generator.filters.language=null", "generator.filters.max_similarity=1",
        "generator.filters.min_topic_similarity=-1", "generator.operators.shares={attribute_change: 1}",
    ]  # fmt: skip
