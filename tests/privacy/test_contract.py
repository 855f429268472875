"""The contract of contract.py over every registered mechanism (cases_*.py), and mechanisms that must break it."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import privacy
from privacy.mechanism import Mechanism, Tally
from privacy.no_privacy import NoPrivacy
from privacy.randomized_response import RandomizedResponse
from privacy.thresholds import WORD, check_values
from privacy.unary_encoding import OptimizedUnaryEncoding
from tests.privacy import contract, contract_edges
from tests.privacy.contract import Case, registered, skewed, stream

CASES = registered()
CHECKED = [case for case in CASES if case.checked]
BY_NAME = {case.name: case for case in CASES}


def each(cases: list[Case]) -> Any:
    return pytest.mark.parametrize("case", cases, ids=str)


def smallest(case: Case) -> int:
    return min(d for _, d in case.polls)


def test_every_mechanism_of_the_package_is_under_contract():
    exported = {getattr(privacy, name) for name in privacy.__all__}
    # The first two claim nothing locally; the puzzle is two sketches, under contract each, and a search of its own.
    apart = {NoPrivacy, privacy.DistributedUnaryEncoding, privacy.SequenceFragmentPuzzle}
    mechanisms = {kind for kind in exported if hasattr(kind, "privatize")} - {Mechanism} - apart
    assert mechanisms
    assert mechanisms <= {type(case.make(*case.polls[0], 0)) for case in CASES}
    assert len(BY_NAME) == len(CASES), "two cases have one name"


# (1) epsilon, exactly


@pytest.mark.parametrize(
    ("case", "d"), [(case, d) for case in CASES if case.channel for d in case.channel_domains], ids=str
)
def test_1_the_channel_keeps_epsilon_exactly(case: Case, d: int):
    for epsilon in case.epsilons:
        contract.check_channel(case.channel(case.make(epsilon, d, 0)), epsilon, case.tight)


@each([case for case in CASES if case.column and case.channel])
@pytest.mark.parametrize("epsilon", [1.0, 4.0])
def test_1_the_reports_follow_the_channel(case: Case, epsilon: float):
    d = sorted(case.channel_domains)[min(1, len(case.channel_domains) - 1)]
    mechanism = case.make(epsilon, d, 0)
    values = case.encode(np.arange(d), d)
    contract.check_reports_follow_channel(mechanism, case.channel(mechanism), case.column, values)


# (2) unbiased, (3) variance


@pytest.mark.parametrize(
    ("case", "epsilon", "d"), [(case, e, d) for case in CASES for e, d in case.polls], ids=lambda x: f"{x}"
)
def test_2_and_3_estimates_are_unbiased_and_their_spread_is_as_claimed(case: Case, epsilon: float, d: int):
    errors, claimed = contract.poll_errors(case, epsilon, d)
    contract.check_unbiased(errors)
    contract.check_spread(errors, claimed)


@each([case for case in CASES if case.plug_in])
def test_3_the_stderr_of_an_estimate_is_the_standard_error_of_its_count(case: Case):
    for epsilon, d in case.polls:
        mechanism = case.make(epsilon, d, 0)
        tally = mechanism.tally(mechanism.privatize(case.encode(skewed(300, d), d), stream()))
        contract.check_plugged_stderr(mechanism, case.estimate(mechanism, tally, d))


# (4) tallies add, (5) the same bits


@each(CASES)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), n=st.integers(0, 60), cuts=st.lists(st.integers(0, 60), max_size=4))
def test_4_tallies_add_over_awkward_domains(case: Case, data: st.DataObject, n: int, cuts: list[int]):
    d = data.draw(st.sampled_from(case.awkward))
    mechanism = case.make(3.0, d, 0)
    reports = mechanism.privatize(case.encode(np.arange(n) % d, d), stream())
    contract.check_tallies_add(mechanism, reports, cuts)


@each(CASES)
def test_4_tallies_survive_the_disk(case: Case, tmp_path: Path):
    epsilon, d = case.polls[-1]
    mechanism = case.make(epsilon, d, 0)
    tally = mechanism.tally(mechanism.privatize(case.encode(skewed(50, d), d), stream()))
    contract_edges.check_tally_survives_disk(mechanism, tally, tmp_path / "tally.npz")


@each(CASES)
def test_4_tallies_of_other_parameters_do_not_add(case: Case):
    _, d = case.polls[-1]
    a, b = (m.tally(m.privatize(case.encode(skewed(9, d), d), stream())) for m in (case.make(e, d, 0) for e in (1, 2)))
    with pytest.raises(ValueError, match=r"different mechanisms"):
        a + b
    with pytest.raises(ValueError, match="the tally was made with"):
        case.estimate(case.make(2, d, 0), a, d)


@each(CASES)
def test_5_the_same_seed_gives_the_same_bits(case: Case):
    for epsilon, d in case.polls:
        values = case.encode(np.random.default_rng(2).permutation(skewed(700, d)), d)
        contract.check_same_bits(case.make(epsilon, d, 0), values, [0, 1, 2, 64, 333, 333, 699])


# (7) simulate_tally


@each([case for case in CASES if case.simulate])
def test_7_the_simulated_tally_has_the_law_of_reports(case: Case):
    contract.check_two_samples(*contract.tallies_both_ways(case, 1.5, case.simulated))


# Errors and empty input


@each(CHECKED)
def test_bad_epsilons_are_refused(case: Case):
    contract_edges.check_bad_epsilon(lambda epsilon: case.make(epsilon, smallest(case), 0))


@each(CHECKED)
def test_bad_domains_are_refused(case: Case):
    for d in (1, 0, -3, 2.5, True, "4", 1 << 40):
        with pytest.raises(ValueError, match=r"domain_size is"):
            case.make(1.0, d, 0)  # type: ignore[arg-type]


@each(CASES)
def test_bad_values_are_refused(case: Case):
    d = smallest(case)
    mechanism = case.make(1.0, d, 0)
    if case.checked:
        contract_edges.check_bad_values(mechanism, d)
    else:
        contract_edges.check_wrong_types(mechanism)


@each(CASES)
def test_no_devices_give_no_reports(case: Case):
    epsilon, d = case.polls[-1]
    contract_edges.check_empty(case, case.make(epsilon, d, 0), d)


@each(CASES)
def test_a_mechanism_describes_itself(case: Case):
    epsilon, d = case.polls[-1]
    mechanism: Mechanism = case.make(epsilon, d, 0)
    assert mechanism.epsilon == epsilon
    assert isinstance(mechanism.report_bits, int)
    assert mechanism.report_bits >= 1
    assert mechanism.parameters["mechanism"] == mechanism.name
    assert mechanism.parameters["epsilon"] == epsilon
    assert all(type(value) in (str, int, float) for value in mechanism.parameters.values())
    assert mechanism == case.make(epsilon, d, 0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        mechanism.epsilon = 1.0  # type: ignore[misc]


# (6) What must fail


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
