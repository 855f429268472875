"""What every mechanism must do with input that is wrong or empty, and with tallies on disk. See contract.py."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from privacy.mechanism import Mechanism, Tally
from tests.privacy.contract import Case, stream


def check_bad_epsilon(make: Callable[[float], object]) -> None:
    """Everything outside (0, 12] is refused by name, value and range."""
    for epsilon in (0, -1.0, 12.5, math.nan, math.inf, "4", True, None):
        with pytest.raises(ValueError, match=r"epsilon is .*expected .*\(0, 12\]"):
            make(epsilon)  # type: ignore[arg-type]


def check_bad_values(mechanism: Mechanism, d: int) -> None:
    """Values that are no value of the domain are refused; none give none."""
    for values in ([d], [0, d + 7], [-2], [0, 1, -(1 << 40)], [1 << 62], [[0, 1]]):
        with pytest.raises(ValueError, match="expected"):
            mechanism.privatize(np.array(values), stream())
    with pytest.raises(ValueError, match="expected"):
        mechanism.privatize(np.array([(1 << 64) - 1], dtype=np.uint64), stream())
    with pytest.raises(ValueError, match="expected"):
        mechanism.privatize(np.array(0), stream())
    check_wrong_types(mechanism)


def check_wrong_types(mechanism: Mechanism) -> None:
    """Only integers are values."""
    for values in ([0.5], [1.0], [True], ["0"], [None], [1 + 0j]):
        with pytest.raises(TypeError, match="dtype"):
            mechanism.privatize(np.array(values), stream())


def check_empty(case: Case, mechanism: Mechanism, d: int) -> None:
    """No devices: no reports, a tally of zeros, estimates of 0 with no error."""
    reports = mechanism.privatize(case.encode(np.zeros(0, dtype=np.int64), d), stream())
    assert len(reports) == 0
    tally = mechanism.tally(reports)
    assert tally.reports == 0
    assert not tally.sums.any()
    estimate = case.estimate(mechanism, tally, d)
    assert estimate.reports == 0
    assert len(estimate.counts) == len(estimate.stderr) == d
    assert not estimate.counts.any()
    assert not estimate.stderr.any()


def check_tally_survives_disk(mechanism: Mechanism, tally: Tally, path: Path) -> None:
    """save and load give the same tally, which still adds and estimates."""
    tally.save(path)
    loaded = Tally.load(path)
    assert np.array_equal(loaded.sums, tally.sums)
    assert loaded.sums.dtype == np.int64
    assert loaded.reports == tally.reports
    assert dict(loaded.parameters) == dict(tally.parameters) == dict(mechanism.parameters)
    assert [type(v) for v in loaded.parameters.values()] == [type(v) for v in tally.parameters.values()]
    assert (loaded + tally).reports == 2 * tally.reports
