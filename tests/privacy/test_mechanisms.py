"""What is not the contract of every mechanism: thresholds, the reference table, tallies on disk, the null object."""

from __future__ import annotations

import dataclasses
import math
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import privacy
from privacy.mechanism import Tally, check_counts, simulate_by_reports
from privacy.no_privacy import NoPrivacy
from privacy.thresholds import WORD, ceil_threshold, exp_below, floor_threshold, scaled_words
from privacy.unary_encoding import OptimizedUnaryEncoding
from tests.privacy import contract, contract_edges
from tests.privacy.contract import skewed, stream


def test_exp_below_is_below_and_close():
    """Proved with the power series: its partial sums are below e^x, and here within 1e-60 of it, relatively."""
    for epsilon in (1e-9, 0.1, 0.5, 1.0, 4.0, 11.99, 12.0):
        term, below = Fraction(1), Fraction(0)
        for k in range(1, 160):
            below += term
            term *= Fraction(epsilon) / k
        assert term / (1 - Fraction(12, 160)) < below / 10**60, "the rest of the series"
        assert below * (1 - Fraction(1, 10**50)) < exp_below(epsilon) < below
        assert float(below) == pytest.approx(math.exp(epsilon), rel=1e-14)


def test_thresholds_round_to_the_side_they_say():
    third = Fraction(1, 3)
    assert Fraction(floor_threshold(third), WORD) < third < Fraction(ceil_threshold(third), WORD)
    assert floor_threshold(Fraction(1, 2)) == ceil_threshold(Fraction(1, 2)) == WORD // 2


@given(st.lists(st.integers(0, WORD - 1), min_size=1, max_size=20), st.integers(1, 1 << 32))
def test_scaled_words_is_the_128_bit_product(words, bound):
    got = scaled_words(np.array(words, dtype=np.uint64), bound)
    assert got.tolist() == [w * bound >> 64 for w in words]


def test_standard_errors_of_the_reference_table():
    # DESIGN's central table: sd = sqrt(4 n e^eps) / (e^eps - 1)
    for n, epsilon, expected in [
        (100_000, 1, 607),
        (100_000, 4, 87),
        (1_000_000, 2, 851),
        (1_000_000, 8, 37),
    ]:
        assert round(OptimizedUnaryEncoding(epsilon=epsilon, domain_size=10).standard_error(n)) == expected


# The null object


def test_without_privacy_reports_are_the_values():
    mechanism, values = NoPrivacy(domain_size=7), skewed(100, 7)
    reports = mechanism.privatize(values, stream())
    assert np.array_equal(reports, values)
    truth = np.bincount(values, minlength=7)
    tally = mechanism.tally(reports)
    estimate = mechanism.estimate(tally)
    assert np.array_equal(estimate.counts, truth)
    assert not estimate.stderr.any()
    assert np.array_equal(mechanism.estimate(tally, np.array([6, 0])).counts, truth[[6, 0]])
    assert np.array_equal(mechanism.simulate_tally(truth, np.random.default_rng(0)).sums, truth)
    assert mechanism.standard_error(100) == 0
    assert (NoPrivacy(domain_size=2).report_bits, NoPrivacy(domain_size=1025).report_bits) == (1, 11)
    contract.check_tallies_add(mechanism, reports, [3, 50])
    contract_edges.check_bad_values(mechanism, 7)
    for d in (1, 0, -3, 2.5, True, 1 << 40):
        with pytest.raises(ValueError, match="domain_size is"):
            NoPrivacy(domain_size=d)
    for asked in ([-1], [7]):
        with pytest.raises(ValueError, match=r"expected 0 \.\. 6"):
            mechanism.estimate(tally, np.array(asked))


# What every mechanism says of itself

MECHANISMS = [kind for name in privacy.__all__ if hasattr(kind := getattr(privacy, name), "privatize")]
MECHANISMS.remove(privacy.Mechanism)


@pytest.mark.parametrize("kind", MECHANISMS, ids=lambda kind: kind.__name__)
def test_a_mechanism_is_frozen_takes_names_only_and_has_both_halves(kind):
    assert kind.__dataclass_params__.frozen
    assert all(field.kw_only for field in dataclasses.fields(kind))
    for member in ("report_bits", "parameters", "privatize", "tally", "estimate", "simulate_tally", "standard_error"):
        assert getattr(kind, member).__doc__ if member in vars(kind) else hasattr(kind, member)
    names = {field.name for field in dataclasses.fields(kind)}
    assert "epsilon" in names or kind.epsilon == math.inf
    assert {"domain_size"} <= names or {"rows", "columns", "hash_seed"} <= names


@pytest.mark.parametrize("kind", MECHANISMS, ids=lambda kind: kind.__name__)
def test_a_mechanism_states_reports_wire_size_variance_and_source(kind):
    text = " ".join(kind.__doc__.split())
    assert re.search(r"Reports: (u?int\d+|structured array )\[n", text)
    assert "Wire size: " in text
    assert re.search(r"[Vv]ariance (of|depends) .*devices squared", text)
    assert "Raises ValueError" in text
    if kind not in (NoPrivacy, privacy.DistributedUnaryEncoding):  # no paper's; many papers' (in its module)
        assert re.search(r"[A-Z][\w']+.* (19|20)\d\d.*section", text)


# Values asked for, counts to simulate, tallies on disk


def test_values_asked_for_must_be_values():
    mechanism = OptimizedUnaryEncoding(epsilon=1.0, domain_size=5)
    tally = mechanism.tally(mechanism.privatize(skewed(9, 5), stream()))
    assert len(mechanism.estimate(tally, np.zeros(0, dtype=np.int64)).counts) == 0
    for asked in ([-1], [5]):
        with pytest.raises(ValueError, match=r"expected 0 \.\. 4"):
            mechanism.estimate(tally, np.array(asked))
    with pytest.raises(TypeError, match="float64"):
        mechanism.estimate(tally, np.array([1.0]))


def test_counts_must_be_numbers_of_devices():
    assert check_counts(np.array([1, 2], dtype=np.uint8), 2).dtype == np.int64
    for counts in ([1, 2, 3], [[1, 2]], [1, -1]):
        with pytest.raises(ValueError, match="expected"):
            check_counts(np.array(counts), 2)
    with pytest.raises(TypeError, match="float64"):
        check_counts(np.array([1.0, 2.0]), 2)


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_simulated_devices_hold_exactly_these_counts(chunk: int):
    counts = np.array([0, 3, 0, 0, 4, 1, 0])
    mechanism = NoPrivacy(domain_size=7)
    tally = simulate_by_reports(mechanism, counts, np.random.default_rng(0), chunk=chunk)
    assert np.array_equal(tally.sums, counts)
    assert tally.reports == 8


PARAMETERS = {"mechanism": "m", "epsilon": 0.1 + 0.2, "hash_seed": (1 << 64) - 1}


def test_a_tally_on_disk_is_one_file_without_pickle_and_keeps_every_bit(tmp_path: Path):
    tally = Tally(np.arange(6).reshape(2, 3) << 40, 7, PARAMETERS)
    path = tmp_path / "a.tally"
    tally.save(path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.tally"]
    loaded = Tally.load(str(path))
    assert np.array_equal(loaded.sums, tally.sums)
    assert dict(loaded.parameters) == PARAMETERS
    with np.load(path, allow_pickle=False) as file:
        assert sorted(file) == ["parameters", "reports", "sums"]
    again = tmp_path / "b.tally"
    tally.save(again)
    assert path.read_bytes() == again.read_bytes()


@pytest.mark.parametrize(
    "contents",
    [
        {"sums": np.zeros(2, np.int64), "reports": np.int64(1)},
        {"sums": np.zeros(2), "reports": np.int64(1), "parameters": np.array("{}")},
        {"sums": np.zeros(2, np.int64), "reports": np.int64(-1), "parameters": np.array("{}")},
        {"sums": np.zeros(2, np.int64), "reports": np.zeros(3, np.int64), "parameters": np.array("{}")},
        {"sums": np.zeros(2, np.int64), "reports": np.int64(1), "parameters": np.array("[1]")},
        {"sums": np.zeros(2, np.int64), "reports": np.int64(1), "parameters": np.array("{")},
        {"sums": np.array([object()]), "reports": np.int64(1), "parameters": np.array("{}")},
    ],
)
def test_files_that_are_no_tally_are_refused(contents: dict[str, np.ndarray], tmp_path: Path):
    np.savez(tmp_path / "x.npz", **contents)
    with pytest.raises(ValueError, match=r"x\.npz is no tally saved by Tally\.save"):
        Tally.load(tmp_path / "x.npz")


def test_other_files_are_refused(tmp_path: Path):
    for name, data in (("empty", b""), ("text", b"hello"), ("zip", b"PK\x03\x04broken")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match="is no tally"):
            Tally.load(tmp_path / name)
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(ValueError, match="is no tally"):
        Tally.load(tmp_path / "array.npy")
    with pytest.raises(FileNotFoundError):
        Tally.load(tmp_path / "missing")


# The package's front door


def test_every_export_is_there_and_none_is_loaded_early():
    for name in privacy.__all__:
        assert getattr(privacy, name).__name__ == name
        assert name in dir(privacy)
    with pytest.raises(AttributeError, match="Nonsense"):
        _ = privacy.Nonsense
    code = "import sys, privacy; sys.exit(bool({'numba', 'scipy', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
