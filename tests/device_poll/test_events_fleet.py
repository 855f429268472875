"""The fleet of events: literally what a scalar reading does, gates that hold, and no dependence on workers."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from device_poll.events.activity import Activity
from device_poll.events.day import World
from device_poll.events.fleet import EventFleet
from device_poll.events.held import Held, SentReport
from device_poll.population import PopulationError
from privacy.budget import Budget, LedgerError, Token, micro_epsilon
from privacy.count_mean_sketch import CountMeanSketch
from privacy.fragment_puzzle import SequenceFragmentPuzzle
from privacy.hadamard_sketch import HadamardCountMeanSketch
from privacy.hashing import hash_strings
from privacy.ledger_stores import SimulatedLedger, SQLiteLedger
from privacy.mechanism import ReportBatch
from privacy.no_privacy import NoPrivacy
from privacy.randomized_response import RandomizedResponse
from privacy.randomness import DeviceStream, Stage, random_words, seed_sequence

CMS = CountMeanSketch(epsilon=4.0, rows=16, columns=64, hash_seed=1)
HCMS = HadamardCountMeanSketch(epsilon=4.0, rows=16, columns=64, hash_seed=2)
SFP = SequenceFragmentPuzzle(epsilon=8.0, rows=8, columns=64, hash_seed=3, word_length=4)
RR = RandomizedResponse(epsilon=4.0, domain_size=5)
OPEN = NoPrivacy(domain_size=5)
WEIGHTS = np.array([0.4, 0.3, 0.15, 0.1, 0.05])
FITS = np.array([True, True, False, True, True])
HASHES = hash_strings(["a", "b", "c", "d", "e"])
WORDS = ["lol", "of", "longer", "the", "bruh"]


def held(key: str, mechanism: Any, share: float = 1.0, fits: np.ndarray = FITS) -> Held:
    encoded: np.ndarray = np.arange(5)
    if mechanism in (CMS, HCMS):
        encoded = HASHES
    elif mechanism is SFP:
        encoded = np.zeros((5, 4), dtype=np.uint8)
        kept = SFP.codes.encode(WORDS, unfit="drop")
        encoded[kept.kept] = kept.codes
    return Held(key=key, encoded=encoded, weights=WEIGHTS, fits=fits, mechanism=mechanism, share=share)


def fleet(*use_cases: Held, devices: int = 2000, **changes: Any) -> EventFleet:
    """2,000 devices in four blocks unless changed."""
    values: dict[str, Any] = {
        "activity": Activity(mean=130.0, sigma=1.0),
        "cap": 2,
        "seed": 5,
        "opt_in": 0.8,
        **changes,
    }
    return EventFleet(held=use_cases or (held("emoji.en", RR),), devices=devices, **values)


def ledger(devices: int, *, lifetime: float, daily: float | None = None) -> SimulatedLedger:
    return SimulatedLedger(devices=devices, budget=Budget.of(lifetime=lifetime, daily=daily or lifetime))


def sent(fleet: EventFleet, day: int = 0) -> list[ReportBatch]:
    return list(fleet.send(day))


def equal(one: Sequence[ReportBatch], other: Sequence[ReportBatch]) -> bool:
    return len(one) == len(other) and all(
        a.use_case == b.use_case and np.array_equal(a.senders, b.senders) and np.array_equal(a.reports, b.reports)
        for a, b in zip(one, other, strict=True)
    )


def senders(batches: Sequence[ReportBatch]) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype=np.int64), *(batch.senders for batch in batches)])


def generator(fleet: EventFleet, day: int, stage: Stage, block: int) -> np.random.Generator:
    key = (*seed_sequence(fleet.seed, day, stage).spawn_key, fleet.segment_number, block)
    return np.random.default_rng(np.random.SeedSequence(entropy=fleet.seed, spawn_key=key))


def scalar_day(fleet: EventFleet, day: int, block_devices: int) -> list[tuple[str, int, bytes]]:
    """(key, sender, report) of a day, one device and one event after the other."""
    found: list[tuple[str, int, bytes]] = []
    table = World(**{f.name: getattr(fleet, f.name) for f in dataclasses.fields(World)})._events
    for block, start in enumerate(range(0, fleet.devices, block_devices)):
        n = min(block_devices, fleet.devices - start)
        chunk = ((fleet.segment_number + 1) << 96) + block

        def stream(stage: Stage, chunk: int) -> DeviceStream:
            return DeviceStream.simulation(seed=fleet.seed, round=day, stage=stage, chunk=chunk)

        agreed = generator(fleet, 0, Stage.OPT_IN, block).random(n) < fleet.opt_in
        rates = fleet.activity.rates(n, generator(fleet, 0, Stage.ACTIVITY, block))
        rng = generator(fleet, day, Stage.EVENTS, block)
        events = rng.poisson(rates)
        happened = iter(table.draw(int(events[agreed].sum()), rng).tolist())
        streams = [stream(Stage.PRIVATIZE, chunk + (which << 64)) for which in range(len(fleet.held))]
        picks = stream(Stage.PICK, chunk)
        block_found: list[list[tuple[str, int, bytes]]] = [[] for _ in fleet.held]
        for device in range(n):
            store: list[tuple[int, Any]] = []
            for _ in range(int(events[device]) if agreed[device] else 0):
                which, value = divmod(next(happened), 5)
                use_case = fleet.held[which]
                if use_case.fits[value]:  # privatized at once: only the record is kept
                    record = use_case.mechanism.privatize(use_case.encoded[value : value + 1], streams[which])[0]
                    store.append((which, record))
            for _ in range(min(fleet.cap, len(store))):
                at = int(random_words(picks, 1)[0]) * len(store) >> 64
                which, record = store[at]
                store[at] = store[0]
                store.pop(0)
                block_found[which].append(
                    (fleet.held[which].key, fleet.first_device + start + device, record.tobytes())
                )
        found += [entry for of_use_case in block_found for entry in of_use_case]
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
    tallies = [f.shortcut(0, 1, np.random.default_rng(0))[0].sums for f in (one, three)]
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


# The ledger


def enrolled(days: int, **changes: Any) -> tuple[EventFleet, SimulatedLedger]:
    """A fleet with a budget of three reports for life, two a day."""
    book = ledger(3000, lifetime=12.0, daily=8.0)
    some = fleet(held("a.en", RR, 0.4), held("b.en", RR, 0.6), ledger=book, first_device=1000, **changes)
    some.enroll()
    return some, book


def test_no_device_ever_passes_its_budget() -> None:
    some, book = enrolled(4)
    free = dataclasses.replace(some, ledger=None)
    total = np.zeros(3000, dtype=np.int64)
    for day in range(4):
        by_device = np.bincount(senders(sent(some, day)), minlength=3000)
        assert by_device.max() <= 2
        total += by_device
        truth = some.truth(day)
        assert sum(of.reports for of in truth) == by_device.sum()
        without = free.truth(day)
        lost = sum(of.reports for of in without) - by_device.sum()
        assert sum(of.dropped["over_budget"] for of in truth) == lost
        for mine, other in zip(truth, without, strict=True):
            assert (mine.counts <= other.counts).all()
        spent = book.spent(np.arange(3000))
        np.testing.assert_array_equal(spent, total * micro_epsilon(4.0))
        book.verify()
    assert total.max() == 3 and (total == 3).mean() > 0.4
    assert total[:1000].sum() == 0
    # Negative control: without a ledger the same devices send more.
    assert sum(np.bincount(senders(sent(free, day)), minlength=3000) for day in range(4)).max() > 3


def test_a_device_with_part_of_a_budget_sends_a_random_part_of_its_picks() -> None:
    # On the second day one report is left: the first slot's, a random one of the day's records.
    some, _ = enrolled(2)
    sent(some, 0)
    second = some.truth(1)  # nothing of day 1 was sent yet
    assert all(of.reports == 0 for of in second)
    sent(some, 1)
    counts = sum(of.counts for of in some.truth(1))
    expected = counts.sum() * np.where(FITS, WEIGHTS, 0) / WEIGHTS[FITS].sum()
    assert (np.abs(counts - expected) <= 5 * np.sqrt(expected)).all()


def test_a_day_that_is_sent_again_is_the_same_and_costs_nothing() -> None:
    some, book = enrolled(1)
    half = some.send(0)
    next(half)
    half.close()  # as if killed
    first, before = sent(some), book.spent(np.arange(3000))
    assert equal(first, sent(some)) and np.array_equal(before, book.spent(np.arange(3000)))
    assert equal(first, sent(dataclasses.replace(some, ledger=None)))


def test_who_opts_out_later_stays_silent() -> None:
    some, book = enrolled(2)
    before = np.unique(senders(sent(some, 0)))
    book.opt_out(before[::2])
    assert not np.isin(before[::2], senders(sent(some, 1))).any()
    assert np.isin(before[1::2], senders(sent(some, 1))).any()


def test_a_ledger_in_a_file(tmp_path: Any) -> None:
    book = SQLiteLedger(tmp_path / "ledger.db", devices=2000, budget=Budget.of(lifetime=4.0, daily=4.0))
    some = fleet(ledger=book, devices=2000)
    some.enroll()
    assert np.bincount(senders(sent(some))).max() == 1
    assert len(sent(some, 1)) == 1 or senders(sent(some, 1)).size < 200, "almost all have spent everything"
    book.verify()
    book.close()


def test_a_token_names_budget_place_and_day() -> None:
    some, book = enrolled(1, budget="typing")
    numbers = senders(sent(some, 7))
    states = book.states(Token(use_case="typing", round=0, day=7), np.arange(3000))
    assert set(np.flatnonzero(states == 2).tolist()) == set(numbers.tolist())


# The device's own log


def as_bytes(log: list[SentReport]) -> list[tuple[int, str, bytes]]:
    return [(entry.day, entry.key, entry.report.tobytes()) for entry in log]


@pytest.mark.parametrize("mechanisms", [(RR, RR), (CMS, HCMS)], ids=["RR", "sketches"])
def test_the_log_is_what_left_the_device(mechanisms: tuple[Any, Any]) -> None:
    use_cases = (held("a.en", mechanisms[0], 0.5), held("b.en", mechanisms[1], 0.5))
    free = fleet(*use_cases, first_device=500)
    device = Counter(senders(sent(free)).tolist()).most_common(700)[-1][0]
    watched = dataclasses.replace(free, watch=device)
    expected = []
    for day in range(3):
        batches = sent(watched, day)
        assert equal(batches, sent(free, day)), "watching changes nothing"
        expected += [
            (day, batch.use_case, batch.reports[at].tobytes())
            for batch in batches
            for at in np.flatnonzero(batch.senders == device)
        ]
    log = as_bytes(watched.take_log())
    assert log == expected and log
    assert watched.take_log() == [], "drained"
    assert as_bytes([entry for day in range(3) for entry in free.report_log(day, device)]) == log


def test_the_log_knows_the_budget() -> None:
    some, _ = enrolled(3)
    device = int(senders(sent(some))[0])
    some, _ = enrolled(3, watch=device)
    for day in range(3):
        sent(some, day)
    log = as_bytes(some.take_log())
    assert len(log) <= 3
    fresh, _ = enrolled(3)
    assert as_bytes([entry for day in range(3) for entry in fresh.report_log(day, device)]) == log


# What is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"devices": 0}, "devices is 0; expected a whole number, 1 or more"),
        ({"cap": 0}, "cap is 0; expected a whole number, 1 or more"),
        ({"seed": -1}, "seed is -1; expected a whole number, 0 or more"),
        ({"workers": 1.5}, r"workers is 1\.5; expected a whole number"),
        ({"opt_in": 0.0}, r"opt_in is 0; expected a share in \(0, 1\]"),
        ({"watch": 2000}, "watch is 2000; expected a device, 0 to 1999"),
        ({"first_device": 10, "watch": 9}, "watch is 9; expected a device, 10 to 2009"),
        ({"ledger": ledger(1999, lifetime=4.0)}, "the ledger has 1999 devices; expected 2000 or more"),
    ],
)
def test_values_out_of_range(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PopulationError, match=message):
        fleet(**changes)


def test_use_cases_that_do_not_go_together() -> None:
    with pytest.raises(PopulationError, match=r"the shares of a\.en, b\.en sum to 0\.8; expected 1"):
        fleet(held("a.en", RR, 0.4), held("b.en", RR, 0.4))
    with pytest.raises(
        PopulationError, match=r"the use cases are \['a\.en', 'a\.en'\]; expected one or more, each once"
    ):
        fleet(held("a.en", RR, 0.5), held("a.en", RR, 0.5))
    other = RandomizedResponse(epsilon=2.0, domain_size=5)
    use_cases = (held("a.en", RR, 0.5), held("b.en", other, 0.5))
    assert fleet(*use_cases).opted_in > 0  # without a ledger nobody is charged
    with pytest.raises(PopulationError, match="expected one epsilon for all use cases of a budget"):
        fleet(*use_cases, ledger=ledger(2000, lifetime=8.0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": np.array([0.5, 0.5])}, r"a\.en has 5 encoded values, weights of shape \(2,\)"),
        ({"weights": np.full(5, 0.3)}, r"the 5 weights of a\.en do not all exceed 0 or do not sum to 1"),
        ({"weights": np.array([1.0, 0, 0, 0, 0])}, "do not all exceed 0"),
        ({"fits": np.zeros(5, dtype=bool)}, r"the mechanism of a\.en takes none of its 5 values"),
        ({"encoded": np.arange(5.0)}, r"values encoded as float64\[5\]; expected uint64\[d\] hashes, int64"),
        ({"encoded": np.zeros((5, 2), dtype=np.int64)}, r"values encoded as int64\[5, 2\]"),
        ({"share": 0.0}, r"the share of a\.en is 0; expected a part of the events"),
    ],
)
def test_a_use_case_checks_itself(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PopulationError, match=message):
        dataclasses.replace(held("a.en", RR), **changes)


@pytest.mark.parametrize("encoded", [[0, 1, 2, 3, 5], [-1, 1, 2, 3, 4]])
def test_indices_outside_the_domain(encoded: list[int]) -> None:
    use_case = dataclasses.replace(held("a.en", RR), encoded=np.array(encoded))
    message = rf"the values of a\.en are encoded as {min(encoded)} to {max(encoded)}; expected 0 to 4"
    with pytest.raises(PopulationError, match=message):
        fleet(use_case).shortcut(0, 0, np.random.default_rng(0))
    with pytest.raises(ValueError, match="expected"):
        sent(fleet(use_case))


def test_a_ledger_in_which_nobody_is_enrolled() -> None:
    some = fleet(ledger=ledger(2000, lifetime=4.0))
    for act in (lambda: sent(some), lambda: some.truth(0), lambda: some.report_log(0, 0)):
        with pytest.raises(PopulationError, match=r"no device is opted in in the ledger; call enroll\(\) once"):
            act()
    with pytest.raises(PopulationError, match="ledger is null; give the fleet a ledger"):
        fleet().enroll()


def test_arguments_out_of_range() -> None:
    with pytest.raises(ValueError, match="day is -1"):
        sent(fleet(), -1)
    with pytest.raises(PopulationError, match="device is 2000; expected one of this segment, 0 to 1999"):
        fleet().report_log(0, 2000)
    with pytest.raises(PopulationError, match="which is 1; expected a use case, 0 to 0"):
        fleet().shortcut(0, 1, np.random.default_rng(0))


def test_a_cancelled_poll_sends_nothing() -> None:
    some, book = enrolled(1)
    sent(some, 0)
    book.cancel(Token(use_case="events", round=0, day=0))
    assert np.bincount(senders(sent(some, 0))).max() == 1, "the second slot's reports only"
    book.forget(1)
    with pytest.raises(LedgerError, match="day is 0; expected 1 or later"):
        sent(some, 0)
