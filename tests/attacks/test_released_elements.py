"""What is released is what the rule says: false discovery rate and simultaneous intervals, mechanism by mechanism.

Tallies are drawn from their exact laws (HCMS: made of reports), hash families are fresh, seeds fixed. Tolerances: 4
standard errors of a share of so many polls (`Outcome.check`). The negative controls judge the same polls as was done
before: each value by itself, errors taken as normal.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from privacy.catalogue import MECHANISMS
from privacy.count_mean_sketch import CountMeanSketch
from privacy.hadamard_sketch import HadamardCountMeanSketch
from tests.aggregate.released import Outcome, normal_tails, polls_of, polls_of_list, population, with_normal_tails

SKETCHES = [CountMeanSketch, HadamardCountMeanSketch]
KINDS = ["zipf 0.8", "zipf 1.2", "zipf 2", "giant", "null"]
BY_NAME: dict[str, Any] = {mechanism.name: mechanism for mechanism in MECHANISMS}
LISTS = ["randomized_response", "optimized_unary_encoding", "symmetric_unary_encoding", "local_hashing"]
LISTS += ["subset_selection", "hadamard_response", "projective_geometry_response"]


def small(sketch: Any, epsilon: float = 4.0) -> Any:
    return lambda family: sketch(epsilon=epsilon, rows=256, columns=1024, hash_seed=family)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sketch", SKETCHES)
def test_sketches_release_what_the_rule_says(sketch: Any, kind: str) -> None:
    polls_of(small(sketch), population(kind, 300_000, 500), polls=100).check()


@pytest.mark.soak
@pytest.mark.parametrize("kind", [*KINDS, "unlisted giant"])
@pytest.mark.parametrize("sketch", SKETCHES)
def test_sketches_release_what_the_rule_says_over_500_polls(sketch: Any, kind: str) -> None:
    found = polls_of(small(sketch), population(kind, 1_000_000, 2000), polls=500)
    tell(f"{sketch.name}, 256 x 1024, {kind}, 500 polls", found)
    found.check()


@pytest.mark.parametrize("sketch", SKETCHES)
def test_a_frequent_value_that_nobody_asks_about_is_in_the_tails(sketch: Any) -> None:
    polls_of(small(sketch), population("unlisted giant", 300_000, 500), polls=60).check()


def test_bits_of_a_sketch_are_skewed_when_few_are_set_by_chance() -> None:
    """5 bits a cell and row are set by chance at epsilon 12, and 36 at epsilon 8."""
    for epsilon in (8.0, 12.0):
        polls_of(small(CountMeanSketch, epsilon), population("zipf 2", 2000, 500), polls=100).check()


@pytest.mark.parametrize(
    ("kind", "complaint"), [("zipf 2", "families missed"), ("giant", "families missed|false discovery rate")]
)
def test_negative_control_collisions_left_in_with_normal_tails_are_caught(kind: str, complaint: str) -> None:
    before = polls_of(small(CountMeanSketch), population(kind, 1_000_000, 500), polls=40, estimate=with_normal_tails)
    with pytest.raises(AssertionError, match=complaint):
        before.check()


def test_negative_control_joint_estimates_do_not_help_against_an_unlisted_giant_without_their_tails() -> None:
    held = population("unlisted giant", 1_000_000, 500)
    before = polls_of(small(CountMeanSketch), held, polls=40, estimate=lambda *args: normal_tails(joint(*args)))
    with pytest.raises(AssertionError, match="false discovery rate"):
        before.check()


def joint(sketch: Any, tally: Any, values: np.ndarray) -> Any:
    return sketch.estimate_jointly(tally, values)


# Mechanisms over a list


@pytest.mark.parametrize("epsilon", [4.0, 8.0, 12.0])
@pytest.mark.parametrize("name", LISTS)
def test_lists_release_what_the_rule_says(name: str, epsilon: float) -> None:
    """Ten values of a tenth each, and 190 that nobody holds: at epsilon 12 a wrong one is named by 1 report in 100."""
    polls_of_list(BY_NAME[name](epsilon=epsilon, domain_size=200), devices=2000, polls=50).check()


@pytest.mark.parametrize("name", ["randomized_response", "local_hashing", "subset_selection", "hadamard_response"])
def test_negative_control_normal_tails_of_a_list_are_caught(name: str) -> None:
    mechanism = BY_NAME[name](epsilon=12.0, domain_size=1000)
    before = polls_of_list(mechanism, devices=10_000, polls=40, tails=normal_tails)
    with pytest.raises(AssertionError, match=r"false discovery rate|families missed"):
        before.check()
    polls_of_list(mechanism, devices=10_000, polls=40).check()


@pytest.mark.soak
@pytest.mark.parametrize("epsilon", [4.0, 8.0, 10.0, 12.0])
@pytest.mark.parametrize("name", LISTS)
def test_lists_release_what_the_rule_says_over_500_polls(name: str, epsilon: float) -> None:
    found = polls_of_list(BY_NAME[name](epsilon=epsilon, domain_size=1000), devices=10_000, polls=500)
    tell(f"{name}, 1,000 values, 10,000 reports, epsilon {epsilon:g}, 500 polls", found)
    found.check()


# Once at full size


@pytest.mark.soak
@pytest.mark.parametrize(
    ("sketch", "rows", "columns"), [(HadamardCountMeanSketch, 1024, 32_768), (CountMeanSketch, 65_536, 1024)]
)
def test_at_full_size_with_a_hundred_million_reports(sketch: Any, rows: int, columns: int) -> None:
    """One name held by 30%, 100,000 names that nobody holds, the other devices elsewhere."""
    held = population("giant", 100_000_000, 100_000, others=10_000)
    after, before = (
        polls_of(lambda family: sketch(epsilon=4.0, rows=rows, columns=columns, hash_seed=family), held, 1, estimate)
        for estimate in (joint, with_normal_tails)
    )
    tell(f"{sketch.name}, {rows} x {columns}, one giant, 1e8 reports, 1 poll", after)
    tell("the same, each value by itself with normal tails", before)
    assert after.released.tolist() == [1] and after.missing_intervals.tolist() == [0]


def tell(what: str, found: Outcome) -> None:
    """A line for docs/soak.md (pytest -s)."""
    small = found.small.mean() / (0.001 * found.unheld) if found.unheld else float("nan")
    print(  # noqa: T201
        f"{what}: released {found.released.mean():.1f}, false share {found.false_share.mean():.4f}, polls with a "
        f"missing interval {found.missed.mean():.3f}, missing intervals a poll {found.missing_intervals.mean():.2f}, "
        f"p-values below 1/1000 {small:.2f} x as expected"
    )
