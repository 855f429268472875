"""The store and the daily pick: exactly what a scalar reading does, uniform, and blind to contents."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from device_poll.events.store import DeviceStore, Picked
from privacy.randomness import DeviceStream, Stage, random_words


def stream(seed: int = 0) -> DeviceStream:
    return DeviceStream.simulation(seed=seed, round=0, stage=Stage.PICK, chunk=0)


def store_of(waiting: list[int]) -> DeviceStore:
    return DeviceStore.of(np.repeat(np.arange(len(waiting)), waiting), devices=len(waiting))


def scalar_pick(waiting: list[int], cap: int, words: list[int]) -> list[tuple[int, int, int]]:
    """(record, device, slot) of every pick: each device draws one record after the other from those it has left."""
    found, remaining = [], iter(words)
    for device, n in enumerate(waiting):
        left = list(range(sum(waiting[:device]), sum(waiting[: device + 1])))
        for slot in range(min(cap, n)):
            at = next(remaining) * len(left) >> 64
            found.append((left[at], device, slot))
            # The first of the rest takes the place of the one that was drawn.
            left[at] = left[0]
            left.pop(0)
    assert next(remaining, None) is None, "one word a pick"
    return found


@given(waiting=st.lists(st.integers(0, 9), min_size=1, max_size=30), cap=st.integers(1, 6), seed=st.integers(0, 99))
def test_the_pick_agrees_with_a_scalar_reading(waiting: list[int], cap: int, seed: int) -> None:
    store = store_of(waiting)
    assert store.waiting.tolist() == waiting
    picked = store.pick(cap, stream(seed))
    words = random_words(stream(seed), sum(min(cap, n) for n in waiting)).tolist()
    rows = zip(picked.records.tolist(), picked.devices.tolist(), picked.slots.tolist(), strict=True)
    assert list(rows) == scalar_pick(waiting, cap, words)


@given(waiting=st.lists(st.integers(0, 50), min_size=1, max_size=40), cap=st.integers(1, 60))
def test_a_device_sends_own_records_each_once_and_never_more_than_the_cap(waiting: list[int], cap: int) -> None:
    store = store_of(waiting)
    picked = store.pick(cap, stream())
    assert len(np.unique(picked.records)) == len(picked.records)
    assert (picked.records >= store.offsets[picked.devices]).all()
    assert (picked.records < store.offsets[picked.devices + 1]).all()
    assert np.bincount(picked.devices, minlength=len(waiting)).tolist() == [min(cap, n) for n in waiting]


def orders(picked: Picked, store: DeviceStore, cap: int) -> np.ndarray:
    """The records of each device, in slots, as numbers within the device: int64[devices, cap]."""
    return (picked.records - store.offsets[picked.devices]).reshape(-1, cap)


@pytest.mark.parametrize(("waiting", "cap"), [(5, 1), (4, 2), (3, 3), (6, 2)])
def test_every_ordered_choice_is_as_likely(waiting: int, cap: int) -> None:
    devices = 60_000
    store = store_of([waiting] * devices)
    chosen = orders(store.pick(cap, stream(7)), store, cap)
    code = {order: i for i, order in enumerate(itertools.permutations(range(waiting), cap))}
    counts = np.bincount([code[tuple(order)] for order in chosen.tolist()], minlength=len(code))
    assert chisquare(counts).pvalue > 1e-3
    # Negative control: a pick that leans to the first record by two in a hundred is found out.
    leaning = np.where(np.random.default_rng(0).random(devices) < 0.02, 0, chosen[:, 0])
    assert chisquare(np.bincount(leaning, minlength=waiting)).pvalue < 1e-6


def test_the_pick_says_nothing_about_contents() -> None:
    # A device's first event of the day is always of kind 1, the others never are: picks have it in 1 of n.
    waiting = np.random.default_rng(2).integers(1, 8, 40_000)
    store = store_of(waiting.tolist())
    kind = np.zeros(int(waiting.sum()))
    kind[store.offsets[:-1]] = 1
    picked = store.pick(1, stream(3))
    expected, spread = (1 / waiting).sum(), np.sqrt(((1 / waiting) * (1 - 1 / waiting)).sum())
    assert abs(kind[picked.records].sum() - expected) < 5 * spread
    # Negative control: sending what was recorded first would tell.
    assert abs(kind[store.offsets[:-1]].sum() - expected) > 5 * spread


def test_no_records_at_all() -> None:
    picked = store_of([0, 0]).pick(2, stream())
    assert len(picked.records) == len(picked.devices) == len(picked.slots) == 0
