"""What the fleet of events and its use cases refuse, in one line each."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from device_poll.population import PopulationError
from privacy.randomized_response import RandomizedResponse
from tests.device_poll.event_fleets import RR, accounts, fleet, held, ledger, sent


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"devices": 0}, "devices is 0; expected a whole number, 1 or more"),
        ({"cap": 0}, "cap is 0; expected a whole number, 1 or more"),
        ({"seed": -1}, "seed is -1; expected a whole number, 0 or more"),
        ({"workers": 1.5}, r"workers is 1\.5; expected a whole number"),
        ({"opt_in": 0.0}, r"opt_in is 0; expected a share in \(0, 1\]"),
        ({"accounts": accounts(ledger(1999, lifetime=4.0))}, "the ledger has 1999 devices; expected 2000 or more"),
    ],
)
def test_values_out_of_range(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PopulationError, match=message):
        fleet(**changes)


def test_use_cases_that_do_not_go_together() -> None:
    with pytest.raises(PopulationError, match=r"the shares of a\.en, b\.en sum to 0\.8; expected 1"):
        fleet(held("a.en", RR, 0.4), held("b.en", RR, 0.4))
    with pytest.raises(
        PopulationError, match=r"the use cases are \['a\.en', 'a\.en'\]; expected one or more, each once"
    ):
        fleet(held("a.en", RR, 0.5), held("a.en", RR, 0.5))
    other = RandomizedResponse(epsilon=2.0, domain_size=5)
    use_cases = (held("a.en", RR, 0.5), held("b.en", other, 0.5))
    assert fleet(*use_cases).opted_in > 0  # without accounts nobody is charged
    with pytest.raises(PopulationError, match="expected one epsilon for all use cases of a budget"):
        fleet(*use_cases, accounts=accounts(ledger(2000, lifetime=8.0)))
    assert fleet(*use_cases, accounts=accounts(ledger(2000, lifetime=8.0), cost=lambda _: 1.0)).opted_in > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": np.array([0.5, 0.5])}, r"a\.en has 5 encoded values, weights of shape \(2,\)"),
        ({"weights": np.full(5, 0.3)}, r"the 5 weights of a\.en do not all exceed 0 or do not sum to 1"),
        ({"weights": np.array([1.0, 0, 0, 0, 0])}, "do not all exceed 0"),
        ({"fits": np.zeros(5, dtype=bool)}, r"the mechanism of a\.en takes none of its 5 values"),
        ({"encoded": np.arange(5.0)}, r"values encoded as float64\[5\]; expected uint64\[d\] hashes, int64"),
        ({"encoded": np.zeros((5, 2), dtype=np.int64)}, r"values encoded as int64\[5, 2\]"),
        ({"share": 0.0}, r"the share of a\.en is 0; expected a part of the events"),
    ],
)
def test_a_use_case_checks_itself(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PopulationError, match=message):
        dataclasses.replace(held("a.en", RR), **changes)


@pytest.mark.parametrize("encoded", [[0, 1, 2, 3, 5], [-1, 1, 2, 3, 4]])
def test_indices_outside_the_domain(encoded: list[int]) -> None:
    use_case = dataclasses.replace(held("a.en", RR), encoded=np.array(encoded))
    message = rf"a\.en: values are encoded as {min(encoded)} to {max(encoded)}; expected 0 to 4"
    with pytest.raises(PopulationError, match=message):
        fleet(use_case).shortcut(0, 0)
    with pytest.raises(ValueError, match="expected"):
        sent(fleet(use_case))


def test_arguments_out_of_range() -> None:
    with pytest.raises(ValueError, match="day is -1"):
        sent(fleet(), -1)
    with pytest.raises(PopulationError, match="device is 2000; expected one of this segment, 0 to 1999"):
        fleet().report_log(0, 2000)
    with pytest.raises(PopulationError, match="which is 1; expected a use case, 0 to 0"):
        fleet().shortcut(0, 1)
