"""The unary encodings: the kernel compares whole 64-bit words, and the server counts every bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.kernels import PLANES, OwnBit, count_bits, noisy_one_hot
from privacy.thresholds import WORD
from privacy.unary_encoding import OptimizedUnaryEncoding, SymmetricUnaryEncoding
from tests.privacy.contract import stream
from tests.privacy.scripted import ScriptedStream

LOW = 64 - PLANES


def script(words: list[list[int]], threshold: int) -> ScriptedStream:
    """The stream that makes lane j of report i draw the 64-bit word words[i][j]: first bits from the stream, the rest,
    where the first bits equal those of the threshold, from its companion.
    """
    first, rest = [], []
    for row in words:
        groups = -(-len(row) // 64)
        planes = np.zeros((PLANES, groups), dtype=np.uint64)
        for lane, w in enumerate(row):
            for k in range(PLANES):
                planes[k, lane // 64] |= np.uint64((w >> (63 - k) & 1) << (lane % 64))
            if w >> LOW == threshold >> LOW:
                rest.append(w % (1 << LOW) << PLANES | 0b1)  # the last bits are not looked at
        first.append(planes)
    return ScriptedStream(np.array(first), [*rest, 0])


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    threshold=st.integers(1, WORD // 2) | st.sampled_from([1, WORD // 2, (1 << LOW) - 1, 1 << LOW, (1 << LOW) + 1]),
    width=st.sampled_from([2, 7, 8, 9, 63, 64, 65, 130]),
    own=st.sampled_from(OwnBit),
)
def test_every_bit_is_the_comparison_of_a_64_bit_word_with_the_threshold(data, threshold, width, own):
    """Not one unit in 2^64 off: words at, below and above the threshold are decided as w < T says."""
    near = st.integers(-3, 3).map(lambda x: min(max(threshold + x, 0), WORD - 1)) | st.integers(0, WORD - 1)
    rows = data.draw(st.lists(st.lists(near, min_size=width, max_size=width), min_size=1, max_size=3))
    values = np.array(data.draw(st.lists(st.integers(0, width - 1), min_size=len(rows), max_size=len(rows))))
    packed = noisy_one_hot(values, width, threshold, own, script(rows, threshold))
    bits = np.unpackbits(packed, axis=1, bitorder="little")
    expected = np.array([[w < threshold for w in row] for row in rows])
    for row, value, words in zip(expected, values, rows, strict=True):
        row[value] = words[value] < WORD // 2 if own is OwnBit.FAIR else not row[value]
    assert np.array_equal(bits[:, :width], expected)
    assert not bits[:, width:].any(), "padding"


@pytest.mark.parametrize("width", [5, 64, 200])
def test_undecided_lanes_do_not_depend_on_the_value(width):
    """What an observer of the companion could count is the same whatever the devices hold."""
    taken = []
    for value in (0, width - 1):
        rng, companion = stream(), stream(1)
        drawn: list[int] = []
        fill = companion.fill
        companion.fill = lambda out, fill=fill, drawn=drawn: (drawn.append(out.size), fill(out))  # type: ignore[method-assign]
        rng.__dict__["companion"] = companion
        noisy_one_hot(
            np.full(3000, value),
            width,
            OptimizedUnaryEncoding(epsilon=4.0, domain_size=width).thresholds[1],
            OwnBit.FAIR,
            rng,
        )
        taken.append(sum(drawn))
    assert taken[0] == taken[1]
    expected = 3000 * width / 2**PLANES
    assert abs(taken[0] - expected) < 5 * expected**0.5


@given(st.integers(0, 600), st.sampled_from([1, 2, 8, 9, 70]), st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_bits_are_counted(n, width, seed):
    """Across the blocks of 252 and 7 that the kernel counts in; all bits set is the worst for the counters."""
    rows = np.random.default_rng(seed).integers(0, 256, (n, -(-width // 8)), dtype=np.uint8)
    if seed == 0:
        rows[:] = 255
    rows[:, -1] &= (1 << (width - 1) % 8 + 1) - 1
    expected = np.unpackbits(rows, axis=1, bitorder="little", count=width).sum(axis=0, dtype=np.int64)
    assert np.array_equal(count_bits(rows, width), expected)
    wide = np.repeat(rows, 2, axis=0)[::2]  # not contiguous
    assert np.array_equal(count_bits(wide, width), expected)


@pytest.mark.parametrize("kind", [OptimizedUnaryEncoding, SymmetricUnaryEncoding])
def test_malformed_reports_are_refused(kind):
    mechanism = kind(epsilon=1.0, domain_size=5)
    with pytest.raises(ValueError, match="padding"):
        mechanism.tally(np.full((2, 1), 255, dtype=np.uint8))
    for reports in (np.zeros((2, 3), np.uint8), np.zeros((2, 1), np.int64), np.zeros(2, np.uint8)):
        with pytest.raises(ValueError, match=r"expected uint8\[n, 1\]"):
            mechanism.tally(reports)


def test_the_channel_of_a_large_domain_is_not_enumerated():
    with pytest.raises(ValueError, match=r"domain_size is 13; .* 2 to 12"):
        OptimizedUnaryEncoding(epsilon=1.0, domain_size=13).channel()


def test_variances_are_those_of_the_papers():
    for epsilon in (0.5, 2.0, 6.0):
        e, half = np.exp(epsilon), np.exp(epsilon / 2)
        oue = OptimizedUnaryEncoding(epsilon=epsilon, domain_size=9)
        assert oue.standard_error(1000) ** 2 == pytest.approx(4000 * e / (e - 1) ** 2)
        sue = SymmetricUnaryEncoding(epsilon=epsilon, domain_size=9)
        assert sue.standard_error(1000) ** 2 == pytest.approx(1000 * half / (half - 1) ** 2)
        assert sue.standard_error(1000, 700) == pytest.approx(sue.standard_error(1000))


@pytest.mark.parametrize("kind", [OptimizedUnaryEncoding, SymmetricUnaryEncoding])
def test_an_epsilon_that_tells_nothing_is_refused_and_the_smallest_others_work(kind):
    with pytest.raises(ValueError, match="epsilon is 1e-18"):
        kind(epsilon=1e-18, domain_size=4)
    assert kind(epsilon=1e-6, domain_size=4).standard_error(1) == pytest.approx(2e6, rel=1e-3)
