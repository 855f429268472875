"""run.json of a refinement: what ran, on what, with which budget, and what that budget can resolve."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aggregate.round import Rules
from device_poll.cohorts import Cohorts
from device_poll.population import Population
from experiments.refine.job import RefineJob
from experiments.statement.facts import guarantee, kept
from experiments.statement.refine import PROTECTED


def describe(job: RefineJob, rules: Rules, cohorts: Cohorts, population: Population) -> Mapping[str, Any]:
    """The facts. What was counted among the devices' data without noise is no part of it."""
    mechanism = job.randomizer(job.values)
    reports = len(cohorts.answering[0])
    stderr = rules.trust.standard_error(mechanism, reports)
    why_not = rules.generator.reproducible
    return {
        "name": job.name,
        "seed": job.seed,
        "devices": {
            "count": population.devices,
            "unit": str(population.unit),
            "opted_in": cohorts.opted_in,
            "asked_per_round": cohorts.asked_size,
        },
        "privacy": guarantee(job, mechanism, PROTECTED[population.unit]),
        "resolution": {
            "reports_per_round": reports,
            "stderr_of_a_count": stderr,
            "votes_per_candidate": reports / job.candidates,
            "votes_to_resolve_one_candidate": job.threshold * stderr,
        },
        # Where the ledger is kept is a place; whether other runs share it is part of what this run can say.
        "ledger": {"kept": kept(job), "first_day": job.simulated_day},
        "generator": rules.generator.name,
        "generator_repeats": {"repeats": why_not is None, "why_not": why_not},
        "encoder": rules.encoder.name,
        "judge": job.judge.name,
    }
