"""How far long work is: a bar on a terminal; elsewhere, and in the log, a line a minute, so that nothing is silent.

with bar(console, "Writing") as advance:
    advance(96, 500)
# in a pipe, after a minute: Writing: 96 of 500 after 1 min, 96 a minute, 4 min left
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

log = logging.getLogger("synthpoll")
HEARTBEAT = 60.0
"""Seconds between two lines."""


class RateColumn(ProgressColumn):
    """How many a second, over the last half minute."""

    def render(self, task: Task) -> Text:
        """'12.3/s', or nothing before there is a rate."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.1f}/s")


@contextmanager
def bar(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """A callback (done, wanted) that shows `what`'s progress while the block runs."""
    columns = (
        TextColumn("{task.description:<28}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    heart = _Heart(console, what)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress, heart:
        task = progress.add_task(what, total=None)

        def advance(done: int, wanted: int) -> None:
            progress.update(task, completed=done, total=wanted)
            heart.advance(done, wanted)

        yield advance


class _Heart:
    """A line every HEARTBEAT seconds: to the log, and where there is no terminal to the console."""

    def __init__(self, console: Console, what: str) -> None:
        self._console, self._what = console, what
        self._done = self._wanted = 0
        self._begun = time.monotonic()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, args=(HEARTBEAT,), daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def advance(self, done: int, wanted: int) -> None:
        self._done, self._wanted = done, wanted

    def _beat(self, seconds: float) -> None:
        while not self._stopped.wait(seconds):
            line = told(self._what, self._done, self._wanted, time.monotonic() - self._begun)
            log.info(line)
            if not self._console.is_terminal:
                self._console.print(Text(line), soft_wrap=True)


def told(what: str, done: int, wanted: int, seconds: float) -> str:
    """'Writing: 96 of 500 after 2 min, 48 a minute, 8 min left'; without a rate where nothing is done yet."""
    line = f"{what}: {done:,} of {wanted:,}" if wanted else f"{what}: at work"
    line += f" after {_minutes(seconds)}"
    if 0 < done < wanted:
        line += f", {60 * done / seconds:,.0f} a minute, {_minutes(seconds * (wanted - done) / done)} left"
    return line


def _minutes(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute"
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
