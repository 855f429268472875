"""Budgets of a population: a ledger file that belongs to it, and the debits of one run, made before any report exists.

ledger = PopulationLedger("ledger.db", device_ids=population.device_ids, budget=Budget.of(lifetime=64.0, daily=8.0))
ledger.opt_in(cohorts.members)
accounts = Accounts(ledger=ledger, run="mail 1f3c...", cost=trust.cost, minimum_batch=500)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from device_poll.population import PopulationError
from privacy.budget import MICRO, Budget, DebitState, LedgerError, Token, micro_epsilon
from privacy.ledger import Ledger, Mask
from privacy.ledger_stores import SQLiteLedger
from privacy.mechanism import Mechanism


class PopulationLedger(SQLiteLedger):
    """A ledger file that belongs to one population: device i is the device of that id, in every run and use case.

    Raises LedgerError as SQLiteLedger does, and if the file was made for other devices.
    """

    def __init__(self, path: str | Path, *, device_ids: Sequence[str], budget: Budget) -> None:
        self._key = _digest_of(device_ids)
        super().__init__(path, devices=len(device_ids), budget=budget)

    def has_polls_of(self, run: str) -> bool:
        """Whether anything was ever debited for this run (Accounts.run)."""
        query = "SELECT count(*) FROM polls WHERE substr(use_case, 1, ?) = ?"
        (count,) = self._db.execute(query, (len(run) + 1, f"{run} ")).fetchone()
        return bool(count)

    def _adopt(self) -> None:
        super()._adopt()
        mine = {"devices": self.devices, "population": self._key}
        stored = dict(self._db.execute("SELECT name, value FROM meta WHERE name IN ('devices', 'population')"))
        if not stored and self._db.execute("SELECT count(*) FROM pages").fetchone() == (0,):
            self._db.executemany("INSERT INTO meta VALUES (?, ?)", mine.items())
        elif stored != mine:
            of = f"is the ledger of {stored['devices']} other" if stored else "has accounts of unnamed"
            raise LedgerError(
                f"{self._path} {of} devices; got a population of {self.devices}: a ledger belongs to one population, "
                "so give each its own path"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Accounts:
    """Debits devices for the polls of one run, before any of them makes a report.

    `run` names the run, by a digest of its whole configuration; `cost` gives the epsilon of one report; a poll for
    which fewer than `minimum_batch` devices can pay is called off; round r is on day `first_day` + r. `repeatable` says
    that a round that is played again sends the very same reports and releases the very same counts.
    """

    ledger: Ledger = field(repr=False)
    run: str
    cost: Callable[[Mechanism], float]
    minimum_batch: int
    first_day: int = 0
    repeatable: bool = True

    def token(self, asked: str, round: int, *, day: int | None = None) -> Token:
        """Names a poll of this run; `asked` is a digest of what its reports depend on beside the configuration.

        `day` counts from the run's first, and is the round's number unless given. The same token is never debited
        twice, so it must stand for the same reports, bit for bit.
        """
        return Token(use_case=f"{self.run} {asked}", round=round, day=self.first_day + (round if day is None else day))

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
            paid[paid] = self.ledger.send(token, cohort[paid], identical=self.repeatable)
            if not paid.any():
                raise self._lost(token)
            return paid
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
        if not self.repeatable and self.paid(token, devices).any():
            raise self._lost(token)
        leaving = self.ledger.debit(token, devices, self._cost(mechanism))
        leaving[leaving] = self.ledger.send(token, devices[leaving], identical=self.repeatable)
        return leaving

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
            life, today = self.ledger.spent(cohort), self.ledger.spent_on(self.first_day + number, cohort)
            ready = int(((life <= caps.lifetime - cost) & (today <= caps.daily - cost)).sum())
            if ready < self.minimum_batch:
                raise self._too_few(number, ready, cost)

    def _cost(self, mechanism: Mechanism) -> int:
        return micro_epsilon(self.cost(mechanism))

    def _send(self, token: Token, cohort: NDArray[np.int64], ready: Mask) -> Mask:
        sent = ready.copy()
        sent[ready] = self.ledger.send(token, cohort[ready])
        return sent

    def _lost(self, token: Token) -> PopulationError:
        return PopulationError(
            f"round {token.round} was polled before, its result was lost, and its noise does not repeat: its devices "
            "have spent what it cost; another seed or first_day is another run, which costs anew"
        )

    def _too_few(self, round: int, ready: int, cost: int) -> PopulationError:
        caps = self.ledger.budget
        return PopulationError(
            f"round {round} has {ready} devices that can report, fewer than minimum_batch={self.minimum_batch}; the "
            f"poll is called off before any report leaves, and costs nobody anything: a report costs {cost / MICRO:g} "
            f"of the caps, lifetime {caps.lifetime / MICRO:g} and daily {caps.daily / MICRO:g}, and what is left of "
            "them in the ledger is too little; lower epsilon, bring devices with budget, or wait for another day "
            "(first_day)"
        )


def _digest_of(device_ids: Sequence[str]) -> int:
    """63 bits that say which devices these are, and in which order."""
    digest = hashlib.sha256()
    for name in device_ids:
        raw = name.encode("utf-8", "surrogatepass")
        digest.update(f"{len(raw)} ".encode() + raw)
    return int.from_bytes(digest.digest()[:8], "big") >> 1
