"""Every mechanism of this package, in one list: a new one is imported and named here, and nowhere else.

    from privacy.catalogue import ORACLES

    [kind.name for kind in ORACLES if kind.largest_domain >= 3000]

What there is to know of a mechanism, its class says itself (privacy.mechanism.Mechanism). Loading this file loads them
all; `import privacy` does not.
"""

from __future__ import annotations

from privacy.binary_randomized_response import BinaryRandomizedResponse
from privacy.count_mean_sketch import CountMeanSketch
from privacy.distributed_unary import DistributedUnaryEncoding
from privacy.fragment_puzzle import SequenceFragmentPuzzle
from privacy.hadamard_response import HadamardResponse
from privacy.hadamard_sketch import HadamardCountMeanSketch
from privacy.local_hashing import LocalHashing
from privacy.mechanism import Mechanism
from privacy.no_privacy import NoPrivacy
from privacy.projective_geometry import ProjectiveGeometryResponse
from privacy.randomized_response import RandomizedResponse
from privacy.subset_selection import SubsetSelection
from privacy.unary_encoding import OptimizedUnaryEncoding, SymmetricUnaryEncoding

ORACLES: tuple[type[Mechanism], ...] = (
    BinaryRandomizedResponse,
    RandomizedResponse,
    SymmetricUnaryEncoding,
    OptimizedUnaryEncoding,
    LocalHashing,
    SubsetSelection,
    HadamardResponse,
    ProjectiveGeometryResponse,
    CountMeanSketch,
    HadamardCountMeanSketch,
)
"""Those that count known values under local privacy: what `recommend` ranks, made by `for_domain`."""

MECHANISMS: tuple[type[Mechanism], ...] = (
    *ORACLES,
    SequenceFragmentPuzzle,  # finds words that are on no list
    DistributedUnaryEncoding,  # private in sum only
    NoPrivacy,
)
"""All."""
