"""The devices of one segment: events wait in the store, and once a day a few of them are privatized and sent.

    fleet = EventFleet(held=(emoji,), devices=1_000_000, activity=Activity(), opt_in=0.8, cap=1, seed=0, noise=noise)
    for batch in fleet.answer([ask]):        # ReportBatch of use case 'emoji.en', block by block
        ...
    fleet.truth(day=0)[0].counts             # evaluation only

What happens on devices is drawn from streams named by (seed, day, stage, segment, block); the noise of a day is
bound to all that is reported on it (`_digest`). So the reports do not depend on how many workers run. How many
devices a block holds follows from the activity and is part of that contract.

Where use cases have a null value (`Held.null`), a device that opted in sends exactly `cap` reports a day, of use cases
that are drawn without looking at its data (slots.py): how many it sends, and of what, tells nothing. Without, a device
sends what it has, up to the cap; how many reports, and of which use case, is seen by the transport and not protected.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from device_poll.accounts import Accounts, Closing
from device_poll.events.activity import Activity
from device_poll.events.day import Block, World, sent_of
from device_poll.events.debits import Debits
from device_poll.events.held import Held, Sent, SentReport
from device_poll.population import PopulationError
from device_poll.sealing import sealed
from privacy.budget import LARGEST_NUMBER, check_whole, micro_epsilon
from privacy.ledger import Mask
from privacy.mechanism import Reports, Tally
from privacy.poll import Advance, Ask, ReportBatch
from privacy.randomness import NoiseSource, Stage

__all__ = ["EventFleet", "Held", "Sent", "SentReport"]

_T = TypeVar("_T")
_Item = TypeVar("_Item")


@dataclass(frozen=True, kw_only=True, eq=False)
class EventFleet:
    """The devices of ONE segment, in one process.

    `held`: the use cases that share one budget: the daily pick of at most `cap` reports a device is over all of them,
    and their shares of a device's events sum to 1. The devices are numbered first_device .. first_device + devices - 1;
    `opt_in` is the share of them whose owner agreed, the same ones every day. `segment_number` tells the segments'
    streams apart. `accounts`, if given, are debited one report at a time (a token's round is the place among the
    device's reports of the day): call `enroll` once before the first day. `closing`, if given, is asked before the
    first report of a day leaves. `workers` is a speed knob.

    Raises PopulationError for values out of range, shares that do not sum to 1, a key twice, a ledger with too few
    devices, or one whose use cases cost different epsilons (a debit has one cost).
    """

    held: tuple[Held, ...]
    devices: int
    activity: Activity
    cap: int
    seed: int
    noise: NoiseSource
    first_device: int = 0
    opt_in: float = 1.0
    segment_number: int = 0
    workers: int = 1
    accounts: Accounts | None = field(default=None, repr=False)
    closing: Closing | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name, low in (
            ("devices", 1),
            ("cap", 1),
            ("seed", 0),
            ("first_device", 0),
            ("segment_number", 0),
            ("workers", 1),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= LARGEST_NUMBER:
                raise PopulationError(f"{name} is {value!r}; expected a whole number, {low} or more")
        if not 0 < self.opt_in <= 1:
            raise PopulationError(f"opt_in is {self.opt_in:g}; expected a share in (0, 1]")
        keys = [held.key for held in self.held]
        if not keys or len(set(keys)) < len(keys):
            raise PopulationError(f"the use cases are {keys}; expected one or more, each once")
        if len({held.null is None for held in self.held}) > 1:
            raise PopulationError(
                f"some of {', '.join(keys)} have a null value and some not; expected one for all or none"
            )
        shares = sum(held.share for held in self.held)
        if abs(shares - 1) > 1e-9:
            raise PopulationError(f"the shares of {', '.join(keys)} sum to {shares:g}; expected 1")
        if self.accounts is not None:
            known = self.accounts.ledger.devices
            if known < self._end:
                raise PopulationError(f"the ledger has {known} devices; expected {self._end} or more")
            costs = {held.key: micro_epsilon(self.accounts.cost(held.mechanism)) for held in self.held}
            if len(set(costs.values())) > 1:
                raise PopulationError(
                    f"reports of one budget cost {costs} micro-epsilons; expected one epsilon for all use cases of a "
                    "budget: give the others a fleet of their own"
                )

    @property
    def opted_in(self) -> int:
        """How many devices' owners agreed."""
        return sum(int(self._world.agreed(block).sum()) for block in self._world.blocks())

    def enroll(self) -> None:
        """Write into the ledger what owners decided whose devices it has never seen; later changes are its own."""
        if self.accounts is None:
            raise PopulationError("accounts is null; give the fleet accounts to enroll in")
        for block in self._world.blocks():
            devices = np.arange(self.first_device + block.start, self.first_device + block.stop, dtype=np.int64)
            self.accounts.ledger.enroll(devices, self._world.agreed(block))

    def answer(self, asks: Sequence[Ask], advance: Advance | None = None) -> Iterator[ReportBatch]:
        """The reports of all days of the asks, which are of different use cases and stand for the same days.

        The daily pick is over all use cases that the devices hold, asked for or not: which are asked together changes
        no report. Raises PopulationError for a use case that the devices do not hold, with another mechanism, or twice,
        and for asks of different days.
        """
        by_key = {ask.use_case: ask for ask in asks}
        mechanisms = {held.key: held.mechanism for held in self.held}
        if not asks or len(by_key) < len(asks):
            raise PopulationError(
                f"{[ask.use_case for ask in asks]} are asked; expected one use case or more, each once"
            )
        if len(lengths := {ask.days for ask in asks}) > 1:
            raise PopulationError(f"asks stand for {sorted(lengths)} days; expected the same days for all")
        for key, ask in by_key.items():
            if key not in mechanisms or dict(mechanisms[key].parameters) != dict(ask.mechanism.parameters):
                raise PopulationError(f"the devices do not hold {key!r} for this mechanism; they hold {[*mechanisms]}")
        (days,) = lengths

        def reports() -> Iterator[ReportBatch]:
            for day in range(days):
                # Reports of use cases that nobody asks for here go to whoever does.
                yield from (b for b in self.send(day, _of_days(advance, day, days)) if b.use_case in by_key)

        yield from sealed(reports(), by_key, self.noise)

    def send(self, day: int, advance: Advance | None = None) -> Iterator[ReportBatch]:
        """The reports of a day, one batch for each block and use case that has any; `senders` are device numbers.

        The whole day is debited, marked as sent and closed in the ledger before its first report exists. A day that is
        sent twice gives identical reports, which are paid for once. `advance` is told (devices done, devices in all).
        Memory: one block for each worker, and a byte a device and place among its reports. Raises PopulationError for a
        day that cannot be sent again without giving away who withdrew (Debits.close).
        """
        self._check(day)
        debits, may, leaving = self._debits(day), list[Mask](), 0
        for block in self._world.blocks():  # all pay before the first report exists
            may.append(debits.pay(block.start, self._world.agreed(block)))
            leaving += int(may[-1].sum())
        noise = self._noise(debits.close(leaving, self._digest(day, debits)))
        self._close(f"day {day}", noise)
        played = self._in_order(self._world.blocks(), lambda block: self._batches(day, block, may[block.number], noise))
        for block, batches in played:
            yield from batches
            if advance is not None:
                advance(block.stop, self.devices)

    def truth(self, day: int) -> tuple[Sent, ...]:
        """What `send` sends on this day, without noise, one entry a use case: for evaluation only.

        Without accounts at any time; with them after the day was sent, because it tells which debits were refused.
        """
        self._check(day)
        starts, use_cases = self._world.starts, len(self.held)
        totals = np.zeros(int(starts[-1]), dtype=np.int64)
        dropped = np.zeros((3, use_cases), dtype=np.int64)
        debits = self._debits(day)
        for block, picks in self._in_order(self._world.blocks(), lambda block: self._world.play(day, block)):
            sent = debits.sent(block.start, self._world.agreed(block))[picks.slots, picks.devices]
            np.add.at(totals, picks.cells[sent], 1)
            dropped += [picks.unfit, picks.over_cap, np.bincount(picks.use_cases[~sent], minlength=use_cases)]
        return tuple(
            self._sent_of(of_use_case, dropped[:, which].tolist())
            for which, of_use_case in enumerate(np.split(totals, starts[1:-1]))
        )

    def shortcut(self, day: int, which: int) -> tuple[Tally, Sent]:
        """The tally of use case number `which` and its truth, with exactly the law of tallying what `send` sends.

        Activity, opt-in, cap and ledger are played device by device; then, because the pick is blind to contents, the
        values of all reports are one multinomial draw, and the mechanism simulates the tally (`simulate_tally`). The
        counts come from the fleet's own streams, so all use cases of a day are parts of one draw, and all days those of
        the same devices; the noise is bound to them.
        """
        if not 0 <= which < len(self.held):
            raise PopulationError(f"which is {which}; expected a use case, 0 to {len(self.held) - 1}")
        truth, held = self.in_bulk(day)[which], self.held[which]
        noise = self.noise.of("tally", self._asked, held.key, truth.counts, truth.nothing)
        self._close(f"{held.key}, day {day}", noise)
        rng = noise.generator(Stage.PRIVATIZE, round=day)
        return held.simulate_tally(truth.counts, truth.nothing, rng), truth

    def in_bulk(self, day: int) -> tuple[Sent, ...]:
        """The truth of a day of `shortcut`, one entry a use case. Accounts are debited."""
        self._check(day)
        return self._told_in_bulk(day) if self._world.nulls else self._picked_in_bulk(day)

    def _told_in_bulk(self, day: int) -> tuple[Sent, ...]:
        every, debits, leaving = len(self.held), self._debits(day), 0
        told, nothing, over_cap, over_budget = np.zeros((4, every), dtype=np.int64)
        unfit_mean = np.zeros(every)
        for block, asked in self._in_order(self._world.blocks(), lambda block: self._world.asked(day, block)):
            may = debits.pay(block.start, self._world.agreed(block))
            slots, leaving = asked.slots, leaving + int(may.sum())
            sent = may[slots.slots, slots.devices]
            told += np.bincount(slots.use_cases[asked.told & sent], minlength=every)
            nothing += np.bincount(slots.use_cases[~asked.told & sent], minlength=every)
            over_budget += np.bincount(slots.use_cases[~sent], minlength=every)
            over_cap += asked.over_cap
            unfit_mean += asked.unfit_mean
        debits.close(leaving, "drawn", drawn=True)
        return self._world.told_in_bulk(
            day, told=told, nothing=nothing, over_cap=over_cap, over_budget=over_budget, unfit_mean=unfit_mean
        )

    def _picked_in_bulk(self, day: int) -> tuple[Sent, ...]:
        debits, leaving, sent, picked, waiting, unfit_mean = self._debits(day), 0, 0, 0, 0, 0.0
        places = np.arange(self.cap)[:, None]
        waiting_on = self._in_order(self._world.blocks(), lambda block: self._world.waiting(day, block))
        for block, (records, unfit) in waiting_on:
            taken = np.minimum(records, self.cap)
            picked, waiting, unfit_mean = picked + int(taken.sum()), waiting + int(records.sum()), unfit_mean + unfit
            may = debits.pay(block.start, self._world.agreed(block))
            leaving, sent = leaving + int(may.sum()), sent + int((may & (places < taken)).sum())
        debits.close(leaving, "drawn", drawn=True)
        return self._world.sent_in_bulk(
            day, sent=sent, over_cap=waiting - picked, over_budget=picked - sent, unfit_mean=unfit_mean
        )

    def paid(self, days: int) -> int:
        """How many reports of days 0 .. days - 1 its accounts have as sent, over all use cases; without accounts 0."""
        if self.accounts is None:
            return 0
        devices, accounts = np.arange(self.first_device, self._end), self.accounts
        tokens = [token for day in range(days) for token in self._debits(day).tokens]
        return sum(int(accounts.paid(token, devices).sum()) for token in tokens)

    def report_log(self, day: int, device: int) -> list[SentReport]:
        """What this device sends on this day, by playing its block alone: the same reports as in `send`.

        With accounts, those that they have as sent: play the day before. Debits nobody. Raises PopulationError for a
        device that is not of this fleet.
        """
        self._check(day)
        if not 0 <= device - self.first_device < self.devices:
            raise PopulationError(
                f"device is {device}; expected one of this segment, {self.first_device} to {self._end - 1}"
            )
        block = self._world.block_of(device - self.first_device)
        debits = self._debits(day)
        noise = self._noise(debits.closed_with() or self._digest(day, debits))
        self._close(f"day {day}", noise)
        sent = debits.sent(block.start, self._world.agreed(block))
        return [
            SentReport(day=day, key=batch.use_case, report=report)
            for batch in self._batches(day, block, sent, noise)
            for report in cast(Reports, batch.reports)[batch.senders == device]
        ]

    @property
    def _end(self) -> int:
        return self.first_device + self.devices

    @cached_property
    def _world(self) -> World:
        return World(
            held=self.held,
            devices=self.devices,
            activity=self.activity,
            opt_in=self.opt_in,
            cap=self.cap,
            seed=self.seed,
            segment_number=self.segment_number,
        )

    def _sent_of(self, cells: NDArray[np.int64], dropped: list[int]) -> Sent:
        nulls = self._world.nulls
        return sent_of(cells[:-1] if nulls else cells, *dropped, nothing=int(cells[-1]) if nulls else 0)

    def _check(self, day: int) -> None:
        check_whole("day", day, 0, LARGEST_NUMBER)
        if self.accounts is not None and self.accounts.ledger.summary().opted_in == 0:
            raise PopulationError(
                "no device is opted in in the ledger; call enroll() once before the first day, or raise opt_in if "
                "nobody agreed"
            )

    def _debits(self, day: int) -> Debits:
        return Debits(
            accounts=self.accounts,
            asked=self._asked,
            day=day,
            cap=self.cap,
            mechanism=self.held[0].mechanism,
            first_device=self.first_device,
        )

    def _digest(self, day: int, debits: Debits) -> str:
        """Names all that is reported on a day, and who has paid: two sums that share noise tell in what they differ, so
        all noise of a segment's day is bound to all of it.
        """
        digest = hashlib.sha256()
        for block, picks in self._in_order(self._world.blocks(), lambda block: self._world.play(day, block)):
            for told in (picks.devices, picks.slots, picks.use_cases, picks.cells):
                digest.update(np.ascontiguousarray(told).data)
            digest.update(debits.sent(block.start, self._world.agreed(block)).tobytes())
        return self.noise.of("day", digest.hexdigest()).fingerprint  # keyed: a ledger keeps it

    def _close(self, poll: str, noise: NoiseSource) -> None:
        if self.closing is not None:
            self.closing(f"segment {self.segment_number}, {poll}", noise.fingerprint)

    def _noise(self, digest: str) -> NoiseSource:
        return self.noise.of(self._asked, digest)

    def _batches(self, day: int, block: Block, may: Mask, noise: NoiseSource) -> list[ReportBatch]:
        """What leaves of a block's day. All that devices would send is privatized, in order, and what may not leave is
        dropped: so a report that leaves again is the same, whoever has withdrawn since.
        """
        picks, batches = self._world.play(day, block), []
        numbers, leaving = self.first_device + block.start + picks.devices, may[picks.slots, picks.devices]
        for which, held in enumerate(self.held):
            own = picks.use_cases == which
            if (own & leaving).any():
                entries = held.entries[picks.cells[own] - self._world.starts[which]]
                stream = noise.of(held.key).stream(Stage.PRIVATIZE, round=day, chunk=block.number)
                reports = held.mechanism.privatize(entries, stream)
                batches.append(ReportBatch(held.key, numbers[own & leaving], reports[leaving[own]]))
        return batches

    def _in_order(self, items: Iterable[_Item], work: Callable[[_Item], _T]) -> Iterator[tuple[_Item, _T]]:
        """(item, work(item)) in the order of items, at most two items a worker ahead of whoever takes them."""
        items = iter(items)
        if self.workers == 1:
            yield from ((item, work(item)) for item in items)
            return
        with ThreadPoolExecutor(max_workers=self.workers) as pool:
            ahead: deque[tuple[_Item, Future[_T]]] = deque(
                (item, pool.submit(work, item)) for item in islice(items, 2 * self.workers)
            )
            while ahead:
                item, future = ahead.popleft()
                done = future.result()
                ahead.extend((later, pool.submit(work, later)) for later in islice(items, 1))
                yield item, done

    @cached_property
    def _asked(self) -> str:
        """Names what the reports depend on: the devices, what they do, what each use case may hold."""
        world = [self.devices, self.first_device, str(self.activity), self.opt_in, self.cap, self.seed]
        digest = hashlib.sha256(json.dumps(world).encode())
        for held in self.held:
            told = [held.key, held.share, dict(held.mechanism.parameters), list(held.entries.shape)]
            digest.update(json.dumps(told, sort_keys=True).encode())
            for array in (held.entries, held.weights, held.fits):
                digest.update(np.ascontiguousarray(array).data)
        return f"segment {self.segment_number} {digest.hexdigest()}"


def _of_days(advance: Advance | None, day: int, days: int) -> Advance | None:
    return None if advance is None else lambda done, devices: advance(day * devices + done, days * devices)
