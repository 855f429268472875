"""What the statement of a refinement adds to the shared facts: disjoint cohorts, one report a device.

build_statement(job, fleet, population, config, played)["composition"]      # {"rounds": 5, "rounds_per_device": 1, ...}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from device_poll.fleet import SimulatedFleet
from device_poll.population import DeviceUnit, Population
from experiments.refine.job import RefineJob
from experiments.statement.facts import Terms, card_facts, headline, shared_facts, summary

PROTECTED = {
    DeviceUnit.USER: "one device with all of its user's items",
    DeviceUnit.ITEM: "one item (each is a pseudo-device); a person with several items spends epsilon once for each",
    DeviceUnit.SPLIT: "one pseudo-device holding part of a user's items; a person spends epsilon once for each part",
}


def build_statement(
    job: RefineJob, fleet: SimulatedFleet, population: Population, config: str, played: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The statement as plain values; `played` are the complete rounds' round.json.

    Complete rounds count with the reports that came, so that after a poll the statement is about what happened. What
    was debited is told as far as the server knows it, by counts of reports. What any device has spent, how many stayed
    silent for lack of budget, and how many other use cases charged, is on the devices' side (oracle/). Raises
    ValueError if a device was to report more often than the caps allow.
    """
    cohorts, unit = fleet.cohorts, population.unit
    answering = [round["reports"] for round in played] + _to_come(job, fleet)[len(played) :]
    # Counted from the cohorts, not believed: parallel composition rests on it.
    per_device = int(np.bincount(np.concatenate(cohorts.asked)).max())
    if per_device != job.reports:
        raise ValueError(f"a device is asked in {per_device} rounds; expected {job.reports}")
    terms = Terms(
        job=job,
        mechanism=job.randomizer(job.values),
        values=job.values,
        reports=min(answering),
        protected=PROTECTED[unit],
        is_a_person=unit is DeviceUnit.USER,
        polls_paid=len(played),
        devices_charged=sum(round["reports"] for round in played),
    )
    statement = shared_facts(terms, config) | {
        "composition": {"rounds": job.rounds, "rounds_per_device": per_device, "reports_per_round": answering},
        "contribution": {
            "reports_per_device": per_device,
            "values_per_report": 1,
            "items_looked_at": job.answer.recent,
            "items_per_report": job.answer.items,
        },
        "sampling": {
            "devices": population.devices,
            "opted_in": cohorts.opted_in,
            "opt_in_rate": job.participation.opt_in,
            "availability": job.participation.availability,
            "asked_per_round": cohorts.asked_size,
            "rate_per_round": cohorts.asked_size / population.devices,
            "secret": False,
        },
        "arms": list(job.arms),
    }
    spent = statement["spent"]
    local = (
        f"Every report satisfies pure local differential privacy with epsilon = {spent['report'] or 0:g}; "
        "each device reported at most once, so its total is the same."
    )
    return statement | {
        "headline": headline(statement, f"epsilon {spent['report'] or 0:g} per report and per device"),
        "summary": summary(statement, local, "a round"),
        "facts": card_facts(statement),
    }


def _to_come(job: RefineJob, fleet: SimulatedFleet) -> list[int]:
    """The fewest reports that a round can have which is still to be polled."""
    # In a ledger of their own all reachable devices can pay (Job checks the caps). In a shared one nobody knows before
    # the poll, so until then nothing is claimed that a minimum batch would not keep.
    return [len(cohort) if job.ledger is None else job.minimum_batch for cohort in fleet.cohorts.answering]
