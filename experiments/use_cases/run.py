"""Carry out a use case: load frequencies, collect and judge segment after segment, continue where it stopped.

    run_use_case(job, config, digest, Console())      # returns the run folder

A key is complete when its segment.json is on disk; what is complete is not played again, the rest is, with identical
reports. So a run that was stopped ends with the same bytes as one that was not.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import pyarrow as pa
from rich.console import Console

from aggregate.differences import difference
from aggregate.histogram import ReleaseRule
from device_poll.events.fragments import PromptFragments
from experiments.progress import bar
from experiments.provenance import log_file, write_description
from experiments.records import Timings
from experiments.store import RunFolder
from experiments.trackers.run_folder import write_parquet
from experiments.use_cases.fragments import FragmentGroup
from experiments.use_cases.groups import EventGroup, Group, Poll, needed
from experiments.use_cases.job import UseCaseJob
from experiments.use_cases.page import write_pages
from experiments.use_cases.population import build_segments
from experiments.use_cases.report import print_header, print_key, print_left_out
from experiments.use_cases.results import is_complete, place_of, read_histogram, write_result
from experiments.use_cases.statement import PROTECTED, write_statement

log = logging.getLogger("synthpoll")

# Columns of metrics.csv that are no numbers.
_NAMES = ("key", "use_case", "segment", "post_processing", "rule")
_PACKAGES = ("synthpoll", "numpy", "scipy", "numba", "hydra-core", "pyarrow", "cryptography")


def run_use_case(job: UseCaseJob, config: str, digest: str, console: Console) -> Path:
    """Run or continue the job; return its run folder.

    `config` is the resolved configuration, kept in the folder and compared on resume; `digest` its short hash, the name
    of the folder where the job gives none. Raises the parts' own errors; what was written stays.
    """
    check(job)
    folder = RunFolder.of(out=job.out, runs=job.runs, name=job.name, seed=job.seed, digest=digest)
    with folder.opened(config), log_file(folder.path):
        timings = Timings(folder)
        log.info("run folder %s", folder.path)
        with timings.measure(-1, "load"):
            groups, left_out = build_groups(job)
        polls = [poll for group in groups for poll in group.polls]
        _describe(folder, job, polls, left_out)
        write_statement(folder, job, polls, config)
        print_left_out(console, left_out, polls)
        print_header(console, folder, job, polls)
        for group in groups:
            _play(folder, job, group, timings, console)
        _write_differences(folder, job, polls)
        _write_metrics(folder, polls)
        write_statement(folder, job, polls, config)
        write_pages(folder.path)
        console.print(f"Page: {folder.path / 'report.html'}", soft_wrap=True)
        console.print(f"Page with the truth: {folder.path / 'oracle' / 'report.html'}", soft_wrap=True)
        console.print(f"Run folder: {folder.path}", soft_wrap=True)
        log.info("complete")
    return folder.path


def check(job: UseCaseJob) -> None:
    """Whatever can fail before a run folder exists. Raises SourceError."""
    if isinstance(job.vocabulary, PromptFragments):
        job.vocabulary.check()
        return
    for holding in job.holdings.values():
        holding.vocabulary.check()


def build_groups(job: UseCaseJob) -> tuple[tuple[Group, ...], Mapping[str, Mapping[str, int]]]:
    """What is collected together, and the rows of each use case's file that were left out, by reason.

    Raises SourceError for files that cannot be used, PopulationError for a configuration that does not fit them.
    """
    if isinstance(job.vocabulary, PromptFragments):
        pool = job.vocabulary.load()
        return (FragmentGroup(job=job, pool=pool),), {job.name: {k: n for k, n in pool.dropped.items() if n}}
    segments, left_out = build_segments(job)
    return tuple(EventGroup(job=job, segment=segment) for segment in segments), left_out


def _describe(
    folder: RunFolder, job: UseCaseJob, polls: Sequence[Poll], left_out: Mapping[str, Mapping[str, int]]
) -> None:
    facts = {
        "name": job.name,
        "seed": job.seed,
        "devices": {
            "count": job.devices,
            "segments": dict(job.devices_of),
            "opt_in_rate": job.opt_in,
            "days": job.days,
            "tallies": "drawn from their exact law" if job.exact else "made of reports",
        },
        "privacy": {
            "trust_model": "local",
            "guarantee": "pure local differential privacy of every report",
            "unit": PROTECTED,
            "mechanism": dict(polls[0].mechanism.parameters),
            "epsilon_per_report": job.epsilon,
            "reports_per_day": job.reports_per_day,
            "epsilon_per_device_and_day": job.epsilon * job.reports_per_day,
            "epsilon_per_device": job.epsilon * job.reports_per_device,
            "use_cases_sharing_the_budget": list(job.use_cases),
            "randomness": "simulation: AES-256-CTR keyed from the seed, repeatable; not for real devices",
        },
        "keys": {
            poll.key: {
                "devices": poll.devices,
                "elements_looked_for": poll.values,
                "expected_reports": poll.expected_reports,
                "stderr_of_a_count": poll.stderr,
                "count_needed": None if poll.values is None else needed(poll, job, poll.expected_reports),
            }
            for poll in polls
        },
    }
    # Counts of what the devices' file holds, of which the server knows the dictionary at most.
    truth = {
        "rows_left_out": {name: dict(reasons) for name, reasons in left_out.items()},
        "values_that_do_not_fit": {poll.key: dict(poll.unfit) for poll in polls},
    }
    write_description(folder, _PACKAGES, facts, truth)


def _play(folder: RunFolder, job: UseCaseJob, group: Group, timings: Timings, console: Console) -> None:
    """The group's keys that are not complete; then all of its tables."""
    wanted = [poll.key for poll in group.polls if not is_complete(folder, poll.key)]
    if wanted:
        with timings.measure(0, f"{group.name}: play"), bar(console, f"{group.name}: collecting") as advance:
            results = group.play(wanted, advance)
        for key in wanted:
            write_result(folder, key, results.pop(key))
            log.info("%s complete", key)
    else:
        log.info("%s was complete", group.name)
    for poll in group.polls:
        print_key(console, folder, job, poll.key)


def _write_differences(folder: RunFolder, job: UseCaseJob, polls: Sequence[Poll]) -> None:
    """differences/FIRST-SECOND.parquet: how the shares of one use case differ between two segments."""
    rule = job.release
    if not isinstance(rule, ReleaseRule):
        return
    for one, two in combinations(polls, 2):
        if one.use_case != two.use_case:
            continue
        first, second = (read_histogram(folder, poll.key, rule) for poll in (one, two))
        found = difference(first, second, confidence=rule.confidence, correction=rule.correction)
        columns = {
            "element": pa.array(found.values, pa.string()),
            f"share_{one.segment}": found.first,
            f"share_{two.segment}": found.second,
            "difference": found.difference,
            "stderr": found.stderr,
            "lower": found.lower,
            "upper": found.upper,
            "p_value": found.p_values,
        }
        folder.write_table(f"differences/{one.key}-{two.segment}.parquet", pa.table(columns))


def _write_metrics(folder: RunFolder, polls: Sequence[Poll]) -> None:
    """metrics.csv and oracle/metrics.csv: one row a key."""
    for place in ("", "oracle/"):
        rows = [folder.read_json(f"{place_of(poll.key)}/{place}metrics.json") for poll in polls]
        folder.write_csv(f"{place}metrics.csv", rows)
        write_parquet(folder, f"{place}metrics.parquet", rows, _NAMES)
