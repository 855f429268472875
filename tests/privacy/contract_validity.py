"""What every mechanism must say of reports from devices that lie: which are refused, and what the others can do.

See contract.py. The reports come from benchmarks/poisoning.py, which attacks every mechanism.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from benchmarks.poisoning import maximal_reports, random_reports
from privacy.mechanism import Mechanism, Reports
from privacy.validity import FALSE_REFUSAL
from tests.privacy.contract import Case, skewed, stream

OTHERS = 50  # honest reports beside the one that is looked at
ATTEMPTS = 300  # random reports of which the worst is taken


def check_only_the_damaged_are_refused(mechanism: Mechanism, honest: Reports) -> None:
    """No honest report is refused; all that are no reports are, wherever they stand, and the rest is counted.

    Reports of the right dtype whose bytes are all 255 name a value that there is not, or set bits that no device sets.
    """
    truth = mechanism.tally(honest)
    assert mechanism.refused(honest).tolist() == []
    assert mechanism.refused(honest[:0]).tolist() == []
    ones = np.frombuffer(b"\xff" * honest[:1].nbytes, dtype=honest.dtype).reshape(honest[:1].shape)
    places = [0, len(honest) // 2, len(honest)]
    mixed = np.insert(honest, places, np.repeat(ones, 3, axis=0), axis=0)
    refused = mechanism.refused(mixed)
    assert refused.tolist() == [0, places[1] + 1, places[2] + 2], "not the damaged reports"
    kept = mechanism.tally(np.delete(mixed, refused, axis=0))
    assert np.array_equal(kept.sums, truth.sums)
    assert kept.reports == truth.reports
    whole = honest.view(np.uint8) if honest.dtype.names else honest
    for wrong in (whole.astype(np.float64), whole.astype(np.int16), honest[..., None], np.array(["0"] * 5)):
        assert mechanism.refused(wrong).tolist() == list(range(len(wrong)))


def reports_of_columns(case: Case, mechanism: Mechanism, columns: int) -> Reports:
    """A report for every column of the channel, in order. Raises AssertionError if one is not found by chance."""
    assert case.column is not None
    reports = random_reports(mechanism, 200 * columns, np.random.default_rng(0))
    found, first = np.unique(case.column(mechanism, reports), return_index=True)
    assert found.tolist() == list(range(columns)), "not all reports were drawn"
    return reports[first]


def check_false_refusals(case: Case, mechanism: Mechanism) -> None:
    """Exactly: whatever the value, a report is refused with probability at most FALSE_REFUSAL."""
    assert case.channel is not None
    channel = case.channel(mechanism)
    refused = mechanism.refused(reports_of_columns(case, mechanism, len(channel[0])))
    for row in channel:
        assert sum((row[i] for i in refused), Fraction(0)) <= Fraction(FALSE_REFUSAL), "honest reports are refused"


def check_influence(case: Case, mechanism: Mechanism, d: int) -> None:
    """No report that passes moves a count by more than `largest_influence`, nor the counts of any r values together by
    more than `largest_gain(r)`; and some report does, of one value and of two.

    Exact but for the rounding of floats: one report is added to others, and the estimates are compared.
    """
    rng, every = np.random.default_rng(3), case.encode(np.arange(d), d)
    honest = mechanism.privatize(case.encode(skewed(OTHERS, d), d), stream())
    crafted = [
        maximal_reports(mechanism, every[rng.permutation(d)[:r]], 20, rng, checked=True)
        for r in sorted({1, 2, min(5, d), d})
    ]
    reports = np.concatenate([*crafted, random_reports(mechanism, ATTEMPTS, rng)])
    passed = np.delete(reports, mechanism.refused(reports), axis=0)
    assert len(passed) >= sum(map(len, crafted)), "a crafted report was refused"
    before = case.estimate(mechanism, mechanism.tally(honest), d).counts
    joined = (np.concatenate([honest, passed[i : i + 1]]) for i in range(len(passed)))
    moves = np.array([case.estimate(mechanism, mechanism.tally(reports), d).counts - before for reports in joined])
    assert np.abs(moves).max() == pytest.approx(mechanism.largest_influence, rel=1e-9), "not the largest influence"
    gains = np.cumsum(np.sort(moves, axis=1)[:, ::-1], axis=1).max(axis=0)
    claimed = np.array([mechanism.largest_gain(r) for r in range(1, d + 1)])
    assert (gains <= claimed + 1e-9 * np.abs(claimed).max()).all(), "a report gains more than the largest gain"
    assert gains[:2] == pytest.approx(claimed[:2], rel=1e-9), "no report gains so much"
