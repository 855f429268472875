"""Which mechanism for how many devices, values and epsilon: all of them, predicted and ranked, before anything is sent.

for row in recommend(epsilon=4.0, domain_size=3000, reports=100_000):
    print(row.name, row.stderr, row.upload_bits, row.server_operations)
best = recommend(epsilon=4.0, domain_size=3000, reports=100_000)[0].mechanism     # ready to use
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from privacy.catalogue import ORACLES
from privacy.mechanism import Mechanism
from privacy.thresholds import check_domain, check_epsilon

LARGEST_DOMAIN = 1 << 31
SAME_ERROR = 1.05
"""Standard errors within 5% of the best of their group count as equal: as much as 10% more devices would bring."""


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """One mechanism and what it is predicted to cost.

    `stderr`: standard error of the estimated count of a value that nearly nobody holds, in devices, the others being
    spread evenly over the domain; exact for that population, hash collisions of sketches included. `upload_bits`: bits
    on the wire of one report. `server_operations`: elementary steps (a counter increased, a byte or cell added) to
    tally all reports and estimate every value once; good to a small factor, for ranking. `tally_bytes`: memory of the
    server's tally. `hashed`: the mechanism takes 64-bit hashes of arbitrary values (privacy.hashing.hash_strings)
    instead of 0 .. d - 1, and its size does not depend on the domain.
    """

    name: str
    mechanism: Mechanism
    stderr: float
    upload_bits: int
    server_operations: float
    tally_bytes: int
    hashed: bool


def recommend(epsilon: float, domain_size: int, reports: int) -> tuple[Recommendation, ...]:
    """Every frequency oracle that supports the domain, best first.

    Ranked by predicted standard error, those within 5% of the best of their group counting as equal; equals by upload
    bits, then by server operations. `epsilon`: budget of one report. `domain_size`: number of values. `reports`: how
    many devices answer. Sketches are made with Apple's sizes (CMS 65,536 x 1,024, HCMS 1,024 x 32,768) and
    `hash_seed` 0; choose another seed, or other sizes, with `dataclasses.replace`. Discovery of unknown words is not a
    frequency oracle (see SequenceFragmentPuzzle).

    Raises ValueError if epsilon is outside (0, 12] (or too small for a mechanism to say anything), domain_size outside
    2 .. 2^31 or reports below 1.
    """
    check_epsilon(epsilon)
    check_domain(domain_size, LARGEST_DOMAIN, "recommend")
    if isinstance(reports, bool) or not isinstance(reports, int | np.integer) or reports < 1:
        raise ValueError(f"reports is {reports!r}; expected a whole number >= 1 (devices that answer)")
    n, d = int(reports), int(domain_size)
    rows = [_predict(kind, float(epsilon), d, n) for kind in ORACLES if d <= kind.largest_domain]
    rows.sort(key=lambda row: row.stderr)
    best, group, keys = rows[0].stderr, 0, {}
    for row in rows:
        if row.stderr > SAME_ERROR * best:
            best, group = row.stderr, group + 1
        keys[row.name] = (group, row.upload_bits, row.server_operations)
    return tuple(sorted(rows, key=lambda row: keys[row.name]))


def _predict(kind: type[Mechanism], epsilon: float, d: int, n: int) -> Recommendation:
    mechanism = kind.for_domain(epsilon, d)
    return Recommendation(
        name=kind.name,
        mechanism=mechanism,
        stderr=float(mechanism.predicted_error(n, d)),
        upload_bits=int(mechanism.report_bits),
        server_operations=float(mechanism.server_operations(n, d)),
        tally_bytes=8 * mechanism.tally_cells,
        hashed=kind.hashed,
    )
