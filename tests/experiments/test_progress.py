"""Progress bars: on a terminal with counts, rate and remaining time; nothing where nobody watches."""

from __future__ import annotations

import io

from rich.console import Console

from experiments.progress import RateColumn, bar


def drawn(terminal: bool) -> str:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=terminal, width=120)
    with bar(console, "Embedding") as advance:
        for done in range(5):
            advance(done, 4)
    return screen.getvalue()


def test_a_terminal_sees_what_runs_and_how_far_it_is() -> None:
    assert "Embedding" in drawn(True) and "4/4" in drawn(True)


def test_a_pipe_sees_nothing() -> None:
    assert drawn(False) == ""


def test_the_rate_is_empty_until_there_is_one() -> None:
    class FakeTask:
        finished_speed, speed = None, None

    column = RateColumn()
    assert column.render(FakeTask()).plain == ""  # type: ignore[arg-type]
    FakeTask.speed = 1234.56
    assert column.render(FakeTask()).plain == "1,234.6/s"  # type: ignore[arg-type]
