"""How much happens on a device, and drawing what it is. Tolerances are five standard errors."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chisquare, norm, poisson

from device_poll.events.activity import Activity
from device_poll.events.sampling import AliasTable

DEVICES = 200_000


def sent(activity: Activity, cap: int, thinning: float = 1.0, seed: int = 0) -> np.ndarray:
    """Simulated reports of one day, int64[DEVICES]."""
    rng = np.random.default_rng(seed)
    return np.minimum(rng.poisson(thinning * activity.rates(DEVICES, rng)), cap)


@pytest.mark.parametrize("activity", [Activity(), Activity(mean=0.2, sigma=2.0), Activity(mean=6.0, sigma=0.5)])
@pytest.mark.parametrize("cap", [1, 3])
@pytest.mark.parametrize("thinning", [1.0, 0.3])
def test_the_law_of_what_is_sent(activity: Activity, cap: int, thinning: float) -> None:
    law = activity.sent_law(cap, thinning)
    counts = np.bincount(sent(activity, cap, thinning), minlength=cap + 1)
    spread = np.sqrt(DEVICES * law * (1 - law)) + 1
    assert law.sum() == pytest.approx(1, abs=1e-12)
    assert (np.abs(counts - DEVICES * law) < 5 * spread).all()
    assert activity.expected_sent(cap, thinning) == pytest.approx(counts @ np.arange(cap + 1) / DEVICES, rel=0.05)
    # Negative control: the law of devices that are all alike is another one.
    alike = Activity(mean=activity.mean, sigma=0.0).sent_law(cap, thinning)
    assert (np.abs(counts - DEVICES * alike) > 5 * spread).any()


def test_without_spread_the_law_is_poissons() -> None:
    law = Activity(mean=2.0, sigma=0.0).sent_law(3)
    np.testing.assert_allclose(law, [*poisson.pmf(range(3), 2.0), poisson.sf(2, 2.0)], rtol=1e-12)
    assert Activity().sent_law(0).tolist() == [1.0]


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0, 3.0])
def test_the_quadrature_has_converged(sigma: float) -> None:
    # The trapezoidal rule with a quarter of the nodes, offset, and less reach gives the same.
    activity, cap = Activity(mean=3.0, sigma=sigma), 4
    normal = np.linspace(-9.3, 9.7, 1000)
    weights = norm.pdf(normal) / norm.pdf(normal).sum()
    rates = activity.median * np.exp(sigma * normal)
    expected = [float(poisson.pmf(j, rates) @ weights) for j in range(cap)]
    np.testing.assert_allclose(activity.sent_law(cap)[:cap], expected, rtol=1e-10)


def test_the_mean_is_the_mean_and_the_tail_is_heavy() -> None:
    activity = Activity(mean=3.0, sigma=1.0)
    rates = activity.rates(DEVICES, np.random.default_rng(1))
    spread = 3.0 * np.sqrt(np.exp(1.0) - 1)
    assert abs(rates.mean() - 3.0) < 5 * spread / np.sqrt(DEVICES)
    top = np.sort(rates)[-DEVICES // 100 :].sum() / rates.sum()
    expected = norm.sf(norm.isf(0.01) - 1.0)  # the share of a log-normal's total that its top hundredth holds
    assert top == pytest.approx(expected, rel=0.05) and expected > 0.09
    # Negative control: were all alike, the busiest hundredth would hold little more than a hundredth.
    even = np.random.default_rng(1).poisson(3.0, DEVICES)
    assert np.sort(even)[-DEVICES // 100 :].sum() / even.sum() < 0.04


@pytest.mark.parametrize(
    ("field", "value"),
    [("mean", 0.0), ("mean", -1.0), ("mean", 20_000.0), ("mean", float("nan")), ("sigma", -0.1), ("sigma", 3.5)],
)
def test_values_out_of_range(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"activity.{field} is {value:g}; expected"):
        Activity(**{field: value})


def test_arguments_out_of_range() -> None:
    with pytest.raises(ValueError, match="cap is -1; expected 0 or more"):
        Activity().sent_law(-1)
    with pytest.raises(ValueError, match=r"thinning is 1\.5; expected a probability"):
        Activity().sent_law(1, 1.5)


WEIGHTS = np.array([5.0, 1.0, 3.0, 0.5, 0.5, 7.0, 1e-3])


def test_an_alias_table_holds_the_weights_exactly() -> None:
    table = AliasTable.of(WEIGHTS)
    held = np.zeros(len(WEIGHTS))
    for cell, (keep, other) in enumerate(zip(table.keep.tolist(), table.other.tolist(), strict=True)):
        kept = 1.0 if other == cell else keep / 2**64
        held[cell] += kept
        held[other] += 1 - kept
    np.testing.assert_allclose(held / len(WEIGHTS), WEIGHTS / WEIGHTS.sum(), rtol=1e-12)


def test_drawing_agrees_with_a_scalar_reading() -> None:
    table, n = AliasTable.of(WEIGHTS), 2000
    words = np.random.default_rng(3).integers(0, 1 << 64, size=n, dtype=np.uint64).tolist()
    expected = []
    for word in words:
        cell, coin = divmod(word * len(WEIGHTS), 1 << 64)
        expected.append(cell if coin < int(table.keep[cell]) else int(table.other[cell]))
    assert table.draw(n, np.random.default_rng(3)).tolist() == expected


@pytest.mark.parametrize("d", [1, 2, 1000])
def test_draws_have_the_weights(d: int) -> None:
    weights = 1.0 / np.arange(1, d + 1)
    weights /= weights.sum()
    counts = np.bincount(AliasTable.of(weights).draw(300_000, np.random.default_rng(5)), minlength=d)
    assert chisquare(counts, 300_000 * weights).pvalue > 1e-3 or d == 1
    if d > 1:  # negative control: ranks shifted by one
        assert chisquare(counts, 300_000 * np.roll(weights, 1)).pvalue < 1e-9
