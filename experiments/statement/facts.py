"""The privacy statement of a run: privacy.json for programs, privacy.md for a reviewer. No number in it is typed.

    write_statement(folder, shared_facts(terms, config) | {...})     # before the first poll, and again after each
    folder.read_json("privacy.json")["spent"]                        # {"run": 4.0, "delta": 0.0, ...}

It answers what NIST SP 800-226 (2025), 'Guidelines for evaluating differential privacy guarantees', has a reviewer ask:
parameters, unit, trust model, contribution bounds, composition, side channels, and what is not covered. Numbers that
are infinite are null. What every run states is here; what a refinement or a count adds is in files of their own.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from aggregate.secure_aggregation import SecureAggregation
from aggregate.trust import CentralBaseline, Claim, LocalTrust, ShuffledTrust, Trust
from experiments.folder.layout import AUDIT, STATEMENT, STATEMENT_PAGE
from experiments.folder.store import RunFolder
from experiments.job import Job
from experiments.noise import noise_in_words, words_of
from experiments.statement.audits import kept_audits, with_audits
from experiments.statement.page import render, rounded_up
from privacy.budget import MICRO, micro_epsilon
from privacy.mechanism import Mechanism
from privacy.validity import FALSE_REFUSAL


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a statement is about: one device's reports, and what they hide in.

    `mechanism`: what the devices run in the poll that reveals most, which is about `values` values and has `reports` or
    more; `expected`: how many, for what is no claim (None: as many); `protected`: the unit of privacy in words,
    `is_a_person` if it is no less. `polls_paid`, `devices_charged`: what the ledger has of the polls that are over.
    """

    job: Job
    mechanism: Mechanism
    values: int
    reports: int
    protected: str
    is_a_person: bool
    expected: int | None = None
    polls_paid: int = 0
    devices_charged: int | None = None

    @property
    def likely(self) -> int:
        """Reports for what is no claim about privacy: the accuracy."""
        return self.reports if self.expected is None else self.expected

    @property
    def claim(self) -> Claim:
        """What the trust model claims of all reports of a device."""
        return self.job.trust.claim(self.mechanism, self.reports, self.job.reports)


def most_revealing(job: Job, polls: Mapping[str, tuple[Mechanism, int]]) -> str:
    """The poll, by name, about which the trust model's claim is the weakest; of equal ones that with fewest reports.

    Fewer reports hide less, and so does another mechanism: neither alone says which poll it is.
    """

    def hides(name: str) -> tuple[float, int]:
        mechanism, reports = polls[name]
        return -job.trust.claim(mechanism, reports, job.reports).epsilon, reports

    return min(polls, key=hides)


def write_statement(folder: RunFolder, statement: dict[str, Any]) -> None:
    """Write privacy.json and privacy.md, with all audits that there were.

    Raises StoreError for a damaged audit.json, or where that is gone for a damaged privacy.json.
    """
    audits = kept_audits(folder.files)
    if audits:
        folder.write_json(AUDIT, audits)
    _write(folder, with_audits(statement, audits))


def add_audit(folder: RunFolder, audit: dict[str, Any]) -> None:
    """Keep the result of an audit, behind those that there were, in audit.json and in the statement.

    Raises StoreError if there is no statement.
    """
    statement, audits = folder.read_json(STATEMENT), [*kept_audits(folder.files), audit]
    folder.write_json(AUDIT, audits)
    _write(folder, with_audits(statement, audits))


def _write(folder: RunFolder, statement: dict[str, Any]) -> None:
    folder.write_json(STATEMENT, statement)
    # From the file, so that the page is the same whether it is written at first or after an audit.
    folder.write_text(STATEMENT_PAGE, render(folder.read_json(STATEMENT)))


def shared_facts(terms: Terms, config: str) -> dict[str, Any]:
    """What every run states, as plain values. `config` is the text of its configuration.

    Raises ValueError if a device was to report more often than the caps allow, or if the trust model cannot claim
    anything for so few reports.
    """
    job, trust, claim = terms.job, terms.job.trust, terms.claim
    cost = micro_epsilon(trust.cost(terms.mechanism, job.reports))
    job.caps.budget.check_plan(cost, reports_per_day=job.reports_a_day, reports=job.reports)
    return {
        "run": {
            "name": job.name,
            "seed": job.seed,
            "configuration_sha256": hashlib.sha256(config.encode()).hexdigest(),
        },
        "trust": {"model": trust.name, "baseline": trust.baseline, **asdict(words_of(job))},
        "noise": {
            "from": "system" if job.system_noise else "seed",
            "words": noise_in_words(job),
            "exact_law": job.exact,
            "brought": job.brought,
        },
        "unit": {
            "protected": terms.protected,
            "is_a_person": terms.is_a_person,
            "neighbours": job.neighbours,
        },
        "mechanism": dict(trust.parameters(terms.mechanism)),
        "spent": _spent(terms),
        "caps": {"lifetime": job.caps.lifetime, "daily": job.caps.daily},
        "ledger": {
            "kept": kept(job),
            "shared_with_other_runs": job.ledger is not None,
            "caps": asdict(job.caps),
            "first_day": job.simulated_day,
            "cost_of_a_report": cost / MICRO,
            "polls_paid": 0 if kept(job) == "none" else terms.polls_paid,
            "devices_charged": terms.devices_charged,
        },
        "central": None if trust.delta == 0 else _central(trust, claim),
        "trust_models": _trust_models(terms),
        "thresholds": {
            "minimum_batch": job.minimum_batch,
            "least_reports": max(2, job.least_reports),
            "reports_claimed": terms.reports,
            "colluding_devices": trust.colluding,
        },
        "fabrication": fabrication(trust, [terms.mechanism]),
        "accuracy": {"reports": terms.likely, "standard_error": trust.standard_error(terms.mechanism, terms.likely)},
        "arms": [],
        "audits": [],
    }


def guarantee(job: Job, mechanism: Mechanism, protected: str) -> dict[str, Any]:
    """The guarantee in short, for run.json; the whole of it is privacy.json. None stands for an infinite epsilon."""
    words = words_of(job)
    local = mechanism.epsilon if math.isfinite(mechanism.epsilon) else None
    return {
        "trust_model": f"{job.trust.name}: {words.noise_from} adds the noise; the server sees {words.server_sees}",
        "guarantee": "pure local differential privacy of every report" + ", in a deployment" * job.exact
        if local is not None
        else "central differential privacy of the sums, none of a single report",
        "unit": protected,
        "mechanism": dict(job.trust.parameters(mechanism)),
        "epsilon_per_report": local,
        "reports_per_device": job.reports,
        "epsilon_per_device": None if local is None else job.reports * local,
        "randomness": noise_in_words(job),
    }


def kept(job: Job) -> str:
    """Where the run's ledger is: a file that other runs debit too, in memory and for this run alone, or nowhere."""
    if job.ledger is not None:
        return "file"
    return "none" if job.exact else "memory"


def _spent(terms: Terms) -> dict[str, float | None]:
    """What a device spends, by time: with a local epsilon without any trust (delta 0), else under the trust model."""
    job, epsilon = terms.job, terms.mechanism.epsilon
    spent: dict[str, float | None] = {"lifetime": job.caps.lifetime}
    if math.isfinite(epsilon):
        return spent | {
            "report": epsilon,
            "round": epsilon,
            "day": job.reports_a_day * epsilon,
            "run": job.reports * epsilon,
            "delta": 0.0,
        }
    one, day = (job.trust.claim(terms.mechanism, terms.reports, sent) for sent in (1, job.reports_a_day))
    return spent | {
        "report": None,
        "round": one.epsilon,
        "day": day.epsilon,
        "run": terms.claim.epsilon,
        "delta": terms.claim.delta,
    }


def fabrication(trust: Trust, mechanisms: Iterable[Mechanism]) -> dict[str, float | None]:
    """How much a report of a device that lies can falsify in the polls of these mechanisms (None: no bound is known),
    and how often an honest one is refused for it (None: none is, and no other)."""
    influence = max(trust.largest_influence(mechanism) for mechanism in mechanisms)
    return {
        "largest_influence": None if math.isinf(influence) else influence,
        "false_refusal": FALSE_REFUSAL if trust.sees_reports else None,
    }


def _central(trust: Trust, claim: Claim) -> dict[str, object]:
    name = f"{trust.name} (baseline)" if trust.baseline else trust.name
    return {"epsilon": claim.epsilon, "delta": claim.delta, "trust_model": name}


def _trust_models(terms: Terms) -> list[dict[str, object]]:
    """The run's budget under every trust model: what is in force, and what the same poll would claim elsewhere."""
    job, chosen = terms.job, terms.job.trust
    budget = chosen.cost(terms.mechanism)
    models: list[Trust] = [
        LocalTrust(),
        ShuffledTrust(delta=job.delta),
        SecureAggregation(epsilon=budget, delta=job.delta),
        CentralBaseline(epsilon=budget, delta=job.delta),
    ]
    others = [trust for trust in models if trust.name != chosen.name]
    in_order = sorted([chosen, *others], key=lambda trust: [each.name for each in [*models, chosen]].index(trust.name))
    return [_row(terms, trust) for trust in in_order]


def _row(terms: Terms, trust: Trust) -> dict[str, object]:
    job, in_force = terms.job, trust is terms.job.trust
    row: dict[str, object] = {"model": trust.name, "in_force": in_force, "baseline": trust.baseline}
    try:
        # Another trust model's devices run another mechanism; in force is the one that the poll has.
        made = trust.mechanism(job.local, terms.values, job.least_reports, job.reports)
        mechanism = terms.mechanism if in_force else made
        job.check_trust(trust, mechanism)
        least = max(2, job.least_reports)
        claim, floor = (trust.claim(mechanism, reports, job.reports) for reports in (terms.reports, least))
    except ValueError as error:
        if in_force:
            raise
        return row | {"not_possible": str(error)}
    return row | {
        "epsilon": claim.epsilon,
        "delta": claim.delta,
        "epsilon_at_minimum_batch": floor.epsilon,
        "standard_error": trust.standard_error(mechanism, terms.likely),
    }


def headline(statement: dict[str, Any], spent: str) -> str:
    """What the terminal shows before the first poll; `spent` says what a report costs, where one is private alone."""
    central, trust = statement["central"], statement["trust"]
    claimed = statement["thresholds"]["reports_claimed"]
    # Before a poll nobody knows how many will come; the claim is then for the fewest that are accepted.
    least = f", for {claimed} reports or more" if claimed < statement["accuracy"]["reports"] else ""
    told = [] if statement["spent"]["report"] is None else [spent]
    if central is not None:
        told.append(
            f"central epsilon {rounded_up(central['epsilon'])} at delta {central['delta']:g}{least}, trust "
            f"{trust['model']}"
        )
    return (
        ("BASELINE, not for release: " if trust["baseline"] else "")
        + "; ".join(told)
        + f" ({statement['mechanism']['mechanism']}); protects {statement['unit']['protected']}"
    )


def simulation(statement: Mapping[str, Any]) -> str:
    """Why the run protects nobody, where what devices draw comes from the seed or no device reports; else nothing."""
    if statement["noise"].get("exact_law"):
        return (
            "SIMULATION: no device reports; tallies are drawn from the exact law of what devices would send. The "
            "statement holds for the mechanism, and for runs that are made of reports with noise=system."
        )
    if statement["noise"]["from"] == "system":
        return ""
    if not statement["trust"]["repeats"]:
        return (
            "SIMULATION: the masks of devices' shares come from the seed of this run, and whoever knows it and sees "
            "the shares can put them together; the noise on the sums is the operating system's."
        )
    return (
        "SIMULATION: the noise of this run comes from its seed, and whoever knows the seed can take it off; the "
        "statement holds for the mechanism, and for runs with noise=system."
    )


def card_facts(statement: dict[str, Any]) -> dict[str, str]:
    """Lines for a data set's card."""
    spent, central = statement["spent"], statement["central"]
    facts = {} if spent["report"] is None else {"epsilon of a report": f"{spent['report']:g}"}
    if central is not None:
        facts["trust model"] = central["trust_model"]
        facts["central epsilon, delta"] = f"{rounded_up(central['epsilon'])}, {central['delta']:g}"
    return facts


def summary(statement: dict[str, Any], local: str, where: str) -> str:
    """The guarantee as a paragraph; `local` is what is said of a report that is private alone, `where` of what the
    central claim is."""
    spent, central, trust, unit, thresholds = (
        statement[key] for key in ("spent", "central", "trust", "unit", "thresholds")
    )
    told, drawn = [], statement["noise"]["exact_law"]
    if drawn:  # first, since all that follows is to be read with it
        told.append(simulation(statement))
    if trust["baseline"]:
        told.append(
            f"BASELINE, not for release: the server {'would see' if drawn else 'saw'} every device's true answer, and "
            "nobody is protected from it."
        )
    if spent["report"] is not None:
        told.append(local)
    if central is not None:
        what = "What the server sees" if spent["report"] is not None else "What is released"
        told.append(
            f"{what} of a run is differentially private with epsilon = {rounded_up(central['epsilon'])} and delta = "
            f"{central['delta']:g} (trust model {central['trust_model']}, at least {thresholds['reports_claimed']} "
            f"reports {where}). This assumes: {'; '.join(trust['assumes'])}."
        )
    told.append(f"Protected unit: {unit['protected']}.")
    if not unit["is_a_person"]:
        told.append("This unit is smaller than a person.")
    if not drawn:
        source = f"The noise of {trust['noise_from'].rstrip(',')} comes from the operating system"
        told.append(simulation(statement) or f"{source}, and no seed repeats it.")
    return " ".join(told)
