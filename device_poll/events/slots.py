"""A device that always answers: which use case each of its reports of a day is about, and what it says.

A device that opted in sends exactly `cap` reports a day, whatever happened on it. Which use case a report is about is
drawn before anybody looks at what happened; where nothing of it is left to report, the report says 'nothing to report',
through the same mechanism. So neither how many reports a device sends, nor of which use case, tells anything about it.

    asked = draw_slots(shares, devices=3, cap=2, rng=stream)              # int64[6]: device by device
    records = answer_slots(offsets, use_case_of, devices, asked, cap, words)   # int64[6]: a record, or NOTHING
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from privacy.randomness import RandomBytes, random_words

NOTHING = -1
_LOW_32, _32 = np.uint64((1 << 32) - 1), np.uint64(32)


@dataclass(frozen=True, kw_only=True, eq=False)
class Slots:
    """The reports of a block's devices on a day, device by device: int64[n] devices of the block, places among the
    device's reports, and use cases asked about.
    """

    devices: NDArray[np.int64]
    slots: NDArray[np.int64]
    use_cases: NDArray[np.int64]


def draw_slots(agreed: NDArray[np.bool_], cap: int, shares: NDArray[np.float64], rng: RandomBytes) -> Slots:
    """`cap` reports of every device that agreed, about use cases drawn by these shares: a 64-bit word each."""
    devices = np.repeat(np.flatnonzero(agreed), cap)
    ends = np.cumsum(shares[:-1]) / shares.sum()
    thresholds = np.array([min(int(end * 2.0**64), (1 << 64) - 1) for end in ends], dtype=np.uint64)
    words = random_words(rng, len(devices))
    return Slots(
        devices=devices.astype(np.int64),
        slots=np.tile(np.arange(cap, dtype=np.int64), len(devices) // cap),
        use_cases=np.searchsorted(thresholds, words, side="right").astype(np.int64),
    )


def answer_slots(
    slots: Slots, offsets: NDArray[np.int64], use_case_of: NDArray[np.int64], rng: RandomBytes
) -> NDArray[np.int64]:
    """A record for each report, or NOTHING: int64[n].

    `offsets` int64[devices + 1] says which records a device holds, `use_case_of` int64[records] what they are of. Of
    the records of the use case asked about that no earlier report of the day has taken, each is as likely, up to 1 /
    2^64.
    """
    records = np.empty(len(slots.devices), dtype=np.int64)
    words = random_words(rng, len(records))
    _answer(slots.devices, slots.use_cases, offsets, use_case_of, words, records)
    return records


def rank_of(slots: Slots, cap: int) -> NDArray[np.int64]:
    """How many earlier reports of the device and day are about the same use case: int64[n]."""
    asked = slots.use_cases.reshape(-1, cap)
    rank = np.zeros_like(asked)
    for place in range(1, cap):
        rank[:, place] = (asked[:, :place] == asked[:, place : place + 1]).sum(axis=1)
    return rank.ravel()


@njit(cache=True, nogil=True)
def _answer(devices, use_cases, offsets, use_case_of, words, records):  # type: ignore[no-untyped-def]
    longest = 0
    for i in range(len(offsets) - 1):
        longest = max(longest, offsets[i + 1] - offsets[i])
    taken, last = np.zeros(longest, dtype=np.bool_), np.int64(-1)
    for i in range(len(devices)):
        device, asked = devices[i], use_cases[i]
        first, waiting = offsets[device], offsets[device + 1] - offsets[device]
        if device != last:
            taken[:waiting] = False
            last = device
        number = np.uint64(0)
        for j in range(waiting):
            if use_case_of[first + j] == asked and not taken[j]:
                number += np.uint64(1)
        records[i] = NOTHING
        if number > 0:
            # floor(word * number / 2^64), in two halves.
            carry = ((words[i] & _LOW_32) * number) >> _32
            chosen = np.int64(((words[i] >> _32) * number + carry) >> _32)
            for j in range(waiting):
                if use_case_of[first + j] == asked and not taken[j]:
                    if chosen == 0:
                        records[i], taken[j] = first + j, True
                        break
                    chosen -= 1
