"""Where a workload plays: what the engine hands to it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from rich.console import Console

from experiments.folder.store import RunFolder
from experiments.stages import Timings
from privacy.randomness import NoiseSource


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The open run folder, the text of its configuration, where the noise comes from, the screen, the times, and what
    is closed at the end.
    """

    folder: RunFolder
    config: str
    noise: NoiseSource
    console: Console
    timings: Timings
    stack: ExitStack
