"""Secure aggregation by two aggregators: each sees one additive share of every report, and only sums are put together.

    batch = Batch.of(mechanism, minimum_reports=1000, batch_id=os.urandom(16))
    left, right = Aggregator(batch, party=0), Aggregator(batch, party=1)
    for sequence, reports in enumerate(blocks):                    # on the devices
        for share, aggregator in zip(split(batch, contributions(mechanism, reports), rng, sequence), (left, right)):
            aggregator.receive(share)                              # over a private channel each
    tally = recombine(batch, left.close(), right.close())          # equals mechanism.tally of all reports

A report is shared as its contribution to the tally: the vector int64[width] that the mechanism's tally adds for it
(`Mechanism.contributions`). For unary encodings these are the report's bits, for randomized response a one-hot vector.
x = a + b modulo 2^64 with b uniform, so each share alone is uniform whatever x is (Bonawitz et al. 2017, section 3, has
the threat model; Corrigan-Gibbs and Boneh 2017 the two-server sums). Wire size: 64 (width + 2) bits to each aggregator.

Threat model. The aggregators are honest but curious and do not work together: they follow the protocol, release one
sum, and may try to learn from all that they see. The transport between may drop, repeat, mix up or corrupt messages;
it is private and authentic (TLS). Any such fault makes the batch an error, and nothing of it is counted. NOT covered:
aggregators that lie about their sum, and devices that share something that is no report of the mechanism. No proof of
validity is sent, so one such device can shift every count at will, as far as so many reports could add up to it, or
make the batch an error (docs/attacks.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from privacy.mechanism import Mechanism, Reports, Tally
from privacy.randomness import RandomBytes, random_words
from privacy.secret_shares import (
    CHECKS,
    LARGEST_SUM,
    Batch,
    BatchError,
    PartialSum,
    Share,
    fault_of,
    header,
    make_share,
)

__all__ = [
    "Aggregator",
    "Batch",
    "BatchError",
    "PartialSum",
    "Share",
    "chunks",
    "contributions",
    "recombine",
    "secure_tally",
    "split",
]

_CHUNK_WORDS = 1 << 20  # 8 MiB a share; bounds the memory of `secure_tally`


def contributions(mechanism: Mechanism, reports: Reports) -> NDArray[np.int64]:
    """What each report adds to the tally, int64[n, width]. Memory: 8 n width bytes.

    The mechanism's own `contributions`, checked. Raises what `mechanism.tally` raises for malformed reports, and
    ValueError if the rows have another shape or do not add up to its tally.
    """
    tally = mechanism.tally(reports)
    rows = mechanism.contributions(reports)
    if rows.shape != (len(reports), tally.sums.size) or np.any(rows.sum(axis=0) != tally.sums.ravel()):
        raise ValueError(f"contributions of {mechanism.name} do not add up to its tally; its tally is not additive")
    return rows


def split(batch: Batch, contributions: NDArray[np.int64], rng: RandomBytes, sequence: int) -> tuple[Share, Share]:
    """Device half: int64[n, width] contributions -> one share for each aggregator. 8 (width + 2) random bytes a report.

    Raises ValueError for another shape or contributions outside lowest .. highest.
    """
    x = np.asarray(contributions)
    if x.ndim != 2 or x.shape[1] != batch.width or not np.issubdtype(x.dtype, np.integer):
        raise ValueError(f"contributions have shape {x.shape} and dtype {x.dtype}; expected int64[n, {batch.width}]")
    if x.size and not batch.lowest <= int(x.min()) <= int(x.max()) <= batch.highest:
        raise ValueError(
            f"contributions reach from {int(x.min())} to {int(x.max())}; expected {batch.lowest} .. {batch.highest}"
        )
    words = batch.with_checks(x.astype(np.int64, copy=False))
    mask = random_words(rng, words.size).reshape(words.shape)
    pair = rng.bytes(16)
    return make_share(batch, 0, sequence, pair, words - mask), make_share(batch, 1, sequence, pair, mask)


class Aggregator:
    """One of the two servers. It sees the shares sent to its own party, and keeps only their sum.

    The first fault makes the batch unusable: every call from then on raises BatchError. One sum is released, once;
    several sums of overlapping batches would tell their difference.
    """

    def __init__(self, batch: Batch, *, party: int) -> None:
        if party not in (0, 1):
            raise ValueError(f"party is {party!r}; expected 0 or 1")
        self.batch, self.party = batch, party
        self._sums = np.zeros(batch.width + CHECKS, dtype=np.uint64)
        self._blocks: dict[int, tuple[bytes, int]] = {}
        self._fault: str | None = None

    @property
    def reports(self) -> int:
        """How many shares of reports have arrived."""
        return sum(count for _, count in self._blocks.values())

    def receive(self, share: Share) -> None:
        """Add a block of shares. Raises BatchError for anything but an intact, new block of this party and batch."""
        self._check(self._fault)
        self._check(fault_of(share, self.batch, self.party))
        if share.sequence in self._blocks:
            self._check(f"block {share.sequence} arrived twice")
        self._blocks[share.sequence] = (share.pair, len(share.words))
        self._sums += share.words.sum(axis=0, dtype=np.uint64)

    def close(self, noise: NDArray[np.int64] | None = None) -> PartialSum:
        """Release the sum, once, with this aggregator's own noise int64[width] on it if the batch expects noise.

        Raises BatchError if fewer than the minimum batch arrived, and ValueError for noise that is missing, of
        another shape or beyond `largest_noise`.
        """
        self._check(self._fault)
        reports = self.reports
        if reports < self.batch.minimum_reports:
            self._check(
                f"{reports} reports arrived, fewer than the minimum batch of {self.batch.minimum_reports}; ask more "
                "devices or lower minimum_reports"
            )
        sums = self._sums
        if noise is None and self.batch.largest_noise > 0:
            raise ValueError("noise is missing; this batch expects noise from both aggregators")
        if noise is not None:
            noise = np.asarray(noise)
            if noise.shape != (self.batch.width,) or noise.dtype != np.int64:
                raise ValueError(
                    f"noise has shape {noise.shape} and dtype {noise.dtype}; expected int64[{self.batch.width}]"
                )
            if not -self.batch.largest_noise <= int(noise.min()) <= int(noise.max()) <= self.batch.largest_noise:
                raise ValueError(f"noise goes beyond largest_noise = {self.batch.largest_noise} of the batch")
            sums = sums + self.batch.with_checks(noise[None])[0]
        blocks = hashlib.sha256()
        for sequence, (pair, count) in sorted(self._blocks.items()):
            blocks.update(header(self.batch.batch_id, sequence, pair, count))
        self._fault = "the sum was released already"
        return PartialSum(
            batch_id=self.batch.batch_id, party=self.party, reports=reports, sums=sums, blocks=blocks.digest()
        )

    def _check(self, fault: str | None) -> None:
        if fault is not None:
            self._fault = fault
            raise BatchError(f"aggregator {self.party}: {fault}; nothing of the batch is counted")


def recombine(batch: Batch, one: PartialSum, other: PartialSum) -> Tally:
    """The tally of the batch, from both partial sums.

    Raises BatchError unless both are of this batch, rest on the same blocks, reach the minimum batch, give counts that
    so many reports can have, and agree with their check sums.
    """

    def require(holds: bool, fault: str) -> None:
        if not holds:
            raise BatchError(f"{fault}; nothing of the batch is counted")

    require({one.party, other.party} == {0, 1}, f"sums of parties {one.party} and {other.party}; expected one of each")
    require(one.batch_id == other.batch_id == batch.batch_id, "the sums are of different batches")
    require(
        one.reports == other.reports and one.blocks == other.blocks,
        f"the aggregators hold different reports ({one.reports} and {other.reports}): shares are missing or mixed up",
    )
    n = one.reports
    require(n >= batch.minimum_reports, f"{n} reports, fewer than the minimum batch of {batch.minimum_reports}")
    low, high = n * batch.lowest - 2 * batch.largest_noise, n * batch.highest + 2 * batch.largest_noise
    require(low > -LARGEST_SUM and high < LARGEST_SUM, f"{n} reports can pass 2^62 in one count")
    require(one.sums.shape == other.sums.shape == (batch.width + CHECKS,), "the sums have another width")
    total = one.sums + other.sums
    counts = total[: batch.width].view(np.int64)
    # In Python's whole numbers: the bounds are proved, not wrapped.
    inside = low <= int(counts.min()) and int(counts.max()) <= high
    require(inside, "a count is outside of what so many reports can add up to: shares were changed")
    require(bool(np.all(batch.with_checks(counts[None])[0] == total)), "the check sums disagree: shares were changed")
    return Tally(counts.reshape(batch.shape).copy(), n, batch.parameters)


def chunks(batch: Batch, reports: Reports) -> Iterator[Reports]:
    """The reports in blocks whose shares take about 8 MiB each."""
    step = max(1, _CHUNK_WORDS // (batch.width + CHECKS))
    for start in range(0, len(reports), step):
        yield reports[start : start + step]


def secure_tally(batch: Batch, mechanism: Mechanism, blocks: Iterable[Reports], rng: RandomBytes) -> Tally:
    """All roles in one process, for simulations: split, sum at two aggregators, recombine. Memory: a few chunks.

    `blocks` are arrays of reports. Equals the tally of all of them; raises BatchError as the parts do.
    """
    aggregators = [Aggregator(batch, party=party) for party in (0, 1)]
    sequence = 0
    for reports in blocks:
        for chunk in chunks(batch, reports):
            for share in split(batch, contributions(mechanism, chunk), rng, sequence):
                aggregators[share.party].receive(share)
            sequence += 1
    return recombine(batch, aggregators[0].close(), aggregators[1].close())
