"""The privacy statement of a use case: privacy.json and privacy.md, in the form of the main job's. No number is typed.

    write_statement(folder, job, polls, config)       # before the first report, and again after the last

The page is the one of experiments/statement_page.py; where a use case differs from a poll in rounds, its own lines
stand in `sections`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from aggregate.trust import NEIGHBOURS, LocalTrust, ShuffledTrust
from experiments.statement_page import render, rounded_up
from experiments.store import RunFolder
from experiments.use_cases.groups import Poll
from experiments.use_cases.job import UseCaseJob
from experiments.use_cases.results import is_complete, place_of
from privacy.units import Unit

PROTECTED = "one device with all of its data"
_MONTH, _YEAR = 30, 365


def write_statement(folder: RunFolder, job: UseCaseJob, polls: Sequence[Poll], config: str) -> None:
    """Write privacy.json and privacy.md. Keys that are complete count with the reports that came."""
    reports = {
        poll.key: folder.read_json(f"{place_of(poll.key)}/segment.json")["reports"]
        if is_complete(folder, poll.key)
        else poll.expected_reports
        for poll in polls
    }
    folder.write_json("privacy.json", build_statement(job, polls, reports, config))
    folder.write_text("privacy.md", render(folder.read_json("privacy.json")))


def build_statement(job: UseCaseJob, polls: Sequence[Poll], reports: dict[str, int], config: str) -> dict[str, Any]:
    """The statement as plain values; `reports` by key, as far as they came, else as expected."""
    trust, a_day = LocalTrust(), job.epsilon * job.reports_per_day
    poll = min(polls, key=lambda poll: reports[poll.key])
    fewest = max(reports[poll.key], 1)
    stderr = float(poll.mechanism.standard_error(fewest))
    statement: dict[str, Any] = {
        "run": {
            "name": job.name,
            "seed": job.seed,
            "configuration_sha256": hashlib.sha256(config.encode()).hexdigest(),
        },
        "trust": {"model": trust.name, "baseline": trust.baseline, **asdict(trust.words)},
        "unit": {"protected": PROTECTED, "is_a_person": True, "neighbours": NEIGHBOURS.of(Unit.DEVICE)},
        "mechanism": dict(poll.mechanism.parameters),
        "spent": {
            "report": job.epsilon,
            "day": a_day,
            "run": a_day * job.days,
            "delta": 0.0,
            "lifetime": job.caps.lifetime,
        },
        "caps": {"lifetime": job.caps.lifetime, "daily": job.caps.daily},
        "central": None,
        "trust_models": _trust_models(job, poll, fewest, stderr),
        "composition": {"days": job.days, "reports_per_day": job.reports_per_day, "reports_by_key": dict(reports)},
        "contribution": {
            "reports_per_device": job.reports_per_device,
            "values_per_report": 1,
            "use_cases_sharing_the_budget": list(job.use_cases),
            "use_cases_collected": list(job.collected),
        },
        "thresholds": {"minimum_batch": job.minimum_batch, **asdict(job.release)},
        "sampling": {"devices": job.devices, "opt_in_rate": job.opt_in, "secret": False},
        "accuracy": {"reports": fewest, "standard_error": stderr},
        "arms": [],
        "audit": None,
    }
    statement |= {
        "headline": _headline(job),
        "summary": _summary(job),
        "facts": {"epsilon of a report": f"{job.epsilon:g}"},
    }
    return statement | {"sections": _sections(statement, polls, job)}


def _trust_models(job: UseCaseJob, poll: Poll, reports: int, stderr: float) -> list[dict[str, object]]:
    run = job.epsilon * job.reports_per_device
    local: dict[str, object] = {
        "model": LocalTrust.name,
        "in_force": True,
        "baseline": False,
        "epsilon": run,
        "delta": 0.0,
        "epsilon_at_minimum_batch": run,
        "standard_error": stderr,
    }
    shuffled: dict[str, object] = {"model": ShuffledTrust.name, "in_force": False, "baseline": False}
    if job.reports_per_device > 1:
        why = f"a device may send {job.reports_per_device} reports in this run; what hides several is not computed here"
        return [local, shuffled | {"not_possible": why}]
    trust = ShuffledTrust(delta=job.delta)
    try:
        claim, floor = (trust.claim(poll.mechanism, n) for n in (reports, job.minimum_batch))
    except ValueError as error:
        return [local, shuffled | {"not_possible": str(error)}]
    return [
        local,
        shuffled
        | {
            "epsilon": claim.epsilon,
            "delta": claim.delta,
            "epsilon_at_minimum_batch": floor.epsilon,
            "standard_error": stderr,
        },
    ]


def _headline(job: UseCaseJob) -> str:
    """What the terminal shows before the first report."""
    spent = f"at most {job.reports_per_day} a day" if job.reports_per_device > 1 else "one in the run"
    return (
        f"epsilon {job.epsilon:g} per report, {spent}: {job.epsilon * job.reports_per_day:g} per device and day, "
        f"{job.epsilon * job.reports_per_device:g} in this run; protects {PROTECTED}"
    )


def _summary(job: UseCaseJob) -> str:
    shared = ""
    if len(job.use_cases) > 1:
        shared = f" over all of {', '.join(job.use_cases)}, which share this budget"
    return (
        f"Every report satisfies pure local differential privacy with epsilon = {job.epsilon:g}, without trust in "
        f"anybody. A device sends at most {job.reports_per_day} a day{shared}: epsilon = "
        f"{job.epsilon * job.reports_per_day:g} per device and day, and {job.epsilon * job.reports_per_device:g} for "
        f"the {job.days} day{'s' if job.days > 1 else ''} of this run. {_lifetime(job)} Protected unit: {PROTECTED}. "
        "This run was a simulation whose noise comes from a seed: the statement holds for the mechanism, and for real "
        "devices that draw from the operating system."
    )


def _lifetime(job: UseCaseJob) -> str:
    a_day = job.epsilon * job.reports_per_day
    if job.caps.lifetime is None and job.vocabulary_of_prompts:
        return f"No lifetime cap is set: every further poll of the same device adds {job.epsilon:g}, without end."
    if job.caps.lifetime is None:
        return (
            "No lifetime cap is set: a use case that goes on at this rate spends "
            f"{a_day * _MONTH:g} in {_MONTH} days and {a_day * _YEAR:g} in a year, without end."
        )
    return (
        f"A device's lifetime cap over all runs and use cases is {job.caps.lifetime:g}: it stays silent for good after "
        f"{int(job.caps.lifetime // a_day)} such day{'s' if job.caps.lifetime // a_day != 1 else ''}."
    )


def _sections(statement: dict[str, Any], polls: Sequence[Poll], job: UseCaseJob) -> dict[str, list[str]]:
    """The parts of the page in which a use case differs from a poll in rounds."""
    spent = statement["spent"]
    rows = [("one report", spent["report"]), ("one day, at most", spent["day"]), ("the whole run", spent["run"])]
    caps = [(f"{name} cap over all runs", cap) for name, cap in statement["caps"].items()]
    looked_at = {poll.key: poll.values for poll in polls}
    keys = [
        f"| {key} | {reports} | {'no list' if looked_at[key] is None else looked_at[key]} |"
        for key, reports in statement["composition"]["reports_by_key"].items()
    ]
    asked_once = job.vocabulary_of_prompts
    return {
        "What one device spends": [
            "| of one device | epsilon | delta |",
            "| --- | --- | --- |",
            *[f"| {name} | {rounded_up(float(value))} | 0 |" for name, value in rows],
            *[f"| {name} | {'no cap is set' if cap is None else f'{cap:g}'} | |" for name, cap in caps],
            "",
            f"A report's epsilon needs no trust in anybody. {_lifetime(job)}",
            "",
            "The plan is checked against the caps before it starts. Report by report, a ledger on the devices' side is "
            "debited before a report leaves; it was made for this run and is gone with it, so what other runs cost "
            "the same devices is not in it, and adds up."
            if not job.exact
            else "The plan was checked against the caps before it started. Tallies were drawn from their exact law, so "
            "no ledger was kept; what other runs cost the same devices adds up.",
        ],
        "Contribution, thresholds, sampling": [
            f"- A device sends at most {job.reports_per_day} report{'s' if job.reports_per_day > 1 else ''} a day"
            + (f" over {', '.join(job.use_cases)} together" if len(job.use_cases) > 1 else "")
            + ", with one value each"
            + (
                "."
                if asked_once
                else ": every event is privatized at once, its record waits, and of the day's records a random pick is "
                "sent; the rest is dropped. The pick does not look at what the records say."
            ),
            f"- Of the use cases, the server asks for {', '.join(job.collected)} in this run."
            + (" Reports of others end at the front door; devices pay for them all the same." if job.unasked else ""),
            f"- A key with fewer than {job.minimum_batch} reports is refused, and nothing of it is counted.",
            f"- {job.release.describe(looked_at[polls[0].key] or 0)}"
            if looked_at[polls[0].key]
            else "- Found words are tested at the false discovery rate of the configuration and corrected for the "
            "number of candidates.",
            f"- {job.devices} devices, of which a share of {job.opt_in:g} opted in; the others send nothing.",
            f"- Accuracy at this price: a count has a standard error of {statement['accuracy']['standard_error']:.1f} "
            f"reports among {statement['accuracy']['reports']}.",
        ],
        "Composition": [
            f"{job.days} day{'s' if job.days > 1 else ''} of at most {job.reports_per_day}: reports of one device add "
            "up (basic composition), whatever key they are of. Keys are never combined on the server, and no device "
            "is in two segments.",
            "",
            "| key | reports | elements looked for |",
            "| --- | --- | --- |",
            *keys,
        ],
        "Randomness and known side channels": [
            f"- Randomness: simulation: {statement['trust']['randomness']}. Whoever knows a seed can remove noise that "
            "was drawn from it. Real devices must draw from the operating system (DeviceStream.from_system).",
            "- Participation: that a device sends, how many reports up to its cap, and of which key, is visible to the "
            "transport. It depends on how much happened on the device and on its locale, and is not protected.",
            "- Timing: when a report arrives, and how long a device computes, are outside of the guarantee.",
            f"- Floating point: {statement['trust']['floating_point']}.",
            "- Fabricated reports: a device can send any valid report; this can falsify counts, not reveal another's "
            "data.",
        ],
        "What is released, what is not, what is kept": [
            "- Released: for each key the elements that the release rule let out, with counts and intervals, the "
            "number of reports, how many elements were looked at and how many withheld, and this statement.",
            "- Not released and not kept: single reports, tallies, and estimates of withheld elements. They exist in "
            "memory while a key is judged. What only a simulation can know (true counts of released elements, scores) "
            "is under oracle/, which must not be handed on.",
        ],
        "Measured from below": [
            "No audit is made of use-case runs; `synthpoll audit mechanism=NAME` attacks the mechanisms."
        ],
    }
