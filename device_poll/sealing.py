"""How reports travel: as they are, or split on the device into a share for each of two aggregators.

    for batch in sealed(batches, {"mail": ask}, stream_of): ...      # of each block one batch a party

The split is the devices' half of secure aggregation (privacy/secret_sharing.py): no server ever sees a whole report.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import cast

from privacy.mechanism import Reports
from privacy.poll import Ask, ReportBatch
from privacy.randomness import DeviceStream, RandomBytes, Stage
from privacy.secret_sharing import chunks, contributions, split

Streams = Callable[[Ask, int], RandomBytes]
"""The masks of block number i of an ask: a stream that is used for nothing else."""


def sealed(batches: Iterable[ReportBatch], asks: Mapping[str, Ask], streams: Streams) -> Iterator[ReportBatch]:
    """The batches as they travel under the ask of their use case.

    Shares are made in blocks of about 8 MiB, numbered over all batches of an ask.
    """
    sequence = dict.fromkeys(asks, 0)
    for batch in batches:
        ask = asks[batch.use_case]
        if ask.shares is None:
            yield batch
            continue
        start = 0
        for block in chunks(ask.shares, cast(Reports, batch.reports)):
            number = sequence[batch.use_case]
            halves = split(ask.shares, contributions(ask.mechanism, block), streams(ask, number), number)
            for share in halves:
                yield ReportBatch(batch.use_case, batch.senders[start : start + len(block)], share)
            start += len(block)
            sequence[batch.use_case] += 1


def simulated_masks(seed: int) -> Streams:
    """Masks of simulated devices: repeatable, from the seed, the use case, the round and the block."""

    def stream(ask: Ask, number: int) -> DeviceStream:
        use_case = int.from_bytes(hashlib.sha256(ask.use_case.encode()).digest()[:8], "big")
        return DeviceStream.simulation(seed=seed, round=ask.round, stage=Stage.SHARE, chunk=(use_case << 64) + number)

    return stream
