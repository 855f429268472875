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
from device_poll.events.slots import NOTHING, Slots, answer_slots, draw_slots, rank_of
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
    """What a block's devices are to send, device by device: int64[p] devices of the block, places among the device's
    reports, use cases and true values (cells); and, by use case, what was left: `unfit` events, `over_cap` records.
    """

    devices: NDArray[np.int64]
    slots: NDArray[np.int64]
    use_cases: NDArray[np.int64]
    cells: NDArray[np.int32]
    unfit: NDArray[np.int64]
    over_cap: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """What a block's devices are asked, whether each report says something, bool[n], and by use case the records that
    are left over, int64[held], and the mean number of unfit events, float64[held].
    """

    slots: Slots
    told: NDArray[np.bool_]
    over_cap: NDArray[np.int64]
    unfit_mean: NDArray[np.float64]


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
        """Use case u has the cells starts[u] .. starts[u + 1] - 1, one a value, the last for null if there is one:
        int64[held + 1].
        """
        return np.concatenate([[0], np.cumsum([len(held.entries) for held in self.held])]).astype(np.int64)

    @property
    def nulls(self) -> bool:
        """Whether a device that has nothing to report says so."""
        return self.held[0].null is not None

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
        if self.nulls:
            return self._answers(day, block, recorded)
        return self._picks(recorded, self._pick(day, block, recorded))

    def asked(self, day: int, block: Block) -> Asked:
        """What the devices of a block are asked on a day, and whether they have something to say, without its contents:
        where nulls are sent.
        """
        agreed, rates, stream = self.agreed(block), self._rates(block), self._stream(day, Stage.PICK, block)
        slots = draw_slots(agreed, self.cap, self._shares, stream)
        # A thinned Poisson count is a Poisson count.
        kept = np.array([held.share * held.fitting for held in self.held])
        records = self._generator(day, Stage.EVENTS, block.number).poisson(rates[:, None] * kept)
        told = rank_of(slots, self.cap) < records[slots.devices, slots.use_cases]
        every = len(self.held)
        over = records[agreed].sum(axis=0) - np.bincount(slots.use_cases[told], minlength=every)
        return Asked(slots=slots, told=told, over_cap=over, unfit_mean=float(rates[agreed].sum()) * self._lost)

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
        values = self._values_of(reports, rng)
        return tuple(sent_of(*each, nothing=0) for each in zip(values, unfit, capped, refused, strict=True))

    def told_in_bulk(
        self,
        day: int,
        *,
        told: NDArray[np.int64],
        nothing: NDArray[np.int64],
        over_cap: NDArray[np.int64],
        over_budget: NDArray[np.int64],
        unfit_mean: NDArray[np.float64],
    ) -> tuple[Sent, ...]:
        """The same where nulls are sent, by use case: `told` reports say something, `nothing` of them do not."""
        rng = self._generator(day, Stage.EVENTS, -(-self.devices // self.block_devices))
        unfit, values = rng.poisson(unfit_mean), self._values_of(told, rng)
        every = zip(values, unfit, over_cap, over_budget, nothing, strict=True)
        return tuple(sent_of(counts, *dropped, nothing=int(null)) for counts, *dropped, null in every)

    def _values_of(self, reports: NDArray[np.int64], rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
        for which, held in enumerate(self.held):
            weights = np.where(held.fits, held.weights, 0.0)
            yield rng.multinomial(reports[which], weights / weights.sum()).astype(np.int64, copy=False)

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
    def _shares(self) -> NDArray[np.float64]:
        return np.array([held.share for held in self.held])

    @cached_property
    def _cells(self) -> NDArray[np.int32]:
        """The cell of every value, in the order of `_events`, which knows no null."""
        cells = [first + np.arange(len(held.weights)) for first, held in zip(self.starts, self.held, strict=False)]
        return np.concatenate(cells).astype(np.int32)

    @cached_property
    def _use_cases(self) -> NDArray[np.int64]:
        """Of every cell."""
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
        values = self._events.draw(int(events.sum()), rng)
        cells, owners = self._cells[values], np.repeat(np.arange(len(events)), events)
        unfit = np.zeros(len(self.held), dtype=np.int64)
        if not self._fits.all():
            fits = self._fits[values]
            unfit = np.bincount(self._use_cases[cells[~fits]], minlength=len(self.held))
            cells, owners = cells[fits], owners[fits]
        return Recorded(cells=cells, owners=owners, unfit=unfit)

    def _pick(self, day: int, block: Block, recorded: Recorded) -> Picked:
        store = DeviceStore.of(recorded.owners, devices=block.stop - block.start)
        return store.pick(self.cap, self._stream(day, Stage.PICK, block))

    def _answers(self, day: int, block: Block, recorded: Recorded) -> Picks:
        stream = self._stream(day, Stage.PICK, block)
        slots = draw_slots(self.agreed(block), self.cap, self._shares, stream)
        offsets = DeviceStore.of(recorded.owners, devices=block.stop - block.start).offsets
        use_case_of, every = self._use_cases[recorded.cells], len(self.held)
        records = answer_slots(slots, offsets, use_case_of, stream)
        told = records != NOTHING
        cells = (self.starts[slots.use_cases + 1] - 1).astype(np.int32)
        cells[told] = recorded.cells[records[told]]
        left = np.bincount(use_case_of, minlength=every) - np.bincount(slots.use_cases[told], minlength=every)
        return Picks(
            devices=slots.devices,
            slots=slots.slots,
            use_cases=slots.use_cases,
            cells=cells,
            unfit=recorded.unfit,
            over_cap=left,
        )

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


def sent_of(counts: NDArray[np.int64], unfit: int, over_cap: int, over_budget: int, *, nothing: int) -> Sent:
    """The truth of these reports by value, and of what was dropped."""
    dropped = {"unfit": int(unfit), "over_cap": int(over_cap), "over_budget": int(over_budget)}
    return Sent(counts=counts, reports=int(counts.sum()) + nothing, dropped=dropped, nothing=nothing)
