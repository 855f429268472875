"""A run folder as a tracker finds it, and tracking it: for tests of experiments/trackers/.

    shown = track(tracker, run_in(tmp_path / "run"))          # what the screen says

What is in the folder: run_folders.py.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.trackers.tracking import Tracking
from tests.experiments.run_folders import SECRET, make_run

NOTE = "epsilon 4 per report and per device"
CARD = "# A data set\n\nIts card."


def run_in(folder: Path, **given: Any) -> Path:
    """A run folder as a tracker finds it: with the statement and the released card."""
    make_run(folder, arms=["no_privacy"], config={"watch": SECRET}, central={"epsilon": 0.5, "delta": 1e-6}, **given)
    statement = json.loads((folder / "privacy.json").read_text())
    (folder / "privacy.json").write_text(json.dumps(statement | {"headline": NOTE}))
    (folder / "privacy.md").write_text("# What this run reveals\n")
    (folder / "report.html").write_text("<html>the page</html>")
    (folder / "dataset" / "README.md").write_text(CARD)
    return folder


def track(tracker: Any, folder: Path, experiment: str = "made", sweep: Path | None = None) -> str:
    """Log a run folder; returns what was shown."""
    screen = io.StringIO()
    config = (folder / "config.yaml").read_text()
    with Tracking(tracker, folder, experiment, config, Console(file=screen, width=300), sweep):
        pass
    return screen.getvalue()
