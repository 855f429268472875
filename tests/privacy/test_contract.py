"""The contract of contract.py over every registered mechanism (cases_*.py). Clause 6 is test_contract_controls.py."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import privacy
from privacy.catalogue import MECHANISMS
from privacy.mechanism import Mechanism, Tally
from privacy.no_privacy import NoPrivacy
from tests.privacy import contract, contract_edges, contract_validity
from tests.privacy.contract import Case, registered, skewed, stream

CASES = registered()
CHECKED = [case for case in CASES if case.checked]
BY_NAME = {case.name: case for case in CASES}


def each(cases: list[Case]) -> Any:
    return pytest.mark.parametrize("case", cases, ids=str)


def smallest(case: Case) -> int:
    return min(d for _, d in case.polls)


def test_every_mechanism_of_the_package_is_under_contract():
    apart = {NoPrivacy, privacy.DistributedUnaryEncoding}  # they claim nothing of a single report
    mechanisms = set(MECHANISMS) - apart
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
def test_4_a_tally_of_another_shape_or_type_is_refused(case: Case):
    _, d = case.polls[-1]
    mechanism = case.make(2.0, d, 0)
    tally = mechanism.tally(mechanism.privatize(case.encode(skewed(9, d), d), stream()))
    for sums in (tally.sums[:-1], tally.sums[..., None], tally.sums.astype(float)):
        wrong = Tally(sums, tally.reports, tally.parameters)
        with pytest.raises(ValueError, match=r"the tally's sums have shape .*; expected int64\["):
            case.estimate(mechanism, wrong, d)
    with pytest.raises(ValueError, match="different shapes cannot be added"):
        tally + Tally(tally.sums[:1], 1, tally.parameters)


@each(CASES)
def test_5_the_same_seed_gives_the_same_bits(case: Case):
    for epsilon, d in case.polls:
        values = case.encode(np.random.default_rng(2).permutation(skewed(700, d)), d)
        contract.check_same_bits(case.make(epsilon, d, 0), values, [0, 1, 2, 64, 333, 333, 699])


# (7) simulate_tally


@each([case for case in CASES if case.simulate])
def test_7_the_simulated_tally_has_the_law_of_reports(case: Case):
    contract.check_two_samples(*contract.tallies_both_ways(case, 1.5, case.simulated))


# (8) Devices that lie


@each(CASES)
def test_8_only_the_damaged_reports_are_refused(case: Case):
    for epsilon, d in case.polls:
        mechanism = case.make(epsilon, d, 0)
        reports = mechanism.privatize(case.encode(skewed(500, d), d), stream())
        contract_validity.check_only_the_damaged_are_refused(mechanism, reports)


@pytest.mark.parametrize(
    ("case", "d"),
    [(case, d) for case in CASES if case.channel and case.column for d in sorted(case.channel_domains)[-1:]],
    ids=str,
)
def test_8_honest_reports_are_refused_as_seldom_as_stated_exactly(case: Case, d: int):
    for epsilon in case.epsilons:
        contract_validity.check_false_refusals(case, case.make(epsilon, d, 0))


@pytest.mark.parametrize(
    ("case", "epsilon", "d"), [(case, e, d) for case in CASES for e, d in case.polls], ids=lambda x: f"{x}"
)
def test_8_one_report_can_do_what_is_stated_and_no_more(case: Case, epsilon: float, d: int):
    contract_validity.check_influence(case, case.make(epsilon, d, 0), d)


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


@each(CASES)
def test_sizes_that_are_numpy_integers_make_the_same_mechanism(case: Case):
    epsilon, d = case.polls[-1]
    plain = case.make(epsilon, d, 0)
    sizes = {f.name: np.int64(v) for f in dataclasses.fields(plain) if type(v := getattr(plain, f.name)) is int}
    if isinstance(plain, privacy.SequenceFragmentPuzzle):
        sizes = {name: sizes[name] for name in ("rows", "columns", "hash_seed")}
    same = dataclasses.replace(plain, **sizes)
    assert same.report_bits == plain.report_bits
    assert type(same.report_bits) is int
    assert dict(same.parameters) == dict(plain.parameters)
    assert [type(v) for v in same.parameters.values()] == [type(v) for v in plain.parameters.values()]
    values = case.encode(skewed(40, d), d)
    reports = same.privatize(values, stream())
    assert contract.same_reports(reports, plain.privatize(values, stream()))
    assert case.estimate(plain, same.tally(reports), d).counts.tolist() == (
        case.estimate(same, plain.tally(reports), d).counts.tolist()
    )
