"""A run and its tracker, whatever its job. The tracker can fail at any moment and never costs the run.

    with Tracking(job.tracker, folder.path, job.name, config, console) as tracking:
        ...                                    # after each step:
        tracking.update()

`update` logs the rounds of metrics.csv that the tracker does not hold; the rounds of a count are its keys. So a run
that was killed between writing a round and logging it, or that was played without a tracker, is logged whole when its
command is given again, and none twice.

A tracker is told what the server itself knows. Only `tracker.oracle=true` adds what a simulation knows, as a second run
in the experiment NAME.oracle: an experiment is what trackers share, hand on and delete as a whole, so whoever gets the
first cannot get a number of the second by mistake, and the first is the same whether `oracle` is on, off or switched
between two sessions. It has metrics alone, no artifact.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType

from rich.console import Console

from experiments.trackers.run_folder import read_rows, read_truth, tracked_run
from experiments.trackers.tracker import Rows, RunLog, Status, TrackedRun, Tracker

log = logging.getLogger("synthpoll")


class Guarded:
    """A tracker that is switched off by its first failure. `failure` then says which, without its message.

    It has one log for each run that it was started with: the run, and that of its truth if there is one.
    """

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._logs: list[RunLog] = []
        self.failure: str | None = None

    def start(self, runs: Sequence[TrackedRun], tables: Sequence[Rows]) -> None:
        """Begin or continue the runs."""

        def begin() -> None:
            self._logs = [self._tracker.start(run, rows) for run, rows in zip(runs, tables, strict=True)]

        self._try("start", begin)

    def log_rounds(self, tables: Sequence[Rows]) -> None:
        """Log the rounds that each run does not hold."""
        for log_, rows in zip(self._logs, tables, strict=True):
            for number in sorted(set(rows) - log_.rounds):
                self._try(f"log round {number}", partial(log_.log_round, number, rows[number]))

    def log_artifacts(self, folder: Path) -> None:
        """Log report, statement and card, with the run itself."""
        self._try("log artifacts", lambda: self._logs[0].log_artifacts(folder))

    def finish(self, status: Status) -> None:
        """End the runs."""
        for log_ in self._logs:
            self._try("finish", partial(log_.finish, status))

    def _try(self, what: str, work: Callable[[], None]) -> None:
        if self.failure is not None:
            return
        try:
            work()
        except Exception as error:  # noqa: BLE001
            # The one place with so wide a net. A tracker is a guest in the run: databases, servers and processes of
            # other packages, each with errors of its own, and hours of polling must not end because one of them did.
            # What goes in is our own and was checked before; a wrong run folder raises outside of this.
            # The message stays out of the log: it may hold an address with a password.
            self.failure = f"{type(error).__name__} at '{what}'"
            log.warning("the tracker failed and is off: %s", self.failure)


class Tracking:
    """A context manager around the rounds of one run. `config` is the text of the run's configuration."""

    def __init__(
        self, tracker: Tracker, folder: Path, experiment: str, config: str, console: Console, sweep: Path | None = None
    ) -> None:
        self._tracker, self._guarded = tracker, Guarded(tracker)
        self._folder, self._experiment, self._config = folder, experiment, config
        self._console, self._sweep = console, sweep

    def __enter__(self) -> Tracking:
        """Start: run.json, privacy.json and config.yaml must be in the folder."""
        if self._tracker.describe():
            self._console.print(self._tracker.describe(), soft_wrap=True, markup=False, highlight=False)
        told = self._folder, self._experiment, self._config, self._sweep
        sides = (False, True) if self._tracker.oracle else (False,)
        self._guarded.start([tracked_run(*told, oracle=oracle) for oracle in sides], self._tables())
        self._say_failure("the run goes on without it")
        return self

    def update(self) -> None:
        """Log the rounds that are new in the run folder."""
        if self._guarded.failure is None:
            self._guarded.log_rounds(self._tables())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Log what is left and finish. The end of the run says if the tracker failed."""
        status: Status = "finished"
        if error is None:
            self.update()
            self._guarded.log_artifacts(self._folder)
        else:
            status = "failed" if isinstance(error, Exception) else "killed"
        self._guarded.finish(status)
        self._say_failure("no number is lost: metrics.csv has all, and the same command given again logs the rest")

    def _tables(self) -> list[Rows]:
        """What there is to log, of the run and of its truth if that is asked for."""
        return [read_rows(self._folder), *([read_truth(self._folder)] if self._tracker.oracle else [])]

    def _say_failure(self, comfort: str) -> None:
        if self._guarded.failure is not None:
            text = f"The tracker failed ({self._guarded.failure}); {comfort}"
            self._console.print(text, soft_wrap=True, markup=False, highlight=False)
