"""Local differential privacy: both halves of every mechanism, loaded when first asked for.

from privacy import DeviceStream, OptimizedUnaryEncoding

mechanism = OptimizedUnaryEncoding(epsilon=4.0, domain_size=301)
reports = mechanism.privatize(values, DeviceStream.from_system())   # on the devices
estimate = mechanism.estimate(mechanism.tally(reports))             # on the server
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from privacy.binary_randomized_response import BinaryRandomizedResponse
    from privacy.budget import Budget
    from privacy.central_noise import AggregatorNoise, GaussianBaseline
    from privacy.count_mean_sketch import CountMeanSketch
    from privacy.distributed_unary import DistributedUnaryEncoding
    from privacy.fragment_puzzle import SequenceFragmentPuzzle
    from privacy.hadamard_response import HadamardResponse
    from privacy.hadamard_sketch import HadamardCountMeanSketch
    from privacy.ledger_stores import SimulatedLedger, SQLiteLedger
    from privacy.local_hashing import LocalHashing
    from privacy.mechanism import Estimate, Mechanism, Tally
    from privacy.no_privacy import NoPrivacy
    from privacy.poll import ReportBatch
    from privacy.projective_geometry import ProjectiveGeometryResponse
    from privacy.randomized_response import RandomizedResponse
    from privacy.randomness import DeviceStream
    from privacy.recommendation import Recommendation, recommend
    from privacy.subset_selection import SubsetSelection
    from privacy.unary_encoding import OptimizedUnaryEncoding, SymmetricUnaryEncoding

__all__ = [
    "AggregatorNoise",
    "BinaryRandomizedResponse",
    "Budget",
    "CountMeanSketch",
    "DeviceStream",
    "DistributedUnaryEncoding",
    "Estimate",
    "GaussianBaseline",
    "HadamardCountMeanSketch",
    "HadamardResponse",
    "LocalHashing",
    "Mechanism",
    "NoPrivacy",
    "OptimizedUnaryEncoding",
    "ProjectiveGeometryResponse",
    "RandomizedResponse",
    "Recommendation",
    "ReportBatch",
    "SQLiteLedger",
    "SequenceFragmentPuzzle",
    "SimulatedLedger",
    "SubsetSelection",
    "SymmetricUnaryEncoding",
    "Tally",
    "recommend",
]

# Where each name lives. Loading them all would load numba and scipy for whoever needs only one.
_HOMES = {
    "AggregatorNoise": "privacy.central_noise",
    "BinaryRandomizedResponse": "privacy.binary_randomized_response",
    "Budget": "privacy.budget",
    "CountMeanSketch": "privacy.count_mean_sketch",
    "DeviceStream": "privacy.randomness",
    "DistributedUnaryEncoding": "privacy.distributed_unary",
    "Estimate": "privacy.mechanism",
    "GaussianBaseline": "privacy.central_noise",
    "HadamardCountMeanSketch": "privacy.hadamard_sketch",
    "HadamardResponse": "privacy.hadamard_response",
    "LocalHashing": "privacy.local_hashing",
    "Mechanism": "privacy.mechanism",
    "NoPrivacy": "privacy.no_privacy",
    "OptimizedUnaryEncoding": "privacy.unary_encoding",
    "ProjectiveGeometryResponse": "privacy.projective_geometry",
    "RandomizedResponse": "privacy.randomized_response",
    "Recommendation": "privacy.recommendation",
    "ReportBatch": "privacy.poll",
    "SQLiteLedger": "privacy.ledger_stores",
    "SequenceFragmentPuzzle": "privacy.fragment_puzzle",
    "SimulatedLedger": "privacy.ledger_stores",
    "SubsetSelection": "privacy.subset_selection",
    "SymmetricUnaryEncoding": "privacy.unary_encoding",
    "Tally": "privacy.mechanism",
    "recommend": "privacy.recommendation",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'privacy' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
