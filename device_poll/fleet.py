"""The simulated fleet: polls a cohort and hands over privatized reports, block by block.

Block i of a round draws from the stream (seed, round, PRIVATIZE, i), so the reports do not depend on how many workers
run. The block size is part of that contract and no knob.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from device_poll.answering import AnswerRule, Answers, answer
from device_poll.cohorts import Cohorts
from device_poll.population import Population
from device_poll.report_log import ReportLog
from embed.compact import CompactEmbeddings
from privacy.mechanism import Mechanism, ReportBatch
from privacy.randomness import DeviceStream, Stage

BLOCK = 4096
"""Devices per stream."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SimulatedFleet:
    """Devices in one process. `workers` is a speed knob; `watch`, if given, keeps the report log of one device."""

    population: Population = field(repr=False)
    cohorts: Cohorts = field(repr=False)
    rule: AnswerRule
    seed: int
    workers: int = 1
    watch: ReportLog | None = None

    def true_answers(self, slate: CompactEmbeddings, round: int) -> Answers:
        """The noise-free answers of a round's cohort: for evaluation only."""
        return answer(self.population, self.cohorts.answering[round], slate, self.rule, seed=self.seed, round=round)

    def poll(self, use_case: str, slate: CompactEmbeddings, mechanism: Mechanism, round: int) -> Iterator[ReportBatch]:
        """Reports of the round's cohort. Raises ValueError if the mechanism's domain does not fit the slate."""
        if mechanism.domain_size != len(slate.codes) + 1:
            raise ValueError(
                f"the mechanism has {mechanism.domain_size} values; {len(slate.codes)} candidates and 'none of these' "
                f"need {len(slate.codes) + 1}"
            )
        devices = self.cohorts.answering[round]
        values = self.true_answers(slate, round).values

        def privatize(block: int) -> ReportBatch:
            part = slice(block * BLOCK, (block + 1) * BLOCK)
            rng = DeviceStream.simulation(seed=self.seed, round=round, stage=Stage.PRIVATIZE, chunk=block)
            return ReportBatch(use_case, devices[part], mechanism.privatize(values[part], rng))

        blocks = range(-(-len(devices) // BLOCK))
        with ThreadPoolExecutor(max_workers=self.workers) as pool:
            for batch in pool.map(privatize, blocks):
                if self.watch is not None:
                    self.watch.note(batch, mechanism, round)
                yield batch
