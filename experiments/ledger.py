"""`synthpoll ledger FILE`: what devices have spent, and what an owner decides: opt out, opt in, be forgotten.

    synthpoll ledger mail.db                      totals
    synthpoll ledger mail.db --device anna        one device's decision and account
    synthpoll ledger mail.db --opt-out anna bert

The file is on the devices' side: its totals are exact, and no server is told them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from rich.console import Console

from device_poll.device_ledger import DeviceLedger
from experiments.launch import UsageError
from privacy.budget import LARGEST_BUDGET, MICRO
from privacy.ledger_pages import Consent

USAGE = """\
synthpoll ledger FILE                          totals of the ledger that runs debit (ledger=FILE)
synthpoll ledger FILE --device ID [ID ...]     what these devices' owners decided, and what they have spent
synthpoll ledger FILE --opt-out ID [ID ...]    no run asks them any more
synthpoll ledger FILE --opt-in ID [ID ...]     runs may ask them (again)
synthpoll ledger FILE --forget ID [ID ...]     drop which polls they answered, and opt them out; their salted hash and
                                               what they have spent remain: forgetting refunds nothing

An ID is the user's name (devices.unit=user), name/number (item or split), or 'device N' in a use case.
"""
_ACTIONS = {
    "--opt-out": ("opted out", DeviceLedger.opt_out),
    "--opt-in": ("opted in", DeviceLedger.opt_in),
    "--forget": ("forgotten and opted out", DeviceLedger.forget_devices),
}


def ledger(arguments: Sequence[str], console: Console) -> None:
    """Carry the command out. Raises UsageError for other words, LedgerError for a file or an id that is not there."""
    if not arguments or arguments[0] in ("-h", "--help"):
        console.print(USAGE, end="", markup=False, highlight=False)
        return
    path, *rest = arguments
    if not rest:
        with closing(DeviceLedger.existing(path, ())) as book:
            _print_totals(book, Path(path), console)
        return
    action, *ids = rest
    if action not in {"--device", *_ACTIONS} or not ids or any(each.startswith("--") for each in ids):
        raise UsageError(
            f"synthpoll ledger takes FILE and at most one of --device, {', '.join(_ACTIONS)} with one ID or more, not "
            f"{' '.join(rest)!r}"
        )
    # Whoever says no before any run has asked gets an account that says so.
    joins = action == "--opt-out"
    with closing(DeviceLedger.existing(path, tuple(dict.fromkeys(ids)), may_join=joins)) as book:
        devices = np.arange(book.devices)
        if action in _ACTIONS:
            told, decide = _ACTIONS[action]
            decide(book, devices)
            console.print(f"{len(devices)} device{'s' * (len(devices) > 1)} {told}", highlight=False)
        else:
            for device, name in enumerate(dict.fromkeys(ids)):
                _print_device(book, device, name, console)


def _print_totals(book: DeviceLedger, path: Path, console: Console) -> None:
    totals, caps = book.summary(), book.budget
    lifetime, daily = (f"{cap / MICRO:g}" if cap < LARGEST_BUDGET else "none" for cap in (caps.lifetime, caps.daily))
    console.print(
        f"Ledger {path}: {book.accounts:,} devices have an account; {totals.opted_in:,} opted in, "
        f"{totals.opted_out:,} said no, {totals.forgotten:,} forgotten on request; {totals.charged:,} were debited\n"
        f"Caps of a device, in epsilons: lifetime {lifetime}, daily {daily}. The most that any device has spent: "
        f"{totals.largest_lifetime / MICRO:g}, and {totals.largest_day / MICRO:g} in a day",
        highlight=False,
        soft_wrap=True,
    )


def _print_device(book: DeviceLedger, device: int, name: str, console: Console) -> None:
    (decision,), (spent,) = book.consents(np.array([device])), book.spent(np.array([device]))
    told = {Consent.YES: "opted in", Consent.NO: "said no", Consent.UNKNOWN: "was never asked"}[Consent(int(decision))]
    console.print(
        f"{name}: {told}; has spent {spent / MICRO:g} in its lifetime", markup=False, highlight=False, soft_wrap=True
    )
