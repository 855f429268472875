"""What a ledger keeps, and what a place that keeps it must be able to do; the rules are in privacy/ledger.py.

    with pages._transaction(write=True):
        life = pages._read(Kind.LIFETIME, 0, page)
        pages._write(Kind.LIFETIME, 0, page, life + cost)

All is numbers, one a device, page by page, and a list of polls; ledger_stores.py keeps them in a file or memory.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from numpy.typing import NDArray

from privacy.budget import Token

Page = NDArray[Any]


class Kind(IntEnum):
    """What a page holds, one entry a device; its key is the day (DAILY), the poll's number (DEBITS) or 0."""

    CONSENT = 0
    LIFETIME = 1
    DAILY = 2
    DEBITS = 3


class Consent(IntEnum):
    """What a device's owner decided, of which the last decision counts; FORGOTTEN is a bit beside it: who answered what
    was dropped on request, while what it cost is still spent.
    """

    UNKNOWN = 0
    YES = 1
    NO = 2
    FORGOTTEN = 4


DTYPES = {Kind.CONSENT: "u1", Kind.LIFETIME: "<i8", Kind.DAILY: "<i8", Kind.DEBITS: "u1"}


@dataclass(frozen=True, kw_only=True)
class Poll:
    """A token that was debited: all of its debits have one cost (micro-epsilons) and one day.

    `seal`: what its poll was closed with; None while devices may still join.
    """

    number: int
    cost: int
    day: int
    cancelled: bool
    seal: str | None = None


class LedgerPages(ABC):
    """Where pages and polls live, as the rules see it. All but `_transaction` itself is called inside one."""

    @abstractmethod
    def _transaction(self, *, write: bool) -> AbstractContextManager[None]:
        """All or nothing; what was written is durable on leaving."""

    @abstractmethod
    def _read(self, kind: Kind, key: int, page: int) -> Page:
        """[width] entries of DTYPES[kind] that the caller may change; zeros if never written."""

    @abstractmethod
    def _write(self, kind: Kind, key: int, page: int, entries: Page) -> None: ...

    @abstractmethod
    def _stored(self, kind: Kind, key: int | None = None) -> list[tuple[int, int]]:
        """(key, page) of all pages written, of one key or of all."""

    @abstractmethod
    def _find_poll(self, token: Token) -> Poll | None: ...

    @abstractmethod
    def _find_day(self, use_case: str) -> int | None:
        """The day of the first poll of this use case."""

    @abstractmethod
    def _add_poll(self, token: Token, cost: int) -> Poll: ...

    @abstractmethod
    def _polls(self) -> list[Poll]: ...

    @abstractmethod
    def _set_cancelled(self, number: int) -> None: ...

    @abstractmethod
    def _set_seal(self, number: int, seal: str) -> None: ...

    @abstractmethod
    def _horizon(self) -> int:
        """The first day that is not forgotten."""

    @abstractmethod
    def _drop_before(self, day: int) -> None: ...
