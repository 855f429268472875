"""The simulated fleet: polls a cohort, debits its devices, and hands over privatized reports, block by block.

    fleet = SimulatedFleet(population=..., cohorts=cohorts, rule=AnswerRule(), seed=0, accounts=Accounts(...))
    for batch in fleet.poll("mail", slate, mechanism, round=0): ...     # of the devices that could pay

Block i of a cohort draws from the stream (seed, round, PRIVATIZE, i), so the reports do not depend on how many workers
run. The block size is part of that contract and no knob.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from device_poll.accounts import Accounts
from device_poll.answering import AnswerRule, Answers, answer
from device_poll.cohorts import Cohorts
from device_poll.population import Population
from device_poll.report_log import ReportLog
from embed.compact import CompactEmbeddings
from privacy.budget import Token
from privacy.ledger import Mask
from privacy.mechanism import Mechanism, ReportBatch
from privacy.randomness import DeviceStream, Stage

BLOCK = 4096
"""Devices per stream."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SimulatedFleet:
    """Devices in one process. `workers` is a speed knob; `watch`, if given, keeps the report log of one device.

    `accounts` debit every poll; without them all reachable devices answer and nobody pays (evaluation).
    """

    population: Population = field(repr=False)
    cohorts: Cohorts = field(repr=False)
    rule: AnswerRule
    seed: int
    workers: int = 1
    watch: ReportLog | None = None
    accounts: Accounts | None = None

    def true_answers(self, slate: CompactEmbeddings, round: int) -> Answers:
        """The noise-free answers of the devices that reported in a round: for evaluation only.

        With accounts, of a round that was polled; without, of all reachable devices.
        """
        answers, answered = self._answers(slate, round), self.answered(slate, round)
        return Answers(values=answers.values[answered], similarity=answers.similarity[answered])

    def answered(self, slate: CompactEmbeddings, round: int) -> Mask:
        """bool[n]: which of the round's reachable devices sent a report about this slate. Not for the server."""
        cohort = self.cohorts.answering[round]
        if self.accounts is None:
            return np.ones(len(cohort), dtype=np.bool_)
        return self.accounts.paid(self._token(self.accounts, slate, round), cohort)

    def poll(self, use_case: str, slate: CompactEmbeddings, mechanism: Mechanism, round: int) -> Iterator[ReportBatch]:
        """Reports of those of the round's cohort that can pay for one.

        Raises ValueError if the mechanism's domain does not fit the slate and PopulationError if too few can pay.
        """
        if mechanism.domain_size != len(slate.codes) + 1:
            raise ValueError(
                f"the mechanism has {mechanism.domain_size} values; {len(slate.codes)} candidates and 'none of these' "
                f"need {len(slate.codes) + 1}"
            )
        devices = self.cohorts.answering[round]
        leaves = np.ones(len(devices), dtype=np.bool_)
        if self.accounts is not None:
            leaves = self.accounts.pay(self._token(self.accounts, slate, round), devices, mechanism)
        values = self._answers(slate, round).values

        def privatize(block: int) -> ReportBatch:
            part = slice(block * BLOCK, (block + 1) * BLOCK)
            rng = DeviceStream.simulation(seed=self.seed, round=round, stage=Stage.PRIVATIZE, chunk=block)
            # Drawn for silent devices too, and dropped: as on a real device, whose report does not depend on who else
            # has budget. Only so is a report the same in every ledger.
            reports = mechanism.privatize(values[part], rng)
            return ReportBatch(use_case, devices[part][leaves[part]], reports[leaves[part]])

        blocks = range(-(-len(devices) // BLOCK))
        with ThreadPoolExecutor(max_workers=self.workers) as pool:
            for batch in pool.map(privatize, blocks):
                if self.watch is not None:
                    self.watch.note(batch, mechanism, round)
                yield batch

    def book(self, slate: CompactEmbeddings, mechanism: Mechanism, round: int) -> int:
        """How many devices have paid for a round that is over (Accounts.book); without accounts all that answered."""
        cohort = self.cohorts.answering[round]
        if self.accounts is None:
            return len(cohort)
        return self.accounts.book(self._token(self.accounts, slate, round), cohort, mechanism)

    def _answers(self, slate: CompactEmbeddings, round: int) -> Answers:
        return answer(self.population, self.cohorts.answering[round], slate, self.rule, seed=self.seed, round=round)

    def _token(self, accounts: Accounts, slate: CompactEmbeddings, round: int) -> Token:
        # The configuration does not say everything: a writer can write other candidates, and devices get new mail.
        digest = hashlib.sha256(self._items + f"{slate.codes.shape} {slate.scale!r} ".encode())
        digest.update(np.ascontiguousarray(slate.codes).data)
        return accounts.token(digest.hexdigest(), round)

    @cached_property
    def _items(self) -> bytes:
        """Digest of everything that the devices hold."""
        digest = hashlib.sha256(np.ascontiguousarray(self.population.offsets).data)
        digest.update(np.ascontiguousarray(self.population.embeddings).data)
        return digest.digest()
