"""Carry out a job of whichever kind: one folder, one statement, one ledger, one tracker, one way to resume.

    run_job(job, config, digest, Console())      # returns the run folder

What a job asks devices and what it decides is its workload's business (experiments/refine/, experiments/count/). A
workload plays step by step, a round or a key; a step whose last file is on disk is complete and is not played again, so
the same command continues a stopped run and ends with the same bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from experiments.count.counting import Counting
from experiments.count.job import CountJob
from experiments.folder.layout import is_truth
from experiments.folder.store import RunFolder
from experiments.job import Job
from experiments.noise import noise_of
from experiments.provenance import log_file, write_description
from experiments.refine.job import RefineJob
from experiments.refine.refinement import Refinement
from experiments.setting import Setting
from experiments.stages import Timings
from experiments.statement.facts import write_statement
from experiments.trackers.tracking import Tracking

log = logging.getLogger("synthpoll")


class Workload(Protocol):
    """What is asked of devices, and what is decided on it: the part of a run that jobs differ in."""

    @property
    def packages(self) -> Sequence[str]:
        """The packages whose versions the run depends on."""

    def describe(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """run.json, and exact numbers of the devices' data for oracle/devices.json."""

    def restore(self) -> None:
        """Bring the accounts to where the folder's complete steps are. Raises StoreError if that cannot be."""

    def statement(self) -> dict[str, Any]:
        """What the run reveals about one device, so far."""

    def print_header(self) -> None:
        """What the budget can resolve, before anything is asked."""

    def play(self, after_step: Callable[[], None]) -> None:
        """Play the steps that are not complete, and call `after_step` behind each."""

    def finish(self) -> None:
        """What is made of all steps: data sets, tables, pictures."""

    def write_pages(self) -> Sequence[Path]:
        """Write the run's pages, for whoever looks while it plays; returns those that there are now."""


def run_job(job: Job, config: str, digest: str, console: Console, sweep: Path | None = None) -> Path:
    """Run or continue the job; return its run folder.

    `config` is the resolved configuration, kept in the folder and compared on resume; `digest` its short hash, the name
    of the folder where the job gives none; `sweep` the folder of the sweep that the run is part of. Raises the parts'
    own errors; what was written stays.
    """
    job.check()
    folder = RunFolder.of(out=job.out, runs=job.runs, name=job.name, seed=job.seed, digest=digest)
    with folder.opened(config), log_file(folder.path), ExitStack() as stack:
        log.info("run folder %s", folder.path)
        noise = noise_of(job, folder, config)
        setting = Setting(
            folder=folder, config=config, noise=noise, console=console, timings=Timings(folder), stack=stack
        )
        workload = _workload(job, setting)
        write_description(folder, workload.packages, *workload.describe())
        workload.restore()
        write_statement(folder, workload.statement())
        workload.print_header()
        tracking = stack.enter_context(Tracking(job.tracker, folder.path, job.name, config, console, sweep))

        def after_step() -> None:
            write_statement(folder, workload.statement())
            workload.write_pages()
            tracking.update()

        workload.play(after_step)
        workload.finish()
        for page in workload.write_pages():
            console.print(
                f"{'Page with the truth' if is_truth(folder.relative(page)) else 'Page'}: {page}", soft_wrap=True
            )
        console.print(f"Run folder: {folder.path}", soft_wrap=True)
        log.info("complete")
    return folder.path


def _workload(job: Job, setting: Setting) -> Workload:
    if isinstance(job, RefineJob):
        return Refinement.of(job, setting)
    if isinstance(job, CountJob):
        return Counting.of(job, setting)
    raise TypeError(f"the job is a {type(job).__name__}; expected a RefineJob or a CountJob")
