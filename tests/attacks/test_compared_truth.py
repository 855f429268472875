"""What only the simulation knows is not on a page that compares runs, unless it was asked for: a real run's page.

The run's noise is the operating system's, as over mail that somebody brought: a page with exact votes would undo it.
Searched for is what tests/attacks/test_tracked_truth.py looks for in a tracker's store.
"""

from __future__ import annotations

import io
import shutil
from pathlib import Path

from rich.console import Console

from experiments.compare.command import compare
from tests.attacks.test_tracked_truth import Truth
from tests.experiments.conftest import Run


def test_the_page_of_a_comparison_has_the_truth_only_where_it_was_asked_for(smoke: Run, tmp_path: Path) -> None:
    run = smoke("run", "rounds=2", "arms=[no_privacy]", "noise=system")
    truth, page = Truth.of(run), tmp_path / "page.html"

    def kinds(*options: str) -> set[str]:
        screen = io.StringIO()
        compare([str(run), "--to", str(page), *options], Console(file=screen, width=400))
        return truth.in_(page.read_bytes()) | truth.in_(screen.getvalue().encode())

    assert kinds() == set()
    assert {"votes"} <= kinds("--oracle")  # negative control: the search finds the truth where it is
    kinds()
    released = page.read_text()
    for folder in list(run.rglob("oracle")):
        shutil.rmtree(folder, ignore_errors=True)
    assert kinds() == set() and page.read_text() == released
