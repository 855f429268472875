"""The front door of the server: what arrives, stripped, split by use case, shuffled, and only in numbers.

After this step nothing links a report to its sender or to its place in the stream, and a use case with too few reports
to hide in yields nothing at all.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from privacy.mechanism import ReportBatch, Reports


class BatchError(RuntimeError):
    """A batch cannot be used; the message says why and what to do."""


def ingest(batches: Iterable[ReportBatch], minimum_batch: int, rng: np.random.Generator) -> dict[str, Reports]:
    """Reports per use case, without senders, in random order.

    Raises BatchError if a use case has fewer than `minimum_batch` reports, or if nothing arrived.
    """
    # Only `.reports` is carried on: the senders end here.
    by_use_case: dict[str, list[Reports]] = {}
    for batch in batches:
        by_use_case.setdefault(batch.use_case, []).append(batch.reports)
    if not by_use_case:
        raise BatchError("no reports arrived; check opt-in, availability and cohort size")
    shuffled: dict[str, Reports] = {}
    for use_case in sorted(by_use_case):
        reports = np.concatenate(by_use_case[use_case])
        if len(reports) < minimum_batch:
            raise BatchError(
                f"use case {use_case!r} has {len(reports)} reports, fewer than the minimum batch of {minimum_batch}; "
                "ask more devices or lower minimum_batch"
            )
        shuffled[use_case] = reports[rng.permutation(len(reports))]
    return shuffled
