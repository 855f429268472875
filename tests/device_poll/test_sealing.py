"""How reports travel: as they are, or as two shares that add up to them and say nothing alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare

from device_poll.sealing import sealed
from privacy import secret_sharing
from privacy.count_mean_sketch import CountMeanSketch
from privacy.distributed_unary import DistributedUnaryEncoding
from privacy.hashing import hash_strings
from privacy.mechanism import Mechanism
from privacy.poll import Ask, ReportBatch
from privacy.randomized_response import RandomizedResponse
from privacy.randomness import NoiseSource
from privacy.secret_sharing import Aggregator, Batch, BatchError, Share, recombine
from privacy.unary_encoding import OptimizedUnaryEncoding
from tests.aggregate.asks import ask_of

D, SEED = 6, 4
OUE = OptimizedUnaryEncoding(epsilon=2.0, domain_size=D)
RR = RandomizedResponse(epsilon=2.0, domain_size=D)
UNARY = DistributedUnaryEncoding(domain_size=D, central_epsilon=4.0, central_delta=1e-3, honest_reports=60)
CMS = CountMeanSketch(epsilon=4.0, rows=4, columns=16, hash_seed=1)
MECHANISMS: list[Mechanism] = [OUE, RR, UNARY, CMS]
HASHES = hash_strings([str(i) for i in range(D)])


def shared(mechanism: Mechanism, use_case: str = "mail", batch_id: bytes = bytes(16), **changes: Any) -> Ask:
    return ask_of(mechanism, use_case, shares=Batch.of(mechanism, minimum_reports=2, batch_id=batch_id), **changes)


def envelopes(mechanism: Mechanism, sizes: tuple[int, ...], use_case: str = "mail") -> list[ReportBatch]:
    rng, first, found = np.random.default_rng(1), 0, []
    for size in sizes:
        values = np.arange(first, first + size) % D
        reports = mechanism.privatize(HASHES[values] if mechanism.hashed else values, rng)
        found.append(ReportBatch(use_case, np.arange(first, first + size) + 1000, reports))
        first += size
    return found


def split_up(ask: Ask, batches: list[ReportBatch], seed: int = SEED) -> list[ReportBatch]:
    return list(sealed(batches, {ask.use_case: ask}, NoiseSource.seeded(seed)))


def shares(batches: list[ReportBatch]) -> Iterator[Share]:
    for batch in batches:
        assert isinstance(batch.reports, Share)
        yield batch.reports


def words(batches: list[ReportBatch], party: int) -> np.ndarray:
    """All that one aggregator sees of a poll's contents, report by report."""
    return np.concatenate([share.words for share in shares(batches) if share.party == party])


@pytest.mark.parametrize("mechanism", MECHANISMS, ids=lambda m: m.name)
def test_shares_recombine_to_the_plain_sum(mechanism: Mechanism) -> None:
    ask, batches = shared(mechanism), envelopes(mechanism, (40, 0, 25))
    assert ask.shares is not None
    parties = Aggregator(ask.shares, party=0), Aggregator(ask.shares, party=1)
    for share in shares(split_up(ask, batches)):
        parties[share.party].receive(share)
    tally = recombine(ask.shares, *(one.close() for one in parties))
    plain = mechanism.tally(np.concatenate([batch.reports for batch in batches]))
    np.testing.assert_array_equal(tally.sums, plain.sums)
    assert tally.reports == plain.reports == 65 and dict(tally.parameters) == dict(plain.parameters)
    # Negative control: without the last envelope's shares it is another sum.
    assert (tally.sums != mechanism.tally(batches[0].reports).sums).any()


@pytest.mark.parametrize("mechanism", MECHANISMS, ids=lambda m: m.name)
def test_one_share_alone_is_uniform(mechanism: Mechanism) -> None:
    """The upper bytes of all words and the lowest: chi square over 256 values, refused at a p-value of 1e-4."""
    ask, batches = shared(mechanism), envelopes(mechanism, (4000,))
    travelling = split_up(ask, batches)

    def p_values(of: np.ndarray) -> list[float]:
        return [
            chisquare(np.bincount((of.ravel() >> np.uint64(s)).astype(np.uint8), minlength=256)).pvalue
            for s in (0, 8, 56)
        ]

    for party in (0, 1):
        assert min(p_values(words(travelling, party))) > 1e-4
        # Column by column too: the mean of n uniform words has a deviation of 1 / sqrt(12 n).
        means = words(travelling, party).astype(np.float64).mean(axis=0) / 2.0**64
        assert (np.abs(means - 0.5) < 5 / np.sqrt(12 * 4000)).all()
    # Negative control: both together are the contributions, which are anything but uniform.
    assert ask.shares is not None
    both = (words(travelling, 0) + words(travelling, 1))[:, : ask.shares.width]
    assert max(p_values(both)) < 1e-10
    np.testing.assert_array_equal(both.astype(np.int64), secret_sharing.contributions(mechanism, batches[0].reports))


def test_a_share_does_not_tell_which_report_it_is_of() -> None:
    """The correlation of a share's words with the bits they hide, 4,000 reports: 5 deviations of 1 / sqrt(n)."""
    batches = envelopes(OUE, (4000,))
    travelling, bits = split_up(shared(OUE), batches), secret_sharing.contributions(OUE, batches[0].reports)
    for party in (0, 1):
        seen = words(travelling, party)[:, :D].astype(np.float64)
        found = [abs(np.corrcoef(seen[:, i], bits[:, i])[0, 1]) for i in range(D)]
        assert max(found) < 5 / np.sqrt(4000)
    both = (words(travelling, 0) + words(travelling, 1))[:, :D].astype(np.float64)
    assert min(np.corrcoef(both[:, i], bits[:, i])[0, 1] for i in range(D)) > 0.99  # negative control


def test_blocks_are_numbered_over_all_batches_of_an_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret_sharing, "_CHUNK_WORDS", 10 * (D + 2))  # ten reports a block
    mail, chat = shared(OUE), shared(RR, "chat")
    one, two = envelopes(OUE, (25, 10)), envelopes(RR, (15,), "chat")
    mixed = [one[0], two[0], one[1]]
    travelling = list(sealed(mixed, {"mail": mail, "chat": chat}, NoiseSource.seeded(SEED)))
    places = [
        (batch.use_case, share.sequence, share.party, len(share.words))
        for batch, share in zip(travelling, shares(travelling), strict=True)
    ]
    expected = [("mail", 0, 10), ("mail", 1, 10), ("mail", 2, 5), ("chat", 0, 10), ("chat", 1, 5), ("mail", 3, 10)]
    assert places == [(key, number, party, n) for key, number, n in expected for party in (0, 1)]
    # Every block travels with the senders of its own reports.
    of_mail = [
        batch.senders
        for batch, share in zip(travelling, shares(travelling), strict=True)
        if batch.use_case == "mail" and share.party == 0
    ]
    np.testing.assert_array_equal(np.concatenate(of_mail), np.arange(35) + 1000)
    # What travels of a use case does not depend on what else does.
    alone = split_up(mail, one)
    np.testing.assert_array_equal(words(alone, 0), words([b for b in travelling if b.use_case == "mail"], 0))


def test_no_two_blocks_share_a_mask() -> None:
    """The second party's words are the masks. Two sums under one mask would give away their difference."""

    def masks(ask: Ask, seed: int = SEED) -> np.ndarray:
        return words(split_up(ask, envelopes(OUE, (20,), ask.use_case), seed), 1)

    same = masks(shared(OUE))
    np.testing.assert_array_equal(same, masks(shared(OUE)))  # repeatable, in a simulation
    others = [masks(shared(OUE, "chat")), masks(shared(OUE), seed=5)]
    others.append(masks(replace(shared(OUE), round=1)))
    others.append(words(split_up(shared(OUE), envelopes(OUE, (20, 20))), 1)[20:])
    for i, one in enumerate([same, *others]):
        for other in others[i:]:
            assert not (one == other).any(), "not one word of the two is the same"


def test_an_ask_without_shares_leaves_reports_as_they_are() -> None:
    plain, batches = ask_of(OUE), envelopes(OUE, (25, 0, 10))
    assert [id(batch) for batch in split_up(plain, batches)] == [id(batch) for batch in batches]
    mixed = list(
        sealed(
            [*batches, *envelopes(RR, (5,), "chat")],
            {"mail": plain, "chat": shared(RR, "chat")},
            NoiseSource.seeded(SEED),
        )
    )
    assert [isinstance(batch.reports, Share) for batch in mixed] == [False, False, False, True, True]


def test_reports_are_split_when_they_are_taken_and_no_sooner() -> None:
    taken = []

    def arriving() -> Iterator[ReportBatch]:
        for batch in envelopes(OUE, (5, 5, 5)):
            taken.append(len(taken))
            yield batch

    travelling = sealed(arriving(), {"mail": shared(OUE)}, NoiseSource.seeded(SEED))
    next(travelling)
    assert taken == [0]


def test_halves_of_different_batches_do_not_go_together() -> None:
    one, other = shared(OUE), shared(OUE, batch_id=bytes(15) + b"1")
    assert one.shares is not None
    aggregator = Aggregator(one.shares, party=0)
    with pytest.raises(BatchError, match="block 0 is of another batch"):
        aggregator.receive(next(shares(split_up(other, envelopes(OUE, (5,))))))


def test_what_no_report_can_add_is_not_shared() -> None:
    """A device that runs another mechanism is stopped where the shares are made; the server could not see it."""
    two = ReportBatch("mail", np.arange(1), np.full((1, D), 2, dtype=np.uint8))
    split_up(shared(UNARY), [two])
    narrow = ask_of(UNARY, shares=Batch.of(UNARY, minimum_reports=2, batch_id=bytes(16), highest=1))
    with pytest.raises(ValueError, match=r"contributions reach from 2 to 2; expected 0 \.\. 1"):
        split_up(narrow, [two])
