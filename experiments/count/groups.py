"""Who is polled together in a count: the use cases of one segment's devices, or all devices that are asked once.

group = EventGroup(job=job, noise=noise, segment=segment)
group.keys                               # what each key asks, and how precisely it will know
group.true_reports(group.keys[0])        # for an audit
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aggregate.trust import Collected
from device_poll.accounts import Accounts, Closing
from device_poll.events.fleet import EventFleet
from device_poll.events.fragments import PromptPool
from device_poll.events.held import Sent, SentReport
from device_poll.fleet import SimulatedFleet
from device_poll.population import PopulationError
from device_poll.prompts import PromptAnswers, everybody
from experiments.count.job import CountJob
from experiments.count.poll import Key, Truth
from experiments.count.segments import Segment, fleet_of
from privacy.mechanism import Mechanism, Tally
from privacy.poll import Advance, Ask
from privacy.randomness import NoiseSource, Stage, generator


@dataclass(frozen=True, kw_only=True, eq=False)
class EventGroup:
    """The use cases on the devices of one segment, whose events wait for a daily pick over all of them.

    Played once: what was sent, by use case and day, is kept from the first key that asks for its truth.
    """

    job: CountJob
    noise: NoiseSource
    segment: Segment
    closing: Closing | None = field(default=None, repr=False)
    _sent: dict[str, list[Sent]] = field(default_factory=dict, init=False, repr=False)

    @property
    def name(self) -> str:
        """The segment."""
        return self.segment.name

    @property
    def devices(self) -> range:
        """The segment's."""
        return range(self.segment.first_device, self.segment.first_device + self.segment.devices)

    def held(self) -> Iterator[object]:
        """The values of all use cases, and how often they are held."""
        for name, vocabulary in self.segment.vocabularies.items():
            yield from (self.segment.name, name, *vocabulary.values, vocabulary.weights)

    @cached_property
    def keys(self) -> tuple[Key, ...]:
        """One for each use case that is collected."""
        job, segment = self.job, self.segment
        if job.always_reports:  # whatever devices hold
            a_day = segment.devices * job.opt_in * job.reports_per_day
            shares = {name: holding.share for name, holding in job.holdings.items()}
        else:  # the most that can come, since what devices hold decides how many do
            a_day, shares = float(segment.devices * job.reports_per_day), dict.fromkeys(job.holdings, 1.0)
        return tuple(
            Key(
                key=dictionary.key,
                use_case=name,
                segment=segment.name,
                devices=segment.devices,
                mechanism=dictionary.mechanism,
                needs=dictionary,
                values=dictionary.values if dictionary.listed else None,
                answers=len(dictionary.values) + job.always_reports if dictionary.listed else None,
                unfit=dictionary.unfit,
                expected_reports=round(a_day * job.days * shares[name]),
            )
            for name, dictionary in segment.dictionaries.items()
            if name in job.collected
        )

    def fleet(self, accounts: Accounts | None) -> EventFleet:
        """The segment's devices."""
        fleet = fleet_of(self.job, self.noise, self.segment, accounts, self.closing)
        if accounts is not None:
            fleet.enroll()
        return fleet

    def paid(self, accounts: Accounts) -> int:
        """Of all days."""
        return fleet_of(self.job, self.noise, self.segment, accounts).paid(self.job.days)

    def sent_by(self, device: int, accounts: Accounts | None) -> list[SentReport]:
        """Of all days."""
        fleet = fleet_of(self.job, self.noise, self.segment, accounts, self.closing)
        return [sent for day in range(self.job.days) for sent in fleet.report_log(day, device)]

    @property
    def mechanisms(self) -> dict[str, Mechanism]:
        """Also of the keys that are not collected."""
        return {dictionary.key: dictionary.mechanism for dictionary in self.segment.dictionaries.values()}

    def draw(self, fleet: EventFleet, asks: Sequence[Ask], advance: Advance) -> dict[str, Tally]:
        """All days of each use case."""
        job, tallies = self.job, dict[str, Tally]()
        wanted = {ask.use_case for ask in asks}
        for which, (name, dictionary) in enumerate(self.segment.dictionaries.items()):
            if dictionary.key not in wanted:
                continue
            self._sent[name] = []
            for day in range(job.days):
                tally, truth = fleet.shortcut(day, which)
                self._sent[name].append(truth)
                total = tallies.get(dictionary.key)
                if total is not None:
                    total.sums[:] += tally.sums
                    tally = Tally(total.sums, total.reports + tally.reports, total.parameters)
                tallies[dictionary.key] = tally
                advance((len(tallies) - 1) * job.days + day + 1, len(wanted) * job.days)
        return tallies

    def truth(self, fleet: EventFleet, key: Key, collected: Collected) -> Truth:
        """Of all days; for words, of those that devices can send."""
        dictionary = self.segment.dictionaries[key.use_case]
        if key.use_case not in self._sent:
            days = [fleet.truth(day) for day in range(self.job.days)]
            self._sent.update({name: [day[i] for day in days] for i, name in enumerate(self.job.use_cases)})
        sent = self._sent[key.use_case]
        counts = np.sum([day.counts for day in sent], axis=0)
        weights = self.segment.vocabularies[key.use_case].weights[dictionary.fits]
        listed = dictionary.listed
        return Truth(
            values=dictionary.values,
            counts=counts[dictionary.fits],
            estimate=collected.estimate if listed else dictionary.estimate(collected.tally),
            dropped={reason: sum(day.dropped[reason] for day in sent) for reason in sent[0].dropped},
            nothing=sum(day.nothing for day in sent),
            shares={} if listed else dict(zip(dictionary.values, (weights / weights.sum()).tolist(), strict=True)),
            lexicon=self.segment.lexicons[key.use_case],
        )

    def true_reports(self, key: Key) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Of all days."""
        which, dictionary = self.job.use_cases.index(key.use_case), self.segment.dictionaries[key.use_case]
        fleet = self.fleet(None)
        days = [fleet.in_bulk(day) if self.job.exact else fleet.truth(day) for day in range(self.job.days)]
        counts = np.sum([sent[which].counts for sent in days], axis=0)[dictionary.fits]
        values = dictionary.encoded[dictionary.fits]
        if dictionary.null is None:
            return values, counts
        return np.concatenate([values, dictionary.null]), np.append(counts, sum(sent[which].nothing for sent in days))


@dataclass(frozen=True, kw_only=True, eq=False)
class PromptGroup:
    """All devices of a poll of fragments, asked once. Raises PopulationError for a mechanism that cannot take them."""

    job: CountJob
    noise: NoiseSource
    pool: PromptPool = field(repr=False)
    closing: Closing | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The use case; there are no segments."""
        return self.job.name

    @property
    def devices(self) -> range:
        """All of them."""
        return range(self.job.devices)

    def held(self) -> Iterator[object]:
        """Which candidates are in which prompt."""
        yield from (*self.pool.candidates, self.pool.offsets, self.pool.ids)

    @cached_property
    def answers(self) -> PromptAnswers:
        """What the devices would answer."""
        return PromptAnswers(pool=self.pool, devices=self.job.devices, activity=self.job.activity, seed=self.job.seed)

    @cached_property
    def keys(self) -> tuple[Key, ...]:
        """The one key."""
        choice = self.answers.choice(self.pool)
        try:
            mechanism = self.job.randomizer(choice.answers)
        except ValueError as error:
            raise PopulationError(f"{self.name} has {choice.candidates} candidates: {error}") from None
        return (
            Key(
                key=self.name,
                use_case=self.name,
                segment=self.job.segments[0],
                devices=self.job.devices,
                mechanism=mechanism,
                needs=self.pool,
                values=self.pool.candidates,
                answers=choice.answers,
                unfit={},
                expected_reports=round(self.job.devices * self.job.opt_in),
            ),
        )

    @cached_property
    def agreed(self) -> NDArray[np.bool_]:
        """Whose owners opted in, bool[devices]."""
        return generator(self.job.seed, 0, Stage.OPT_IN).random(self.job.devices) < self.job.opt_in

    def fleet(self, accounts: Accounts | None) -> SimulatedFleet:
        """All devices; those that did not agree stay silent."""
        if accounts is not None:
            accounts.ledger.enroll(np.arange(self.job.devices), self.agreed)
        return self._fleet(accounts)

    def _fleet(self, accounts: Accounts | None) -> SimulatedFleet:
        return SimulatedFleet(
            answers=self.answers,
            cohorts=everybody(self.agreed),
            noise=self.noise,
            workers=self.job.workers,
            accounts=accounts,
            closing=self.closing,
        )

    def paid(self, accounts: Accounts) -> int:
        """One of each device that has paid."""
        return int(self._fleet(accounts).answered(self.pool, 0).sum())

    def sent_by(self, device: int, accounts: Accounts | None) -> list[SentReport]:
        """One or none."""
        (key,), fleet = self.keys, self._fleet(accounts)
        if not fleet.answered(self.pool, 0)[device]:
            return []
        # How reports travel, which the trust model's own ask says, is no part of what they are.
        ask = Ask(use_case=key.key, round=0, mechanism=key.mechanism, needs=key.needs)
        return [SentReport(day=0, key=key.key, report=fleet.report_of(ask, device))]

    @property
    def mechanisms(self) -> dict[str, Mechanism]:
        """Of the one key."""
        return {key.key: key.mechanism for key in self.keys}

    def draw(self, fleet: SimulatedFleet, asks: Sequence[Ask], advance: Advance) -> dict[str, Tally]:
        """From the answers of those that can pay."""
        (ask,) = asks
        if fleet.accounts is not None:
            fleet.pay(ask)
        counts = self._sent(fleet)
        rng = fleet.drawn(ask, counts).generator(Stage.PRIVATIZE, round=0)
        tally = ask.mechanism.simulate_tally(counts, rng)
        return {ask.use_case: tally}

    def truth(self, fleet: SimulatedFleet, key: Key, collected: Collected) -> Truth:
        """Of the candidates; a device that holds several answers with one."""
        choice = self.answers.choice(self.pool)
        return Truth(
            values=self.pool.candidates,
            counts=self._sent(fleet)[: choice.none],
            estimate=choice.split(collected.estimate)[0],
            held=self.answers.all().held,
        )

    def true_reports(self, key: Key) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Of all whose owners opted in; the last value is 'none of these'."""
        counts = self._sent(self.fleet(None))
        return np.arange(len(counts), dtype=np.int64), counts

    def _sent(self, fleet: SimulatedFleet) -> NDArray[np.int64]:
        """True answers of those whose report was sent, by answer."""
        return self.answers.choice(self.pool).counted(self.answers.all().values[fleet.answered(self.pool, 0)])
