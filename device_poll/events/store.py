"""The device's store and the daily pick: which of the waiting records leave.

An event is privatized at once; only its record waits here. Once a day the device picks at random and forgets the rest.

    store = DeviceStore.of(np.array([0, 0, 0, 2]), devices=3)     # three records on device 0, one on device 2
    picked = store.pick(cap=2, rng=stream)
    picked.records, picked.devices, picked.slots    # e.g. [2, 0, 3], [0, 0, 2], [0, 1, 0]

The store knows records by their number only: a pick cannot depend on what a record says, because it is never shown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from privacy.randomness import RandomBytes, random_words

_LOW_32 = np.uint64((1 << 32) - 1)
_32 = np.uint64(32)


@dataclass(frozen=True, kw_only=True, eq=False)
class Picked:
    """The records that may leave, device by device and slot by slot, int64[p] each.

    `slots` numbers a device's picks 0, 1, ... in random order, so that a device that may send fewer than it picked
    (its budget) sends a random part of them too.
    """

    records: NDArray[np.int64]
    devices: NDArray[np.int64]
    slots: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class DeviceStore:
    """Records of many devices: device i holds those numbered offsets[i] .. offsets[i + 1] - 1, in order of events."""

    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, owners: NDArray[np.int64], *, devices: int) -> DeviceStore:
        """The store in which record i waits on device owners[i]; owners never fall."""
        return cls(offsets=np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=devices))]).astype(np.int64))

    @property
    def waiting(self) -> NDArray[np.int64]:
        """How many records wait on each device, int64[devices]."""
        return np.diff(self.offsets)

    def pick(self, cap: int, rng: RandomBytes) -> Picked:
        """min(cap, waiting) records of each device: every ordered choice is as likely as any other.

        A device takes one 64-bit word for each pick (the first steps of a Fisher-Yates shuffle), so the choice is
        uniform up to waiting / 2^64, and how long it takes says no more than how many records there were.
        """
        taken = np.minimum(self.waiting, cap)
        words = random_words(rng, int(taken.sum()))
        records, devices, slots = np.empty((3, len(words)), dtype=np.int64)
        _pick(self.offsets, taken, words, records, devices, slots)
        return Picked(records=records, devices=devices, slots=slots)


@njit(cache=True, nogil=True)
def _pick(offsets, taken, words, records, devices, slots):  # type: ignore[no-untyped-def]
    longest = 0
    for i in range(len(taken)):
        longest = max(longest, offsets[i + 1] - offsets[i])
    order, n = np.empty(longest, dtype=np.int64), 0
    for i in range(len(taken)):
        waiting = offsets[i + 1] - offsets[i]
        for j in range(waiting):
            order[j] = offsets[i] + j
        for slot in range(taken[i]):
            # floor(word * bound / 2^64), in two halves.
            word, bound = words[n], np.uint64(waiting - slot)
            carry = ((word & _LOW_32) * bound) >> _32
            other = slot + np.int64(((word >> _32) * bound + carry) >> _32)
            order[slot], order[other] = order[other], order[slot]
            records[n], devices[n], slots[n] = order[slot], i, slot
            n += 1
