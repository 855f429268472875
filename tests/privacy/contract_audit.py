"""Large domains: a lower bound on epsilon from real reports. See contract.py.

Written apart from privacy/audit.py, and from its confidence limits, so that one checks the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.stats import beta

from privacy.mechanism import Reports
from privacy.randomness import DeviceStream
from tests.privacy.contract import stream


def clopper_pearson(hits: int, trials: int, risk: float) -> tuple[float, float]:
    """Bounds on a probability, each wrong with probability at most `risk`. Clopper and Pearson 1934."""
    low = 0.0 if hits == 0 else float(beta.ppf(risk, hits, trials - hits + 1))
    high = 1.0 if hits == trials else float(beta.ppf(1 - risk, hits + 1, trials - hits))
    return low, high


def audited_epsilon(first: np.ndarray, second: np.ndarray, risk: float = 1e-9) -> float:
    """A lower bound on epsilon, wrong with probability at most `risk`, from events seen in reports of two values.

    `first` and `second`: bool[n, events], which events each report of the one and of the other value fulfils (same n).
    The best event and direction is chosen on the first half of the reports and bounded on the second.
    """
    half = len(first) // 2
    seen = [x[:half].sum(axis=0) for x in (first, second)]
    # The best event is the one with the best bound, not the largest ratio: rare events bound nothing.
    bounds = [
        math.log(max(clopper_pearson(int(a[e]), half, risk)[0], 1e-300) / clopper_pearson(int(b[e]), half, risk)[1])
        for a, b in (seen, seen[::-1])
        for e in range(first.shape[1])
    ]
    swapped, event = divmod(int(np.argmax(bounds)), first.shape[1])
    a, b = ((second, first) if swapped else (first, second))[0:2]
    rest = len(first) - half
    low = clopper_pearson(int(a[half:, event].sum()), rest, risk / 2)[0]
    high = clopper_pearson(int(b[half:, event].sum()), rest, risk / 2)[1]
    return math.log(low / high) if low > 0 else -math.inf


def support_events(supports: Callable[[Reports, int], np.ndarray], reports: Reports, x: int, y: int) -> np.ndarray:
    """bool[n, 8]: for the two values, which of them a report supports: each, neither, both, one only."""
    a, b = (np.asarray(supports(reports, value), dtype=bool) for value in (x, y))
    return np.stack([a, b, ~a, ~b, a & b, a & ~b, b & ~a, ~a & ~b], axis=1)


def audit(
    privatize: Callable[[np.ndarray, DeviceStream], Reports],
    supports: Callable[[Reports, int], np.ndarray],
    x: int,
    y: int,
    n: int = 200_000,
) -> float:
    """A lower bound on the epsilon of a randomizer, from n reports of the value x and n of the value y."""
    samples = [privatize(np.full(n, value), stream(i, seed=23)) for i, value in enumerate((x, y))]
    first, second = (support_events(supports, reports, x, y) for reports in samples)
    return audited_epsilon(first, second)
