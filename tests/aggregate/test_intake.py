"""The front door of the server: no senders, no order, no mixing, no small batches, and sums of what it lets in."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from aggregate.intake import BatchError, PermutedSum, check_minimum_batch, intake
from aggregate.secure_aggregation import SharedSum
from device_poll.sealing import sealed
from privacy.count_mean_sketch import CountMeanSketch
from privacy.hashing import hash_strings
from privacy.mechanism import Tally
from privacy.poll import ReportBatch
from privacy.randomized_response import RandomizedResponse
from privacy.randomness import NoiseSource
from privacy.secret_sharing import Batch, split
from privacy.unary_encoding import OptimizedUnaryEncoding
from tests.aggregate.asks import ask_of

RR = RandomizedResponse(epsilon=2.0, domain_size=9)


class Watched:
    """A mechanism that writes down what its server half is shown."""

    def __init__(self) -> None:
        self.passes: list[np.ndarray] = []

    @property
    def seen(self) -> np.ndarray:
        """All of it, in order."""
        return np.concatenate(self.passes)

    def refused(self, reports: np.ndarray) -> np.ndarray:
        return np.zeros(0, dtype=np.int64)

    def add_to(self, tally: Tally | None, reports: np.ndarray) -> Tally:
        self.passes.append(reports)
        added = Tally(np.array([reports.sum()], dtype=np.int64), len(reports), {})
        return added if tally is None else tally + added


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def batch(use_case: str, first: int, n: int) -> ReportBatch:
    """n reports whose values and senders cannot be mistaken for one another."""
    values = np.arange(first, first + n, dtype=np.int64)
    return ReportBatch(use_case, values + 1_000_000, values)


def let_in(
    batches: Iterable[ReportBatch], *use_cases: str, minimum: int = 1, seed: int = 0, gathered: int = 1 << 26
) -> dict[str, Watched]:
    """What the server half of each use case is shown."""
    watched = {use_case: Watched() for use_case in use_cases or ("mail",)}
    sums = {use_case: PermutedSum(ask_of(w, use_case), rng(seed), gathered) for use_case, w in watched.items()}
    tallies = intake(iter(batches), sums, minimum)
    for use_case, tally in tallies.items():
        assert tally.reports == len(watched[use_case].seen) and tally.sums.tolist() == [watched[use_case].seen.sum()]
    assert list(tallies) == list(watched)
    return watched


# What the server half is shown


def test_the_same_reports_in_another_order_without_senders() -> None:
    (seen,) = let_in([batch("mail", 0, 500), batch("mail", 500, 300)])["mail"].passes
    assert sorted(seen.tolist()) == list(range(800)), "reports and nothing else"
    # A report's place tells nothing of where it came from: the rank correlation of 800 places is 0 +- 1 / sqrt(799).
    assert abs(np.corrcoef(seen, np.arange(800))[0, 1]) < 5 / np.sqrt(799)
    assert type(seen) is np.ndarray and seen.max() < 1_000_000
    # Negative control: as it arrived, a report's place tells everything.
    assert np.corrcoef(batch("mail", 0, 800).reports, np.arange(800))[0, 1] > 0.99


def test_the_order_comes_from_the_generator_and_the_reports_alone() -> None:
    one, again, other = (let_in([batch("mail", 0, 100)], seed=seed)["mail"].seen for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    elsewhere = let_in([replace(batch("mail", 0, 100), senders=np.zeros(100, dtype=np.int64))])["mail"].seen
    np.testing.assert_array_equal(one, elsewhere, err_msg="who sends decides nothing")
    cut = let_in([batch("mail", 0, 37), batch("mail", 37, 63)])["mail"].seen
    np.testing.assert_array_equal(one, cut, err_msg="nor do the envelopes")


def test_two_polls_that_differ_in_one_report_are_in_two_orders() -> None:
    """With one order the place where they differ is the device's, and its two reports stand at it."""
    mail = batch("mail", 0, 100)
    other = replace(mail, reports=np.append(mail.reports[:-1], 500))
    one, two = (let_in([each])["mail"].seen for each in (mail, other))
    assert (one != two).sum() > 50
    # Negative control: the generator alone would put both into one order.
    order = rng().permutation(100)
    assert (mail.reports[order] != other.reports[order]).sum() == 1


def test_every_place_is_equally_likely() -> None:
    draws, n, source = 3000, 8, rng()
    places = np.zeros((n, n))
    for _ in range(draws):
        watched = Watched()
        intake([batch("mail", 0, n)], {"mail": PermutedSum(ask_of(watched), source)}, 1)
        places[watched.seen, np.arange(n)] += 1
    tolerance = 5 * np.sqrt(draws * (1 / n) * (1 - 1 / n))
    assert np.abs(places - draws / n).max() < tolerance
    # Negative control: reports in the order of their arrival, each in its own place.
    assert np.abs(draws * np.eye(n) - draws / n).max() > tolerance


def test_packed_reports_stay_whole() -> None:
    rows = rng().integers(0, 256, size=(50, 3), dtype=np.uint8)
    seen = let_in([ReportBatch("mail", np.arange(50), rows)])["mail"].seen
    assert seen.dtype == np.uint8 and seen.shape == (50, 3)
    assert sorted(map(tuple, seen.tolist())) == sorted(map(tuple, rows.tolist()))
    assert (seen != rows).any()


def test_use_cases_are_never_mixed() -> None:
    mixed = [batch("mail", 0, 20), batch("chat", 100, 30), batch("mail", 20, 20), batch("chat", 130, 5)]
    for gathered in (1 << 26, 1):
        watched = let_in(mixed, "mail", "chat", gathered=gathered)
        assert sorted(watched["mail"].seen.tolist()) == list(range(40))
        assert sorted(watched["chat"].seen.tolist()) == list(range(100, 135))
    assert [len(part) for part in watched["mail"].passes] == [20, 20]
    assert [len(part) for part in watched["chat"].passes] == [30, 5]
    with pytest.raises(BatchError, match="a batch of use case 'chat' arrived where 'mail' was expected; use cases are"):
        let_in(mixed, "mail")
    with pytest.raises(BatchError, match="'sms' arrived where 'mail', 'chat' was expected"):
        let_in([*mixed, batch("sms", 0, 9)], "mail", "chat")


# Too few


def test_the_minimum_batch_counts_one_use_case_alone() -> None:
    batches = [batch("mail", 0, 60), batch("chat", 0, 39), batch("mail", 60, 40)]
    message = "use case 'chat' has 39 reports, fewer than the minimum batch of 40; ask more devices or lower"
    with pytest.raises(BatchError, match=message):
        let_in(batches, "mail", "chat", minimum=40)
    assert len(let_in(batches, "mail", "chat", minimum=39)["chat"].seen) == 39
    check_minimum_batch(60, "mail", 60)
    with pytest.raises(BatchError, match="use case 'mail' has 59 reports, fewer than the minimum batch of 60"):
        check_minimum_batch(59, "mail", 60)


def test_one_small_use_case_withholds_all_tallies() -> None:
    sums = {key: PermutedSum(ask_of(Watched(), key), rng()) for key in ("mail", "chat")}
    closed = []
    for total in sums.values():
        total.close = lambda: closed.append(1)  # type: ignore[method-assign]
    with pytest.raises(BatchError, match="'chat' has 5 reports"):
        intake([batch("mail", 0, 60), batch("chat", 0, 5)], sums, 10)
    assert not closed, "not even the large one was summed up"


def test_nothing_arrived() -> None:
    def nothing() -> Iterator[ReportBatch]:
        yield from ()

    with pytest.raises(BatchError, match="no reports of use case 'mail' arrived; check opt-in"):
        let_in(nothing())
    with pytest.raises(BatchError, match="no reports of use case 'chat' arrived"):
        let_in([batch("mail", 0, 60)], "mail", "chat")
    with pytest.raises(BatchError, match="no reports of use case"):
        check_minimum_batch(0, "mail", 0)


def test_empty_batches_are_nothing() -> None:
    with pytest.raises(BatchError, match="no reports of use case 'mail' arrived"):
        let_in([batch("mail", 0, 0)])
    assert len(let_in([batch("mail", 0, 0), batch("mail", 0, 5), batch("mail", 5, 0)])["mail"].seen) == 5


# What is added up


def test_a_stream_has_the_tally_of_all_its_reports() -> None:
    sketch = CountMeanSketch(epsilon=4.0, rows=8, columns=64, hash_seed=1)
    oracle = OptimizedUnaryEncoding(epsilon=4.0, domain_size=20)
    values = rng().integers(0, 20, 3000)
    for mechanism, held in ((sketch, hash_strings([str(v) for v in values])), (oracle, values)):
        reports = mechanism.privatize(held, rng(1))
        parts = [ReportBatch("emoji.en", np.arange(len(part)), part) for part in np.array_split(reports, 7)]
        whole = mechanism.tally(reports)
        for gathered in (1, 3 * parts[0].reports.nbytes, 1 << 26):  # every batch alone, a few together, all
            sums = {"emoji.en": PermutedSum(ask_of(mechanism, "emoji.en"), rng(2), gathered)}
            tally = intake(iter(parts), sums, 3000)["emoji.en"]
            np.testing.assert_array_equal(tally.sums, whole.sums)
            assert tally.reports == 3000 and dict(tally.parameters) == dict(whole.parameters)


def test_a_sketch_is_added_to_in_place() -> None:
    sketch = CountMeanSketch(epsilon=4.0, rows=8, columns=64, hash_seed=1)
    seen = []

    class Remembering:
        refused = sketch.refused

        def add_to(self, tally: Tally | None, reports: np.ndarray) -> Tally:
            total = sketch.add_to(tally, reports)
            seen.append(total.sums)
            return total

    parts = [ReportBatch("mail", np.arange(10), sketch.privatize(hash_strings(["x"] * 10), rng(i))) for i in range(4)]
    tally = intake(parts, {"mail": PermutedSum(ask_of(Remembering()), rng(), 1)}, 1)["mail"]
    assert len(seen) == 4 and all(sums is seen[0] for sums in seen) and tally.sums is seen[0]


def test_reports_are_gathered_up_to_a_bound_and_then_forgotten() -> None:
    """Never more than the bound waits, however many reports come; what was added is let go."""

    def most_waiting(bound: int) -> int:
        total, waiting, references = PermutedSum(ask_of(Forgetful()), rng(), bound), [], []

        def arriving() -> Iterator[ReportBatch]:
            for first in range(0, 100 * 100, 100):
                waiting.append(sum(alive() is not None for alive in references))
                reports = np.arange(first, first + 100)
                references.append(weakref.ref(reports))
                yield ReportBatch("mail", np.arange(100), reports)

        assert intake(arriving(), {"mail": total}, 1)["mail"].reports == 10_000
        return max(waiting)

    # While the next envelope is made, the last one is still in the loop's hand.
    assert most_waiting(10 * 800) <= 10
    # Negative control: without a bound all reports wait for the last.
    assert most_waiting(1 << 40) == 99


class Forgetful:
    """A mechanism that keeps nothing of what its server half is shown."""

    def refused(self, reports: np.ndarray) -> np.ndarray:
        return np.zeros(0, dtype=np.int64)

    def add_to(self, tally: Tally | None, reports: np.ndarray) -> Tally:
        added = Tally(np.array([reports.sum()], dtype=np.int64), len(reports), {})
        return added if tally is None else tally + added


# Devices and server that disagree on who may see a report


def shared(n: int = 20) -> tuple[Any, list[ReportBatch]]:
    plain = ask_of(RR)
    ask = replace(plain, shares=Batch.of(RR, minimum_reports=2, batch_id=bytes(16)))
    reports = ReportBatch("mail", np.arange(n), RR.privatize(np.arange(n) % 9, rng()))
    return ask, list(sealed([reports], {"mail": ask}, NoiseSource.seeded(0)))


def test_shares_where_whole_reports_are_expected() -> None:
    _, shares = shared()
    with pytest.raises(BatchError, match="a share arrived where whole reports were expected; devices and server"):
        intake(shares, {"mail": PermutedSum(ask_of(RR), rng())}, 1)


def test_whole_reports_where_shares_are_expected() -> None:
    ask, shares = shared()
    assert ask.shares is not None
    whole = ReportBatch("mail", np.arange(3), np.zeros(3, dtype=np.int64))
    for batches in ([whole], [*shares, whole]):
        with pytest.raises(BatchError, match="whole reports arrived where shares were expected; devices and server"):
            intake(batches, {"mail": SharedSum(ask.shares, "mail", None)}, 1)
    assert intake(shares, {"mail": SharedSum(ask.shares, "mail", None)}, 1)["mail"].reports == 20  # as they should be


def test_half_of_the_shares_is_no_report() -> None:
    ask, shares = shared()
    assert ask.shares is not None
    with pytest.raises(BatchError, match="no reports of use case 'mail' arrived"):
        intake(shares[:1], {"mail": SharedSum(ask.shares, "mail", None)}, 1)
    with pytest.raises(BatchError, match="use case 'mail': aggregator 0: block 0 arrived twice; nothing of the batch"):
        intake([*shares, shares[0]], {"mail": SharedSum(ask.shares, "mail", None)}, 1)


# Devices that lie


OUE = OptimizedUnaryEncoding(epsilon=4.0, domain_size=301)
EVERYTHING = np.packbits(np.ones((3, 301), dtype=np.uint8), axis=1, bitorder="little")


def poll(*batches: np.ndarray, gathered: int = 1 << 26, minimum: int = 1) -> tuple[Tally, PermutedSum]:
    """The tally of these envelopes, and what added it up."""
    total = PermutedSum(ask_of(OUE), rng(5), gathered)
    arriving = [ReportBatch("mail", np.arange(len(np.atleast_1d(reports))), reports) for reports in batches]
    return intake(arriving, {"mail": total}, minimum)["mail"], total


class Trusting(PermutedSum):
    """As it was: whatever arrives is added up."""

    def add(self, reports: Any) -> None:
        self._waiting.append(reports)
        self.reports += len(reports)


def test_one_liar_does_not_stop_a_poll_and_is_counted() -> None:
    honest = OUE.privatize(np.arange(400) % 301, rng(1))
    padded = honest[:1].copy()
    padded[0, -1] |= 0x80
    alone, total = poll(honest)
    assert total.refused == 0
    mixed = np.concatenate([honest[:7], EVERYTHING, honest[7:200], padded, honest[200:]])
    others = [mixed[:, :-1], mixed[:2].astype(np.float64), np.array(7), np.zeros((0, 3)), np.array(["x"])]
    for gathered in (1, 1 << 26):
        tally, total = poll(mixed, *others, gathered=gathered)
        np.testing.assert_array_equal(tally.sums, alone.sums)
        assert (tally.reports, total.reports) == (400, 400)
        assert total.refused == 4 + len(mixed) + 2 + 1 + 0 + 1
    # Negative control: one bit too many stopped the whole poll, and all bits were counted for every value.
    old = Trusting(ask_of(OUE), rng(5))
    old.add(mixed)
    with pytest.raises(ValueError, match="padding bits set"):
        old.close()
    old = Trusting(ask_of(OUE), rng(5))
    old.add(np.concatenate([honest, EVERYTHING]))
    gained = OUE.estimate(old.close()).counts - OUE.estimate(alone).counts
    assert gained == pytest.approx(np.full(301, 3 * 2.037), rel=1e-3)


def test_what_is_refused_hides_nobody_and_fills_no_batch() -> None:
    honest = OUE.privatize(np.arange(9), rng(1))
    message = "has 9 reports, fewer than the minimum batch of 10; ask more .*; 3 more were refused, which no honest"
    with pytest.raises(BatchError, match=message):
        poll(honest, EVERYTHING, minimum=10)
    with pytest.raises(BatchError, match=r"no reports of use case .mail. arrived; .*; 3 more were refused"):
        poll(EVERYTHING)


def test_nobody_can_tell_of_a_share() -> None:
    """A share of anything passes, as the documents say."""
    ask, shares = shared()
    assert ask.shares is not None
    total = SharedSum(ask.shares, "mail", None)
    honest = intake(shares, {"mail": total}, 1)["mail"]
    assert total.refused is None
    wide = Batch.of(RR, minimum_reports=2, batch_id=bytes(16), lowest=-1000, highest=1000)
    lie = np.zeros((1, 9), dtype=np.int64)
    lie[0, 4] = 12
    forged = [ReportBatch("mail", np.zeros(1), share) for share in split(wide, lie, rng(), sequence=99)]
    tally = intake([*shares, *forged], {"mail": SharedSum(ask.shares, "mail", None)}, 1)["mail"]
    assert tally.reports == 21
    assert (tally.sums - honest.sums).tolist() == [0, 0, 0, 0, 12, 0, 0, 0, 0]
    # Beyond what 21 reports could add up to, nothing of the batch is counted.
    lie[0, 4] = 1000
    forged = [ReportBatch("mail", np.zeros(1), share) for share in split(wide, lie, rng(), sequence=99)]
    with pytest.raises(BatchError, match="outside of what so many reports can add up to"):
        intake([*shares, *forged], {"mail": SharedSum(ask.shares, "mail", None)}, 1)
