"""The simulated fleet: asks a cohort, debits its devices, and hands over privatized reports, block by block.

    nearest = NearestAnswers(population=..., rule=AnswerRule(), seed=0)
    fleet = SimulatedFleet(answers=nearest, cohorts=cohorts, noise=NoiseSource.system(), accounts=Accounts(...))
    for batch in fleet.answer([ask]): ...                    # of the devices that could pay

Each device of the cohort answers once; what it answers is the `answers`' business (nearest candidate, fragment of a
prompt). The noise of a poll is bound to what is asked, whom, what they answer and who has paid (`_noise`); block i of
a cohort has a stream of its own, so the reports do not depend on how many workers run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from device_poll.accounts import Accounts, Closing
from device_poll.answering import AnswerRule, Answers, answer
from device_poll.cohorts import Cohorts
from device_poll.population import Population
from device_poll.report_log import ReportLog
from device_poll.sealing import sealed
from embed.compact import CompactEmbeddings
from privacy.budget import Token
from privacy.ledger import Mask
from privacy.mechanism import Mechanism
from privacy.poll import Advance, Ask, Choice, ReportBatch
from privacy.randomness import NoiseSource, Stage


class CohortAnswers(Protocol):
    """What the devices of a cohort would answer: the noise-free truth, which never leaves a device."""

    @property
    def block(self) -> int:
        """Devices per stream."""

    @property
    def digest(self) -> str:
        """Names everything that the devices hold."""

    def choice(self, needs: Any) -> Choice:
        """The answers that there are."""

    def of(self, needs: Any, devices: NDArray[np.int64], round: int) -> Answers:
        """The answers of these devices in a round, in their order."""


@dataclass(frozen=True, kw_only=True, eq=False)
class NearestAnswers:
    """Devices that answer with the candidate of a slate nearest to one of their recent items, or 'none of these'."""

    population: Population = field(repr=False)
    rule: AnswerRule
    seed: int

    block: ClassVar[int] = 4096

    @cached_property
    def digest(self) -> str:
        """Of the vectors and whose they are."""
        digest = hashlib.sha256(np.ascontiguousarray(self.population.offsets).data)
        digest.update(np.ascontiguousarray(self.population.embeddings).data)
        return digest.hexdigest()

    def choice(self, needs: CompactEmbeddings) -> Choice:
        """The slate's candidates, or none."""
        return Choice(len(needs))

    def of(self, needs: CompactEmbeddings, devices: NDArray[np.int64], round: int) -> Answers:
        """See device_poll/answering.py."""
        return answer(self.population, devices, needs, self.rule, seed=self.seed, round=round)


@dataclass(frozen=True, kw_only=True, eq=False)
class SimulatedFleet:
    """Devices in one process. `workers` is a speed knob; `watch`, if given, keeps the report log of one device.

    Of a round's reachable devices those answer whose owners agreed (`cohorts.members`); `accounts`, if given, debit
    them for every poll, and who cannot pay, or did not agree in the ledger, stays silent; `closing`, if given, is asked
    before a poll's first report leaves.
    """

    answers: CohortAnswers = field(repr=False)
    cohorts: Cohorts = field(repr=False)
    noise: NoiseSource
    workers: int = 1
    watch: ReportLog | None = None
    accounts: Accounts | None = None
    closing: Closing | None = field(default=None, repr=False)

    def answer(self, asks: Sequence[Ask], advance: Advance | None = None) -> Iterator[ReportBatch]:
        """Reports of those of each round's cohort that can pay for one.

        Raises ValueError if a mechanism's domain does not fit what is asked and PopulationError if too few can pay.
        """
        for ask in asks:
            yield from sealed(self._reports(ask, advance), {ask.use_case: ask}, self.noise)

    @property
    def forgotten(self) -> int:
        """How many devices its ledger has forgotten on request."""
        return 0 if self.accounts is None else self.accounts.ledger.summary().forgotten

    def true_answers(self, needs: Any, round: int) -> Answers:
        """The noise-free answers of the devices that reported in a round: for evaluation only.

        With accounts, of a round that was polled; without, of all reachable devices.
        """
        answers, answered = self._answers(needs, round), self.answered(needs, round)
        similarity = answers.similarity
        return Answers(values=answers.values[answered], similarity=None if similarity is None else similarity[answered])

    def answered(self, needs: Any, round: int) -> Mask:
        """bool[n]: which of the round's reachable devices sent a report about this. Not for the server."""
        cohort = self.cohorts.answering[round]
        if self.accounts is None:
            return self._agreed(cohort)
        return self.accounts.paid(self._token(self.accounts, needs, round), cohort)

    def day_of(self, needs: Any, round: int) -> int | None:
        """The day on which a round is debited; None without accounts."""
        return None if self.accounts is None else self._token(self.accounts, needs, round).day

    def pay(self, ask: Ask) -> Mask:
        """bool[n]: whose report may leave now (Accounts.pay); without accounts all that are reachable and agreed.

        Raises PopulationError if too few can pay.
        """
        devices = self.cohorts.answering[ask.round]
        leaving = self._agreed(devices)
        if self.accounts is not None:
            token = self._token(self.accounts, ask.needs, ask.round)
            leaving[leaving] = self.accounts.pay(token, devices[leaving], ask.mechanism)
        return leaving

    def drawn(self, ask: Ask, counts: NDArray[np.int64]) -> NoiseSource:
        """The noise of a tally that is drawn of these true answers, instead of reports. Closes the poll.

        Raises PopulationError for a poll that was drawn before of other answers, or with devices that withdrew since.
        """
        noise = self.noise.of("tally", ask.digest, self.answers.digest, counts)
        if self.accounts is not None:
            token, leaving = self._token(self.accounts, ask.needs, ask.round), int(counts.sum())
            self.accounts.check_whole(token, leaving, alone=False)
            self.accounts.close([token], leaving, "drawn")
        self._close(ask, noise)
        return noise

    def book(self, needs: Any, mechanism: Mechanism, round: int) -> int:
        """How many devices have paid for a round that is over (Accounts.book); without accounts all that answered."""
        cohort = self.cohorts.answering[round]
        agreed = cohort[self._agreed(cohort)]
        if self.accounts is None:
            return len(agreed)
        return self.accounts.book(self._token(self.accounts, needs, round), agreed, mechanism)

    def report_of(self, ask: Ask, device: int) -> Any:
        """The report of one device that is in the ask's cohort: the same as in `answer`. Debits nobody."""
        devices = self.cohorts.answering[ask.round]
        position = int(np.searchsorted(devices, device))
        values, (block, place) = self._answers(ask.needs, ask.round).values, divmod(position, self.answers.block)
        noise = self._noise(ask, values)
        self._close(ask, noise)
        return self._privatized(ask, values, block, noise)[place]

    def _reports(self, ask: Ask, advance: Advance | None) -> Iterator[ReportBatch]:
        choice, given = self.answers.choice(ask.needs), ask.mechanism.domain_size
        if given != choice.answers:
            raise ValueError(
                f"the mechanism has {given} values; {choice.candidates} candidates and 'none of these' need "
                f"{choice.answers}"
            )
        devices, size, leaves = self.cohorts.answering[ask.round], self.answers.block, self.pay(ask)
        values = self._answers(ask.needs, ask.round).values
        noise = self._noise(ask, values)
        self._close(ask, noise)

        def privatize(block: int) -> ReportBatch:
            part = slice(block * size, (block + 1) * size)
            reports = self._privatized(ask, values, block, noise)  # for silent devices too, and dropped
            return ReportBatch(ask.use_case, devices[part][leaves[part]], reports[leaves[part]])

        with ThreadPoolExecutor(max_workers=self.workers) as pool:
            for block, batch in enumerate(pool.map(privatize, range(-(-len(devices) // size)))):
                if self.watch is not None:
                    self.watch.note(batch, ask.mechanism, ask.round)
                yield batch
                if advance is not None:
                    advance(min((block + 1) * size, len(devices)), len(devices))

    def _noise(self, ask: Ask, values: NDArray[np.int64]) -> NoiseSource:
        """Of a poll that has been paid for: bound to what is asked, of whom, what they answer, and who has paid, for
        two sums that share noise tell in what they differ. Who has paid is decided once, when the poll is closed, so a
        poll that is played again has the same noise, whatever owners have decided since.
        """
        paid = self.answered(ask.needs, ask.round)
        digest = self.noise.of("paid", paid).fingerprint  # keyed: nobody can try out who is in it
        if self.accounts is not None:
            token = self._token(self.accounts, ask.needs, ask.round)
            digest = self.accounts.close([token], int(paid.sum()), digest)
        return self.noise.of(ask.digest, self.answers.digest, self.cohorts.answering[ask.round], digest, values)

    def _close(self, ask: Ask, noise: NoiseSource) -> None:
        if self.closing is not None:
            self.closing(f"{ask.use_case}, round {ask.round}", noise.fingerprint)

    def _privatized(self, ask: Ask, values: NDArray[np.int64], block: int, noise: NoiseSource) -> Any:
        rng = noise.stream(Stage.PRIVATIZE, round=ask.round, chunk=block)
        return ask.mechanism.privatize(values[block * self.answers.block : (block + 1) * self.answers.block], rng)

    def _agreed(self, devices: NDArray[np.int64]) -> Mask:
        # A cohort may hold devices whose owners did not agree (`everybody`). In a ledger that several runs share they
        # may have agreed to another run.
        return np.isin(devices, self.cohorts.members, assume_unique=True)

    def _answers(self, needs: Any, round: int) -> Answers:
        return self.answers.of(needs, self.cohorts.answering[round], round)

    def _token(self, accounts: Accounts, needs: Any, round: int) -> Token:
        # The configuration does not say everything: a writer can write other candidates, and devices get new mail.
        return accounts.token(hashlib.sha256(f"{self.answers.digest} {needs.digest}".encode()).hexdigest(), round)
