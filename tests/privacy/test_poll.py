"""A poll as both sides know it: the answers that there are, and what an ask is called."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from privacy.dictionary import Dictionary
from privacy.mechanism import Estimate, Tally
from privacy.poll import Ask, Choice
from privacy.randomized_response import RandomizedResponse
from privacy.secret_sharing import Batch
from privacy.unary_encoding import OptimizedUnaryEncoding

RR = RandomizedResponse(epsilon=2.0, domain_size=5)


@dataclass(frozen=True)
class FakeNeeds:
    """Stands for what devices need."""

    digest: str = "slate 1"
    nbytes: int = 0
    asked: np.ndarray | None = None


# Choice


def test_none_of_these_is_the_last_answer() -> None:
    assert (Choice(4).none, Choice(4).answers) == (4, 5)
    assert (Choice(1).none, Choice(1).answers) == (1, 2)
    for candidates in (0, -1):
        with pytest.raises(ValueError, match=f"candidates is {candidates}; expected 1 or more"):
            Choice(candidates)


def test_answers_are_counted() -> None:
    counts = Choice(3).counted(np.array([3, 0, 0, 3, 3]))
    assert counts.tolist() == [2, 0, 0, 3]
    assert Choice(3).counted(np.zeros(0, dtype=np.int64)).tolist() == [0, 0, 0, 0]
    with pytest.raises(ValueError, match="answers reach up to 4; expected 0 to 3, 'none of these'"):
        Choice(3).counted(np.array([0, 4]))
    with pytest.raises(ValueError, match="negative"):
        Choice(3).counted(np.array([0, -1]))


def test_an_estimate_is_split_into_candidates_and_none() -> None:
    candidates, none = Choice(3).split(Estimate(np.array([5.0, -1.0, 2.5, 9.0]), np.array([1.0, 2.0, 3.0, 4.0]), 20))
    assert candidates.counts.tolist() == [5.0, -1.0, 2.5] and candidates.stderr.tolist() == [1.0, 2.0, 3.0]
    assert none.counts.tolist() == [9.0] and none.stderr.tolist() == [4.0]
    assert candidates.reports == none.reports == 20
    for answers in (3, 5):
        with pytest.raises(ValueError, match=f"{answers} answers were estimated; expected 4: 3 candidates and 'none"):
            Choice(3).split(Estimate(np.zeros(answers), np.zeros(answers), 20))


def test_what_is_counted_is_what_is_estimated() -> None:
    choice, values = Choice(4), np.array([0, 0, 4, 1, 4, 4])
    mechanism = RandomizedResponse(epsilon=12.0, domain_size=choice.answers)
    tally = mechanism.simulate_tally(choice.counted(np.repeat(values, 1000)), np.random.default_rng(0))
    candidates, none = choice.split(mechanism.estimate(tally))
    assert np.abs(candidates.counts - [2000, 1000, 0, 0]).max() < 5 * candidates.stderr.max() < 100
    assert abs(none.counts[0] - 3000) < 5 * none.stderr[0]


# Ask


def ask_of(**changes: Any) -> Ask:
    return Ask(**{"use_case": "mail", "round": 0, "mechanism": RR, "needs": FakeNeeds(), **changes})


CHANGES = [
    {"use_case": "chat"},
    {"round": 1},
    {"days": 2},
    {"needs": FakeNeeds("slate 2")},
    {"mechanism": RandomizedResponse(epsilon=2.5, domain_size=5)},
    {"mechanism": RandomizedResponse(epsilon=2.0, domain_size=6)},
    {"mechanism": OptimizedUnaryEncoding(epsilon=2.0, domain_size=5)},
]


def test_the_digest_names_all_that_an_answer_depends_on() -> None:
    digests = [ask_of(**change).digest for change in ({}, *CHANGES)]
    assert len(set(digests)) == len(digests)
    assert all(len(digest) == 64 and int(digest, 16) for digest in digests)


@pytest.mark.parametrize("change", [{}, *CHANGES], ids=str)
def test_the_digest_is_the_same_for_the_same_question(change: dict[str, Any]) -> None:
    again = {**change, "mechanism": dataclasses.replace(change.get("mechanism", RR))}
    assert ask_of(**change).digest == ask_of(**again).digest
    # How reports travel changes no answer.
    batch = Batch.of(ask_of(**change).mechanism, minimum_reports=2, batch_id=bytes(16))
    assert ask_of(**change, shares=batch).digest == ask_of(**change).digest


def test_the_upload_is_that_of_a_report_or_of_two_shares() -> None:
    assert ask_of().report_bits == RR.report_bits == 3
    assert ask_of(shares=Batch.of(RR, minimum_reports=2, batch_id=bytes(16))).report_bits == 2 * 64 * (5 + 2)


def test_an_ask_estimates_what_it_asks_for() -> None:
    tally = Tally(np.array([50, 10, 20, 10, 10]), 100, RR.parameters)
    np.testing.assert_array_equal(ask_of().estimate(tally).counts, RR.estimate(tally).counts)
    some = ask_of(needs=FakeNeeds(asked=np.array([2, 0])))
    np.testing.assert_array_equal(some.estimate(tally).counts, RR.estimate(tally).counts[[2, 0]])
    texts = ("a", "b", "c", "d", "e")
    dictionary = Dictionary.of(key="mail", texts=texts, mechanism=RR)
    np.testing.assert_array_equal(ask_of(needs=dictionary).estimate(tally).counts, RR.estimate(tally).counts)
    unlisted = ask_of(needs=Dictionary.of(key="mail", texts=texts, mechanism=RR, listed=False))
    assert len(unlisted.estimate(tally).counts) == 0, "the server has no list, and asks for nothing"


def test_what_an_ask_needs_is_not_written_out() -> None:
    assert "slate 1" not in repr(ask_of())


def test_the_package_knows_what_travels() -> None:
    import privacy
    from privacy.poll import ReportBatch

    assert privacy.ReportBatch is ReportBatch
