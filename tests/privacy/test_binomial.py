"""The arithmetic under the accounting is as good as it says, measured against exact sums and 50 digits."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import betainc
from scipy.stats import binom

from privacy.binomial import MARGIN, binomial_cdf, binomial_pmf, binomial_window, binomials_on_grid

PI = Decimal("3.14159265358979323846264338327950288419716939937510582")


def log_factorial(x: int) -> Decimal:
    d = Decimal(x)
    if x < 200:
        return Decimal(math.factorial(x)).ln()
    series = 1 / (12 * d) - 1 / (360 * d**3) + 1 / (1260 * d**5) - 1 / (1680 * d**7)  # next term below 1e-23
    return d * d.ln() - d + (2 * PI * d).ln() / 2 + series


@pytest.mark.parametrize("n", [1, 2, 3, 17, 100, 10**4, 10**6, 10**8])
def test_binomial_probabilities_are_far_better_than_the_margin(n):
    """Against 50 digits for one value, and the exact series of ratios for the tail above it."""
    with localcontext() as context:
        context.prec = 50
        for q in (0.5, 0.03):
            for z in (-9, -2, 0, 0.3, 3, 9):
                k = min(n, max(0, round(n * q + z * math.sqrt(n * q * (1 - q)))))
                share = Decimal(q)
                log_exact = log_factorial(n) - log_factorial(k) - log_factorial(n - k)
                exact = (log_exact + k * share.ln() + (n - k) * (1 - share).ln()).exp()
                got = float(binomial_pmf(np.array([float(k)]), n, q)[0])
                assert abs(Decimal(got) / exact - 1) < Decimal(MARGIN / 20)
                if q == 0.5 and z >= 0 and k > 0:
                    # Pr[>= k] / Pr[k] = 1 + (n-k)/(k+1) + ...; the terms fall below 1e-17 long before the end.
                    steps = np.arange(min(n - k, 15 * math.isqrt(n) + 15))
                    ratios = np.cumprod((n - k - steps) / (k + 1 + steps))
                    tail = float(exact) * (1 + math.fsum(ratios))
                    assert abs(betainc(k, n - k + 1, 0.5) / tail - 1) < MARGIN / 20


@given(n=st.integers(1, 10**7), q=st.floats(1e-9, 1 - 1e-9), tail=st.floats(1e-30, 0.5))
def test_window_holds_its_probability(n, q, tail):
    low, high = binomial_window(n, q, tail)
    assert 0 <= low <= n * q <= high <= n
    assert binom.cdf(low - 1, n, q) + binom.sf(high, n, q) <= tail


@pytest.mark.parametrize("step", [1, 3, 40])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
def test_the_grid_keeps_means_and_spreads_out(share, step):
    """Every convex function of the count has at least the mean it had, and nothing moves with steps of 1."""
    trials = np.array([0.0, 1.0, 37.0, 400.0])
    points, masses = binomials_on_grid(trials, share, step, 1e-12)
    assert (masses >= 0).all()
    for n, at, mass in zip(trials.astype(int), points, masses, strict=True):
        assert math.isclose(mass.sum(), 1, rel_tol=1e-12)
        assert math.isclose(mass @ at, n * share, rel_tol=1e-12, abs_tol=1e-12)
        counts = np.arange(n + 1)
        exact = binom.pmf(counts, n, share)
        for kink in np.linspace(0, n, 23):
            moved, truth = mass @ np.maximum(at - kink, 0), exact @ np.maximum(counts - kink, 0)
            assert moved >= truth - 1e-11
            assert step > 1 or moved <= truth + 1e-9
        assert step == 1 or n < 400 or mass @ at**2 > exact @ counts**2 + 0.1  # the grid is coarser indeed


def test_cdf_at_its_ends():
    k, n = np.array([-1.0, 0.0, 3.0, 5.0, 6.0]), np.array([5.0, 5.0, 5.0, 5.0, 5.0])
    assert binomial_cdf(k, n, 0.5) == pytest.approx([0, 1 / 32, 26 / 32, 1, 1])
    assert binomial_pmf(np.array([0.0, 0.0, 4.0]), np.array([0.0, 3.0, 4.0]), 0.25) == pytest.approx(
        [1, 27 / 64, 1 / 256]
    )
