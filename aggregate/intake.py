"""The front door of the server, the only one: what arrives is stripped, checked, permuted, and only ever added up.

A report that no honest device sends is refused and counted (`Mechanism.refused`); the others are a poll all the same.

    sums = {ask.use_case: PermutedSum(ask, rng)}
    tallies = intake(fleet.answer([ask]), sums, minimum_batch=500)       # {"mail": Tally}

Behind it nothing links a report to its sender or to its place in the stream, use cases are never combined, and a use
case with too few reports to hide in yields nothing at all. What adds the reports up is a `Sum`: of permuted reports
here, of shares in aggregate/secure_aggregation.py. Memory: the tallies, and three times `GATHERED` a use case, however
many reports there are.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Protocol, cast

import numpy as np

from privacy.mechanism import Reports, Tally
from privacy.poll import Ask, ReportBatch
from privacy.secret_shares import Share

GATHERED = 1 << 26
"""Bytes of reports that are permuted and added at a time: a sketch's tally is passed over once for so many."""


class BatchError(RuntimeError):
    """A batch cannot be used; the message says why and what to do."""


class Sum(Protocol):
    """Adds up what arrives for one use case."""

    @property
    def reports(self) -> int:
        """How many reports are in it."""

    @property
    def refused(self) -> int | None:
        """How many reports were refused, which are not in it; None: it sees no report of which it could tell."""

    def add(self, reports: Reports | Share) -> None:
        """Add what came in one envelope. Raises BatchError for what is not added up here, a share or whole reports."""

    def close(self) -> Tally:
        """The tally of all. Raises BatchError if it cannot be trusted."""


class PermutedSum:
    """Reports that the server sees one by one, in random order: judged, gathered, permuted, added to the tally.

    Judging looks at one report alone, so who comes with whom and in which order decides nothing.
    """

    def __init__(self, ask: Ask, rng: np.random.Generator, gathered: int = GATHERED) -> None:
        self._mechanism, self._rng, self._gathered = ask.mechanism, rng, gathered
        self._waiting: list[Reports] = []
        self._total: Tally | None = None
        self.reports, self.refused = 0, 0

    def add(self, reports: Reports | Share) -> None:
        """Keep what is not refused, and add what is kept once it is much. Raises BatchError for a share."""
        if isinstance(reports, Share):
            raise BatchError("a share arrived where whole reports were expected; devices and server disagree on trust")
        reports = np.atleast_1d(reports)
        refused = self._mechanism.refused(reports)
        if len(refused):
            reports = np.delete(reports, refused, axis=0)
            self.refused += len(refused)
        if not len(reports):
            return
        self._waiting.append(reports)
        self.reports += len(reports)
        if sum(kept.nbytes for kept in self._waiting) >= self._gathered:
            self._pass()

    def close(self) -> Tally:
        """The tally of all reports."""
        if self._waiting or self._total is None:
            self._pass()
        return cast(Tally, self._total)

    def _pass(self) -> None:
        reports = np.concatenate(self._waiting)
        self._waiting = []
        # Of two polls that differ in one report, one order would show which places hold the same device's.
        told = zlib.crc32(np.ascontiguousarray(reports).view(np.uint8).data)
        order = np.random.default_rng([told, *np.frombuffer(self._rng.bytes(32), dtype=np.uint32).tolist()])
        reports = reports[order.permutation(len(reports))]
        self._total = self._mechanism.add_to(self._total, reports)


def intake(batches: Iterable[ReportBatch], sums: Mapping[str, Sum], minimum_batch: int) -> dict[str, Tally]:
    """One tally for each use case of `sums`, from a stream in which their batches may alternate.

    Raises BatchError for a batch of another use case, and for one with no reports or with fewer than `minimum_batch`.
    """
    for batch in batches:
        if batch.use_case not in sums:
            raise BatchError(
                f"a batch of use case {batch.use_case!r} arrived where {', '.join(map(repr, sums))} was expected; "
                "use cases are never combined: every key has a poll of its own"
            )
        # Only `.reports` is carried on: the senders end here.
        sums[batch.use_case].add(batch.reports)
    for use_case, total in sums.items():
        check_minimum_batch(total.reports, use_case, minimum_batch, total.refused or 0)
    return {use_case: total.close() for use_case, total in sums.items()}


def check_minimum_batch(reports: int, use_case: str, minimum_batch: int, refused: int = 0) -> None:
    """Raise BatchError for fewer than `minimum_batch` reports, not counting those that were refused."""
    also = f"; {refused} more were refused, which no honest device sends" if refused else ""
    if not reports:
        raise BatchError(
            f"no reports of use case {use_case!r} arrived; check opt-in, availability, activity and the number of "
            f"devices{also}"
        )
    if reports < minimum_batch:
        raise BatchError(
            f"use case {use_case!r} has {reports} reports, fewer than the minimum batch of {minimum_batch}; "
            f"ask more devices or lower minimum_batch{also}"
        )
