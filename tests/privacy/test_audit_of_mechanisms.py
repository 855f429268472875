"""Large domains, where no channel can be enumerated: Clopper-Pearson bounds on the epsilon of real reports.

Two faults of published libraries are kept as replicas; the audit must catch both.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from privacy.unary_encoding import OptimizedUnaryEncoding
from tests.privacy import contract_audit
from tests.privacy.cases_a import bit_is_set
from tests.privacy.contract import Case, registered
from tests.privacy.test_contract_controls import PureLdpRappor

EPSILON, DEVICES = 4.0, 40_000
AUDITED = [case for case in registered() if case.supports]


@pytest.mark.parametrize("case", AUDITED, ids=str)
def test_the_audit_finds_no_more_than_epsilon_and_nearly_that(case: Case):
    mechanism, d = case.make(EPSILON, case.large_domain, 0), case.large_domain
    found = contract_audit.audit(
        lambda indices, rng: mechanism.privatize(case.encode(indices, d), rng),
        lambda reports, index: case.supports(mechanism, reports, index),
        0,
        d - 1,
        DEVICES,
    )
    assert case.audit_floor <= found <= EPSILON


def test_it_catches_a_rappor_that_never_flips_one_to_zero():
    broken = PureLdpRappor(EPSILON, 1009)
    assert contract_audit.audit(broken.privatize, lambda r, i: bit_is_set(None, r, i), 3, 700, 5_000) > EPSILON + 0.5


class SubsetSelection:
    """Subsets of k of d values that hold the own value with probability k e^eps / (k e^eps + d - k); bool[n, d].

    `keeps_own`: the published fault. A device that should send a subset without its value draws it from all d values
    instead of the d - 1 others, and so sends its value too often: ln(d / k + 1), 1.55 at epsilon 1.
    """

    def __init__(self, epsilon: float, d: int, *, keeps_own: bool):
        self.d, self.k, self.keeps_own = d, round(d / (math.exp(epsilon) + 1)), keeps_own
        odds = self.k * math.exp(epsilon)
        self.p = odds / (odds + d - self.k)

    def privatize(self, values: np.ndarray, rng: Any) -> np.ndarray:
        generator, rows = np.random.default_rng(list(rng.bytes(32))), np.arange(len(values))
        keys = generator.random((len(values), self.d), dtype=np.float32)
        hit = generator.random(len(values)) < self.p
        keys[rows[hit], values[hit]] = -1.0  # in the subset for certain
        if not self.keeps_own:
            keys[rows[~hit], values[~hit]] = 2.0  # never
        largest = np.partition(keys, self.k - 1, axis=1)[:, self.k - 1]
        return keys <= largest[:, None]


def subset_audit(keeps_own: bool) -> float:
    mechanism = SubsetSelection(1.0, 130, keeps_own=keeps_own)
    return contract_audit.audit(mechanism.privatize, lambda reports, index: reports[:, index], 5, 90, 30_000)


def test_it_catches_a_subset_selection_that_keeps_the_own_value_when_it_should_not():
    assert 1.2 < subset_audit(keeps_own=True) < 1.55
    assert 0.7 < subset_audit(keeps_own=False) < 1.0


def test_it_catches_a_small_excess():
    """Reports made at epsilon 4.4 are not taken for epsilon 4."""
    mechanism = OptimizedUnaryEncoding(epsilon=4.4, domain_size=64)
    assert contract_audit.audit(mechanism.privatize, lambda r, i: bit_is_set(None, r, i), 0, 63, 200_000) > 4.0


@pytest.mark.parametrize(("hits", "trials"), [(0, 50), (1, 50), (17, 50), (50, 50)])
def test_clopper_pearson_bounds_are_those_of_the_binomial_tails(hits: int, trials: int):
    """At the bound, seeing so few (or so many) hits has exactly the probability that was risked."""
    risk = 1e-3
    low, high = contract_audit.clopper_pearson(hits, trials, risk)
    assert 0 <= low <= hits / trials <= high <= 1
    if hits:
        assert binom.sf(hits - 1, trials, low) == pytest.approx(risk)
    if hits < trials:
        assert binom.cdf(hits, trials, high) == pytest.approx(risk)


def test_the_audit_claims_nothing_without_evidence():
    same = np.random.default_rng(0).random((2000, 4)) < 0.3
    assert contract_audit.audited_epsilon(same, same.copy()) < 0
    assert contract_audit.audited_epsilon(np.zeros((100, 2), bool), np.zeros((100, 2), bool)) == -math.inf
