"""Which mechanisms' counts of all values add up to the number of reports: these tell how many came."""

from __future__ import annotations

import numpy as np
import pytest

from privacy.catalogue import MECHANISMS
from tests.privacy.contract import stream

SIZES = (7, 13, 16, 31, 57)


@pytest.mark.parametrize("made", MECHANISMS, ids=lambda made: made.name)
def test_the_class_says_whether_its_counts_add_up(made):
    if made.hashed or made.searchable or "domain_size" not in getattr(made, "__dataclass_fields__", {}):
        assert not made.counts_add_up
        return
    exact = []
    for size in SIZES:
        try:
            mechanism = made.for_domain(2.0, size)
        except (ValueError, TypeError):
            continue  # a mechanism of yes and no, or one that is not private alone
        reports = mechanism.privatize(np.arange(500) % size, stream())
        exact.append(abs(mechanism.estimate(mechanism.tally(reports)).counts.sum() - 500) < 1e-6)
    assert not all(exact) or made.counts_add_up or not exact
