"""The front door of the server: no senders, no order, no mixing, no small batches."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from aggregate.ingest import BatchError, ingest
from privacy.mechanism import ReportBatch


def batch(use_case: str, first: int, n: int) -> ReportBatch:
    """n reports whose values and senders cannot be mistaken for one another."""
    values = np.arange(first, first + n, dtype=np.int64)
    return ReportBatch(use_case, values + 1_000_000, values)


def shuffled(batches: list[ReportBatch], minimum: int = 1, seed: int = 0) -> dict[str, np.ndarray]:
    return ingest(iter(batches), minimum, np.random.default_rng(seed))


def test_the_same_reports_in_another_order_without_senders() -> None:
    reports = shuffled([batch("mail", 0, 500), batch("mail", 500, 300)])
    assert set(reports) == {"mail"}
    assert sorted(reports["mail"].tolist()) == list(range(800))
    # A report's place tells nothing of where it came from: the rank correlation of 800 places is 0 +- 1 / sqrt(799).
    assert abs(np.corrcoef(reports["mail"], np.arange(800))[0, 1]) < 5 / np.sqrt(799)
    assert type(reports["mail"]) is np.ndarray and reports["mail"].max() < 1_000_000


def test_the_order_comes_from_the_generator_alone() -> None:
    batches = [batch("mail", 0, 100)]
    np.testing.assert_array_equal(shuffled(batches)["mail"], shuffled(batches)["mail"])
    assert (shuffled(batches)["mail"] != shuffled(batches, seed=1)["mail"]).any()


def test_every_place_is_equally_likely() -> None:
    draws, n = 3000, 8
    rng = np.random.default_rng(0)
    places = np.zeros((n, n))
    for _ in range(draws):
        places[ingest([batch("mail", 0, n)], 1, rng)["mail"], np.arange(n)] += 1
    assert np.abs(places - draws / n).max() < 5 * np.sqrt(draws * (1 / n) * (1 - 1 / n))


def test_packed_reports_stay_whole() -> None:
    rows = np.random.default_rng(0).integers(0, 256, size=(50, 3), dtype=np.uint8)
    reports = shuffled([ReportBatch("mail", np.arange(50), rows)])["mail"]
    assert reports.dtype == np.uint8 and reports.shape == (50, 3)
    assert sorted(map(tuple, reports.tolist())) == sorted(map(tuple, rows.tolist()))
    assert (reports != rows).any()


def test_use_cases_are_never_mixed() -> None:
    reports = shuffled([batch("mail", 0, 20), batch("chat", 100, 30), batch("mail", 20, 20), batch("chat", 130, 5)])
    assert list(reports) == ["chat", "mail"]
    assert sorted(reports["mail"].tolist()) == list(range(40))
    assert sorted(reports["chat"].tolist()) == list(range(100, 135))


def test_the_minimum_batch_counts_one_use_case_alone() -> None:
    batches = [batch("mail", 0, 60), batch("chat", 0, 39), batch("mail", 60, 40)]
    message = "use case 'chat' has 39 reports, fewer than the minimum batch of 40"
    with pytest.raises(BatchError, match=message):
        shuffled(batches, minimum=40)
    assert len(shuffled(batches, minimum=39)["chat"]) == 39


def test_nothing_arrived() -> None:
    def nothing() -> Iterator[ReportBatch]:
        yield from ()

    with pytest.raises(BatchError, match="no reports arrived"):
        ingest(nothing(), 1, np.random.default_rng(0))


def test_empty_batches_are_too_few() -> None:
    with pytest.raises(BatchError, match="has 0 reports"):
        shuffled([batch("mail", 0, 0)])
