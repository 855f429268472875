"""The devices' accounts of a run: by id in a file that runs share, or in memory for this run alone.

accounts = open_accounts(job, config, noise, device_ids, stack)      # the file is closed with the stack
"""

from __future__ import annotations

import hashlib
import sqlite3
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from device_poll.accounts import Accounts
from device_poll.device_ledger import DeviceLedger
from experiments.job import Job
from privacy.budget import LedgerError
from privacy.ledger import Ledger
from privacy.ledger_stores import SimulatedLedger
from privacy.randomness import NoiseSource


def open_accounts(job: Job, config: str, noise: NoiseSource, device_ids: Sequence[str], stack: ExitStack) -> Accounts:
    """Accounts for devices of these ids.

    `config` is the text of the run's configuration, `noise` its source of noise. Raises LedgerError if the job's ledger
    is no ledger of these devices with these caps.
    """
    if job.ledger is None:
        return accounts_in(SimulatedLedger(devices=len(device_ids), budget=job.caps.budget), job, config, noise)
    path = Path(job.ledger).expanduser()
    ledger = stack.enter_context(closing(DeviceLedger(path, device_ids=device_ids, budget=job.caps.budget)))
    return accounts_in(ledger, job, config, noise)


def accounts_to_read(
    job: Job, config: str, noise: NoiseSource, device_ids: Sequence[str], stack: ExitStack
) -> Accounts:
    """The accounts of a run that is over, in a copy of the job's ledger file, so that the file stays as it is.

    The copy is gone with the stack. Raises LedgerError if there is no such file, or if it has no
    debits of this run.
    """
    path = Path(job.ledger or "").expanduser()
    if not path.is_file():
        raise LedgerError(f"there is no ledger {path}; give the file that the run debited")
    copy = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="synthpoll-"))) / "ledger.db"
    copy.touch(mode=0o600)
    # Without a log beside it the file is complete, and a reader need not make one.
    mode = "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "immutable=1"
    try:
        with (
            closing(sqlite3.connect(f"{path.resolve().as_uri()}?{mode}", uri=True)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
    except sqlite3.Error as error:
        raise LedgerError(f"ledger {path} cannot be read: {error}; give the file that the run debited") from None
    try:
        ledger = DeviceLedger(copy, device_ids=device_ids, budget=job.caps.budget)
    except LedgerError as error:
        raise LedgerError(str(error).replace(str(copy), str(path))) from None
    accounts = accounts_in(stack.enter_context(closing(ledger)), job, config, noise)
    if not ledger.has_polls_of(accounts.run):
        raise LedgerError(f"ledger {path} has no debits of this run; give the file that the run debited")
    return accounts


def accounts_in(ledger: Ledger, job: Job, config: str, noise: NoiseSource) -> Accounts:
    """The run's accounts in this ledger.

    Runs share debits only where they send the very same reports: with one configuration and one source of noise.
    """
    return Accounts(
        ledger=ledger,
        run=f"{job.name} {hashlib.sha256(config.encode()).hexdigest()} {noise.fingerprint}",
        cost=lambda mechanism: job.trust.cost(mechanism, job.reports),
        minimum_batch=job.minimum_batch,
        first_day=job.simulated_day,
        repeatable=job.trust.words.repeats,
        reports_alone=job.trust.delta == 0,  # a central claim is one of a crowd
    )
