"""How reports travel: as they are, or split on the device into a share for each of two aggregators.

    for batch in sealed(batches, {"mail": ask}, noise): ...      # of each block one batch a party

The split is the devices' half of secure aggregation (privacy/secret_sharing.py): no server ever sees a whole report.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import cast

from privacy.mechanism import Reports
from privacy.poll import Ask, ReportBatch
from privacy.randomness import NoiseSource, Stage
from privacy.secret_sharing import chunks, contributions, split


def sealed(batches: Iterable[ReportBatch], asks: Mapping[str, Ask], noise: NoiseSource) -> Iterator[ReportBatch]:
    """The batches as they travel under the ask of their use case.

    Shares are made in blocks of about 8 MiB, numbered over all batches of an ask. Masks are bound to the reports that
    they hide: only the very same reports have the same masks, or two shares would tell how two reports differ.
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
            told = (ask.digest, ask.shares.batch_id.hex(), block)
            masks = noise.of("shares", *told).stream(Stage.SHARE, round=ask.round, chunk=number)
            halves = split(ask.shares, contributions(ask.mechanism, block), masks, number)
            for share in halves:
                yield ReportBatch(batch.use_case, batch.senders[start : start + len(block)], share)
            start += len(block)
            sequence[batch.use_case] += 1
