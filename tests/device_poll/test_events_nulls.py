"""A device that always answers: how many reports it sends, and of what, does not depend on what happened on it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare, ks_2samp

from device_poll.events.activity import Activity
from device_poll.events.fleet import EventFleet
from device_poll.events.held import Held
from device_poll.events.slots import NOTHING, Slots, answer_slots, draw_slots, rank_of
from device_poll.population import PopulationError
from privacy.budget import Budget
from privacy.ledger_stores import SimulatedLedger
from privacy.no_privacy import NoPrivacy
from privacy.randomness import DeviceStream, NoiseSource, Stage
from tests.device_poll.event_fleets import accounts, senders

WEIGHTS = np.array([0.5, 0.3, 0.15, 0.05])
FITS = np.array([True, True, True, False])
OPEN = NoPrivacy(domain_size=5)
NULL = 4


def held(key: str, share: float, **changes: Any) -> Held:
    values: dict[str, Any] = {"encoded": np.arange(4), "weights": WEIGHTS, "fits": FITS, "null": OPEN.null}
    return Held(**{"key": key, "mechanism": OPEN, "share": share, **values, **changes})


def fleet(seed: int = 5, **changes: Any) -> EventFleet:
    values: dict[str, Any] = {
        "held": (held("a", 0.35), held("b", 0.65)), "devices": 2000, "activity": Activity(mean=1.5, sigma=1.5),
        "cap": 3, "opt_in": 0.7, "seed": seed, "noise": NoiseSource.seeded(seed), **changes,
    }  # fmt: skip
    return EventFleet(**values)


def stream(chunk: int = 0) -> DeviceStream:
    return DeviceStream.simulation(seed=0, round=0, stage=Stage.PICK, chunk=chunk)


def per_device(some: EventFleet, day: int = 0) -> dict[str, np.ndarray]:
    """Of each use case how many reports every device sent."""
    found = {one.key: np.zeros(some.devices, dtype=np.int64) for one in some.held}
    for batch in some.send(day):
        np.add.at(found[batch.use_case], batch.senders, 1)
    return found


def test_a_device_sends_its_cap_whatever_happened() -> None:
    some = fleet()
    sent = sum(per_device(some).values())
    assert set(sent.tolist()) == {0, 3}
    assert (sent == 3).sum() == some.opted_in
    # Negative control: without nulls it tells how active a device is.
    without = fleet(held=tuple(dataclasses.replace(one, null=None) for one in some.held))
    assert set(sum(per_device(without).values()).tolist()) == {0, 1, 2, 3}


def test_what_is_published_of_reports_does_not_depend_on_what_devices_hold() -> None:
    """Counts of reports, of each device and of each use case, are equal to the last one for any two populations."""

    def counts(changes: dict[str, Any], null: Any = OPEN.null) -> dict[str, list[int]]:
        use_cases = tuple(held(key, share, null=null, **changes) for key, share in (("a", 0.35), ("b", 0.65)))
        found = per_device(fleet(held=use_cases, activity=Activity(mean=changes.pop("mean", 1.5), sigma=1.5)))
        return {key: of.tolist() for key, of in found.items()}

    common = {"weights": np.array([0.25, 0.25, 0.25, 0.25])}
    rare = {"fits": np.array([True, False, False, False])}
    assert counts({}) == counts(common) == counts(rare)
    assert counts({}, None) != counts(rare, None)  # negative control


def test_how_active_devices_are_changes_no_count_either() -> None:
    """The shape of the blocks follows from the mean activity, so here all devices are in one block."""
    one, other = (per_device(fleet(activity=Activity(mean=mean, sigma=1.0))) for mean in (0.01, 30.0))
    assert all(np.array_equal(one[key], other[key]) for key in one)


def test_the_reports_are_what_the_slots_say() -> None:
    some = fleet()
    reports = {one.key: [] for one in some.held}
    for batch in some.send(0):
        reports[batch.use_case] += batch.reports.tolist()
    for one, truth in zip(some.held, some.truth(0), strict=True):
        counts = np.bincount(reports[one.key], minlength=5)
        assert counts[NULL] == truth.nothing > 0 and counts[:4].tolist() == truth.counts.tolist()
        assert truth.reports == counts.sum() and truth.counts[3] == 0, "what does not fit is not sent"
        assert truth.dropped["unfit"] > 0


def test_use_cases_are_drawn_by_their_shares() -> None:
    slots = draw_slots(np.ones(20_000, dtype=bool), 2, np.array([0.2, 0.5, 0.3]), stream())
    counts = np.bincount(slots.use_cases, minlength=3)
    assert chisquare(counts, 40_000 * np.array([0.2, 0.5, 0.3])).pvalue > 1e-4
    assert chisquare(counts, 40_000 * np.array([0.25, 0.45, 0.3])).pvalue < 1e-10  # negative control
    alone = draw_slots(np.array([True, False, True]), 2, np.array([1.0]), stream())
    assert alone.devices.tolist() == [0, 0, 2, 2] and alone.slots.tolist() == [0, 1, 0, 1]
    assert alone.use_cases.tolist() == [0, 0, 0, 0]


def scalar_answers(slots: Slots, offsets: np.ndarray, use_case_of: np.ndarray, rng: DeviceStream) -> list[int]:
    """One report after the other, in lists."""
    words = np.frombuffer(rng.bytes(8 * len(slots.devices)), "<u8").tolist()
    left: dict[int, list[int]] = {}
    found = []
    for device, asked, word in zip(slots.devices.tolist(), slots.use_cases.tolist(), words, strict=True):
        records = left.setdefault(device, list(range(offsets[device], offsets[device + 1])))
        of_use_case = [record for record in records if use_case_of[record] == asked]
        if not of_use_case:
            found.append(NOTHING)
            continue
        chosen = of_use_case[word * len(of_use_case) >> 64]
        records.remove(chosen)
        found.append(chosen)
    return found


def test_answers_are_exactly_what_a_scalar_reading_says() -> None:
    rng = np.random.default_rng(0)
    waiting = rng.poisson(3.0, 500)
    offsets = np.concatenate([[0], np.cumsum(waiting)])
    use_case_of = rng.integers(0, 3, offsets[-1])
    slots = draw_slots(rng.random(500) < 0.8, 4, np.array([0.2, 0.5, 0.3]), stream())
    found = answer_slots(slots, offsets, use_case_of, stream(1))
    assert found.tolist() == scalar_answers(slots, offsets, use_case_of, stream(1))
    # A report says something exactly if fewer earlier ones ask for the same than there are records of it.
    records = np.zeros((500, 3), dtype=np.int64)
    np.add.at(records, (np.repeat(np.arange(500), waiting), use_case_of), 1)
    told = rank_of(slots, 4) < records[slots.devices, slots.use_cases]
    assert np.array_equal(told, found != NOTHING) and 0.3 < told.mean() < 0.9


def statistics(some: EventFleet, by_shortcut: bool) -> list[float]:
    truths = [some.shortcut(0, which)[1] for which in range(2)] if by_shortcut else list(some.truth(0))
    first, second = truths
    return [
        first.nothing, second.nothing, first.reports, first.counts[0], second.counts[1] - second.counts[0],
        second.counts[2], first.dropped["unfit"], first.dropped["over_cap"], second.dropped["over_cap"],
    ]  # fmt: skip


def test_the_shortcut_has_the_law_of_the_reports() -> None:
    """Kolmogorov-Smirnov over 400 seeds a side; the least of nine p-values above 1e-4."""
    small = {"devices": 300}
    exact, slow = (
        np.array([statistics(fleet(seed + shift, **small), quick) for seed in range(400)])
        for quick, shift in ((True, 0), (False, 10_000))
    )
    p_values = [ks_2samp(exact[:, i], slow[:, i]).pvalue for i in range(exact.shape[1])]
    assert min(p_values) > 1e-4
    other = np.array([statistics(fleet(seed, cap=2, **small), True) for seed in range(400)])
    assert min(ks_2samp(other[:, i], slow[:, i]).pvalue for i in range(exact.shape[1])) < 1e-10  # negative control


def test_a_budget_silences_a_device_and_not_its_data() -> None:
    ledger = SimulatedLedger(devices=2000, budget=Budget.of(lifetime=8.0, daily=8.0))
    some = fleet(accounts=accounts(ledger, cost=lambda _: 4.0))
    some.enroll()
    for by_shortcut in (False, True):
        if by_shortcut:
            sent = [of.reports for of in some.in_bulk(0)]
        else:
            assert set(np.bincount(senders(list(some.send(0))), minlength=2000).tolist()) == {0, 2}
            sent = [of.reports for of in some.truth(0)]
        assert sum(sent) == 2 * some.opted_in
    ledger.verify()


def test_null_values_that_do_not_go_together() -> None:
    with pytest.raises(PopulationError, match="some of a, b have a null value and some not"):
        fleet(held=(held("a", 0.5), held("b", 0.5, null=None)))
    with pytest.raises(PopulationError, match=r"the null value of a is uint8\[1\]; expected one entry like those of"):
        held("a", 1.0, null=np.zeros(1, dtype=np.uint8))
