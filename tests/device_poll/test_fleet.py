"""The simulated fleet and the report log of one device."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from device_poll.answering import AnswerRule
from device_poll.cohorts import Participation, draw_cohorts
from device_poll.fleet import BLOCK, SimulatedFleet
from device_poll.population import DeviceUnit, Population, PopulationError
from device_poll.report_log import ReportLog
from embed.compact import compact
from privacy.mechanism import Mechanism, ReportBatch
from privacy.no_privacy import NoPrivacy
from privacy.randomized_response import RandomizedResponse
from privacy.randomness import DeviceStream, Stage
from privacy.unary_encoding import OptimizedUnaryEncoding

DIMENSION, CANDIDATES, ROUNDS = 4, 6, 2
DEVICES = ROUNDS * (2 * BLOCK + 100)  # two full blocks and a rest in each round


def unit(n: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(n, DIMENSION))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


SLATE = compact(unit(CANDIDATES, 1))
RR = RandomizedResponse(epsilon=2.0, domain_size=CANDIDATES + 1)
OUE = OptimizedUnaryEncoding(epsilon=2.0, domain_size=CANDIDATES + 1)


@pytest.fixture(scope="module")
def fleet() -> SimulatedFleet:
    population = Population(
        embeddings=unit(DEVICES, 0),
        offsets=np.arange(DEVICES + 1),
        device_ids=tuple(f"person-{i}" for i in range(DEVICES)),
        unit=DeviceUnit.ITEM,
    )
    cohorts = draw_cohorts(DEVICES, ROUNDS, Participation(), seed=3)
    return SimulatedFleet(population=population, cohorts=cohorts, rule=AnswerRule(none_below=0.6), seed=3)


def polled(fleet: SimulatedFleet, mechanism: Mechanism, round: int = 0) -> list[ReportBatch]:
    return list(fleet.poll("mail", SLATE, mechanism, round))


@pytest.mark.parametrize("mechanism", [RR, OUE], ids=lambda m: m.name)
def test_workers_change_no_report(fleet: SimulatedFleet, mechanism: Mechanism) -> None:
    one = polled(fleet, mechanism)
    four = polled(dataclasses.replace(fleet, workers=4), mechanism)
    assert [len(batch.reports) for batch in one] == [BLOCK, BLOCK, 100]
    for a, b in zip(one, four, strict=True):
        assert a.use_case == b.use_case == "mail"
        np.testing.assert_array_equal(a.senders, b.senders)
        np.testing.assert_array_equal(a.reports, b.reports)


def test_every_block_has_its_own_stream(fleet: SimulatedFleet) -> None:
    values = fleet.true_answers(SLATE, 0).values
    for block, batch in enumerate(polled(fleet, RR)):
        stream = DeviceStream.simulation(seed=3, round=0, stage=Stage.PRIVATIZE, chunk=block)
        part = values[block * BLOCK : (block + 1) * BLOCK]
        np.testing.assert_array_equal(batch.reports, RR.privatize(part, stream))
        other = DeviceStream.simulation(seed=3, round=1, stage=Stage.PRIVATIZE, chunk=block)
        assert (batch.reports != RR.privatize(part, other)).any()


def test_each_device_answers_in_one_round_only(fleet: SimulatedFleet) -> None:
    senders = [np.concatenate([b.senders for b in polled(fleet, RR, r)]) for r in range(ROUNDS)]
    for r, cohort in enumerate(fleet.cohorts.answering):
        np.testing.assert_array_equal(senders[r], cohort)
    everyone = np.concatenate(senders)
    assert len(np.unique(everyone)) == len(everyone) == DEVICES


@pytest.mark.parametrize("mechanism", [RR, OUE], ids=lambda m: m.name)
@pytest.mark.parametrize("round", range(ROUNDS))
def test_estimates_are_the_true_answers_within_five_standard_errors(
    fleet: SimulatedFleet, mechanism: Mechanism, round: int
) -> None:
    truth = np.bincount(fleet.true_answers(SLATE, round).values, minlength=CANDIDATES + 1)
    reports = np.concatenate([batch.reports for batch in polled(fleet, mechanism, round)])
    estimate = mechanism.estimate(mechanism.tally(reports))
    assert estimate.reports == truth.sum()
    assert (np.abs(estimate.counts - truth) < 5 * estimate.stderr).all()
    # Negative control: the same counts of other candidates are far off.
    assert (np.abs(estimate.counts - np.roll(truth, 1)) > 5 * estimate.stderr).any()


def test_without_privacy_the_reports_are_the_true_answers(fleet: SimulatedFleet) -> None:
    reports = np.concatenate([batch.reports for batch in polled(fleet, NoPrivacy(domain_size=CANDIDATES + 1))])
    np.testing.assert_array_equal(reports, fleet.true_answers(SLATE, 0).values)
    assert set(reports.tolist()) == set(range(CANDIDATES + 1)), "every candidate and 'none' must occur in this fixture"


@pytest.mark.parametrize("size", [CANDIDATES, CANDIDATES + 2])
def test_a_domain_that_does_not_fit_the_slate(fleet: SimulatedFleet, size: int) -> None:
    mechanism = RandomizedResponse(epsilon=1.0, domain_size=size)
    message = rf"the mechanism has {size} values; {CANDIDATES} candidates and 'none of these' need {CANDIDATES + 1}"
    with pytest.raises(ValueError, match=message):
        polled(fleet, mechanism)


@pytest.mark.parametrize("mechanism", [RR, OUE], ids=lambda m: m.name)
def test_the_log_holds_the_watched_devices_report_and_nothing_else(fleet: SimulatedFleet, mechanism: Mechanism) -> None:
    position = BLOCK + 17  # in the second block of round 1
    device = int(fleet.cohorts.answering[1][position])
    log = ReportLog.of(f"person-{device}", fleet.population.device_ids)
    watched = dataclasses.replace(fleet, watch=log, workers=2)
    assert polled(watched, mechanism, 0) and log.drain() == []  # it is not asked in round 0
    sent = polled(watched, mechanism, 1)[1].reports[17]
    records = log.drain()
    assert records == [
        {
            "round": 1,
            "use_case": "mail",
            "mechanism": mechanism.name,
            "epsilon": 2.0,
            "domain_size": CANDIDATES + 1,
            "report_bits": mechanism.report_bits,
            "report": int(sent) if mechanism is RR else sent.tobytes().hex(),
        }
    ]
    # It can be written as it is: no array, no vector, and no float but epsilon.
    assert json.loads(json.dumps(records)) == records
    assert [name for name, value in records[0].items() if isinstance(value, float)] == ["epsilon"]
    assert log.drain() == [], "drained"


def test_watching_changes_no_report(fleet: SimulatedFleet) -> None:
    watched = dataclasses.replace(fleet, watch=ReportLog(device=int(fleet.cohorts.answering[0][0])))
    for a, b in zip(polled(fleet, RR), polled(watched, RR), strict=True):
        np.testing.assert_array_equal(a.reports, b.reports)


def test_watching_an_unknown_device_names_no_device() -> None:
    with pytest.raises(PopulationError, match="not among the 2 devices") as caught:
        ReportLog.of("dora", ("anna", "bert"))
    assert not any(name in str(caught.value) for name in ("anna", "bert", "dora"))
