"""Which mechanism for how many devices, values and epsilon: all of them, predicted and ranked, before anything is sent.

for row in recommend(epsilon=4.0, domain_size=3000, reports=100_000):
    print(row.name, row.stderr, row.upload_bits, row.server_operations)
best = recommend(epsilon=4.0, domain_size=3000, reports=100_000)[0].mechanism     # ready to use
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

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


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """How a mechanism is made and what its server does. `operations(m, n, d)`; `cells(m)` of the tally, int64 each."""

    home: str
    kind: str
    operations: Callable[[Any, int, int], float]
    cells: Callable[[Any], int] = lambda m: int(m.domain_size)
    sketch: tuple[int, int] | None = None  # (rows, columns)


_ENTRIES = (
    _Entry(home="binary_randomized_response", kind="BinaryRandomizedResponse", operations=lambda m, n, d: n + d),
    _Entry(home="randomized_response", kind="RandomizedResponse", operations=lambda m, n, d: n + d),
    # Bits are counted a byte at a time.
    _Entry(home="unary_encoding", kind="SymmetricUnaryEncoding", operations=lambda m, n, d: n * d / 8 + d),
    _Entry(home="unary_encoding", kind="OptimizedUnaryEncoding", operations=lambda m, n, d: n * d / 8 + d),
    # Every report supports about d / g values.
    _Entry(home="local_hashing", kind="LocalHashing", operations=lambda m, n, d: n * d / m.hashes + d),
    _Entry(home="subset_selection", kind="SubsetSelection", operations=lambda m, n, d: n * m.subset_size + d),
    # A transform of every block.
    _Entry(
        home="hadamard_response",
        kind="HadamardResponse",
        operations=lambda m, n, d: n + m.points * math.log2(m.shape[1]) + d,
        cells=lambda m: int(m.points),
    ),
    # q additions a coordinate and value.
    _Entry(
        home="projective_geometry",
        kind="ProjectiveGeometryResponse",
        operations=lambda m, n, d: n + m.points + d * m.shape[0] * (m.shape[1] - 2) + d,
        cells=lambda m: int(m.points),
    ),
    # Sketches of Apple's sizes; estimating a value hashes it once a row.
    _Entry(
        home="count_mean_sketch",
        kind="CountMeanSketch",
        operations=lambda m, n, d: n * m.columns / 8 + d * m.rows,
        cells=lambda m: int(m.rows * m.columns),
        sketch=(65_536, 1024),
    ),
    _Entry(
        home="hadamard_sketch",
        kind="HadamardCountMeanSketch",
        operations=lambda m, n, d: n + m.rows * m.columns * math.log2(m.columns) + d * m.rows,
        cells=lambda m: int(m.rows * m.columns),
        sketch=(1024, 32_768),
    ),
)


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
    rows = [row for entry in _ENTRIES if (row := _predict(entry, float(epsilon), d, n)) is not None]
    rows.sort(key=lambda row: row.stderr)
    best, group, keys = rows[0].stderr, 0, {}
    for row in rows:
        if row.stderr > SAME_ERROR * best:
            best, group = row.stderr, group + 1
        keys[row.name] = (group, row.upload_bits, row.server_operations)
    return tuple(sorted(rows, key=lambda row: keys[row.name]))


def _predict(entry: _Entry, epsilon: float, d: int, n: int) -> Recommendation | None:
    kind: Any = getattr(importlib.import_module(f"privacy.{entry.home}"), entry.kind)
    if d > kind.largest_domain:
        return None
    if entry.sketch is None:
        mechanism = kind(epsilon=epsilon, domain_size=d)
        stderr = mechanism.standard_error(n)
    else:
        rows, columns = entry.sketch
        mechanism = kind(epsilon=epsilon, rows=rows, columns=columns, hash_seed=0)
        stderr = mechanism.standard_error(n, second_moment=max(n, n * n / d))
    return Recommendation(
        name=kind.name,
        mechanism=mechanism,
        stderr=float(stderr),
        upload_bits=int(mechanism.report_bits),
        server_operations=float(entry.operations(mechanism, n, d)),
        tally_bytes=8 * entry.cells(mechanism),
        hashed=entry.sketch is not None,
    )
