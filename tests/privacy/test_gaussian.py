"""Exact Gaussian accounting: published sigmas, 60 digits, both directions."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.gaussian import MARGIN, gaussian_delta, gaussian_epsilon, gaussian_sigma

PRECISION = 220

# Samples; sigma for epsilon 1, 2, 4 after 10 rounds at delta = 1 / (n ln n) (REFERENCE, 'Accounting').
SIGMAS = [
    (1_939_290, ["15.40", "8.04", "4.25"]),  # Yelp
    (8_396, ["11.60", "6.21", "3.37"]),  # OpenReview
    (75_316, ["13.25", "7.00", "3.75"]),  # PubMed
]


@pytest.mark.parametrize(("n", "expected"), SIGMAS)
def test_the_published_sigmas_to_their_printed_digits(n, expected):
    delta = 1 / (n * math.log(n))
    for epsilon, text in zip((1.0, 2.0, 4.0), expected, strict=True):
        sigma = gaussian_sigma(epsilon, delta=delta, rounds=10)
        assert f"{sigma:.2f}" == text
        assert gaussian_epsilon(sigma, delta=delta, rounds=10) == pytest.approx(epsilon, rel=1e-9)


def pi() -> Decimal:
    """Machin 1706: 16 arctan(1/5) - 4 arctan(1/239)."""

    def arctan_inverse(x: int) -> Decimal:
        return sum((Decimal((-1) ** k) / ((2 * k + 1) * Decimal(x) ** (2 * k + 1)) for k in range(180)), Decimal(0))

    return 16 * arctan_inverse(5) - 4 * arctan_inverse(239)


def normal_cdf(x: Decimal) -> Decimal:
    """1/2 + phi(x) (x + x^3 / 3 + x^5 / 15 + ...)."""
    term, total, k = x, x, 1
    while abs(term) > Decimal(10) ** (50 - PRECISION):
        k += 2
        term *= x * x / k
        total += term
    return Decimal("0.5") + (-x * x / 2).exp() / (2 * pi()).sqrt() * total


def exact_delta(mu: float, epsilon: float) -> Decimal:
    m, e = Decimal(mu), Decimal(epsilon)
    return normal_cdf(-e / m + m / 2) - e.exp() * normal_cdf(-e / m - m / 2)


@pytest.mark.parametrize("sigma", [0.05, 0.3, 1.0, 9.0, 999.0, 1001.0, 1e6])
def test_delta_in_60_digits(sigma):
    with localcontext() as context:
        context.prec = PRECISION
        for z in (0.0, 0.1, 1.0, 3.0, 7.0, 10.0):
            epsilon = z / sigma
            # e^epsilon and the small tails cancel up to 90 and 25 digits; what remains has 60 or more.
            exact = exact_delta(1.0 / sigma, epsilon)
            assert abs(Decimal(gaussian_delta(sigma, epsilon)) / exact - 1) < Decimal(MARGIN) / 2


@settings(max_examples=200, deadline=None)
@given(
    epsilon=st.floats(1e-4, 60),
    delta=st.floats(1e-30, 0.9),
    rounds=st.integers(1, 10**6),
    sensitivity=st.floats(1e-3, 1e3),
)
def test_calibration_is_tight_and_on_the_safe_side(epsilon, delta, rounds, sensitivity):
    sigma = gaussian_sigma(epsilon, delta=delta, rounds=rounds, sensitivity=sensitivity)
    assert gaussian_delta(sigma, epsilon, rounds=rounds, sensitivity=sensitivity) <= delta
    assert gaussian_delta(sigma * (1 - 1e-6), epsilon, rounds=rounds, sensitivity=sensitivity) > delta
    back = gaussian_epsilon(sigma, delta=delta, rounds=rounds, sensitivity=sensitivity)
    assert gaussian_delta(sigma, back, rounds=rounds, sensitivity=sensitivity) <= delta
    assert back <= epsilon * (1 + 1e-9)


@settings(max_examples=100, deadline=None)
@given(sigma=st.floats(0.05, 1e4), delta=st.floats(1e-15, 0.5), rounds=st.integers(1, 1000), factor=st.floats(1.01, 4))
def test_monotone(sigma, delta, rounds, factor):
    here = gaussian_epsilon(sigma, delta=delta, rounds=rounds)
    assert gaussian_epsilon(sigma * factor, delta=delta, rounds=rounds) <= here
    assert gaussian_epsilon(sigma, delta=delta / factor, rounds=rounds) >= here
    assert gaussian_epsilon(sigma, delta=delta, rounds=rounds + 1) >= here
    assert gaussian_epsilon(sigma, delta=delta, rounds=rounds, sensitivity=factor) >= here


def test_rounds_and_sensitivity_act_as_one_noise():
    one = gaussian_epsilon(2.0, delta=1e-6)
    assert gaussian_epsilon(6.0, delta=1e-6, rounds=9) == pytest.approx(one, rel=1e-12)
    assert gaussian_epsilon(2 * math.sqrt(2), delta=1e-6, sensitivity=math.sqrt(2)) == pytest.approx(one, rel=1e-12)
    assert gaussian_epsilon(1e9, delta=1e-6) == 0.0


def test_against_the_accountant_of_dp_accounting():
    """An independent implementation, which discretizes: within its own pessimism."""
    from dp_accounting.pld import privacy_loss_distribution

    theirs = privacy_loss_distribution.from_gaussian_mechanism(5.0, value_discretization_interval=1e-4)
    epsilon = theirs.self_compose(20).get_epsilon_for_delta(1e-6)
    ours = gaussian_epsilon(5.0, delta=1e-6, rounds=20)
    assert ours <= epsilon <= ours * 1.001


def test_errors():
    for delta in (0.0, 1.0, -1.0, math.nan, 1):
        for call in (lambda d: gaussian_epsilon(1.0, delta=d), lambda d: gaussian_sigma(1.0, delta=d)):
            with pytest.raises(ValueError, match="delta is"):
                call(delta)
    for bad in (0.0, -1.0, math.nan, math.inf, "1"):
        for call, name in (
            (lambda x: gaussian_epsilon(x, delta=1e-6), "sigma"),
            (lambda x: gaussian_delta(x, 1.0), "sigma"),
            (lambda x: gaussian_sigma(x, delta=1e-6), "epsilon"),
            (lambda x: gaussian_sigma(1.0, delta=1e-6, sensitivity=x), "sensitivity"),
        ):
            with pytest.raises(ValueError, match=f"{name} is .*expected a number above 0"):
                call(bad)
    with pytest.raises(ValueError, match="epsilon is -1"):
        gaussian_delta(1.0, -1)
    with pytest.raises(ValueError, match="rounds is 0"):
        gaussian_sigma(1.0, delta=1e-6, rounds=0)
