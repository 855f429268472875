"""Where every random number comes from.

Privacy noise is drawn from cryptographic streams: AES-256 in counter mode (NIST SP 800-38A). Their keys come from one
secret of the devices' side, a `NoiseSource`: of the operating system, or, in a simulation that is labelled so, of a
seed. Everything that is not privacy noise (cohorts, selection, generation) draws from numpy generators derived from
(seed, round, stage, chunk), which anybody may know.

    noise = NoiseSource.system()                                 # or NoiseSource.seeded(0)
    rng = noise.of("mail", slate_digest, values).stream(Stage.PRIVATIZE, round=2, chunk=7)
    words = random_words(rng, 1000)      # uint64[1000]

A stream is consumed in report order and by fixed amounts a report, so that cutting the devices into chunks changes no
bit. What a report needs by chance is drawn from the stream's `companion`, also in report order.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import sys
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import Any, Protocol, Self

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
    CHOOSE = 15


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


@dataclass(frozen=True, eq=False)
class NoiseSource:
    """The secret that all privacy noise of a run is derived from. It belongs to the devices' side.

    No noise is used twice: `of` binds a source to everything that the reports depend on (what is asked, of whom, what
    they answer), so two polls that differ in anything have independent noise, and a poll that is played again has the
    same bits. Derivation is HMAC-SHA-256, a pseudorandom function (RFC 2104; Bellare 2006): without the secret no
    stream can be told from random bytes, whatever is known of the others.

    `simulated`: the secret is a seed, which anybody can guess: whoever does can take the noise off.
    """

    secret: bytes = field(repr=False)
    simulated: bool

    def __post_init__(self) -> None:
        if len(self.secret) != 32:
            raise ValueError(f"the secret has {len(self.secret)} bytes; expected 32")

    @classmethod
    def system(cls) -> NoiseSource:
        """A fresh secret of 256 bits from the operating system."""
        return cls(os.urandom(32), simulated=False)

    @classmethod
    def seeded(cls, seed: int) -> NoiseSource:
        """The same for the same seed: for simulations that are labelled so."""
        return cls(hashlib.sha256(f"synthpoll:noise:{seed}".encode()).digest(), simulated=True)

    @property
    def fingerprint(self) -> str:
        """Names the secret, 16 hex digits, without giving it away."""
        return self._derived(b"fingerprint").hex()[:16]

    def of(self, *told: str | int | NDArray[Any]) -> Self:
        """The source of all noise that depends on these: names, digests, numbers, arrays (by their contents)."""
        return type(self)(self._derived(b"of", *told), self.simulated)

    def stream(self, stage: Stage, *, round: int, chunk: int = 0) -> DeviceStream:
        """The stream at this place."""
        return DeviceStream(self._derived(b"stream", int(stage), round, chunk), simulated=self.simulated)

    def generator(self, stage: Stage, *, round: int, chunk: int = 0) -> np.random.Generator:
        """A numpy generator at this place, for draws that no device makes: a shuffler's order, a tally's exact law."""
        key = self._derived(b"generator", int(stage), round, chunk)
        return np.random.default_rng(np.frombuffer(key, dtype="<u4"))

    def _derived(self, purpose: bytes, *told: str | int | NDArray[Any]) -> bytes:
        digest = hmac.new(self.secret, b"synthpoll:" + purpose, hashlib.sha256)
        for each in told:
            # With kind and length in front of each, no two lists read alike.
            if isinstance(each, np.ndarray):
                whole = np.ascontiguousarray(each)
                digest.update(f"|array {whole.dtype.str} {whole.shape}:".encode())
                digest.update(whole.data.cast("B") if whole.size else b"")
            else:
                text = str(each).encode()
                digest.update(f"|{'text' if isinstance(each, str) else 'number'} {len(text)}:".encode() + text)
        return digest.digest()


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
