"""Progress: a bar with counts, rate and remaining time on a terminal; a line a minute in a pipe and in the log."""

from __future__ import annotations

import io
import logging
import time

import pytest
from rich.console import Console

from experiments import progress
from experiments.progress import RateColumn, bar, told


@pytest.mark.parametrize(
    ("done", "wanted", "seconds", "line"),
    [
        (0, 0, 61, "Writing: at work after 1 min"),
        (0, 500, 119, "Writing: 0 of 500 after 2 min"),
        (96, 500, 120, "Writing: 96 of 500 after 2 min, 48 a minute, 8 min left"),
        (10, 2000, 3600, "Writing: 10 of 2,000 after 60 min, 0 a minute, 199.0 h left"),
        (481, 500, 120, "Writing: 481 of 500 after 2 min, 240 a minute, less than a minute left"),
        (500, 500, 600, "Writing: 500 of 500 after 10 min"),
    ],
)
def test_a_line_says_how_far_and_how_long(done, wanted, seconds, line):
    assert told("Writing", done, wanted, seconds) == line


@pytest.mark.parametrize("terminal", [True, False])
def test_it_beats_in_the_log_and_in_a_pipe(monkeypatch, caplog, terminal):
    monkeypatch.setattr(progress, "HEARTBEAT", 0.02)
    monkeypatch.setattr(logging.getLogger("synthpoll"), "propagate", True)
    caplog.set_level(logging.INFO, logger="synthpoll")
    screen = io.StringIO()
    with bar(Console(file=screen, force_terminal=terminal, width=100), "Writing [/b]") as advance:
        advance(1, 3)
        deadline = time.monotonic() + 30
        while len(caplog.messages) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert len(caplog.messages) >= 2 and all(line.startswith("Writing [/b]: 1 of 3") for line in caplog.messages)
    assert (screen.getvalue().count("Writing [/b]: 1 of 3 after") >= 2) is not terminal
    lines = len(caplog.messages)
    time.sleep(0.1)
    assert len(caplog.messages) == lines, "it stops with the work"


def drawn(terminal: bool) -> str:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=terminal, width=120)
    with bar(console, "Embedding") as advance:
        for done in range(5):
            advance(done, 4)
    return screen.getvalue()


def test_a_terminal_sees_what_runs_and_how_far_it_is() -> None:
    assert "Embedding" in drawn(True) and "4/4" in drawn(True)


def test_a_pipe_sees_nothing_of_short_work() -> None:
    assert drawn(False) == ""


def test_the_rate_is_empty_until_there_is_one() -> None:
    class FakeTask:
        finished_speed, speed = None, None

    column = RateColumn()
    assert column.render(FakeTask()).plain == ""  # type: ignore[arg-type]
    FakeTask.speed = 1234.56
    assert column.render(FakeTask()).plain == "1,234.6/s"  # type: ignore[arg-type]
