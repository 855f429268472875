"""Mechanisms under contract: randomized response, unary encodings, local hashing."""

from __future__ import annotations

from typing import Any

import numpy as np

from privacy.binary_randomized_response import BinaryRandomizedResponse
from privacy.local_hashing import LocalHashing
from privacy.mechanism import Reports
from privacy.randomized_response import RandomizedResponse
from privacy.unary_encoding import OptimizedUnaryEncoding, SymmetricUnaryEncoding
from tests.privacy.contract import Case


def reported_symbol(mechanism: Any, reports: Reports) -> np.ndarray:
    return reports.astype(np.int64)


def symbol_is(mechanism: Any, reports: Reports, index: int) -> np.ndarray:
    return reports == index


def bits_as_number(mechanism: Any, reports: Reports) -> np.ndarray:
    """The channel's column of a small unary report."""
    return np.unpackbits(reports, axis=1, bitorder="little").astype(np.int64) @ (1 << np.arange(8 * reports.shape[1]))


def bit_is_set(mechanism: Any, reports: Reports, index: int) -> np.ndarray:
    return (reports[:, index >> 3] >> (index & 7)) & 1 == 1


def seed_and_hash(mechanism: LocalHashing, reports: Reports) -> np.ndarray:
    a, b = (reports["seed"] >> 32).astype(np.int64), (reports["seed"] & 0xFFFFFFFF).astype(np.int64)
    return ((a - 1) * mechanism.prime + b) * mechanism.hashes + reports["hash"]


def hash_is(mechanism: LocalHashing, reports: Reports, index: int) -> np.ndarray:
    """Whether a report supports the value, from the definition of the family and by way of no kernel."""
    prime = mechanism.prime
    inverse = np.array([pow(int(a), -1, prime) for a in reports["seed"] >> 32], dtype=np.int64)
    z = (index - (reports["seed"] & 0xFFFFFFFF).astype(np.int64)) * inverse % prime
    return z * mechanism.hashes // prime == reports["hash"]


CASES = [
    Case(
        name="binary_randomized_response",
        make=lambda epsilon, d, family: BinaryRandomizedResponse(epsilon=epsilon, domain_size=d),
        column=reported_symbol,
        supports=symbol_is,
        channel_domains=(2,),
        polls=((0.1, 2), (1.0, 2), (4.0, 2)),
        awkward=(2,),
        simulated=2,
        large_domain=2,
    ),
    Case(
        name="randomized_response",
        make=lambda epsilon, d, family: RandomizedResponse(epsilon=epsilon, domain_size=d),
        column=reported_symbol,
        supports=symbol_is,
        channel_domains=(2, 3, 5, 17, 64),
        audit_floor=2.4,  # its reports of one given value are rare
    ),
    *(
        Case(
            name=kind.name,
            make=lambda epsilon, d, family, kind=kind: kind(epsilon=epsilon, domain_size=d),
            column=bits_as_number,
            supports=bit_is_set,
        )
        for kind in (OptimizedUnaryEncoding, SymmetricUnaryEncoding)
    ),
    Case(
        name="local_hashing",
        make=lambda epsilon, d, family: LocalHashing(epsilon=epsilon, domain_size=d),
        column=seed_and_hash,
        supports=hash_is,
    ),
]
