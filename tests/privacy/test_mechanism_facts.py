"""What a mechanism knows about itself: enough for a new one to be used everywhere, and true for those there are."""

from __future__ import annotations

import dataclasses
import itertools
import math
import subprocess
import sys
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import privacy
from privacy.accounting import amplify_by_shuffling
from privacy.catalogue import MECHANISMS, ORACLES
from privacy.device_log import read_log, reports_of, segment_of, write_log
from privacy.distributed_unary import DistributedUnaryEncoding
from privacy.fragment_puzzle import SequenceFragmentPuzzle
from privacy.hadamard_sketch import HadamardCountMeanSketch
from privacy.hashing import hash_strings
from privacy.mechanism import Estimate, Mechanism, Reports, Tally
from privacy.no_privacy import NoPrivacy
from privacy.randomized_response import RandomizedResponse
from privacy.secret_sharing import Batch, contributions, secure_tally
from privacy.shuffling import PureLDP, parameters_of
from tests.privacy.contract import Case, Channel, check_two_samples, registered, same_reports, stream
from tests.privacy.test_contract import each

KEPT = 0.4


class Toy(Mechanism):
    """Randomized response over 5 symbols, kept with probability 0.4 and else uniform, sent as two numbers."""

    name = "toy"
    epsilon = math.log1p(KEPT / (1 - KEPT) * 5)
    domain_size = 5

    @property
    def report_bits(self) -> int:
        return 3

    @property
    def parameters(self) -> Mapping[str, str | int | float]:
        return {"mechanism": self.name, "epsilon": self.epsilon, "domain_size": self.domain_size}

    def privatize(self, values: np.ndarray, rng: Any) -> Reports:
        draws = np.frombuffer(rng.bytes(16 * len(values)), dtype="<u8").reshape(-1, 2)
        symbols = np.where(draws[:, 0] < KEPT * 2.0**64, values, draws[:, 1] % self.domain_size)
        return np.stack([symbols // 2, symbols % 2], axis=1).astype(np.uint16)

    def tally(self, reports: Reports) -> Tally:
        symbols = reports[:, 0].astype(np.int64) * 2 + reports[:, 1]
        if symbols.size and symbols.max() >= self.domain_size:
            raise ValueError("no report of a toy")
        return Tally(np.bincount(symbols, minlength=self.domain_size), len(reports), self.parameters)

    def estimate(self, tally: Tally, values: np.ndarray | None = None) -> Estimate:
        counts = (tally.sums - tally.reports * (1 - KEPT) / self.domain_size) / KEPT
        return Estimate(counts if values is None else counts[values], np.ones(5), tally.reports)

    def standard_error(self, reports: int, count: float = 0.0) -> float:
        return math.sqrt(reports)


class KnowingToy(Toy):
    """The same, which knows how far apart its reports are."""

    @property
    def total_variation(self) -> float:
        return KEPT


class LyingToy(Toy):
    """Contributions that are none."""

    def contributions(self, reports: Reports) -> np.ndarray:
        return np.ones((len(reports), self.domain_size), dtype=np.int64)


TEXTS = ["red", "green", "blue", "", "yellow"]


def toy_reports(n: int = 400) -> Reports:
    return Toy().privatize(np.arange(n) % 5, stream())


# (a) A new mechanism, of which no table knows


def test_a_new_mechanism_is_accounted_for_by_its_epsilon_or_by_what_it_knows():
    plain, knowing = Toy(), KnowingToy()
    worst = amplify_by_shuffling(PureLDP(epsilon=Toy.epsilon), 10_000, 1e-6)
    assert amplify_by_shuffling(plain, 10_000, 1e-6) == worst
    assert amplify_by_shuffling(knowing, 10_000, 1e-6) < worst
    assert parameters_of(knowing).beta == math.nextafter(KEPT, 1)
    assert parameters_of(plain).log_q_silent is None
    grr = RandomizedResponse(epsilon=Toy.epsilon, domain_size=5)
    # Its name says nothing: only what a mechanism states counts.
    assert parameters_of(type("Named", (Toy,), {"name": grr.name})()).beta == parameters_of(plain).beta
    assert parameters_of(grr).beta < parameters_of(plain).beta


def test_a_new_mechanism_is_logged_and_read_back():
    reports = toy_reports()
    segment = segment_of(Toy(), reports, key="k")
    assert segment.algorithm == "toy"
    assert segment.parameters == {"epsilon": Toy.epsilon, "domain_size": 5}
    (read,) = read_log(write_log([segment]))
    assert same_reports(reports_of(read, Toy()), reports)
    assert same_reports(Toy().read_records([]), reports[:0])
    for record, match in (("7", "is not 2 numbers"), ("2,1", "no report of a toy"), ("70000,1", "cannot hold")):
        with pytest.raises(ValueError, match=match):
            Toy().read_records([record])


def test_a_new_mechanism_is_shared_between_two_aggregators():
    reports = toy_reports()
    batch = Batch.of(Toy(), minimum_reports=2, batch_id=bytes(16))
    assert (batch.lowest, batch.highest, batch.width) == (0, 1, 5)
    assert contributions(Toy(), reports).sum(axis=1).tolist() == [1] * len(reports)
    assert contributions(Toy(), reports[:0]).shape == (0, 5)
    assert secure_tally(batch, Toy(), [reports], stream(1)).sums.tolist() == Toy().tally(reports).sums.tolist()
    with pytest.raises(ValueError, match="do not add up"):
        contributions(LyingToy(), reports)


def test_a_new_mechanism_takes_texts_and_simulates():
    encoded = Toy().encode(TEXTS)
    assert (encoded.values.tolist(), encoded.values.dtype) == ([0, 1, 2, 3, 4], np.int64)
    assert encoded.fits.all()
    assert encoded.unfit == {}
    counts = np.array([0, 40, 3, 0, 20])
    rng = np.random.default_rng(4)
    values = np.repeat(encoded.values, counts)
    reported = [Toy().tally(Toy().privatize(values, stream(i))).sums for i in range(600)]
    simulated = [Toy().simulate_held(encoded.values[::-1], counts[::-1], rng).sums for _ in range(600)]
    check_two_samples(np.array(reported, dtype=float), np.array(simulated, dtype=float))


def test_what_a_mechanism_must_define_is_asked_for():
    class Half(Mechanism):
        name = "half"

    with pytest.raises(TypeError, match="abstract"):
        Half()  # type: ignore[abstract]


# (b) What the mechanisms of the catalogue say of themselves is true


CASES = [case for case in registered() if case.channel]


def distance(channel: Channel) -> Fraction:
    """The largest total variation distance of two rows, exactly."""
    return max(
        sum((max(a - b, Fraction(0)) for a, b in zip(*rows, strict=True)), Fraction(0))
        for rows in itertools.combinations(channel, 2)
    )


def check_claim(claim: float | None, channel: Channel) -> None:
    """The claim is at least the distance, to within the one float that the accounting adds."""
    assert claim is not None
    assert distance(channel) <= Fraction(math.nextafter(claim, math.inf)), "claims more privacy than there is"


@each(CASES)
def test_no_mechanism_claims_a_total_variation_below_that_of_its_channel(case: Case):
    for epsilon in case.epsilons:
        for d in sorted(case.channel_domains)[:3]:
            mechanism = case.make(epsilon, d, 0)
            check_claim(mechanism.total_variation, case.channel(mechanism))


@each(CASES)
def test_a_total_variation_is_no_larger_than_it_has_to_be(case: Case):
    """Some hash family reaches it."""
    d = sorted(case.channel_domains)[:3][-1]
    mechanisms = [case.make(2.0, d, family) for family in range(4 if case.families else 1)]
    reached = max(distance(case.channel(mechanism)) for mechanism in mechanisms)
    assert float(reached) == pytest.approx(mechanisms[0].total_variation, rel=1e-12)


@each(CASES)
def test_negative_control_half_the_total_variation_is_caught(case: Case):
    mechanism = case.make(2.0, sorted(case.channel_domains)[:2][-1], 0)
    lying = type("Lying", (type(mechanism),), {"total_variation": property(lambda self: mechanism.total_variation / 2)})
    liar = lying(**{field.name: getattr(mechanism, field.name) for field in dataclasses.fields(mechanism)})
    assert parameters_of(liar).beta < parameters_of(mechanism).beta
    with pytest.raises(AssertionError, match="more privacy than there is"):
        check_claim(liar.total_variation, case.channel(liar))


@each(CASES)
@pytest.mark.parametrize("epsilon", [0.5, 4.0])
def test_what_two_values_share_is_as_likely_from_any_third_as_claimed(case: Case, epsilon: float):
    mechanism = case.make(epsilon, next((d for d in sorted(case.channel_domains) if d > 2), 2), 0)
    parameters = parameters_of(mechanism)
    q_silent = math.exp(epsilon if parameters.log_q_silent is None else parameters.log_q_silent)
    for mine, neighbour, other in itertools.permutations(case.channel(mechanism), 3):
        for a, b, c in zip(mine, neighbour, other, strict=True):
            telling = abs(a - b) / (parameters.p - 1)
            silent = float(min(a, b)) - telling
            assert float(c) >= (telling * parameters.p / math.exp(parameters.log_q) + silent / q_silent) * (1 - 1e-9)


def test_every_private_mechanism_has_a_channel_and_states_a_total_variation():
    checked = {type(case.make(1.0, max(case.channel_domains), 0)) for case in CASES}
    assert checked == set(MECHANISMS) - {DistributedUnaryEncoding, NoPrivacy}
    assert NoPrivacy(domain_size=3).total_variation == 1.0


# (c) The catalogue, and what it costs


def test_the_catalogue_holds_every_mechanism_of_the_package():
    exported = {getattr(privacy, name) for name in privacy.__all__}
    kinds = {kind for kind in exported if isinstance(kind, type) and issubclass(kind, Mechanism)} - {Mechanism}
    assert kinds == set(MECHANISMS)
    assert len(MECHANISMS) == len({kind.name for kind in MECHANISMS})
    assert set(ORACLES) < set(MECHANISMS)


def test_importing_the_package_loads_no_mechanism():
    code = "import privacy, sys; print([m for m in sys.modules if m.startswith('privacy.') or m in ('numba', 'scipy')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# (d) Every mechanism of the catalogue, through the same interface


def made(kind: type[Mechanism]) -> Mechanism:
    if kind is SequenceFragmentPuzzle:
        return SequenceFragmentPuzzle(epsilon=4.0, rows=3, columns=16, hash_seed=1)
    if kind is DistributedUnaryEncoding:
        return DistributedUnaryEncoding(domain_size=2, central_epsilon=4.0, central_delta=1e-3, honest_reports=60)
    if kind is NoPrivacy:
        return NoPrivacy(domain_size=2)
    if kind.hashed:
        return kind(epsilon=4.0, rows=3, columns=16, hash_seed=1)  # type: ignore[call-arg]
    return kind.for_domain(4.0, 2)


@pytest.mark.parametrize("kind", MECHANISMS, ids=lambda kind: kind.name)
def test_texts_become_reports_contributions_records_and_tallies(kind: type[Mechanism]):
    mechanism, texts = made(kind), ["yes", "no"]
    encoded = mechanism.encode(texts)
    assert encoded.fits.tolist() == [True, True]
    reports = mechanism.privatize(encoded.values[np.arange(30) % 2], stream())
    empty = mechanism.no_reports()
    assert (len(empty), empty.dtype, empty.shape[1:]) == (0, reports.dtype, reports.shape[1:])
    tally = mechanism.tally(reports)
    assert mechanism.tally_cells == tally.sums.size
    rows = contributions(mechanism, reports)
    assert rows.dtype == np.int64
    assert rows.min() >= mechanism.smallest_contribution
    assert rows.max() <= mechanism.largest_contribution
    assert rows.tolist() == Mechanism.contributions(mechanism, reports).tolist(), "not the tallies of single reports"
    batch = Batch.of(mechanism, minimum_reports=2, batch_id=bytes(16))
    assert secure_tally(batch, mechanism, [reports], stream(2)).sums.tolist() == tally.sums.tolist()
    assert same_reports(mechanism.read_records(mechanism.log_records(reports)), reports)
    assert mechanism.server_operations(100, 2) > 0
    held = mechanism.simulate_held(encoded.values, np.array([3, 4]), np.random.default_rng(0))
    assert held.reports == 7
    assert held.sums.shape == tally.sums.shape
    assert mechanism.estimate(held, encoded.values).counts.shape == (2,)


def test_signs_are_negative_contributions():
    assert HadamardCountMeanSketch.smallest_contribution == -1
    assert DistributedUnaryEncoding.largest_contribution == 2


def test_held_values_are_counted_whatever_their_order():
    plain, counts = RandomizedResponse(epsilon=2.0, domain_size=3), np.array([5, 7, 2])
    got = plain.simulate_held(np.array([2, 0, 2]), counts, np.random.default_rng(1))
    assert got.sums.tolist() == plain.simulate_tally(np.array([7, 0, 7]), np.random.default_rng(1)).sums.tolist()
    for values, match in (([2, -1, 0], "encoded as -1 to 2; expected 0 to 2"), ([3, 1, 0], "encoded as 0 to 3")):
        with pytest.raises(ValueError, match=match):
            plain.simulate_held(np.array(values), counts, np.random.default_rng(1))
    with pytest.raises(ValueError, match=r"counts have shape \(2,\)"):
        plain.simulate_held(np.array([0, 1, 2]), counts[:2], np.random.default_rng(1))
    none = np.zeros(0, dtype=np.int64)
    assert plain.simulate_held(none, none, np.random.default_rng(1)).reports == 0


def test_sketches_hash_texts_and_the_puzzle_says_what_does_not_fit():
    sketch = made(HadamardCountMeanSketch)
    assert sketch.encode(TEXTS).values.tolist() == hash_strings(TEXTS).tolist()
    puzzle = made(SequenceFragmentPuzzle)
    encoded = puzzle.encode(["lol", "", "a" * 11, "ok", "A", "B"])
    assert encoded.fits.tolist() == [True, False, False, True, False, False]
    assert encoded.unfit == {"empty": 1, "too_long": 1, "out_of_alphabet": 2}
    assert encoded.values.shape == (6, 10)
    assert not encoded.values[~encoded.fits].any()
    assert encoded.values[3].tolist() == [15, 11] + [0] * 8
    assert puzzle.encode(["ok"]).unfit == {}
