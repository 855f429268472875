"""Clause 6 of the contract: what must fail. Wrong decoders, leaky channels, and replicas of published faults."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from privacy.local_hashing import LocalHashing
from privacy.mechanism import Tally
from privacy.randomized_response import RandomizedResponse
from privacy.thresholds import WORD, check_values
from privacy.unary_encoding import OptimizedUnaryEncoding
from privacy.validity import set_bit_bounds
from tests.privacy import contract, contract_validity
from tests.privacy.contract import Case, skewed, stream
from tests.privacy.scripted import ScriptedStream
from tests.privacy.test_contract import BY_NAME, CASES, each


@each(CASES)
def test_6_a_decoder_with_one_and_a_half_times_epsilon_is_caught(case: Case):
    epsilon, d = max(poll for poll in case.polls if poll[0] <= 4)
    errors, _ = contract.poll_errors(case, epsilon, d, decoder_epsilon=1.5 * epsilon)
    with pytest.raises(AssertionError, match="z scores"):
        contract.check_unbiased(errors)


@each(CASES)
def test_6_a_wrong_standard_error_is_caught(case: Case):
    epsilon, d = case.polls[1]
    errors, claimed = contract.poll_errors(case, epsilon, d)
    for factor in (0.6, 1.6):
        with pytest.raises(AssertionError, match="variance"):
            contract.check_spread(errors, claimed * factor)


def test_6_leaky_channels_are_caught():
    oue = OptimizedUnaryEncoding(epsilon=1.0, domain_size=4)
    oue.__dict__["thresholds"] = (WORD // 2, oue.thresholds[1] - 1)  # one unit in 2^64 too few lies
    with pytest.raises(AssertionError, match="more than epsilon"):
        contract.check_channel(oue.channel(), 1.0)
    grr = RandomizedResponse(epsilon=1.0, domain_size=4)
    grr.__dict__["threshold"] = grr.threshold + 40
    with pytest.raises(AssertionError, match="more than epsilon"):
        contract.check_channel(grr.channel(), 1.0)
    timid = RandomizedResponse(epsilon=0.9, domain_size=4)
    with pytest.raises(AssertionError, match="far below"):
        contract.check_channel(timid.channel(), 1.0)
    never = [[Fraction(1, 2), Fraction(1, 2), Fraction(0)], [Fraction(0), Fraction(1, 2), Fraction(1, 2)]]
    with pytest.raises(AssertionError, match="infinite"):
        contract.check_channel(never, 1.0)
    with pytest.raises(AssertionError):
        contract.check_channel([[Fraction(1, 2)], [Fraction(1, 2)]], 1.0)


def test_6_estimates_that_are_clipped_are_caught():
    """The published fault of a library whose estimates are never below 0: values that few hold get too much."""
    errors, _ = contract.poll_errors(BY_NAME["optimized_unary_encoding"], 2.0, 301)
    truth = np.bincount(skewed(500, 301), minlength=301)
    with pytest.raises(AssertionError, match="z scores"):
        contract.check_unbiased(np.maximum(truth + errors, 0) - truth)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FewSeeds(LocalHashing):
    """The published fault of a 'fast' local hashing: devices share a few hash functions, so that the collisions of
    frequent values do not average out, and the error that the paper's formula gives is too small.
    """

    pool: int = 8

    def privatize(self, values: np.ndarray, rng: Any) -> np.ndarray:
        words = np.frombuffer(rng.bytes(24 * (len(values) + self.pool)), dtype="<u8").reshape(-1, 3).copy()
        seeds, words = words[: self.pool, :2], words[self.pool :]
        words[:, :2] = seeds[np.arange(len(values)) % self.pool]
        return super().privatize(values, ScriptedStream(words))


def test_6_local_hashing_with_few_hash_functions_is_caught():
    case = BY_NAME["local_hashing"]
    shared = dataclasses.replace(case, make=lambda epsilon, d, family: FewSeeds(epsilon=epsilon, domain_size=d))
    contract.check_spread(*contract.poll_errors(case, 2.0, 301))
    with pytest.raises(AssertionError, match="variance is"):
        contract.check_spread(*contract.poll_errors(shared, 2.0, 301))


class PureLdpRappor:
    """Replica of a published fault: the true bit is never flipped to 0, so a report rules out every value whose bit
    is 0 and epsilon is infinite.
    """

    def __init__(self, epsilon: float, domain_size: int):
        self.honest = OptimizedUnaryEncoding(epsilon=epsilon, domain_size=domain_size)

    def privatize(self, values: np.ndarray, rng: Any) -> np.ndarray:
        reports = self.honest.privatize(values, rng)
        reports[np.arange(len(values)), values >> 3] |= (1 << (values & 7)).astype(np.uint8)
        return reports


def test_6_reports_that_do_not_follow_their_channel_are_caught():
    case = BY_NAME["optimized_unary_encoding"]
    broken = PureLdpRappor(1.0, 3)
    with pytest.raises(AssertionError):
        contract.check_reports_follow_channel(broken, broken.honest.channel(), case.column, np.arange(3))


@dataclasses.dataclass(frozen=True)
class PeeksAtChunks:
    """Draws with fresh entropy in every call: a chunk boundary changes bits."""

    honest: RandomizedResponse

    def privatize(self, values: np.ndarray, rng: Any) -> np.ndarray:
        return self.honest.privatize(values, np.random.default_rng(len(values)))


def test_6_bits_that_depend_on_chunks_are_caught():
    with pytest.raises(AssertionError):
        contract.check_same_bits(PeeksAtChunks(RandomizedResponse(epsilon=1.0, domain_size=5)), skewed(50, 5), [10])


class DropsTheLast:
    """A tally that loses a report at every cut."""

    def __init__(self, honest: RandomizedResponse):
        self.honest, self.parameters = honest, honest.parameters

    def tally(self, reports: np.ndarray) -> Tally:
        return self.honest.tally(check_values(reports, self.honest.domain_size)[:-1])


def test_6_tallies_that_do_not_add_are_caught():
    grr = RandomizedResponse(epsilon=1.0, domain_size=5)
    with pytest.raises(AssertionError):
        contract.check_tallies_add(DropsTheLast(grr), grr.privatize(skewed(50, 5), stream()), [10])


@pytest.mark.parametrize("fault", ["mean", "variance", "covariance"])
def test_6_a_wrong_simulated_tally_is_caught(fault: str):
    case = BY_NAME["randomized_response"]

    def simulate(m: RandomizedResponse, counts: np.ndarray, rng: np.random.Generator) -> Tally:
        n = int(counts.sum())
        if fault == "mean":  # the parameters of a slightly larger epsilon
            other = dataclasses.replace(m, epsilon=m.epsilon * 1.05)
            return Tally(other.simulate_tally(counts, rng).sums, n, m.parameters)
        if fault == "variance":  # the expected tally with the noise of half the devices, twice
            return Tally(2 * m.simulate_tally(counts // 2, rng).sums + counts % 2, n, m.parameters)
        # Independent cells: right means and variances, but the cells of a histogram sum to n.
        sums = rng.binomial(counts, m.p) + rng.binomial(n - counts, m.q)
        return Tally(sums.astype(np.int64), n, m.parameters)

    with pytest.raises(AssertionError, match="differ"):
        contract.check_two_samples(*contract.tallies_both_ways(dataclasses.replace(case, simulate=simulate), 1.5, 12))


# Devices that lie


def honest_reports(case: Case) -> tuple[Any, np.ndarray, int]:
    """A mechanism, 300 of its reports, and its domain."""
    epsilon, d = case.polls[2]
    mechanism = case.make(epsilon, d, 0)
    return mechanism, mechanism.privatize(case.encode(skewed(300, d), d), stream()), d


def lying(mechanism: Any, **changed: Any) -> Any:
    """The same mechanism, of which this is said."""
    kind = type("Lying", (type(mechanism),), changed)
    return kind(**{field.name: getattr(mechanism, field.name) for field in dataclasses.fields(mechanism)})


@each(CASES)
def test_6_a_server_that_refuses_nothing_is_caught(case: Case):
    """As it was: a report that is none stopped the poll, and one that sets all bits was counted."""
    mechanism, reports, _ = honest_reports(case)
    trusting = lying(mechanism, refused=lambda self, reports: np.zeros(0, dtype=np.int64))
    contract_validity.check_only_the_damaged_are_refused(mechanism, reports)
    with pytest.raises(AssertionError, match="not the damaged"):
        contract_validity.check_only_the_damaged_are_refused(trusting, reports)


@each(CASES)
def test_6_a_server_that_refuses_an_honest_report_is_caught(case: Case):
    mechanism, reports, _ = honest_reports(case)
    strict = lying(mechanism, _refused=lambda self, reports: np.append([0], 1 + mechanism._refused(reports[1:])))
    with pytest.raises(AssertionError):
        contract_validity.check_only_the_damaged_are_refused(strict, reports)


@pytest.mark.parametrize("name", ["optimized_unary_encoding", "symmetric_unary_encoding", "count_mean_sketch"])
def test_6_a_bound_that_is_one_bit_too_tight_is_caught(name: str):
    """At epsilon 12 an honest report of six bits rarely has more than two or three set."""
    case, d = BY_NAME[name], max(BY_NAME[name].channel_domains)
    mechanism = case.make(12.0, d, 0)
    low, high = set_bit_bounds(d, mechanism.p if name != "count_mean_sketch" else 1 - mechanism.q, mechanism.q)
    assert high < d, "nothing to be refused"
    contract_validity.check_false_refusals(case, mechanism)
    tight = (low, high - 1)
    said = property(lambda self: tight) if name != "count_mean_sketch" else (lambda self, rate=0.0: tight)
    with pytest.raises(AssertionError, match="honest reports are refused"):
        contract_validity.check_false_refusals(case, lying(mechanism, set_bits=said))


@each(CASES)
def test_6_a_wrong_influence_is_caught(case: Case):
    mechanism, _, d = honest_reports(case)
    for factor in (0.9, 1.1):
        wrong = mechanism.largest_influence * factor
        with pytest.raises(AssertionError, match="not the largest influence"):
            contract_validity.check_influence(case, lying(mechanism, largest_influence=wrong), d)
    for factor, match in ((0.9, "more than the largest gain"), (1.1, "no report gains so much")):
        gain = lying(mechanism, largest_gain=lambda self, r, factor=factor: factor * mechanism.largest_gain(r))
        with pytest.raises(AssertionError, match=match):
            contract_validity.check_influence(case, gain, d)
