"""What every device has spent, over all use cases and rounds, and who may still answer.

Pure epsilons add up (basic composition: Dwork, Roth 2014, theorem 3.16), in whole micro-epsilons. A debit is durable
before `debit` returns, so before the report exists; an account only ever errs by counting too much.

    ledger = SQLiteLedger("ledger.db", devices=1_000_000, budget=Budget.of(lifetime=64.0, daily=8.0))
    ledger.enroll(np.arange(1_000_000), agreed)     # those that the ledger has never seen; who decided keeps it
    token = Token(use_case="email", round=3, day=20_400)
    cohort = cohort[ledger.debit(token, cohort, micro_epsilon(4.0))]   # reserved; the others stay silent
    cohort = cohort[ledger.send(token, cohort)]                        # sent; only now may reports leave
    # or, if the poll is called off: ledger.cancel(token)              # what was not sent is credited back

Masks stay on the devices' side. The server is told how many reports it has and nothing else: who was refused depends
on what a device answered before.

`send` comes before the first byte of a report leaves. What is still reserved therefore never left, and every refund is
safe. A process killed between `send` and the network has spent budget for nothing; the other order could refund a
report that did leave.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privacy.budget import (
    LARGEST_BUDGET,
    LARGEST_NUMBER,
    Budget,
    DebitState,
    LedgerError,
    Token,
    check_devices,
    check_whole,
)
from privacy.ledger_pages import Consent, Kind, LedgerPages, Poll

Devices = NDArray[np.int64]
Mask = NDArray[np.bool_]

_DECISION = np.uint8(Consent.YES | Consent.NO)
_RESERVED, _SENT, _REFUNDED = (np.uint8(s) for s in (DebitState.RESERVED, DebitState.SENT, DebitState.REFUNDED))


@dataclass(frozen=True, kw_only=True)
class LedgerSummary:
    """For the privacy statement: devices opted in, opted out, forgotten on request and ever charged, and the most
    micro-epsilons of any one device.

    `largest_day` looks at the days that are not forgotten.
    """

    opted_in: int
    opted_out: int
    forgotten: int
    charged: int
    largest_lifetime: int
    largest_day: int


class Ledger(LedgerPages):
    """The rules, written once, over pages of `width` devices; a subclass says where the pages live.

    Devices are 0 .. devices - 1, given as int64[n] without repeats in any order; masks are bool[n] in the same order.
    Every call is one transaction, done as a whole or not at all. Malformed arguments raise TypeError or ValueError;
    what the ledger's own state forbids raises LedgerError.
    """

    def __init__(self, *, devices: int, budget: Budget, width: int) -> None:
        check_whole("devices", devices, 1, LARGEST_NUMBER)
        self.devices, self.budget, self._width = devices, budget, width

    def enroll(self, devices: Devices, agreed: Mask) -> None:
        """What the owners of devices that this ledger has never seen decided, bool[n]; all others keep their decision.

        A device that never opted in stays silent.
        """
        pages, _ = self._pages(devices)
        decided = np.where(np.asarray(agreed, dtype=np.bool_), np.uint8(Consent.YES), np.uint8(Consent.NO))
        if decided.shape != (len(devices),):
            raise ValueError(f"agreed has shape {decided.shape}; expected ({len(devices)},): one decision a device")
        with self._transaction(write=True):
            for page, places, local in pages:
                consent = self._read(Kind.CONSENT, 0, page)
                before = consent[local]
                if (new := before == Consent.UNKNOWN).any():
                    consent[local] = np.where(new, decided[places], before)
                    self._write(Kind.CONSENT, 0, page, consent)

    def opt_in(self, devices: Devices) -> None:
        """These devices may be debited from now on, whatever they decided before: on their owners' request."""
        self._decide(devices, Consent.YES)

    def opt_out(self, devices: Devices) -> None:
        """These devices stay silent from now on, even where a debit is reserved, and in all later runs."""
        self._decide(devices, Consent.NO)

    def forget_devices(self, devices: Devices) -> None:
        """Drop which polls these devices answered, on their owners' request, and opt them out.

        What they have spent stays spent, and so does what is still reserved: forgetting refunds nothing.
        """
        pages, _ = self._pages(devices)
        with self._transaction(write=True):
            for page, _, local in pages:
                consent = self._read(Kind.CONSENT, 0, page)
                consent[local] = Consent.NO | Consent.FORGOTTEN
                self._write(Kind.CONSENT, 0, page, consent)
                for number in (key for key, at in self._stored(Kind.DEBITS) if at == page):
                    states = self._read(Kind.DEBITS, number, page)
                    states[local] = DebitState.NONE
                    self._write(Kind.DEBITS, number, page, states)

    def consents(self, devices: Devices) -> NDArray[np.int64]:
        """The decision of each device, Consent.UNKNOWN, YES or NO, int64[n]."""
        with self._transaction(write=False):
            return self._gather(devices, Kind.CONSENT, 0) & _DECISION

    def day_of(self, use_case: str) -> int | None:
        """The day on which the first poll of this use case was debited; None: none was."""
        with self._transaction(write=False):
            return self._find_day(use_case)

    def seal(self, tokens: Sequence[Token], seal: str) -> str:
        """Close the polls of these tokens together: nobody is debited for them from now on. Returns what they are
        sealed with: this, or what it was when they were closed before.

        A seal says who has paid and what they answered, as a digest. Noise that is derived from it stays the same,
        whatever the devices' owners decide later. Raises LedgerError for polls that were closed apart.
        """
        with self._transaction(write=True):
            polls = [poll for token in tokens if (poll := self._find_poll(token)) is not None]
            before = {poll.seal for poll in polls if poll.seal is not None}
            if len(before) > 1:
                raise LedgerError("polls are closed that were closed apart before; something else wrote to this ledger")
            seal = before.pop() if before else seal
            for poll in polls:
                self._set_seal(poll.number, seal)
            return seal

    def seal_of(self, token: Token) -> str | None:
        """What the poll of this token is sealed with; None while it is open."""
        with self._transaction(write=False):
            poll = self._find_poll(token)
            return None if poll is None else poll.seal

    def debit(self, token: Token, devices: Devices, cost: int) -> Mask:
        """Reserve `cost` micro-epsilons of each device; True for those that may answer.

        Refused are exactly the devices that are not opted in, whose lifetime or daily cap would be passed, whose debit
        was refunded, or that come after the poll was closed (`seal`). Idempotent: a device that holds this debit is
        True and not charged again, so a run that was killed just calls again. Raises LedgerError if the token was
        debited at another cost or its day is forgotten.
        """
        check_whole("cost", cost, 1, LARGEST_BUDGET)
        cost = int(cost)
        pages, allowed = self._pages(devices)
        with self._transaction(write=True):
            poll = self._poll(token, cost)
            for page, places, local in pages if not poll.cancelled else ():
                agreed = self._agreed(page, local)
                states = self._read(Kind.DEBITS, poll.number, page)
                life = self._read(Kind.LIFETIME, 0, page)
                today = self._read(Kind.DAILY, poll.day, page)
                state = states[local]
                fits = agreed & (state == 0) & (poll.seal is None)
                fits &= (life[local] <= self.budget.lifetime - cost) & (today[local] <= self.budget.daily - cost)
                allowed[places] = fits | (agreed & ((state == _RESERVED) | (state == _SENT)))
                if fits.any():
                    states[local] = np.where(fits, _RESERVED, state)
                    life[local] += cost * fits
                    today[local] += cost * fits
                    self._write(Kind.DEBITS, poll.number, page, states)
                    self._write(Kind.LIFETIME, 0, page, life)
                    self._write(Kind.DAILY, poll.day, page, today)
        return allowed

    def send(self, token: Token, devices: Devices, *, identical: bool = False) -> Mask:
        """Mark reserved debits as sent; True for the devices whose report may leave now.

        A debit that was sent before is False: a second report, drawn afresh, would cost a second time. Say
        `identical=True` only where a repeat is bit for bit the same report (a seeded simulation, a stored report); then
        it is True. Raises LedgerError if nothing was ever debited for the token.
        """
        pages, ready = self._pages(devices)
        with self._transaction(write=True):
            poll = self._known_poll(token)
            for page, places, local in pages if not poll.cancelled else ():
                agreed = self._agreed(page, local)
                states = self._read(Kind.DEBITS, poll.number, page)
                state = states[local]
                leaving = agreed & (state == _RESERVED)
                ready[places] = leaving | (agreed & (state == _SENT)) if identical else leaving
                if leaving.any():
                    states[local] = np.where(leaving, _SENT, state)
                    self._write(Kind.DEBITS, poll.number, page, states)
        return ready

    def refund(self, token: Token, devices: Devices) -> Mask:
        """Credit reserved debits back; True where the device's debit now stands refunded. What was sent stays spent."""
        pages, refunded = self._pages(devices)
        with self._transaction(write=True):
            poll = self._known_poll(token)
            for page, places, local in pages:
                self._credit(poll, page, local)
                refunded[places] = self._read(Kind.DEBITS, poll.number, page)[local] == _REFUNDED
        return refunded

    def cancel(self, token: Token) -> int:
        """Call a poll off for good: refund what is reserved (returns how many); nobody can debit or send for it again.

        Raises LedgerError if nothing was ever debited for the token.
        """
        with self._transaction(write=True):
            poll = self._known_poll(token)
            self._set_cancelled(poll.number)
            return sum(self._credit(poll, page, slice(None)) for _, page in self._stored(Kind.DEBITS, poll.number))

    def spent(self, devices: Devices) -> NDArray[np.int64]:
        """Micro-epsilons spent in their lifetime, int64[n]."""
        with self._transaction(write=False):
            return self._gather(devices, Kind.LIFETIME, 0)

    def spent_on(self, day: int, devices: Devices) -> NDArray[np.int64]:
        """Micro-epsilons spent on this day, int64[n]. Raises LedgerError for a forgotten day."""
        check_whole("day", day, 0, LARGEST_NUMBER)
        with self._transaction(write=False):
            self._check_remembered(day)
            return self._gather(devices, Kind.DAILY, day)

    def states(self, token: Token, devices: Devices) -> NDArray[np.int64]:
        """The DebitState of each device, int64[n]. Raises LedgerError for a forgotten day."""
        with self._transaction(write=False):
            self._check_remembered(token.day)
            poll = self._find_poll(token)
            return self._gather(devices, Kind.DEBITS, poll.number if poll else -1)

    def summary(self) -> LedgerSummary:
        """Totals over all devices."""
        with self._transaction(write=False):
            consents = [self._read(Kind.CONSENT, *at) for at in self._stored(Kind.CONSENT)]
            life = [self._read(Kind.LIFETIME, *at) for at in self._stored(Kind.LIFETIME)]
            return LedgerSummary(
                opted_in=sum(int(np.count_nonzero((page & _DECISION) == Consent.YES)) for page in consents),
                opted_out=sum(int(np.count_nonzero((page & _DECISION) == Consent.NO)) for page in consents),
                forgotten=sum(int(np.count_nonzero(page & np.uint8(Consent.FORGOTTEN))) for page in consents),
                charged=sum(int(np.count_nonzero(page)) for page in life),
                largest_lifetime=max((int(page.max()) for page in life), default=0),
                largest_day=max((int(self._read(Kind.DAILY, *at).max()) for at in self._stored(Kind.DAILY)), default=0),
            )

    def verify(self) -> None:
        """Add all debits up again. Raises LedgerError if an account is below its debits or above a cap."""
        with self._transaction(write=False):
            polls, horizon = self._polls(), self._horizon()
            for page in sorted(
                {page for kind in (Kind.LIFETIME, Kind.DAILY, Kind.DEBITS) for _, page in self._stored(kind)}
            ):
                life = self._read(Kind.LIFETIME, 0, page)
                total, days = np.zeros_like(life), {poll.day: np.zeros_like(life) for poll in polls}
                for poll in polls:
                    states = self._read(Kind.DEBITS, poll.number, page)
                    charged = poll.cost * ((states == _RESERVED) | (states == _SENT))
                    total += charged
                    days[poll.day] += charged
                # Once days or devices are forgotten, an account holds debits that are no longer listed.
                kept = (self._read(Kind.CONSENT, 0, page) & np.uint8(Consent.FORGOTTEN)) == 0
                wrong = (life < total) | (life > self.budget.lifetime)
                wrong |= False if horizon else (kept & (life != total))
                for day, expected in days.items():
                    today = self._read(Kind.DAILY, day, page)
                    wrong |= (today < expected) | (kept & (today != expected)) | (today > self.budget.daily)
                if wrong.any():
                    raise LedgerError(
                        f"{int(wrong.sum())} accounts in page {page} do not agree with their debits or caps; something "
                        "else wrote to this ledger: do not poll with it, restore a copy"
                    )

    def forget(self, before_day: int) -> None:
        """Drop who answered what before this day (retention); what it cost stays in the lifetime for good.

        What is still reserved there stays spent. Tokens of forgotten days are refused, so none is debited twice.
        """
        check_whole("before_day", before_day, 0, LARGEST_NUMBER)
        with self._transaction(write=True):
            if before_day > self._horizon():
                self._drop_before(before_day)

    def _decide(self, devices: Devices, decision: Consent) -> None:
        pages, _ = self._pages(devices)
        with self._transaction(write=True):
            for page, _, local in pages:
                consent = self._read(Kind.CONSENT, 0, page)
                consent[local] = (consent[local] & np.uint8(Consent.FORGOTTEN)) | np.uint8(decision)
                self._write(Kind.CONSENT, 0, page, consent)

    def _agreed(self, page: int, local: Any) -> Mask:
        agreed: Mask = (self._read(Kind.CONSENT, 0, page)[local] & _DECISION) == Consent.YES
        return agreed

    def _credit(self, poll: Poll, page: int, local: Any) -> int:
        states = self._read(Kind.DEBITS, poll.number, page)
        state = states[local]
        back = state == _RESERVED
        if back.any():
            states[local] = np.where(back, _REFUNDED, state)
            self._write(Kind.DEBITS, poll.number, page, states)
            for kind, key in ((Kind.LIFETIME, 0), (Kind.DAILY, poll.day)):
                account = self._read(kind, key, page)
                account[local] -= poll.cost * back
                self._write(kind, key, page, account)
        return int(back.sum())

    def _gather(self, devices: Devices, kind: Kind, key: int) -> NDArray[np.int64]:
        pages, mask = self._pages(devices)
        entries = np.zeros(len(mask), dtype=np.int64)
        for page, places, local in pages:
            entries[places] = self._read(kind, key, page)[local]
        return entries

    def _accounts_of(self, devices: Devices) -> Devices:
        """The numbers of the devices' accounts, int64[n]; here their own. Raises what check_devices raises."""
        return check_devices(devices, self.devices)

    def _pages(self, devices: Devices) -> tuple[list[tuple[int, Any, Any]], Mask]:
        """The devices page by page: (page, places in `devices`, places in the page); and a mask of False."""
        devices = self._accounts_of(devices)
        n, order, pages = len(devices), None, []
        if np.any(devices[1:] <= devices[:-1]):
            order = np.argsort(devices, kind="stable")
            devices = devices[order]
            if np.any(devices[1:] == devices[:-1]):
                raise ValueError("devices repeat; expected each device once in a call: one debit pays for one report")
        page_of = devices // self._width
        for start, stop in pairwise([0, *(np.flatnonzero(np.diff(page_of)) + 1).tolist(), n] if n else []):
            page = int(page_of[start])
            local: Any = devices[start:stop] - page * self._width
            if local[-1] - local[0] == stop - start - 1:  # a run of neighbours needs no gather
                local = slice(int(local[0]), int(local[-1]) + 1)
            pages.append((page, slice(start, stop) if order is None else order[start:stop], local))
        return pages, np.zeros(n, dtype=np.bool_)

    def _poll(self, token: Token, cost: int) -> Poll:
        self._check_remembered(token.day)
        poll = self._find_poll(token) or self._add_poll(token, cost)
        if poll.cost != cost:
            raise LedgerError(
                f"cost is {cost} micro-epsilons, but {token} was debited at {poll.cost}; "
                "another poll needs another round"
            )
        return poll

    def _known_poll(self, token: Token) -> Poll:
        self._check_remembered(token.day)
        poll = self._find_poll(token)
        if poll is None:
            raise LedgerError(f"nothing was ever debited for {token}; expected a debit first")
        return poll

    def _check_remembered(self, day: int) -> None:
        if day < self._horizon():
            raise LedgerError(f"day is {day}; expected {self._horizon()} or later, earlier days are forgotten")
