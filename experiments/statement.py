"""The privacy statement of a run: privacy.json for programs, privacy.md for a reviewer. No number in it is typed.

    write_statement(folder, job, rules, fleet, config)     # before the first poll, and again after each
    folder.read_json("privacy.json")["spent"]              # {"run": 4.0, "delta": 0.0, ...}

It answers what NIST SP 800-226 (2025), 'Guidelines for evaluating differential privacy guarantees', has a reviewer ask:
parameters, unit, trust model, contribution bounds, composition, side channels, and what is not covered. Numbers that
are infinite are null.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from aggregate.round import Rules
from aggregate.secure_aggregation import SecureAggregation
from aggregate.trust import NEIGHBOURS, CentralBaseline, Claim, LocalTrust, ShuffledTrust, Trust
from device_poll.fleet import SimulatedFleet
from device_poll.population import DeviceUnit
from experiments.job import Job
from experiments.provenance import PROTECTED, kept
from experiments.statement_page import render, rounded_up
from experiments.store import RunFolder
from privacy.budget import MICRO, micro_epsilon
from privacy.mechanism import Mechanism
from privacy.units import Schedule, Unit

AUDIT = "audit.json"


def write_statement(folder: RunFolder, job: Job, rules: Rules, fleet: SimulatedFleet, config: str) -> None:
    """Write privacy.json and privacy.md. `config` is the text of the run's configuration.

    Complete rounds count with the reports that came, so that after a poll the statement is about what happened.
    """
    played = [folder.read_json(f"rounds/{number:03d}/round.json") for number in range(folder.completed_rounds())]
    statement = build_statement(job, rules, fleet, config, played)
    if (folder.path / AUDIT).exists():
        statement["audit"] = folder.read_json(AUDIT)
    _write(folder, statement)


def add_audit(folder: RunFolder, audit: dict[str, Any]) -> None:
    """Keep the result of an audit in audit.json and in the statement. Raises StoreError if there is no statement."""
    statement = folder.read_json("privacy.json")
    folder.write_json(AUDIT, audit)
    _write(folder, statement | {"audit": audit})


def _write(folder: RunFolder, statement: dict[str, Any]) -> None:
    folder.write_json("privacy.json", statement)
    # From the file, so that the page is the same whether it is written at first or after an audit.
    folder.write_text("privacy.md", render(folder.read_json("privacy.json")))


def build_statement(
    job: Job, rules: Rules, fleet: SimulatedFleet, config: str, played: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The statement as plain values; `played` are the complete rounds' round.json.

    Raises ValueError if a device was to report more often than the caps allow.
    """
    trust, cohorts, unit = rules.trust, fleet.cohorts, fleet.population.unit
    mechanism = rules.mechanism(job.candidates + 1)
    answering = [round["reports"] for round in played] + _to_come(job, fleet)[len(played) :]
    smallest = min(answering)
    claim = trust.claim(mechanism, smallest)
    # Counted from the cohorts, not believed: parallel composition rests on it.
    per_device = int(np.bincount(np.concatenate(cohorts.asked)).max())
    schedule = Schedule(polls_per_day=per_device, days=1)
    job.caps.budget.check_plan(micro_epsilon(trust.cost(mechanism)), reports_per_day=per_device, reports=per_device)
    statement: dict[str, Any] = {
        "run": {
            "name": job.name,
            "seed": job.seed,
            "configuration_sha256": hashlib.sha256(config.encode()).hexdigest(),
        },
        "trust": {"model": trust.name, "baseline": trust.baseline, **asdict(trust.words)},
        "unit": {
            "protected": PROTECTED[unit],
            "is_a_person": unit is DeviceUnit.USER,
            "neighbours": NEIGHBOURS.of(Unit.DEVICE),
        },
        "mechanism": dict(trust.parameters(mechanism)),
        "spent": _spent(mechanism, claim, schedule),
        "caps": {"lifetime": job.caps.lifetime, "daily": job.caps.daily},
        "ledger": _ledger(job, trust, mechanism, played),
        "central": None if trust.name == LocalTrust.name else _central(trust, claim),
        "trust_models": _trust_models(job, trust, smallest),
        "composition": {"rounds": job.rounds, "rounds_per_device": per_device, "reports_per_round": answering},
        "contribution": {
            "reports_per_device": per_device,
            "values_per_report": 1,
            "items_looked_at": job.answer.recent,
            "items_per_report": job.answer.items,
        },
        "thresholds": {"minimum_batch": job.minimum_batch, "colluding_devices": trust.colluding},
        "sampling": {
            "devices": fleet.population.devices,
            "opted_in": cohorts.opted_in,
            "opt_in_rate": job.participation.opt_in,
            "availability": job.participation.availability,
            "asked_per_round": cohorts.asked_size,
            "rate_per_round": cohorts.asked_size / fleet.population.devices,
            "secret": False,
        },
        "accuracy": {"reports": smallest, "standard_error": trust.standard_error(mechanism, smallest)},
        "arms": list(job.arms),
        "audit": None,
    }
    return statement | {"headline": _headline(statement), "summary": _summary(statement), "facts": _facts(statement)}


def _to_come(job: Job, fleet: SimulatedFleet) -> list[int]:
    """The fewest reports that a round can have which is still to be polled."""
    # In a ledger of their own all reachable devices can pay (Job checks the caps). In a shared one nobody knows before
    # the poll, so until then nothing is claimed that a minimum batch would not keep.
    return [len(cohort) if job.ledger is None else job.minimum_batch for cohort in fleet.cohorts.answering]


def _ledger(job: Job, trust: Trust, mechanism: Mechanism, played: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What was debited, as far as it may be known: counts of reports, and one maximum that the caps bound anyway.

    How many devices stayed silent for lack of budget, and how many other use cases charged, says who took part in
    those; it is on the devices' side (oracle/).
    """
    return {
        "kept": kept(job),
        "shared_with_other_runs": job.ledger is not None,
        "caps": asdict(job.caps),
        "first_day": job.first_day,
        "cost_of_a_report": micro_epsilon(trust.cost(mechanism)) / MICRO,
        "polls_paid": len(played),
        "devices_charged": sum(round["reports"] for round in played),
        "largest_lifetime_spent": max((round["largest_lifetime_spent"] for round in played), default=None),
    }


def _spent(mechanism: Mechanism, claim: Claim, schedule: Schedule) -> dict[str, float | None]:
    """What a device spends, by time: with a local epsilon without any trust (delta 0), else under the trust model."""
    local = math.isfinite(mechanism.epsilon)
    epsilon, reports = mechanism.epsilon if local else claim.epsilon, schedule.polls(Unit.DEVICE)
    return {
        "report": epsilon if local else None,
        "round": epsilon,
        "day": reports * epsilon,  # all of a device's reports may fall on one day
        "run": reports * epsilon,
        "delta": 0.0 if local else reports * claim.delta,
    }


def _central(trust: Trust, claim: Claim) -> dict[str, object]:
    name = f"{trust.name} (baseline)" if trust.baseline else trust.name
    return {"epsilon": claim.epsilon, "delta": claim.delta, "trust_model": name}


def _trust_models(job: Job, chosen: Trust, reports: int) -> list[dict[str, object]]:
    """The run's budget under every trust model: what is in force, and what the same poll would claim elsewhere."""
    budget = chosen.cost(job.rules.mechanism(job.candidates + 1))
    models: list[Trust] = [
        LocalTrust(),
        ShuffledTrust(delta=job.delta),
        SecureAggregation(epsilon=budget, delta=job.delta),
        CentralBaseline(epsilon=budget, delta=job.delta),
    ]
    return [_row(job, chosen if trust.name == chosen.name else trust, chosen, reports) for trust in models]


def _row(job: Job, trust: Trust, chosen: Trust, reports: int) -> dict[str, object]:
    row: dict[str, object] = {"model": trust.name, "in_force": trust is chosen, "baseline": trust.baseline}
    try:
        mechanism = trust.mechanism(job.local, job.candidates + 1, job.minimum_batch)
        claim, floor = (trust.claim(mechanism, n) for n in (reports, max(2, job.minimum_batch)))
    except ValueError as error:
        if trust is chosen:
            raise
        return row | {"not_possible": str(error)}
    return row | {
        "epsilon": claim.epsilon,
        "delta": claim.delta,
        "epsilon_at_minimum_batch": floor.epsilon,
        "standard_error": trust.standard_error(mechanism, reports),
    }


def _headline(statement: dict[str, Any]) -> str:
    """What the terminal shows before the first poll."""
    spent, central, trust = statement["spent"], statement["central"], statement["trust"]
    told = [] if spent["report"] is None else [f"epsilon {spent['report']:g} per report and per device"]
    if central is not None:
        told.append(
            f"central epsilon {rounded_up(central['epsilon'])} at delta {central['delta']:g}, trust {trust['model']}"
        )
    return (
        ("BASELINE, not for release: " if trust["baseline"] else "")
        + "; ".join(told)
        + f" ({statement['mechanism']['mechanism']}); protects {statement['unit']['protected']}"
    )


def _facts(statement: dict[str, Any]) -> dict[str, str]:
    """Lines for the data set's card."""
    spent, central = statement["spent"], statement["central"]
    facts = {} if spent["report"] is None else {"epsilon of a report": f"{spent['report']:g}"}
    if central is not None:
        facts["trust model"] = central["trust_model"]
        facts["central epsilon, delta"] = f"{rounded_up(central['epsilon'])}, {central['delta']:g}"
    return facts


def _summary(statement: dict[str, Any]) -> str:
    """The guarantee as a paragraph, for the data set's card."""
    spent, central, trust, unit = (statement[key] for key in ("spent", "central", "trust", "unit"))
    told = []
    if trust["baseline"]:
        told.append(
            "BASELINE, not for release: the server saw every device's true answer, and nobody is protected from it."
        )
    if spent["report"] is not None:
        told.append(
            f"Every report satisfies pure local differential privacy with epsilon = {spent['report']:g}; "
            "each device reported at most once, so its total is the same."
        )
    if central is not None:
        what = "What the server sees" if spent["report"] is not None else "What is released"
        told.append(
            f"{what} of a run is differentially private with epsilon = {rounded_up(central['epsilon'])} and delta = "
            f"{central['delta']:g} (trust model {central['trust_model']}, at least "
            f"{statement['accuracy']['reports']} reports a round). This assumes: {'; '.join(trust['assumes'])}."
        )
    told.append(f"Protected unit: {unit['protected']}.")
    if not unit["is_a_person"]:
        told.append("This unit is smaller than a person.")
    told.append(
        "This run was a simulation whose noise comes from a seed: the statement holds for the mechanism, and for "
        "real devices that draw from the operating system."
        if trust["seeded"]
        else f"This run was a simulation; its noise is {trust['randomness']}."
    )
    return " ".join(told)
