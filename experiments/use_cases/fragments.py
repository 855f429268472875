"""Fragments of prompts: every device is asked once which of the candidates it has seen, and may answer 'no match'.

    group = FragmentGroup(job=job, pool=job.vocabulary.load())
    group.play(["genmoji_fragments"], advance)

The answer (one of the device's fragments, or none) is privatized at once; the ledger is debited before it leaves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aggregate.fragments import FragmentRule, release_fragments
from aggregate.histogram import check_minimum_batch, tally_stream
from device_poll.events.fragments import FragmentAnswers, PromptPool
from device_poll.events.held import SentReport
from device_poll.population import PopulationError
from experiments.use_cases.groups import Poll, public_metrics
from experiments.use_cases.job import UseCaseJob
from experiments.use_cases.population import Advance
from experiments.use_cases.results import Result
from experiments.use_cases.scores import score, true_counts
from privacy.budget import MICRO, Token, micro_epsilon
from privacy.ledger_stores import SimulatedLedger
from privacy.mechanism import ReportBatch, Reports, Tally
from privacy.randomized_response import NULL
from privacy.randomness import DeviceStream, Stage, generator

BLOCK = 1 << 15
"""Devices a stream. Part of the reproducibility contract."""
_CONFIDENCE = 0.95  # of the intervals whose coverage is told; the rule's own bounds are far wider
_FIRST_CHUNK = 1 << 96  # so that no stream is one of the main job's of the same seed


@dataclass(frozen=True, kw_only=True, eq=False)
class FragmentGroup:
    """All devices of a poll of fragments. Raises PopulationError for a mechanism that cannot take the candidates."""

    job: UseCaseJob
    pool: PromptPool = field(repr=False)

    @property
    def name(self) -> str:
        """The use case; there are no segments."""
        return self.job.name

    @cached_property
    def mechanism(self) -> Any:
        """Randomized response with a null over the candidates."""
        try:
            return self.job.mechanism(len(self.pool.candidates))
        except ValueError as error:
            raise PopulationError(f"{self.name} has {len(self.pool.candidates)} candidates: {error}") from None

    @cached_property
    def polls(self) -> tuple[Poll, ...]:
        """The one key."""
        return (
            Poll(
                key=self.name,
                use_case=self.name,
                segment=self.job.segments[0],
                devices=self.job.devices,
                mechanism=self.mechanism,
                values=len(self.pool.candidates),
                unfit={},
                expected_reports=round(self.job.devices * self.job.opt_in),
            ),
        )

    def play(self, wanted: Sequence[str], advance: Advance) -> dict[str, Result]:
        """Ask all devices. Raises BatchError for too few answers."""
        job, candidates = self.job, self.pool.candidates
        answers = self.pool.answers(job.devices, job.activity, job.seed)
        agreed = _agreed(job)
        symbols = np.where(answers.values == NULL, len(candidates), answers.values)[agreed]
        counts = np.bincount(symbols, minlength=len(candidates) + 1)
        tally, spent = self._exactly(counts) if job.exact else self._by_reports(answers, agreed, advance)
        return {key: self._judge(tally, counts[:-1], answers, spent) for key in wanted}

    def report_log(self, device: int) -> list[SentReport]:
        """What this device sent: the same report as in `play`."""
        block = device // BLOCK
        # The devices up to the end of its block, no more: what a device holds does not depend on later ones.
        devices = min((block + 1) * BLOCK, self.job.devices)
        answers = self.pool.answers(devices, self.job.activity, self.job.seed)
        if not _agreed(self.job)[device]:
            return []
        report = self._privatize(answers.values, block)[device - block * BLOCK]
        return [SentReport(day=0, key=self.name, report=report)]

    def _privatize(self, values: NDArray[np.int64], block: int) -> Reports:
        stream = DeviceStream.simulation(seed=self.job.seed, round=0, stage=Stage.PRIVATIZE, chunk=_FIRST_CHUNK + block)
        reports: Reports = self.mechanism.privatize(values[block * BLOCK : (block + 1) * BLOCK], stream)
        return reports

    def _by_reports(
        self, answers: FragmentAnswers, agreed: NDArray[np.bool_], advance: Advance
    ) -> tuple[Tally, int | None]:
        job, devices = self.job, self.job.devices
        ledger = SimulatedLedger(devices=devices, budget=job.caps.budget)
        ledger.opt_in(np.flatnonzero(agreed))
        token, cost = Token(use_case=job.name, round=0, day=0), micro_epsilon(job.epsilon)

        def arriving() -> Iterator[ReportBatch]:
            for block, start in enumerate(range(0, devices, BLOCK)):
                stop = min(start + BLOCK, devices)
                asked = np.arange(start, stop)
                allowed = ledger.debit(token, asked, cost)
                reports = self._privatize(answers.values, block)[allowed]
                if allowed.any():
                    ledger.send(token, asked[allowed])
                    yield ReportBatch(self.name, asked[allowed], reports)
                advance(stop, devices)

        tally = tally_stream(
            arriving(), self.mechanism, self.name, job.minimum_batch, generator(job.seed, 0, Stage.SHUFFLE)
        )
        ledger.verify()
        return tally, ledger.summary().largest_lifetime

    def _exactly(self, counts: NDArray[np.int64]) -> tuple[Tally, int | None]:
        tally: Tally = self.mechanism.simulate_tally(counts, generator(self.job.seed, 0, Stage.PRIVATIZE))
        check_minimum_batch(tally.reports, self.name, self.job.minimum_batch)
        return tally, None

    def _judge(self, tally: Tally, truth: NDArray[np.int64], answers: FragmentAnswers, spent: int | None) -> Result:
        rule, candidates = self.job.release, self.pool.candidates
        if not isinstance(rule, FragmentRule):
            raise TypeError(f"release is {type(rule).__name__}; expected a FragmentRule for fragments")
        histogram = release_fragments(self.mechanism, tally, candidates, rule)
        place = {value: i for i, value in enumerate(candidates)}
        held = true_counts(histogram, place, answers.held)
        none = self.mechanism.estimate_null(tally)
        scores = score(
            self.mechanism.estimate(tally),
            truth,
            candidates,
            histogram,
            confidence=_CONFIDENCE,
            minimum_count=rule.minimum_count,
        )
        oracle: Mapping[str, Any] = {
            "key": self.name,
            **scores,
            "held_by_fewer": int((held < rule.minimum_count).sum()),
            "largest_spent": None if spent is None else spent / MICRO,
        }
        no_match = {
            "no_match": float(none.counts[0]) / tally.reports,
            "no_match_stderr": float(none.stderr[0]) / tally.reports,
        }
        return Result(
            histogram=histogram,
            public=public_metrics(self.polls[0], self.job, histogram) | no_match,
            truth=true_counts(histogram, place, truth),
            held=held,
            oracle=oracle,
        )


def _agreed(job: UseCaseJob) -> NDArray[np.bool_]:
    """Whose owners opted in, bool[devices]."""
    return generator(job.seed, 0, Stage.OPT_IN).random(job.devices) < job.opt_in
