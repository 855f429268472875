"""A day on a block of devices: what happens, what is recorded, what the pick takes. No ledger, no noise, no transport.

    world = World(held=(emoji,), devices=1000, activity=Activity(), opt_in=0.8, cap=1, seed=0, segment_number=0)
    for block in world.blocks():
        picks = world.play(day=0, block=block)

All is drawn from streams that are named by (seed, day, stage, segment, block): it is the simulated world, no noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from device_poll.events.activity import Activity
from device_poll.events.held import Held, Sent
from device_poll.events.sampling import AliasTable
from device_poll.events.store import DeviceStore, Picked
from privacy.randomness import DeviceStream, Stage, seed_sequence

BLOCK_EVENTS = 1 << 16
"""Events of a block, on average: 9 MB of count-mean-sketch records of 1,024 columns."""
BLOCK_DEVICES = 1 << 15
"""The most devices of a block."""


@dataclass(frozen=True)
class Block:
    """Devices start .. stop - 1, counted within the fleet."""

    number: int
    start: int
    stop: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Recorded:
    """The records of a block's day, device by device: `cells` int32[r] number the true values over all use cases (see
    `World.starts`), `owners` int64[r] the devices of the block; `unfit` int64[held]: events that made no record.
    """

    cells: NDArray[np.int32]
    owners: NDArray[np.int64]
    unfit: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Picks:
    """What the daily pick of a block took, device by device: int64[p] devices of the block, places among the device's
    reports, use cases and true values (cells); and, by use case, what was left: `unfit` events, `over_cap` records.
    """

    devices: NDArray[np.int64]
    slots: NDArray[np.int64]
    use_cases: NDArray[np.int64]
    cells: NDArray[np.int32]
    unfit: NDArray[np.int64]
    over_cap: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class World:
    """The devices of a segment and their days; the fields are those of EventFleet, which checks them."""

    held: tuple[Held, ...]
    devices: int
    activity: Activity
    opt_in: float
    cap: int
    seed: int
    segment_number: int

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Use case u has the cells starts[u] .. starts[u + 1] - 1, one a value: int64[held + 1]."""
        return np.concatenate([[0], np.cumsum([len(held.weights) for held in self.held])]).astype(np.int64)

    @property
    def block_devices(self) -> int:
        """Devices of a block, but the last."""
        return max(1, min(BLOCK_DEVICES, int(BLOCK_EVENTS / self.activity.mean)))

    def blocks(self) -> Iterator[Block]:
        """All blocks, in order."""
        size = self.block_devices
        for number, start in enumerate(range(0, self.devices, size)):
            yield Block(number, start, min(start + size, self.devices))

    def block_of(self, device: int) -> Block:
        """The block of a device of the fleet, counted from 0."""
        number = device // self.block_devices
        start = number * self.block_devices
        return Block(number, start, min(start + self.block_devices, self.devices))

    def agreed(self, block: Block) -> NDArray[np.bool_]:
        """Whose owners opted in, bool[devices of the block]; the same on every day."""
        return self._generator(0, Stage.OPT_IN, block.number).random(block.stop - block.start) < self.opt_in

    def play(self, day: int, block: Block) -> Picks:
        """What the devices of a block would send on a day."""
        recorded = self._record(day, block)
        return self._picks(recorded, self._pick(day, block, recorded))

    def waiting(self, day: int, block: Block) -> tuple[NDArray[np.int64], float]:
        """How many records each device of a block has at the end of a day, int64[devices], without their contents; and
        the mean number of the block's unfit events.
        """
        agreed, rates = self.agreed(block), self._rates(block)
        unfit = float(self._lost.sum())
        # A thinned Poisson count is a Poisson count.
        records = self._generator(day, Stage.EVENTS, block.number).poisson(rates * (1 - unfit))
        return np.where(agreed, records, 0), float(rates[agreed].sum()) * unfit

    def sent_in_bulk(
        self, day: int, *, sent: int, over_cap: int, over_budget: int, unfit_mean: float
    ) -> tuple[Sent, ...]:
        """What so many reports and drops of a day are made of, one entry a use case.

        Events are drawn independently and the pick is blind to contents, so any number of records, picked or not, is
        one multinomial draw; unfit events are independent of them (a thinned Poisson process).
        """
        blocks = -(-self.devices // self.block_devices)
        rng = self._generator(day, Stage.EVENTS, blocks)  # one past the blocks' own
        kept = np.array([held.share * held.fitting for held in self.held])
        lost = self._lost
        use_cases = kept / kept.sum()
        reports, capped, refused = (rng.multinomial(n, use_cases) for n in (sent, over_cap, over_budget))
        unfit = rng.poisson(unfit_mean * lost / lost.sum()) if unfit_mean > 0 else np.zeros(len(lost), dtype=np.int64)
        found = []
        for which, held in enumerate(self.held):
            weights = np.where(held.fits, held.weights, 0.0)
            counts = rng.multinomial(reports[which], weights / weights.sum()).astype(np.int64, copy=False)
            found.append(sent_of(counts, unfit[which], capped[which], refused[which]))
        return tuple(found)

    @property
    def _lost(self) -> NDArray[np.float64]:
        """Share of a device's events that each use case's mechanism cannot take."""
        return np.array([held.share * (1 - held.fitting) for held in self.held])

    @cached_property
    def _events(self) -> AliasTable:
        return AliasTable.of(np.concatenate([held.share * held.weights for held in self.held]))

    @cached_property
    def _fits(self) -> NDArray[np.bool_]:
        return np.concatenate([held.fits for held in self.held])

    @cached_property
    def _use_cases(self) -> NDArray[np.int64]:
        return np.repeat(np.arange(len(self.held)), np.diff(self.starts))

    def _generator(self, day: int, stage: Stage, block: int) -> np.random.Generator:
        root = seed_sequence(self.seed, day, stage)
        key = (*root.spawn_key, self.segment_number, block)
        return np.random.default_rng(np.random.SeedSequence(entropy=self.seed, spawn_key=key))

    def _stream(self, day: int, stage: Stage, block: Block) -> DeviceStream:
        chunk = (self.segment_number << 96) + block.number
        return DeviceStream.simulation(seed=self.seed, round=day, stage=stage, chunk=chunk)

    def _rates(self, block: Block) -> NDArray[np.float64]:
        return self.activity.rates(block.stop - block.start, self._generator(0, Stage.ACTIVITY, block.number))

    def _record(self, day: int, block: Block) -> Recorded:
        rng = self._generator(day, Stage.EVENTS, block.number)
        events = np.where(self.agreed(block), rng.poisson(self._rates(block)), 0)
        cells = self._events.draw(int(events.sum()), rng)
        owners = np.repeat(np.arange(len(events)), events)
        unfit = np.zeros(len(self.held), dtype=np.int64)
        if not self._fits.all():
            fits = self._fits[cells]
            unfit = np.bincount(self._use_cases[cells[~fits]], minlength=len(self.held))
            cells, owners = cells[fits], owners[fits]
        return Recorded(cells=cells, owners=owners, unfit=unfit)

    def _pick(self, day: int, block: Block, recorded: Recorded) -> Picked:
        store = DeviceStore.of(recorded.owners, devices=block.stop - block.start)
        return store.pick(self.cap, self._stream(day, Stage.PICK, block))

    def _picks(self, recorded: Recorded, picked: Picked) -> Picks:
        cells, every = recorded.cells[picked.records], len(self.held)
        use_cases = self._use_cases[cells]
        recorded_of = np.bincount(self._use_cases[recorded.cells], minlength=every)
        return Picks(
            devices=picked.devices,
            slots=picked.slots,
            use_cases=use_cases,
            cells=cells,
            unfit=recorded.unfit,
            over_cap=recorded_of - np.bincount(use_cases, minlength=every),
        )


def sent_of(counts: NDArray[np.int64], unfit: int, over_cap: int, over_budget: int) -> Sent:
    """The truth of these reports by value, and of what was dropped."""
    dropped = {"unfit": int(unfit), "over_cap": int(over_cap), "over_budget": int(over_budget)}
    return Sent(counts=counts, reports=int(counts.sum()), dropped=dropped)
