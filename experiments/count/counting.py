"""A count: group after group of devices is polled about what it holds, and key after key is decided on.

A key is complete when its segment.json is on disk; what is complete is not played again, the rest is, with identical
reports. So a run that was stopped ends with the same bytes as one that was not.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import pyarrow as pa

from aggregate.differences import difference
from aggregate.histogram import ReleaseRule
from device_poll.accounts import Accounts, Closing
from device_poll.events.fragments import PromptFragments
from experiments.accounts import accounts_in, open_accounts
from experiments.closed_polls import ClosedPolls
from experiments.count.groups import EventGroup, PromptGroup
from experiments.count.job import CountJob
from experiments.count.page import write_pages
from experiments.count.poll import Group, Key, play
from experiments.count.report import print_header, print_key, print_left_out
from experiments.count.results import read_histogram, write_result
from experiments.count.segments import DeviceNames, build_segments
from experiments.folder import layout
from experiments.folder.store import StoreError
from experiments.metrics import write_metrics
from experiments.progress import bar
from experiments.provenance import check_held, fingerprint
from experiments.setting import Setting
from experiments.statement.count import PROTECTED, build_statement
from experiments.statement.facts import guarantee, kept
from privacy.ledger_stores import SimulatedLedger
from privacy.randomness import NoiseSource

log = logging.getLogger("synthpoll")

# Columns of metrics.csv that are no numbers.
_NAMES = ("key", "use_case", "segment", "post_processing", "rule")


@dataclass(frozen=True, kw_only=True, eq=False)
class Counting:
    """The workload of a CountJob. `left_out`: rows of each use case's file that are not used, by reason; `held` is the
    digest of what its devices hold."""

    job: CountJob
    setting: Setting
    groups: tuple[Group, ...]
    left_out: Mapping[str, Mapping[str, int]]
    shared: Accounts | None
    held: str

    packages = ("synthpoll", "numpy", "scipy", "numba", "hydra-core", "pyarrow", "cryptography")

    @classmethod
    def of(cls, job: CountJob, setting: Setting) -> Counting:
        """Load frequencies and encode them. Raises SourceError, PopulationError, or LedgerError."""
        with setting.timings.measure(-1, "load"):
            closing = ClosedPolls(folder=setting.folder, repeats=job.trust.words.repeats).close
            groups, left_out = build_groups(job, setting.noise, closing)
        held = fingerprint(job.seed, chain.from_iterable(group.held() for group in groups))
        check_held(setting.folder, held)
        shared = None
        if job.ledger is not None:
            shared = open_accounts(job, setting.config, setting.noise, DeviceNames(job.devices), setting.stack)
        return cls(job=job, setting=setting, groups=groups, left_out=left_out, shared=shared, held=held)

    @cached_property
    def keys(self) -> tuple[Key, ...]:
        """All keys, in the order in which they are played."""
        return tuple(key for group in self.groups for key in group.keys)

    def describe(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """What is asked of whom; under oracle/ counts of what the devices' file holds."""
        job = self.job
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
                **guarantee(job, self.keys[0].mechanism, PROTECTED),
                "reports_per_day": job.reports_per_day,
                "use_cases_sharing_the_budget": list(job.use_cases),
            },
            # Where the ledger is kept is a place; whether other runs share it is part of what this run can say.
            "ledger": {"kept": kept(job), "first_day": job.simulated_day},
            "keys": {
                key.key: {
                    "place": place,
                    "devices": key.devices,
                    "elements_looked_for": None if key.values is None else len(key.values),
                    "expected_reports": key.expected_reports,
                    "stderr_of_a_count": key.stderr(job),
                    "count_needed": None if key.values is None else key.needed(job, key.expected_reports),
                }
                for place, key in enumerate(self.keys)
            },
        }
        return facts, devices_facts(self.left_out, self.keys) | {"fingerprint": self.held}

    def restore(self) -> None:
        """Make sure that a ledger file has the debits of every complete key; in memory a group's are made anew.

        Raises StoreError for a file that has too few, whose devices would pay too little.
        """
        if self.shared is None:
            return
        folder = self.setting.folder
        truth = layout.truth
        reports = {
            key.key: folder.read_json(truth(layout.Key(key.key).metrics))["reports_sent"] for key in self._complete()
        }
        for group in self.groups:
            complete = [key.key for key in group.keys if key.key in reports]
            if not complete:
                continue
            came, paid = sum(reports[key] for key in complete), group.paid(self.shared)
            # Of who was forgotten on request since then, nobody knows any more what they answered.
            if paid < came - self.shared.ledger.summary().forgotten * self.job.reports:
                told = f"{came} reports" if self.job.always_reports else "reports"
                raise StoreError(
                    f"{self.setting.folder.path} has {told} of {', '.join(complete)}, but its ledger has debits for "
                    f"{paid if self.job.always_reports else 'fewer'}; give the ledger that the run was begun with"
                )

    def statement(self) -> dict[str, Any]:
        """About the reports that came, as far as they came."""
        return build_statement(self.job, self.keys, self._reports(), self.setting.config)

    def print_header(self) -> None:
        """The plan for each key."""
        print_left_out(self.setting.console, self.left_out, self.keys)
        print_header(self.setting.console, self.setting.folder, self.job, self.keys)

    def play(self, after_step: Callable[[], None]) -> None:
        """Group after group, the keys of it that are not complete; then all of its tables."""
        folder, console = self.setting.folder, self.setting.console
        for group in self.groups:
            wanted = [key for key in group.keys if not folder.is_complete(layout.Key(key.key))]
            if wanted:
                measured = self.setting.timings.measure(0, f"{group.name}: play")
                with measured, bar(console, f"{group.name}: collecting") as advance:
                    results = play(self.job, group, wanted, self._accounts(group), advance)
                for key in wanted:
                    write_result(folder, key.key, results.pop(key.key))
                    log.info("%s complete", key.key)
                    self._write_metrics()
                    after_step()
            else:
                log.info("%s was complete", group.name)
            for key in group.keys:
                print_key(console, folder, self.job, key.key)

    def finish(self) -> None:
        """How the segments differ; and the metrics, which a killed run may lack."""
        self._write_differences()
        self._write_metrics()

    def write_pages(self) -> Sequence[Path]:
        """Of the keys that are complete."""
        return write_pages(self.setting.folder.path)

    def _accounts(self, group: Group) -> Accounts | None:
        """In the shared file; else, report by report, in a ledger of the group's own. The plan fits the caps (Job)."""
        if self.shared is not None or self.job.exact:
            return self.shared
        ledger = SimulatedLedger(devices=group.devices.stop, budget=self.job.caps.budget)
        return accounts_in(ledger, self.job, self.setting.config, self.setting.noise)

    def _reports(self) -> dict[str, int]:
        """How many reports came, of the keys that are complete."""
        folder = self.setting.folder
        return {key.key: folder.read_json(layout.Key(key.key).mark)["reports"] for key in self._complete()}

    def _complete(self) -> list[Key]:
        return [key for key in self.keys if self.setting.folder.is_complete(layout.Key(key.key))]

    def _write_differences(self) -> None:
        """How the shares of one use case differ between two segments."""
        folder, rule = self.setting.folder, self.job.release
        if not isinstance(rule, ReleaseRule):
            return
        for one, two in combinations(self.keys, 2):
            if one.use_case != two.use_case:
                continue
            first, second = (read_histogram(folder, key.key, rule) for key in (one, two))
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
            folder.write_table(layout.difference(one.key, two.segment), pa.table(columns))

    def _write_metrics(self) -> None:
        """metrics.csv and oracle/metrics.csv: one row a complete key."""
        write_metrics(self.setting.folder, [layout.Key(key.key) for key in self._complete()], _NAMES)


def devices_facts(left_out: Mapping[str, Mapping[str, int]], keys: Sequence[Key]) -> dict[str, Any]:
    """Counts of what the devices' file holds, for oracle/devices.json."""
    return {
        "rows_left_out": {name: dict(reasons) for name, reasons in left_out.items()},
        "values_that_do_not_fit": {key.key: dict(key.unfit) for key in keys},
    }


def build_groups(
    job: CountJob, noise: NoiseSource, closing: Closing | None = None
) -> tuple[tuple[Group, ...], Mapping[str, Mapping[str, int]]]:
    """What is collected together, and the rows of each use case's file that were left out, by reason.

    Raises SourceError for files that cannot be used, PopulationError for a configuration that does not fit them.
    """
    if isinstance(job.vocabulary, PromptFragments):
        pool = job.vocabulary.load()
        group = PromptGroup(job=job, noise=noise, pool=pool, closing=closing)
        return (group,), {job.name: {k: n for k, n in pool.dropped.items() if n}}
    segments, left_out = build_segments(job)
    return tuple(EventGroup(job=job, noise=noise, segment=segment, closing=closing) for segment in segments), left_out
