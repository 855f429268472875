"""The device stream is AES-256 in counter mode, repeatable, and never hands the same bits to two purposes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from privacy.randomness import PIECE, DeviceStream, Stage, device_stream, random_words
from tests.privacy.contract import stream


def test_stream_is_aes_256_in_counter_mode_and_repeatable():
    # NIST SP 800-38A defines the counter blocks; the first key-stream block is AES(key, 0). FIPS-197 C.3 has the key
    # 00..1f; its encryption of sixteen zero bytes was computed with the ECB mode of the same standard.
    key = bytes(range(32))
    block = Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(bytes(16))
    assert DeviceStream(key, simulated=True).bytes(16) == block
    assert stream().bytes(100) == stream().bytes(100) != stream(1).bytes(100)
    one = stream()
    assert one.bytes(7) + one.bytes(0) + one.bytes(93) == stream().bytes(100)
    assert DeviceStream.from_system().bytes(32) != DeviceStream.from_system().bytes(32)
    assert not DeviceStream.from_system().simulated
    with pytest.raises(ValueError, match="16 bytes"):
        DeviceStream(bytes(16), simulated=True)


def test_each_of_seed_round_stage_and_chunk_makes_another_stream():
    places = list(itertools.product((0, 1, 11), (0, 1, 11), (Stage.PRIVATIZE, Stage.SHUFFLE), (0, 1, 11)))
    firsts = {
        DeviceStream.simulation(seed=seed, round=round_, stage=stage, chunk=chunk).bytes(16)
        for seed, round_, stage, chunk in places
    }
    assert len(firsts) == len(places) == 54
    assert DeviceStream.simulation(seed=0, round=0, stage=Stage.PRIVATIZE, chunk=0).simulated


@pytest.mark.parametrize("n", [0, 1, 3, PIECE // 8 - 1, PIECE // 8, PIECE // 8 + 1, PIECE + 5])
def test_words_are_the_bytes_in_little_endian_order_across_pieces(n):
    expected = np.frombuffer(stream().bytes(8 * n), "<u8")
    assert np.array_equal(random_words(stream(), n), expected)
    out = np.zeros((2, n), dtype=np.uint64)
    rng = stream()
    rng.fill(out)
    assert np.array_equal(out[0], expected)
    assert out.tobytes() == stream().bytes(16 * n)
    assert rng.bytes(8) == stream().bytes(16 * n + 8)[16 * n :]


def test_words_of_a_numpy_generator_are_its_own_bytes():
    expected = np.frombuffer(np.random.default_rng(0).bytes(24), "<u8")
    assert np.array_equal(random_words(np.random.default_rng(0), 3), expected)


def test_the_companion_is_another_stream_that_neither_disturbs_nor_reveals_the_first():
    main = stream()
    companion = main.companion
    assert companion is main.companion
    assert companion.simulated
    assert not DeviceStream.from_system().companion.simulated
    drawn = companion.bytes(64)
    assert main.bytes(64) == stream().bytes(64) != drawn
    assert drawn == stream().companion.bytes(64) != stream(1).companion.bytes(64)
    assert companion.companion.bytes(64) not in (drawn, stream().bytes(64))


def test_the_bits_of_a_seed_never_change():
    """Runs of earlier versions can be repeated; whoever changes this on purpose says so in the release notes."""
    assert stream().bytes(8).hex() == "6b2ff00d3cc77f8a"
    assert stream().companion.bytes(8).hex() == "5afd3e93ea3209d9"


def test_a_generator_keys_a_stream_that_counts_as_simulated():
    own = stream()
    assert device_stream(own) is own
    keyed = device_stream(np.random.default_rng(4))
    assert keyed.simulated
    assert keyed.bytes(50) == DeviceStream(np.random.default_rng(4).bytes(32), simulated=True).bytes(50)
    generator = np.random.default_rng(4)
    assert device_stream(generator).bytes(50) != device_stream(generator).bytes(50)
