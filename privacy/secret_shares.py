"""What two aggregators and the devices agree on, and what travels between them (privacy/secret_sharing.py uses it).

batch = Batch.of(mechanism, minimum_reports=1000, batch_id=os.urandom(16))
fault_of(share, batch, party=0)        # None, or what is wrong with a share that arrived
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privacy.mechanism import Mechanism, Parameters
from privacy.randomness import DeviceStream, random_words

LARGEST_WIDTH = 1 << 20
"""Counts in a tally that can be shared: shares of 8 MiB a report."""
LARGEST_SUM = 1 << 62
CHECKS = 2
"""Check sums that travel with every contribution (see `Batch.check`)."""


class BatchError(RuntimeError):
    """The batch cannot be trusted or is too small; nothing of it is counted."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What devices and both aggregators agree on before a poll.

    `batch_id`: 16 bytes, fresh for every batch. `parameters` and `shape` are the mechanism's and its tally's. Every
    contribution of one report lies in lowest .. highest. Fewer than `minimum_reports` are never summed up.
    `largest_noise` is the most that one aggregator adds to a count (0: aggregators add none).

    Raises ValueError if a field is out of range.
    """

    batch_id: bytes
    parameters: Parameters
    shape: tuple[int, ...]
    minimum_reports: int
    lowest: int = 0
    highest: int = 1
    largest_noise: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.batch_id, bytes) or len(self.batch_id) != 16:
            raise ValueError("batch_id is malformed; expected 16 random bytes")
        if not 1 <= self.width <= LARGEST_WIDTH:
            raise ValueError(f"width is {self.width}; expected 1 to {LARGEST_WIDTH} counts, a smaller domain or sketch")
        if (
            isinstance(self.minimum_reports, bool)
            or not isinstance(self.minimum_reports, int)
            or self.minimum_reports < 2
        ):
            raise ValueError(
                f"minimum_reports is {self.minimum_reports!r}; expected 2 or more: a sum of one is a report"
            )
        if not -(1 << 31) <= self.lowest < self.highest <= 1 << 31:
            raise ValueError(
                f"lowest and highest are {self.lowest} and {self.highest}; expected a range within -2^31 .. 2^31"
            )
        if not 0 <= self.largest_noise <= LARGEST_SUM >> 2:
            raise ValueError(f"largest_noise is {self.largest_noise}; expected 0 to 2^60")

    @classmethod
    def of(
        cls,
        mechanism: Mechanism,
        *,
        minimum_reports: int,
        batch_id: bytes,
        lowest: int | None = None,
        highest: int | None = None,
        largest_noise: int = 0,
    ) -> Batch:
        """The batch of a mechanism's reports. Contributions lie in lowest .. highest, which are the mechanism's own
        (`smallest_contribution`, `largest_contribution`) unless given."""
        return cls(
            batch_id=batch_id,
            parameters=mechanism.parameters,
            shape=mechanism.tally(mechanism.no_reports()).sums.shape,
            minimum_reports=minimum_reports,
            lowest=mechanism.smallest_contribution if lowest is None else lowest,
            highest=mechanism.largest_contribution if highest is None else highest,
            largest_noise=largest_noise,
        )

    @property
    def width(self) -> int:
        """How many counts one contribution has."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def share_bits(self) -> int:
        """Wire size of one report to EACH aggregator."""
        return 64 * (self.width + CHECKS)

    @cached_property
    def check(self) -> NDArray[np.uint64]:
        """Public coefficients r, uint64[width, 2]: the check sums of x are x r modulo 2^64.

        Sums are linear, so check sums of sums are sums of check sums. An error e in the recombined counts that does not
        depend on r stays unseen with probability at most (2^v / 2^64)^2, where 2^v is the largest power of 2 that
        divides all of e. A count outside of its possible range is an error too (`recombine`), so 2^v is at most that
        range: for 10^8 one-hot reports an unseen error has probability below 10^-22. Released counts already determine
        the check sums, which therefore reveal nothing.
        """
        key = hashlib.sha256(b"synthpoll:check:" + self.batch_id).digest()
        return random_words(DeviceStream(key, simulated=True), self.width * CHECKS).reshape(self.width, CHECKS)

    def with_checks(self, contributions: NDArray[np.int64]) -> NDArray[np.uint64]:
        """int64[n, width] -> uint64[n, width + 2]: modulo 2^64, with the check sums."""
        words = contributions.astype(np.uint64)
        return np.concatenate([words, words @ self.check], axis=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Share:
    """One party's half of a block of reports: what travels to one aggregator.

    `words` uint64[n, width + 2]. `sequence` numbers the blocks of a batch; `pair` is random and the same in both halves
    of a block, so that the aggregators can tell that they hold halves of the same reports. `digest` covers the party's
    OWN half only: a digest of the other half, or of both, would let a curious aggregator try all possible reports.
    """

    batch_id: bytes
    party: int
    sequence: int
    pair: bytes
    words: NDArray[np.uint64]
    digest: bytes


@dataclass(frozen=True, kw_only=True, eq=False)
class PartialSum:
    """What an aggregator releases: the sum of its shares, how many, and a digest of which blocks (no content)."""

    batch_id: bytes
    party: int
    reports: int
    sums: NDArray[np.uint64]
    blocks: bytes


def header(*fields: Any) -> bytes:
    """Bytes and whole numbers in one string, the numbers in 8 bytes each."""
    return b"".join(f if isinstance(f, bytes) else int(f).to_bytes(8, "little") for f in fields)


def _digest(share_fields: tuple[Any, ...], words: NDArray[np.uint64]) -> bytes:
    digest = hashlib.sha256(header(*share_fields, *words.shape))
    digest.update(np.ascontiguousarray(words, dtype="<u8").data)
    return digest.digest()


def make_share(batch: Batch, party: int, sequence: int, pair: bytes, words: NDArray[np.uint64]) -> Share:
    """One party's half, with its digest; words uint64[n, width + 2]."""
    digest = _digest((batch.batch_id, party, sequence, pair), words)
    return Share(batch_id=batch.batch_id, party=party, sequence=sequence, pair=pair, words=words, digest=digest)


def fault_of(share: Share, batch: Batch, party: int) -> str | None:
    """What is wrong with a share that arrived at this party, or None."""
    if share.batch_id != batch.batch_id:
        return f"block {share.sequence} is of another batch"
    if share.party != party:
        return f"block {share.sequence} is meant for party {share.party}"
    if share.words.ndim != 2 or share.words.shape[1] != batch.width + CHECKS or share.words.dtype != np.uint64:
        return f"block {share.sequence} has shape {share.words.shape}; expected uint64[n, {batch.width + CHECKS}]"
    if share.digest != _digest((share.batch_id, share.party, share.sequence, share.pair), share.words):
        return f"block {share.sequence} was changed on the way"
    return None
