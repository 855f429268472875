"""What a server can check of one report: how many bits of a noisy one-hot vector an honest device sets.

    low, high = set_bit_bounds(1000, own=0.5, other=0.018)      # 0 and 50: an honest report is outside once in 1e9
    refusal_probability(1000, 0.5, 0.018, low, high)            # exactly how often, at most FALSE_REFUSAL

In local differential privacy every value can send every report of the support, so no check of one report tells a liar
for certain: the bounds refuse what an honest device sends so rarely that nobody will see it. A liar that knows them
stays inside and keeps what `Mechanism.largest_gain` says (Cao, Jia, Gong 2021, 'Data poisoning attacks to local
differential privacy protocols'; Cheu, Smith, Ullman 2021, 'Manipulation attacks in local differential privacy').

Refusing happens on the server and looks at one report alone, so it is post-processing: epsilon stays what it was, and
behind a shuffler the reports that stay are counted, which are fewer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from privacy.binomial import MARGIN, binomial_cdf

FALSE_REFUSAL = 1e-9
"""The largest probability with which an honest report, whatever its value, is refused: of 10^8 honest devices 0.1 are
expected to be. The bias of a count is at most n FALSE_REFUSAL `Mechanism.largest_influence`, at 10^8 reports the tenth
part of what one report can do, and far below the noise, which grows with sqrt(n)."""


@lru_cache(maxsize=256)
def set_bit_bounds(width: int, own: float, other: float, rate: float = FALSE_REFUSAL) -> tuple[int, int]:
    """(low, high): an honest vector has fewer than `low` or more than `high` bits set with probability <= `rate`.

    `width` independent bits, one of which is 1 with probability `own`, all others with `other`. Each side has at most
    half of the rate, and the bounds are the tightest of that kind; 0 and `width` where the vectors are too short to
    tell. From the exact law, with the error of its evaluation (`MARGIN`) taken off.
    """
    side = rate / 2 * (1 - MARGIN)
    low = _smallest(width, lambda k: _at_most(k, width, own, other) > side)
    # The zeros have the same law with the complements.
    zeros = _smallest(width, lambda k: _at_most(k, width, 1 - own, 1 - other) > side)
    return low, width - zeros


def refusal_probability(width: int, own: float, other: float, low: int, high: int) -> float:
    """Pr[fewer than `low` or more than `high` bits set] of an honest vector, as of `set_bit_bounds`."""
    below = _at_most(low - 1, width, own, other)
    return below + _at_most(width - high - 1, width, 1 - own, 1 - other)


def _at_most(k: int, width: int, own: float, other: float) -> float:
    """Pr[at most k bits set]: the own bit is one of them, or not."""
    others = binomial_cdf(np.array([k - 1.0, float(k)]), np.full(2, width - 1.0), other)
    return float(own * others[0] + (1 - own) * others[1])


def _smallest(most: int, holds: Callable[[int], bool]) -> int:
    """The smallest k in 0 .. most for which a condition holds that stays true from there on."""
    low, high = 0, most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
