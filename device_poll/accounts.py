"""The debits of one run in its devices' accounts, made before any report exists.

accounts = Accounts(ledger=ledger, run="mail 1f3c...", cost=trust.cost, minimum_batch=500)
token = accounts.token(slate_digest, round=0)
leaving = accounts.pay(token, cohort, mechanism)         # whose report may leave now
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from device_poll.population import PopulationError
from privacy.budget import MICRO, DebitState, Token, micro_epsilon
from privacy.ledger import Ledger, Mask
from privacy.ledger_pages import Consent
from privacy.mechanism import Mechanism

Closing = Callable[[str, str], None]
"""Told which poll is about to send its first report, and a name of all that its reports depend on. Raises
PopulationError for a poll that was sent before and depended on anything else: it would be a second poll of its devices.
"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Accounts:
    """Debits devices for the polls of one run, before any of them makes a report.

    `run` names the run, by a digest of its whole configuration and of its source of noise; `cost` gives the epsilon of
    one report; a poll for which fewer than `minimum_batch` devices can pay is called off. Round r is on the simulated
    day `first_day` + r; None: on the day of the `clock`, days since 1970 in UTC, that it was first debited on.
    `repeatable` says that a round that is played again sends the very same reports and releases the very same counts;
    `reports_alone` that what is claimed holds for every report by itself, not only for a crowd of them.
    """

    ledger: Ledger = field(repr=False)
    run: str
    cost: Callable[[Mechanism], float]
    minimum_batch: int
    first_day: int | None = 0
    repeatable: bool = True
    reports_alone: bool = True
    clock: Callable[[], int] = field(default=lambda: int(time.time()) // 86400, repr=False)

    def token(self, asked: str, round: int, *, day: int | None = None) -> Token:
        """Names a poll of this run; `asked` is a digest of what its reports depend on beside the configuration.

        `day` counts simulated days from the run's first, and is the round's number unless given. The same token is
        never debited twice, so it must stand for the same reports, bit for bit.
        """
        use_case = f"{self.run} {asked}"
        return Token(use_case=use_case, round=round, day=self._day(use_case, round if day is None else day))

    def paid(self, token: Token, cohort: NDArray[np.int64]) -> Mask:
        """bool[n]: whose report has left."""
        return np.equal(self.ledger.states(token, cohort), DebitState.SENT)

    def pay(self, token: Token, cohort: NDArray[np.int64], mechanism: Mechanism) -> Mask:
        """bool[n]: whose report may leave now. Raises PopulationError, with nothing spent, if they are too few.

        The whole cohort reserves before the first device sends. Whether a minimum batch comes together is known from
        the reservations alone, so a poll that is called off costs nobody anything: reports that left could not be
        given back. `send` is one transaction too, which closes the poll: who answers is decided once, and a round that
        was killed and is played again asks exactly these devices, whatever other runs did to the ledger since. (Two
        sums over almost the same devices would give away those in which they differ.)
        """
        paid = self.paid(token, cohort)
        if paid.any():
            # The same report may travel again only as the very same bits; noise drawn anew would cost anew.
            leaving = paid.copy()
            leaving[paid] = self.ledger.send(token, cohort[paid], identical=self.repeatable)
            if not leaving.any():
                raise self._lost(token)
            self.check_whole(token, int(leaving.sum()), alone=mechanism.private_alone)
            return leaving
        cost = self._cost(mechanism)
        ready = self.ledger.debit(token, cohort, cost)
        if ready.sum() < self.minimum_batch:
            self.ledger.cancel(token)
            raise self._too_few(token.round, int(ready.sum()), cost)
        return self._send(token, cohort, ready)

    def pay_some(self, token: Token, devices: NDArray[np.int64], mechanism: Mechanism) -> Mask:
        """bool[n]: whose report may leave now, of devices that do not wait for each other.

        For reports that devices send by themselves, block after block: how many come is known when all have come, so
        no poll is called off here, and the front door refuses a batch that is too small.
        """
        paid = self.paid(token, devices)
        if not self.repeatable and paid.any():
            raise self._lost(token)
        leaving = self.ledger.debit(token, devices, self._cost(mechanism))
        leaving[leaving] = self.ledger.send(token, devices[leaving], identical=self.repeatable)
        return leaving

    def close(self, tokens: Sequence[Token], paid: int, digest: str) -> str:
        """Close these polls, of which so many reports are paid for: nobody joins them any more. Returns the digest that
        they were first closed with, which the noise is bound to: it outlives what owners decide later.
        """
        return self.ledger.seal(tokens, f"{paid} {digest}").partition(" ")[2]

    def closed_with(self, token: Token) -> str | None:
        """The digest that the poll of this token was closed with; None: it is open."""
        seal = self.ledger.seal_of(token)
        return None if seal is None else seal.partition(" ")[2]

    def book(self, token: Token, cohort: NDArray[np.int64], mechanism: Mechanism) -> int:
        """How many devices have paid for a poll that is over; a ledger that does not know it is told now."""
        paid = self.paid(token, cohort)
        if not paid.any():
            paid = self._send(token, cohort, self.ledger.debit(token, cohort, self._cost(mechanism)))
        return int(paid.sum())

    def check(self, cohorts: Sequence[NDArray[np.int64]], mechanism: Mechanism) -> None:
        """Raise PopulationError if one of these cohorts, by round, has too few devices with budget. Debits nothing."""
        cost, caps = self._cost(mechanism), self.ledger.budget
        for number, cohort in enumerate(cohorts):
            day = self.clock() if self.first_day is None else self.first_day + number
            life, today = self.ledger.spent(cohort), self.ledger.spent_on(day, cohort)
            agreed = self.ledger.consents(cohort) == Consent.YES
            ready = int((agreed & (life <= caps.lifetime - cost) & (today <= caps.daily - cost)).sum())
            if ready < self.minimum_batch:
                raise self._too_few(number, ready, cost)

    def _day(self, use_case: str, since_first: int) -> int:
        if self.first_day is not None:
            return self.first_day + since_first
        # A poll that was killed before midnight is still of that day, or its devices would pay twice.
        begun = self.ledger.day_of(use_case)
        return self.clock() if begun is None else begun

    def _cost(self, mechanism: Mechanism) -> int:
        return micro_epsilon(self.cost(mechanism))

    def _send(self, token: Token, cohort: NDArray[np.int64], ready: Mask) -> Mask:
        sent = ready.copy()
        sent[ready] = self.ledger.send(token, cohort[ready])
        return sent

    def check_whole(self, token: Token, leaving: int, *, alone: bool) -> None:
        """Raise PopulationError where the claim is not one of reports `alone` and a poll that was closed is played
        again with fewer: a second sum, or a second crowd, would tell what the others were.
        """
        seal = self.ledger.seal_of(token)
        if (alone and self.reports_alone) or seal is None or int(seal.partition(" ")[0]) == leaving:
            return
        raise PopulationError(
            f"devices withdrew or were forgotten after their reports of round {token.round} had left; under this trust "
            "model a sum without them would give them away, so the poll cannot be played again; begin another run "
            "(out=DIR)"
        )

    def _lost(self, token: Token) -> PopulationError:
        return PopulationError(
            f"round {token.round} was polled before, its result was lost, and its noise does not repeat: its devices "
            "have spent what it cost; another folder (out=DIR) is another run, which costs anew"
        )

    def _too_few(self, round: int, ready: int, cost: int) -> PopulationError:
        caps = self.ledger.budget
        return PopulationError(
            f"round {round} has {ready} devices that can report, fewer than minimum_batch={self.minimum_batch}; the "
            f"poll is called off before any report leaves, and costs nobody anything: a report costs {cost / MICRO:g} "
            f"of the caps, lifetime {caps.lifetime / MICRO:g} and daily {caps.daily / MICRO:g}, and too few devices "
            "that opted in have so much left in the ledger; lower epsilon, bring devices with budget, or wait for "
            f"another day{'' if self.first_day is None else ' (first_day)'}"
        )
