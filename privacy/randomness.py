"""Where every random number comes from.

Devices draw from a cryptographic stream: AES-256 in counter mode (NIST SP 800-38A), keyed by the operating system, or,
in a simulation, from (seed, round, stage, chunk), so that a run can be repeated bit by bit. Everything that is not
privacy noise (cohorts, selection, generation) draws from numpy generators derived from the same coordinates.

    rng = DeviceStream.simulation(seed=0, round=2, stage=Stage.PRIVATIZE, chunk=7)
    words = random_words(rng, 1000)      # uint64[1000]

A stream is consumed in report order and by fixed amounts a report, so that cutting the devices into chunks changes no
bit. What a report needs by chance is drawn from the stream's `companion`, also in report order.
"""

from __future__ import annotations

import hashlib
import os
import sys
from enum import IntEnum
from functools import cached_property
from typing import Protocol

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray


class Stage(IntEnum):
    """What a stream is used for. The numbers are part of the reproducibility contract: never renumber."""

    POPULATION = 0
    COHORTS = 1
    SAMPLE_ITEMS = 2
    PRIVATIZE = 3
    SHUFFLE = 4
    SELECT = 5
    SEED_CORPUS = 6
    VARY = 7
    EVALUATE = 8
    EXPORT = 9
    EVENTS = 10
    PICK = 11
    OPT_IN = 12
    ACTIVITY = 13
    SHARE = 14


class RandomBytes(Protocol):
    """Anything with `bytes(n)`: a DeviceStream or a numpy Generator."""

    def bytes(self, length: int, /) -> bytes:
        """The next `length` random bytes."""


PIECE = 1 << 18
"""Bytes encrypted in one go: enough that the call costs nothing, few enough to stay in the second-level cache."""

_ZEROS = memoryview(bytes(PIECE))


class DeviceStream:
    """AES-256-CTR key stream. Not to be shared by threads: give every worker its own.

    `simulated` tells whether the key came from a seed (repeatable, for simulations only) or from the operating system.
    """

    def __init__(self, key: bytes, *, simulated: bool) -> None:
        if len(key) != 32:
            raise ValueError(f"key has {len(key)} bytes; AES-256 needs 32")
        self.simulated = simulated
        # A zero nonce is safe because every key is used for one stream only.
        self._encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
        # One-way, so that neither stream tells the other's key.
        self._companion_key = hashlib.sha256(b"synthpoll:companion:" + key).digest()

    @classmethod
    def from_system(cls) -> DeviceStream:
        """A fresh stream keyed with 256 bits from the operating system."""
        return cls(os.urandom(32), simulated=False)

    @classmethod
    def simulation(cls, *, seed: int, round: int, stage: Stage, chunk: int) -> DeviceStream:
        """The repeatable stream at these coordinates."""
        label = f"synthpoll:{seed}:{round}:{int(stage)}:{chunk}"
        return cls(hashlib.sha256(label.encode()).digest(), simulated=True)

    @cached_property
    def companion(self) -> DeviceStream:
        """A second stream, independent of this one, for draws whose number depends on chance."""
        return DeviceStream(self._companion_key, simulated=self.simulated)

    def bytes(self, length: int, /) -> bytes:
        """The next `length` bytes of the key stream."""
        out = bytearray(length)
        self._fill(memoryview(out))
        return bytes(out)

    def fill(self, out: NDArray[np.uint64]) -> None:
        """Overwrite a contiguous array with the next words of the key stream: the same as `bytes`, without a copy."""
        if out.size:
            self._fill(out.data.cast("B"))
            if sys.byteorder == "big":
                out.byteswap(inplace=True)

    def _fill(self, out: memoryview) -> None:
        for start in range(0, len(out), PIECE):
            piece = out[start : start + PIECE]
            self._encryptor.update_into(_ZEROS[: len(piece)], piece)


def device_stream(rng: RandomBytes) -> DeviceStream:
    """The stream itself, or, for a numpy Generator, a stream keyed with the generator's next 32 bytes.

    A numpy Generator is no cryptographic source: the stream counts as simulated. Reports drawn from a Generator in
    several calls differ from those of one call (each call takes a new key); those drawn from a DeviceStream do not.
    """
    return rng if isinstance(rng, DeviceStream) else DeviceStream(rng.bytes(32), simulated=True)


def seed_sequence(seed: int, round: int, stage: Stage) -> np.random.SeedSequence:
    """The root of all non-private randomness at (seed, round, stage); chunks extend its spawn_key."""
    if seed < 0:
        raise ValueError(f"seed is {seed}; expected a whole number >= 0")
    return np.random.SeedSequence(entropy=seed, spawn_key=(round, int(stage)))


def generator(seed: int, round: int, stage: Stage) -> np.random.Generator:
    """A numpy generator at (seed, round, stage)."""
    return np.random.default_rng(seed_sequence(seed, round, stage))


def random_words(rng: RandomBytes, n: int) -> NDArray[np.uint64]:
    """uint64[n], uniform; little-endian on every machine."""
    if isinstance(rng, DeviceStream):
        words = np.empty(n, dtype=np.uint64)
        rng.fill(words)
        return words
    return np.frombuffer(rng.bytes(8 * n), dtype="<u8").astype(np.uint64, copy=False)
