"""Epsilon budgets in whole numbers: what a report costs, what a device may spend, what names a debit.

    budget = Budget.of(lifetime=64.0, daily=8.0)
    cost = micro_epsilon(4.0)                               # 4_000_000
    budget.check_plan(cost, reports_per_day=2, reports=16)  # before any work starts

Everything is counted in micro-epsilons, so no sum is ever rounded: costs are rounded up once, caps down once.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

MICRO = 1_000_000
"""Micro-epsilons in one epsilon."""
LARGEST_BUDGET = 1 << 60
LARGEST_NUMBER = 1 << 40
"""Of devices, rounds and days."""


def check_whole(name: str, value: int, low: int, high: int) -> None:
    """Raise ValueError unless value is a whole number in low .. high."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}; expected a whole number from {low} to {high}")


def _micro(name: str, epsilon: float, rounding: str) -> int:
    if isinstance(epsilon, bool) or not isinstance(epsilon, int | float | np.integer | np.floating):
        raise ValueError(f"{name} is {epsilon!r}; expected a number of epsilons > 0")
    # The shortest decimal that prints the float is what the configuration says: 0.1 is 100 000 micro-epsilons, although
    # the nearest double is larger by one part in 10^17.
    micro = Decimal(repr(int(epsilon) if isinstance(epsilon, int | np.integer) else float(epsilon))) * MICRO
    if not micro.is_finite() or not 0 < micro <= LARGEST_BUDGET:
        raise ValueError(f"{name} is {epsilon:g}; expected a finite number of epsilons > 0")
    return int(micro.to_integral_value(rounding))


def micro_epsilon(epsilon: float) -> int:
    """What a report of this epsilon costs, in micro-epsilons, rounded up. Raises ValueError unless > 0 and finite."""
    return _micro("epsilon", epsilon, ROUND_CEILING)


def micro_budget(epsilon: float, name: str = "budget") -> int:
    """A cap of this epsilon, in micro-epsilons, rounded down. Raises ValueError unless > 0 and finite."""
    return _micro(name, epsilon, ROUND_FLOOR)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What one device may spend over all use cases and rounds, in its lifetime and in one day: micro-epsilons.

    Raises ValueError unless 1 <= daily <= lifetime <= 2^60.
    """

    lifetime: int
    daily: int

    def __post_init__(self) -> None:
        check_whole("lifetime", self.lifetime, 1, LARGEST_BUDGET)
        check_whole("daily", self.daily, 1, LARGEST_BUDGET)
        if self.daily > self.lifetime:
            raise ValueError(f"daily is {self.daily}; expected at most the lifetime cap, {self.lifetime}")

    @classmethod
    def of(cls, *, lifetime: float, daily: float) -> Budget:
        """The same from epsilons, rounded down."""
        return cls(lifetime=micro_budget(lifetime, "lifetime"), daily=micro_budget(daily, "daily"))

    @property
    def in_words(self) -> str:
        """In epsilons: 'caps.lifetime=64 caps.daily=8', as a configuration has them; null for no cap."""
        lifetime, daily = (
            f"{cap / MICRO:g}" if cap < LARGEST_BUDGET else "null" for cap in (self.lifetime, self.daily)
        )
        return f"caps.lifetime={lifetime} caps.daily={daily}"

    def check_plan(self, cost: int, *, reports_per_day: int, reports: int) -> None:
        """Raise ValueError, before any work, if one device could not send what the plan asks of it.

        `cost` in micro-epsilons a report; `reports_per_day` and `reports` (in all) from the same device.
        """
        for name, value in (("cost", cost), ("reports_per_day", reports_per_day), ("reports", reports)):
            check_whole(name, value, 1, LARGEST_BUDGET)
        for cap, n, name in ((self.daily, reports_per_day, "daily"), (self.lifetime, reports, "lifetime")):
            if cost * n > cap:
                raise ValueError(
                    f"the plan takes {n} x {cost} = {cost * n} micro-epsilons from one device, but the {name} cap is "
                    f"{cap}; lower epsilon or the number of reports, or raise the cap"
                )


@dataclass(frozen=True, kw_only=True)
class Token:
    """Names one debit of a device: the same token never debits a device twice.

    `day` counts days on the caller's clock (the ledger reads none): a wrong clock moves debits between days, and never
    past the lifetime cap. A run that is resumed after midnight keeps the day it started with.

    Raises ValueError unless use_case is a name and round and day are whole numbers >= 0.
    """

    use_case: str
    round: int
    day: int

    def __post_init__(self) -> None:
        if not isinstance(self.use_case, str) or not self.use_case:
            raise ValueError(f"use_case is {self.use_case!r}; expected a name")
        check_whole("round", self.round, 0, LARGEST_NUMBER)
        check_whole("day", self.day, 0, LARGEST_NUMBER)


class LedgerError(RuntimeError):
    """The ledger's state forbids what was asked; nothing was changed."""


class DebitState(IntEnum):
    """Where a device's debit stands. NONE -> RESERVED -> SENT or REFUNDED; the last two are final."""

    NONE = 0
    RESERVED = 1
    SENT = 2
    REFUNDED = 3


def check_devices(devices: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """The devices as int64[n]. Raises TypeError for other dtypes and ValueError outside 0 .. limit - 1."""
    devices = np.asarray(devices)
    if devices.ndim != 1:
        raise ValueError(f"devices have {devices.ndim} axes; expected one (a number per device)")
    if devices.size == 0:
        return np.zeros(0, dtype=np.int64)
    if not np.issubdtype(devices.dtype, np.integer):
        raise TypeError(f"devices have dtype {devices.dtype}; expected integers 0 .. {limit - 1}")
    low, high = int(devices.min()), int(devices.max())
    if low < 0 or high >= limit:
        raise ValueError(f"devices reach from {low} to {high}; expected 0 .. {limit - 1}")
    return devices.astype(np.int64, copy=False)
