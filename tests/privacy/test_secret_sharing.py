"""Two aggregators: sums equal the plain tally, one share says nothing, and any fault leaves nothing counted."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from privacy.distributed_unary import DistributedUnaryEncoding
from privacy.hadamard_response import HadamardResponse
from privacy.mechanism import Mechanism
from privacy.no_privacy import NoPrivacy
from privacy.randomized_response import RandomizedResponse
from privacy.randomness import DeviceStream, Stage
from privacy.secret_sharing import (
    CHECKS,
    Aggregator,
    Batch,
    BatchError,
    PartialSum,
    Share,
    contributions,
    recombine,
    secure_tally,
    split,
)
from privacy.unary_encoding import OptimizedUnaryEncoding, SymmetricUnaryEncoding

MECHANISMS: dict[str, Callable[[int], Mechanism]] = {
    "optimized unary": lambda d: OptimizedUnaryEncoding(epsilon=2.0, domain_size=d),
    "symmetric unary": lambda d: SymmetricUnaryEncoding(epsilon=2.0, domain_size=d),
    "randomized response": lambda d: RandomizedResponse(epsilon=2.0, domain_size=d),
    "no privacy": lambda d: NoPrivacy(domain_size=d),
    "hadamard": lambda d: HadamardResponse(epsilon=2.0, domain_size=d),  # no short cut: report by report
    "distributed unary": lambda d: DistributedUnaryEncoding(
        domain_size=d, central_epsilon=4.0, central_delta=1e-3, honest_reports=60
    ),
}
BATCH_ID = bytes(range(16))


def stream(chunk: int = 0) -> DeviceStream:
    return DeviceStream.simulation(seed=11, round=0, stage=Stage.SHUFFLE, chunk=chunk)


def batch_of(mechanism: Mechanism, **fields) -> Batch:
    return Batch.of(mechanism, **{"minimum_reports": 2, "batch_id": BATCH_ID, **fields})


def reports_of(mechanism: Mechanism, n: int):
    return mechanism.privatize(np.arange(n) % mechanism.domain_size, stream(99))


def halves(batch: Batch, mechanism: Mechanism, blocks: int = 4, each: int = 5) -> tuple[list[Share], list[Share]]:
    """Shares of `blocks` blocks, for party 0 and for party 1."""
    rows = contributions(mechanism, reports_of(mechanism, blocks * each))
    rng = stream()
    pairs = [split(batch, rows[i * each : (i + 1) * each], rng, i) for i in range(blocks)]
    return [a for a, _ in pairs], [b for _, b in pairs]


def closed(batch: Batch, party: int, shares: list[Share]) -> PartialSum:
    aggregator = Aggregator(batch, party=party)
    for share in shares:
        aggregator.receive(share)
    return aggregator.close()


@pytest.mark.parametrize("kind", MECHANISMS)
@settings(max_examples=15, deadline=None)
@given(d=st.sampled_from([2, 3, 8, 9, 65]), n=st.integers(2, 60), cut=st.integers(0, 60), chunk=st.integers(0, 9))
def test_two_server_sums_equal_the_plain_tally(kind, d, n, cut, chunk):
    mechanism = MECHANISMS[kind](d)
    reports = reports_of(mechanism, n)
    plain = mechanism.tally(reports)
    secure = secure_tally(batch_of(mechanism), mechanism, [reports[:cut], reports[cut:]], stream(chunk))
    assert secure.sums.tolist() == plain.sums.tolist()
    assert secure.sums.shape == plain.sums.shape
    assert (secure.reports, dict(secure.parameters)) == (plain.reports, dict(plain.parameters))
    assert mechanism.estimate(secure).counts.tolist() == mechanism.estimate(plain).counts.tolist()


@pytest.mark.parametrize("kind", MECHANISMS)
def test_contributions_are_tallies_of_single_reports(kind):
    mechanism = MECHANISMS[kind](9)
    reports = reports_of(mechanism, 20)
    expected = [mechanism.tally(reports[i : i + 1]).sums.ravel().tolist() for i in range(20)]
    assert contributions(mechanism, reports).tolist() == expected


def test_chunks_do_not_change_the_sum(monkeypatch):
    mechanism = MECHANISMS["optimized unary"](30)
    reports = reports_of(mechanism, 200)
    monkeypatch.setattr("privacy.secret_sharing._CHUNK_WORDS", 100)  # three reports a chunk
    assert secure_tally(batch_of(mechanism), mechanism, [reports], stream()).sums.tolist() == (
        mechanism.tally(reports).sums.tolist()
    )


def test_negative_contributions_and_noise_wrap_correctly():
    batch = Batch(
        batch_id=BATCH_ID, parameters={}, shape=(2, 3), minimum_reports=2, lowest=-5, highest=5, largest_noise=100
    )
    rows = np.random.default_rng(0).integers(-5, 6, (50, 6))
    noises = [np.array([-100, 100, 0, 3, -7, 1]), np.arange(6)]
    aggregators = [Aggregator(batch, party=party) for party in (0, 1)]
    for aggregator, share in zip(aggregators, split(batch, rows, stream(), 0), strict=True):
        aggregator.receive(share)
    parts = [aggregator.close(noise) for aggregator, noise in zip(aggregators, noises, strict=True)]
    assert recombine(batch, *parts).sums.ravel().tolist() == (rows.sum(axis=0) + sum(noises)).tolist()


# --- one share alone


def uniformity(words: np.ndarray) -> float:
    """The smallest p-value of chi-square tests of the 8 bytes of each word, Bonferroni-corrected."""
    octets = words.astype("<u8").view(np.uint8).reshape(-1, 8)
    p = [stats.chisquare(np.bincount(octets[:, i], minlength=256)).pvalue for i in range(8)]
    return 8 * min(p)


@pytest.mark.parametrize("party", [0, 1])
@pytest.mark.parametrize("kind", ["optimized unary", "randomized response"])
def test_one_share_alone_is_uniform(kind, party):
    mechanism = MECHANISMS[kind](64)
    batch = batch_of(mechanism)
    same = mechanism.privatize(np.zeros(500, dtype=np.int64), stream(98))  # the most telling data: all alike
    share = split(batch, contributions(mechanism, same), stream(), 0)[party]
    assert uniformity(share.words) > 1e-4  # 33,000 words; fails once in 10^4 seeds


def test_negative_control_unsplit_values_are_not_uniform():
    mechanism = MECHANISMS["optimized unary"](64)
    rows = contributions(mechanism, reports_of(mechanism, 500))
    assert uniformity(rows.astype(np.uint64)) < 1e-100
    assert uniformity(batch_of(mechanism).with_checks(rows)) < 1e-100
    # A mask that covers only the low 32 bits leaves the rest bare.
    mask = np.random.default_rng(0).integers(0, 1 << 32, rows.shape, dtype=np.uint64)
    assert uniformity(rows.astype(np.uint64) - mask) < 1e-100


def test_what_an_aggregator_gets_does_not_depend_on_the_values():
    """Exactly, not statistically: party 1's message is the same for all values; party 0's, under a shifted mask."""
    mechanism = MECHANISMS["no privacy"](3)
    batch = batch_of(mechanism)
    rows = [contributions(mechanism, np.full(4, v)) for v in (0, 2)]
    (a, b), (c, d) = (split(batch, x, stream(), 0) for x in rows)
    assert (b.words == d.words).all()
    assert (b.digest, b.pair, b.sequence) == (d.digest, d.pair, d.sequence)
    # The mask b + (y - x) gives the message c for the data x: every message is as likely for every data.
    shifted = b.words + batch.with_checks(rows[1]) - batch.with_checks(rows[0])
    assert (batch.with_checks(rows[1]) - shifted == a.words).all()
    assert a.digest != c.digest

    class Replay:
        """A stream that yields these masks."""

        def __init__(self, words, pair):
            self.left = words.astype("<u8").tobytes() + pair

        def bytes(self, length, /):
            got, self.left = self.left[:length], self.left[length:]
            return got

    again = split(batch, rows[1], Replay(shifted, a.pair), 0)[0]
    assert (again.words == a.words).all()
    assert (again.digest, again.pair) == (a.digest, a.pair)  # no digest of the other half anywhere


# --- faults


def tampered(share: Share, **fields) -> Share:
    return dataclasses.replace(share, **fields)


FAULTS: dict[str, tuple[Callable[[list[Share], list[Share]], list[Share]], str]] = {
    "a share is missing": (lambda own, other: own[:-1], "different reports"),
    "a share arrives twice": (lambda own, other: [*own, own[1]], "block 1 arrived twice"),
    "a bit is flipped": (
        lambda own, other: [tampered(own[0], words=own[0].words ^ np.uint64(1 << 40)), *own[1:]],
        "block 0 was changed on the way",
    ),
    "a row is dropped": (lambda own, other: [tampered(own[0], words=own[0].words[:-1]), *own[1:]], "was changed"),
    "rows are swapped": (lambda own, other: [tampered(own[0], words=own[0].words[::-1]), *own[1:]], "was changed"),
    "a block is renumbered": (lambda own, other: [tampered(own[0], sequence=77), *own[1:]], "block 77 was changed"),
    "the other party's share": (lambda own, other: [other[0], *own[1:]], r"is meant for party"),
    "a share of another batch": (
        lambda own, other: [tampered(own[0], batch_id=bytes(16)), *own[1:]], "block 0 is of another batch",
    ),
    "words of another type": (
        lambda own, other: [tampered(own[0], words=own[0].words.astype(np.int64)), *own[1:]], "has shape",
    ),
}  # fmt: skip


@pytest.mark.parametrize("party", [0, 1])
@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_of_the_transport_is_a_batch_error(fault, party):
    mechanism = MECHANISMS["optimized unary"](9)
    batch = batch_of(mechanism)
    shares = halves(batch, mechanism)
    spoil, match = FAULTS[fault]
    received = [list(shares[0]), list(shares[1])]
    received[party] = spoil(shares[party], shares[1 - party])
    with pytest.raises(BatchError, match=rf"{match}.*nothing of the batch is counted"):
        recombine(batch, closed(batch, 0, received[0]), closed(batch, 1, received[1]))


def test_order_of_arrival_does_not_matter_and_a_block_lost_by_both_is_just_not_there():
    mechanism = MECHANISMS["optimized unary"](9)
    batch = batch_of(mechanism)
    left, right = halves(batch, mechanism)
    tally = recombine(batch, closed(batch, 0, left[::-1]), closed(batch, 1, [right[i] for i in (2, 0, 3, 1)]))
    assert tally.sums.tolist() == mechanism.tally(reports_of(mechanism, 20)).sums.tolist()
    tally = recombine(batch, closed(batch, 0, left[1:]), closed(batch, 1, right[1:]))
    assert tally.sums.tolist() == mechanism.tally(reports_of(mechanism, 20)[5:]).sums.tolist()


def test_shares_of_different_blocks_with_equal_counts_are_noticed():
    """Both hold 15 reports under the same numbers, but not the same ones."""
    mechanism = MECHANISMS["optimized unary"](9)
    batch = batch_of(mechanism)
    left, right = halves(batch, mechanism)
    foreign = split(batch, contributions(mechanism, reports_of(mechanism, 5)), stream(5), 3)[1]  # another block 3
    with pytest.raises(BatchError, match="different reports"):
        recombine(batch, closed(batch, 0, left), closed(batch, 1, [*right[:3], foreign]))


def test_a_fault_is_final():
    mechanism = MECHANISMS["optimized unary"](9)
    batch = batch_of(mechanism)
    left, _ = halves(batch, mechanism)
    aggregator = Aggregator(batch, party=0)
    aggregator.receive(left[0])
    with pytest.raises(BatchError, match="arrived twice"):
        aggregator.receive(left[0])
    for call in (lambda: aggregator.receive(left[1]), aggregator.close):
        with pytest.raises(BatchError, match="aggregator 0: block 0 arrived twice"):
            call()


@pytest.mark.parametrize("error", [1, 1 << 20, 1 << 62, 1 << 63, (1 << 64) - 1])
@pytest.mark.parametrize("place", range(9 + CHECKS))
def test_a_wrong_sum_is_noticed_wherever_it_is(place, error):
    """Faults after the digests: an aggregator that adds up wrongly."""
    mechanism = MECHANISMS["optimized unary"](9)
    batch = batch_of(mechanism)
    one, other = (closed(batch, party, shares) for party, shares in enumerate(halves(batch, mechanism)))
    sums = one.sums + np.array([error * (i == place) for i in range(9 + CHECKS)], dtype=np.uint64)
    with pytest.raises(BatchError, match="shares were changed; nothing"):
        recombine(batch, dataclasses.replace(one, sums=sums), other)


def test_negative_control_without_check_sums_a_small_error_passes():
    """The range alone cannot see an error of 1, and an error that fits the check sums is what the check must miss."""
    mechanism = MECHANISMS["optimized unary"](9)
    batch = batch_of(mechanism)
    one, other = (closed(batch, party, shares) for party, shares in enumerate(halves(batch, mechanism)))
    place = int(np.argmin((one.sums + other.sums)[:9]))
    error = np.zeros((1, 9), dtype=np.int64)
    error[0, place] = 1
    forged = dataclasses.replace(one, sums=one.sums + batch.with_checks(error)[0])
    assert recombine(batch, forged, other).sums[place] == recombine(batch, one, other).sums[place] + 1


def test_partial_sums_must_fit_together():
    mechanism = MECHANISMS["optimized unary"](9)
    batch = batch_of(mechanism)
    one, other = (closed(batch, party, shares) for party, shares in enumerate(halves(batch, mechanism)))
    with pytest.raises(BatchError, match="parties 0 and 0"):
        recombine(batch, one, one)
    with pytest.raises(BatchError, match="different batches"):
        recombine(batch, one, dataclasses.replace(other, batch_id=bytes(16)))
    with pytest.raises(BatchError, match="another width"):
        recombine(batch, one, dataclasses.replace(other, sums=other.sums[:-1]))
    bigger = dataclasses.replace(batch, minimum_reports=21)
    with pytest.raises(BatchError, match="20 reports, fewer than the minimum batch of 21"):
        recombine(bigger, one, other)


def test_minimum_batch_is_enforced_by_each_aggregator_and_one_sum_is_released_once():
    mechanism = MECHANISMS["optimized unary"](9)
    for minimum, blocks in itertools.product((15, 20), (3, 4)):
        batch = batch_of(mechanism, minimum_reports=minimum)
        left, _ = halves(batch, mechanism)
        if 5 * blocks < minimum:
            with pytest.raises(BatchError, match="15 reports arrived, fewer than the minimum batch of 20"):
                closed(batch, 0, left[:blocks])
        else:
            assert closed(batch, 0, left[:blocks]).reports == 5 * blocks
    aggregator = Aggregator(batch, party=0)
    for share in left:
        aggregator.receive(share)
    aggregator.close()
    with pytest.raises(BatchError, match="released already"):
        aggregator.close()
    mechanism = MECHANISMS["no privacy"](4)
    with pytest.raises(BatchError, match="0 reports arrived"):
        secure_tally(batch_of(mechanism), mechanism, [], stream())


def test_errors_of_arguments():
    mechanism = MECHANISMS["optimized unary"](9)
    batch = batch_of(mechanism)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"batch_id": b"short"}, "batch_id is malformed"),
        ({"minimum_reports": 1}, "minimum_reports is 1; expected 2 or more"),
        ({"shape": (1 << 21,)}, r"width is 2097152; expected 1 to"),
        ({"lowest": 1, "highest": 1}, "lowest and highest are 1 and 1"),
        ({"largest_noise": -1}, "largest_noise is -1"),
    ]
    for fields, match in wrong:
        with pytest.raises(ValueError, match=match):
            dataclasses.replace(batch, **fields)
    with pytest.raises(ValueError, match=r"reach from 0 to 2; expected 0 \.\. 1"):
        split(batch, np.array([[2] + [0] * 8]), stream(), 0)
    with pytest.raises(ValueError, match=r"shape \(1, 3\).*expected int64\[n, 9\]"):
        split(batch, np.zeros((1, 3), dtype=np.int64), stream(), 0)
    with pytest.raises(ValueError, match="party is 2"):
        Aggregator(batch, party=2)
    for noise, match in [(np.zeros(3), "shape"), (np.ones(9, dtype=np.int64), "beyond largest_noise = 0")]:
        aggregator = Aggregator(batch, party=0)
        for share in halves(batch, mechanism)[0]:
            aggregator.receive(share)
        with pytest.raises(ValueError, match=match):
            aggregator.close(noise)
    noisy = Aggregator(dataclasses.replace(batch, largest_noise=5), party=0)
    for share in halves(batch, mechanism)[0]:
        noisy.receive(share)
    with pytest.raises(ValueError, match="noise is missing"):
        noisy.close()
