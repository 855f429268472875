"""The fleet of events: literally what a scalar reading does, what is counted, and no dependence on workers."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from device_poll.events.activity import Activity
from device_poll.events.day import World
from device_poll.events.fleet import EventFleet
from privacy.randomness import DeviceStream, Stage, random_words, seed_sequence
from tests.device_poll.event_fleets import CMS, FITS, HCMS, OPEN, RR, SFP, WEIGHTS, equal, fleet, held, senders, sent


def generator(fleet: EventFleet, day: int, stage: Stage, block: int) -> np.random.Generator:
    key = (*seed_sequence(fleet.seed, day, stage).spawn_key, fleet.segment_number, block)
    return np.random.default_rng(np.random.SeedSequence(entropy=fleet.seed, spawn_key=key))


def scalar_day(fleet: EventFleet, day: int, block_devices: int) -> list[tuple[str, int, bytes]]:
    """(key, sender, report) of a day, one device and one event after the other."""
    found: list[tuple[str, int, bytes]] = []
    of_day = fleet._noise(fleet._digest(day, fleet._debits(day)))
    table = World(**{f.name: getattr(fleet, f.name) for f in dataclasses.fields(World)})._events
    for block, start in enumerate(range(0, fleet.devices, block_devices)):
        n = min(block_devices, fleet.devices - start)
        chunk = (fleet.segment_number << 96) + block

        def stream(stage: Stage, chunk: int) -> DeviceStream:
            return DeviceStream.simulation(seed=fleet.seed, round=day, stage=stage, chunk=chunk)

        agreed = generator(fleet, 0, Stage.OPT_IN, block).random(n) < fleet.opt_in
        rates = fleet.activity.rates(n, generator(fleet, 0, Stage.ACTIVITY, block))
        rng = generator(fleet, day, Stage.EVENTS, block)
        events = rng.poisson(rates)
        happened = iter(table.draw(int(events[agreed].sum()), rng).tolist())
        picks = stream(Stage.PICK, chunk)
        taken: list[list[tuple[int, int]]] = [[] for _ in fleet.held]
        for device in range(n):
            store: list[tuple[int, int]] = []
            for _ in range(int(events[device]) if agreed[device] else 0):
                which, value = divmod(next(happened), 5)
                if fleet.held[which].fits[value]:
                    store.append((which, value))
            for _ in range(min(fleet.cap, len(store))):
                at = int(random_words(picks, 1)[0]) * len(store) >> 64
                which, value = store[at]
                store[at] = store[0]
                store.pop(0)
                taken[which].append((fleet.first_device + start + device, value))
        for use_case, own in zip(fleet.held, taken, strict=True):
            numbers, values = (np.array(column, dtype=np.int64) for column in zip(*own, strict=True))
            rng = of_day.of(use_case.key).stream(Stage.PRIVATIZE, round=day, chunk=block)
            for number, value in zip(numbers.tolist(), values.tolist(), strict=True):  # one report after the other
                report = use_case.mechanism.privatize(use_case.encoded[value : value + 1], rng)
                found.append((use_case.key, number, report[0].tobytes()))
    return found


MANY = {"devices": 60, "activity": Activity(mean=1311.0, sigma=1.0), "first_device": 100, "segment_number": 3}
FEW = {"devices": 30, "activity": Activity(mean=2.0, sigma=1.5)}


@pytest.mark.parametrize(
    ("mechanisms", "changes", "block_devices"),
    [((RR,), MANY, 49), ((RR,), FEW, 30), ((CMS, HCMS), FEW, 30), ((SFP,), FEW, 30)],
    ids=["many events", "RR", "CMS and HCMS", "SFP"],
)
@pytest.mark.parametrize("cap", [1, 3])
def test_a_day_is_exactly_what_a_scalar_reading_says(
    mechanisms: tuple[Any, ...], changes: dict[str, Any], block_devices: int, cap: int
) -> None:
    share = 1 / len(mechanisms)
    some = fleet(*(held(f"case-{i}.en", m, share) for i, m in enumerate(mechanisms)), cap=cap, **changes)
    reports = [(b.use_case, b.senders.tolist(), list(b.reports)) for b in sent(some, 1)]
    batches = [(key, s, r.tobytes()) for key, devices, of in reports for s, r in zip(devices, of, strict=True)]
    assert batches and batches == scalar_day(some, 1, block_devices)


def test_workers_change_no_report_and_no_truth() -> None:
    use_cases = (held("a.en", CMS, 0.3), held("b.en", HCMS, 0.7))
    one, three = (fleet(*use_cases, workers=workers) for workers in (1, 3))
    assert len({batch.use_case for batch in sent(one)}) == 2 and len(sent(one)) == 8
    assert equal(sent(one), sent(three))
    for a, b in zip(one.truth(0), three.truth(0), strict=True):
        np.testing.assert_array_equal(a.counts, b.counts)
        assert (a.reports, dict(a.dropped)) == (b.reports, dict(b.dropped))
    tallies = [f.shortcut(0, 1)[0].sums for f in (one, three)]
    np.testing.assert_array_equal(*tallies)


def test_days_segments_and_seeds_have_streams_of_their_own() -> None:
    one = fleet(held("emoji.en", OPEN))
    assert equal(sent(one), sent(one))
    for other, day in (
        (one, 1),
        (dataclasses.replace(one, segment_number=1), 0),
        (dataclasses.replace(one, seed=6), 0),
    ):
        reports = np.concatenate([batch.reports for batch in sent(other, day)])
        assert not np.array_equal(reports, np.concatenate([batch.reports for batch in sent(one)]))


def test_the_truth_is_what_was_sent() -> None:
    # Without privacy the reports are the true values.
    two = fleet(held("a.en", OPEN, 0.25), held("b.en", OPEN, 0.75))
    batches, truth = sent(two), two.truth(0)
    for use_case, of_use_case in zip(two.held, truth, strict=True):
        reports = np.concatenate([batch.reports for batch in batches if batch.use_case == use_case.key])
        np.testing.assert_array_equal(np.bincount(reports, minlength=5), of_use_case.counts)
        assert of_use_case.reports == len(reports)
        assert of_use_case.counts[~FITS].tolist() == [0], "what does not fit makes no report"
        assert of_use_case.dropped["unfit"] > 0 and of_use_case.dropped["over_cap"] > 0
        assert of_use_case.dropped["over_budget"] == 0


def test_every_event_is_sent_dropped_or_unfit() -> None:
    one = fleet(devices=3000, activity=Activity(mean=3.0, sigma=1.0), opt_in=1.0)
    (truth,) = one.truth(0)
    rates = one.activity.rates(3000, generator(one, 0, Stage.ACTIVITY, 0))
    events = generator(one, 0, Stage.EVENTS, 0).poisson(rates)
    assert truth.reports + sum(truth.dropped.values()) == events.sum()
    unfit = WEIGHTS[~FITS].sum()
    assert abs(truth.dropped["unfit"] - unfit * events.sum()) < 5 * np.sqrt(events.sum() * unfit * (1 - unfit))


def test_picked_values_have_the_frequencies_of_events() -> None:
    one = fleet(held("emoji.en", OPEN), devices=40_000, activity=Activity(mean=3.0, sigma=1.0), cap=1)
    (truth,) = one.truth(0)
    expected = truth.reports * np.where(FITS, WEIGHTS, 0) / WEIGHTS[FITS].sum()
    assert (np.abs(truth.counts - expected) <= 5 * np.sqrt(expected)).all()
    assert (np.abs(truth.counts - np.roll(expected, 1)) > 5 * np.sqrt(expected + 1)).any()  # negative control


@pytest.mark.parametrize("cap", [1, 2, 3])
def test_the_cap_is_over_all_use_cases_together(cap: int) -> None:
    use_cases = tuple(held(f"{name}.en", RR, share) for name, share in (("a", 0.2), ("b", 0.5), ("c", 0.3)))
    together = fleet(*use_cases, cap=cap, activity=Activity(mean=5.0, sigma=1.0), devices=4000)
    reports = np.bincount(senders(sent(together)), minlength=4000)
    assert reports.max() == cap
    # Negative control: a budget for each use case would pass the cap.
    alone = [fleet(held("a.en", RR), cap=cap, devices=4000, segment_number=i) for i in range(3)]
    assert sum(np.bincount(senders(sent(f)), minlength=4000) for f in alone).max() > cap


def test_who_did_not_opt_in_stays_silent_every_day() -> None:
    one = fleet(devices=5000, opt_in=0.3)
    days = [set(senders(sent(one, day)).tolist()) for day in range(3)]
    everyone = set().union(*days)
    assert len(everyone) <= one.opted_in
    assert abs(one.opted_in - 1500) < 5 * np.sqrt(5000 * 0.3 * 0.7)
    assert len(days[1] - days[0]) < 0.02 * len(days[0]), "the same devices every day: almost all are active daily"


def test_devices_are_numbered_from_the_first() -> None:
    numbers = senders(sent(fleet(devices=50, first_device=1000)))
    assert set(numbers.tolist()) <= set(range(1000, 1050)) and numbers.dtype == np.int64


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    for _ in fleet().send(0, lambda done, of: told.append((done, of))):
        pass
    assert told == [(504, 2000), (1008, 2000), (1512, 2000), (2000, 2000)]
