"""Small fleets of events, and what they send: for tests of device_poll/events/fleet.py.

    some = fleet(held("a.en", RR, 0.4), held("b.en", CMS, 0.6))
    numbers = senders(sent(some))

Five values, of which the third does not fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from device_poll.accounts import Accounts
from device_poll.events.activity import Activity
from device_poll.events.fleet import EventFleet
from device_poll.events.held import Held
from privacy.budget import Budget
from privacy.count_mean_sketch import CountMeanSketch
from privacy.fragment_puzzle import SequenceFragmentPuzzle
from privacy.hadamard_sketch import HadamardCountMeanSketch
from privacy.hashing import hash_strings
from privacy.ledger import Ledger
from privacy.ledger_stores import SimulatedLedger
from privacy.no_privacy import NoPrivacy
from privacy.poll import ReportBatch
from privacy.randomized_response import RandomizedResponse
from privacy.randomness import NoiseSource

CMS = CountMeanSketch(epsilon=4.0, rows=16, columns=64, hash_seed=1)
HCMS = HadamardCountMeanSketch(epsilon=4.0, rows=16, columns=64, hash_seed=2)
SFP = SequenceFragmentPuzzle(epsilon=8.0, rows=8, columns=64, hash_seed=3, word_length=4)
RR = RandomizedResponse(epsilon=4.0, domain_size=5)
OPEN = NoPrivacy(domain_size=5)
WEIGHTS = np.array([0.4, 0.3, 0.15, 0.1, 0.05])
FITS = np.array([True, True, False, True, True])
HASHES = hash_strings(["a", "b", "c", "d", "e"])
WORDS = ["lol", "of", "longer", "the", "bruh"]


def held(key: str, mechanism: Any, share: float = 1.0, fits: np.ndarray = FITS) -> Held:
    encoded: np.ndarray = np.arange(5)
    if mechanism in (CMS, HCMS):
        encoded = HASHES
    elif mechanism is SFP:
        encoded = np.zeros((5, 4), dtype=np.uint8)
        kept = SFP.codes.encode(WORDS, unfit="drop")
        encoded[kept.kept] = kept.codes
    return Held(key=key, encoded=encoded, weights=WEIGHTS, fits=fits, mechanism=mechanism, share=share)


def fleet(*use_cases: Held, devices: int = 2000, **changes: Any) -> EventFleet:
    """2,000 devices in four blocks unless changed."""
    values: dict[str, Any] = {
        "activity": Activity(mean=130.0, sigma=1.0),
        "cap": 2,
        "seed": 5,
        "noise": NoiseSource.seeded(5),
        "opt_in": 0.8,
        **changes,
    }
    return EventFleet(held=use_cases or (held("emoji.en", RR),), devices=devices, **values)


def ledger(devices: int, *, lifetime: float, daily: float | None = None) -> SimulatedLedger:
    return SimulatedLedger(devices=devices, budget=Budget.of(lifetime=lifetime, daily=daily or lifetime))


def accounts(ledger: Ledger, **changes: Any) -> Accounts:
    """Accounts of a run that may ask any number of devices, a report at its local epsilon."""
    values: dict[str, Any] = {"run": "events", "cost": lambda mechanism: mechanism.epsilon, "minimum_batch": 1}
    return Accounts(ledger=ledger, **{**values, **changes})


def sent(fleet: EventFleet, day: int = 0) -> list[ReportBatch]:
    return list(fleet.send(day))


def equal(one: Sequence[ReportBatch], other: Sequence[ReportBatch]) -> bool:
    return len(one) == len(other) and all(
        a.use_case == b.use_case and np.array_equal(a.senders, b.senders) and np.array_equal(a.reports, b.reports)
        for a, b in zip(one, other, strict=True)
    )


def senders(batches: Sequence[ReportBatch]) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype=np.int64), *(batch.senders for batch in batches)])


def enrolled(**changes: Any) -> tuple[EventFleet, SimulatedLedger]:
    """A fleet with a budget of three reports for life, two a day; `run` and `first_day` are its accounts'."""
    book = ledger(3000, lifetime=12.0, daily=8.0)
    of_accounts = {name: changes.pop(name) for name in ("run", "first_day", "repeatable") if name in changes}
    use_cases, paying = (held("a.en", RR, 0.4), held("b.en", RR, 0.6)), accounts(book, **of_accounts)
    some = fleet(*use_cases, accounts=paying, first_device=1000, **changes)
    some.enroll()
    return some, book
