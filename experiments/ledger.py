"""`synthpoll ledger FILE`: what devices have spent, and what an owner decides: opt out, opt in, be forgotten.

    synthpoll ledger mail.db                      totals
    synthpoll ledger mail.db --device anna        one device's decision and account
    synthpoll ledger mail.db --opt-out anna bert

An id that the file has never seen is refused: nobody is told to be out who is still in under another spelling. The file
is on the devices' side: its totals are exact, and no server is told them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from rich.console import Console

from device_poll.device_ledger import DeviceLedger
from experiments.launch import UsageError
from privacy.budget import LARGEST_BUDGET, MICRO, LedgerError
from privacy.ledger import Mask
from privacy.ledger_pages import Consent

USAGE = """\
synthpoll ledger FILE                          totals of the ledger that runs debit (ledger=FILE)
synthpoll ledger FILE --device ID [ID ...]     what these devices' owners decided, and what they have spent
synthpoll ledger FILE --opt-out ID [ID ...]    no poll that debits FILE asks them any more
synthpoll ledger FILE --opt-out --new ID [ID ...]    the same, also for devices that no run has asked yet
synthpoll ledger FILE --opt-in ID [ID ...]     polls may ask them (again)
synthpoll ledger FILE --forget ID [ID ...]     drop which polls they answered, and opt them out; their salted hash and
                                               what they have spent, in all and on each day, remain: forgetting refunds
                                               nothing

An ID is the user's name exactly as in the mail (addresses of mail files: in small letters), or 'device N', or N for
short, in a use case; id=NAME is a user whose name looks like anything else here. An ID that FILE has never seen is
refused, and then nothing is changed. Runs that debit no file, or another one, know nothing of what is decided here.
"""
_OPT_OUT, _NEW = "--opt-out", "--new"
_ACTIONS = {
    _OPT_OUT: ("opted out", DeviceLedger.opt_out),
    "--opt-in": ("opted in", DeviceLedger.opt_in),
    "--forget": ("forgotten and opted out", DeviceLedger.forget_devices),
}
_EXACTLY = "id="
_NUMBER = re.compile(r"0|[1-9][0-9]*")


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
    action, typed, may_be_new = _asked(rest)
    with closing(DeviceLedger.existing(path, ())) as book:
        ids, read = _in_full(book, typed, may_be_new)
        known = book.knows(ids)
    if not known.all() and not may_be_new:
        raise LedgerError(_never_seen(path, known, action))
    with closing(DeviceLedger.existing(path, ids, may_join=may_be_new)) as book:
        devices = np.arange(book.devices)
        if action in _ACTIONS:
            told, decide = _ACTIONS[action]
            decide(book, devices)
            said = f"{_devices(len(devices))} {told}{read}{_beforehand(known)}"
            console.print(said, markup=False, highlight=False, soft_wrap=True)
        else:
            for device, name in enumerate(ids):
                _print_device(book, device, name, console)


def _asked(words: Sequence[str]) -> tuple[str, list[str], bool]:
    """What is to be done, with which IDs as they were typed, and whether they may be new."""
    action, *ids = sorted(words, key=lambda word: not word.startswith("--"))
    may_be_new = {action, *ids[:1]} == {_OPT_OUT, _NEW}
    if may_be_new:
        action, ids = _OPT_OUT, ids[1:]
    if action not in {"--device", *_ACTIONS} or not ids or ids[0].startswith("--"):
        given = " ".join(word if word.startswith("--") else "ID" for word in words)
        raise UsageError(
            f"synthpoll ledger takes FILE and at most one of --device, {', '.join(_ACTIONS)} with one ID or more "
            f"({_OPT_OUT} also with {_NEW}), not {given!r}"
        )
    return action, ids, may_be_new


def _in_full(book: DeviceLedger, typed: Sequence[str], may_be_new: bool) -> tuple[tuple[str, ...], str]:
    """The ids that are meant, each once, and how numbers were read: N is a user who is named so, or 'device N'.

    Raises LedgerError for a number of which the file knows both, and for any where ids `may_be_new`. It tells the
    place: an error has no id.
    """
    full, read = dict[str, None](), list[str]()
    for place, word in enumerate(typed, start=1):
        name = word.removeprefix(_EXACTLY)
        if _NUMBER.fullmatch(word):
            user, simulated = book.knows((word, f"device {word}")).tolist()
            if (user and simulated) or may_be_new:
                raise LedgerError(
                    f"id number {place} of those given is a number, which does not say here whether a user of mail is "
                    f"meant; nothing was changed: give a user as {_EXACTLY}NAME, a device of a use case as 'device N'"
                )
            if user or simulated:
                name = word if user else f"device {word}"
                read.append(f"user {word} of the mail" if user else f"{name} of use cases")
        full[name] = None
    return tuple(full), f": {', '.join(read)}" * bool(read)


def _never_seen(path: str, known: Mask, action: str) -> str:
    """Which ids, by their places."""
    places = ", ".join(str(place + 1) for place in np.flatnonzero(~known))
    beforehand = f", or add {_NEW} to opt it out beforehand" if action == _OPT_OUT else ""
    return (
        f"{path} has never seen {int((~known).sum())} of {_count(len(known))} given (number {places}), and nothing was "
        "changed; correct it, since a run knows a device only by its exact id, the user's name as in the mail or "
        f"'device N' in a use case{beforehand}"
    )


def _count(ids: int) -> str:
    return f"{ids} id{'s' * (ids > 1)}"


def _devices(count: int) -> str:
    return f"{count} device{'s' * (count > 1)}"


def _beforehand(known: Mask) -> str:
    new = int((~known).sum())
    if not new:
        return ""
    return f"; {new} of these ids this file had never seen: a run knows a device only by its exact id"


def _print_totals(book: DeviceLedger, path: Path, console: Console) -> None:
    totals, caps = book.summary(), book.budget
    lifetime, daily = (f"{cap / MICRO:g}" if cap < LARGEST_BUDGET else "none" for cap in (caps.lifetime, caps.daily))
    undecided = book.accounts - totals.opted_in - totals.opted_out
    console.print(
        f"Ledger {path}: {book.accounts:,} devices have an account; {totals.opted_in:,} opted in, "
        f"{totals.opted_out:,} said no{f', {undecided:,} were never asked' * bool(undecided)}; "
        f"{totals.forgotten:,} of them were forgotten on request; {totals.charged:,} were debited\n"
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
