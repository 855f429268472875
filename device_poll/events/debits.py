"""What a day's reports of a segment cost: every place among a device's reports is a debit of its own.

    debits = Debits(accounts=accounts, asked=fleet_digest, day=0, cap=2, mechanism=sketch, first_device=0)
    leaving = debits.pay(block.start, agreed)            # bool[cap, devices]: whose report of which place may leave
    digest = debits.close(paid, digest)                  # nobody joins the day any more

All devices that agreed pay for all places, whatever happened on them: what a device pays must not tell what it holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from device_poll.accounts import Accounts
from privacy.budget import Token
from privacy.ledger import Mask
from privacy.mechanism import Mechanism


@dataclass(frozen=True, kw_only=True, eq=False)
class Debits:
    """The debits of one day; without accounts nobody pays, and all may send.

    `asked` names what the reports depend on; `mechanism` is one whose reports cost what those of the day cost.
    """

    accounts: Accounts | None = field(repr=False)
    asked: str
    day: int
    cap: int
    mechanism: Mechanism
    first_device: int

    @cached_property
    def tokens(self) -> list[Token]:
        """One a place among a device's reports; none without accounts."""
        if self.accounts is None:
            return []
        return [self.accounts.token(self.asked, place, day=self.day) for place in range(self.cap)]

    def pay(self, start: int, agreed: Mask) -> Mask:
        """Debit the devices of a block that agreed, from device `start` of the fleet on: bool[cap, devices], which of
        their reports may leave now.
        """
        leaving, accounts = self._of(agreed), self.accounts
        if accounts is not None:
            devices = self.first_device + start + np.flatnonzero(agreed)
            for place, token in enumerate(self.tokens):
                leaving[place, agreed] = accounts.pay_some(token, devices, self.mechanism)
        return leaving

    def sent(self, start: int, agreed: Mask) -> Mask:
        """Which reports the accounts have as sent, bool[cap, devices]. Debits nobody."""
        sent, accounts = self._of(agreed), self.accounts
        if accounts is not None:
            devices = self.first_device + start + np.flatnonzero(agreed)
            for place, token in enumerate(self.tokens):
                sent[place, agreed] = accounts.paid(token, devices)
        return sent

    def close(self, leaving: int, digest: str, *, drawn: bool = False) -> str:
        """Close the day, on which so many reports leave; returns the digest that it was first closed with.

        Raises PopulationError for a day that was closed with more reports, where a second release without them would
        tell what they were: sums of reports that are not private alone, and tallies that are `drawn` anew.
        """
        if self.accounts is None:
            return digest
        self.accounts.check_whole(self.tokens[0], leaving, alone=self.mechanism.private_alone and not drawn)
        return self.accounts.close(self.tokens, leaving, digest)

    def closed_with(self) -> str | None:
        """The digest that the day was closed with; None: it is open, or there are no accounts."""
        return None if self.accounts is None else self.accounts.closed_with(self.tokens[0])

    def _of(self, agreed: Mask) -> Mask:
        """All reports of those who agreed, in an array of its own."""
        return np.broadcast_to(agreed, (self.cap, len(agreed))).copy()
