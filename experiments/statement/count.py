"""What the statement of a count adds to the shared facts: days, caps a day, keys, release rules.

build_statement(job, keys, reports, config)["spent"]      # {"report": 4.0, "day": 8.0, "run": 8.0, ...}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from experiments.count.job import CountJob
from experiments.count.poll import Key
from experiments.statement.facts import (
    Terms,
    card_facts,
    fabrication,
    headline,
    most_revealing,
    shared_facts,
    summary,
)
from experiments.statement.page import ADDS_UP, fabricated, spent_table
from privacy.budget import micro_epsilon

PROTECTED = "one device with all of its data"
_MONTH, _YEAR = 30, 365


def build_statement(job: CountJob, keys: Sequence[Key], reports: Mapping[str, int], config: str) -> dict[str, Any]:
    """The statement as plain values; `reports` by key, of those that are complete.

    Nothing is claimed of a key to come that a minimum batch would not keep: how many reports come is known afterwards.
    """
    known = {key.key: reports.get(key.key, key.expected_reports) for key in keys}
    worst, sure = claimed_of(job, keys, reports)
    terms = Terms(
        job=job,
        mechanism=worst.mechanism,
        values=worst.answers or job.values,
        reports=sure,
        expected=max(known[worst.key], job.least_reports),
        protected=PROTECTED,
        is_a_person=True,
        polls_paid=len(reports),
    )
    statement = shared_facts(terms, config)
    statement["thresholds"] |= asdict(job.release)
    statement["fabrication"] = fabrication(job.trust, [key.mechanism for key in keys])
    statement |= {
        "composition": {"days": job.days, "reports_per_day": job.reports_per_day, "reports_by_key": known},
        "contribution": {
            "reports_per_device": job.reports,
            "values_per_report": 1,
            "use_cases_sharing_the_budget": list(job.use_cases),
            "use_cases_collected": list(job.collected),
        },
        "sampling": {"devices": job.devices, "opt_in_rate": job.opt_in, "secret": False},
    }
    spent_by = statement["spent"]
    alone = spent_by["report"] is not None
    statement |= {
        "headline": headline(statement, _headline(job, spent_by) if alone else ""),
        "summary": summary(statement, _summary(job, spent_by) if alone else "", "of a key"),
        "facts": card_facts(statement),
    }
    return statement | {"sections": _sections(statement, keys, job)}


def claimed_of(job: CountJob, keys: Sequence[Key], reports: Mapping[str, int]) -> tuple[Key, int]:
    """The key of which the claim is the weakest, and how many of its reports are claimed; `reports` as above."""
    least = job.least_reports
    # A count of reports that depends on what devices hold is not told, so nothing is claimed that rests on it.
    sure = {key.key: reports.get(key.key, least) if job.always_reports else least for key in keys}
    worst = most_revealing(job, {key.key: (key.mechanism, sure[key.key]) for key in keys})
    return next(key for key in keys if key.key == worst), sure[worst]


def _headline(job: CountJob, spent: Mapping[str, Any]) -> str:
    often = f"at most {job.reports_per_day} a day" if job.reports > 1 else "one in the run"
    return (
        f"epsilon {spent['report']:g} per report, {often}: {spent['day']:g} per device and day, "
        f"{spent['run']:g} in this run"
    )


def _summary(job: CountJob, spent: Mapping[str, Any]) -> str:
    shared = ""
    if len(job.use_cases) > 1:
        shared = f" over all of {', '.join(job.use_cases)}, which share this budget"
    every = "A report of this mechanism" if job.exact else "Every report"
    return (
        f"{every} satisfies pure local differential privacy with epsilon = {spent['report']:g}, without trust in "
        f"anybody. A device sends at most {job.reports_per_day} a day{shared}: epsilon = {spent['day']:g} per device "
        f"and day, and {spent['run']:g} for the {job.days} day{'s' if job.days > 1 else ''} of this run. "
        f"{_lifetime(job, spent['day'])}"
    )


def _lifetime(job: CountJob, a_day: float) -> str:
    if job.caps.lifetime is None and job.asked_once:
        return f"No lifetime cap is set: every further poll of the same device adds {a_day:g}, without end."
    if job.caps.lifetime is None:
        return (
            "No lifetime cap is set: a use case that goes on at this rate spends "
            f"{a_day * _MONTH:g} in {_MONTH} days and {a_day * _YEAR:g} in a year, without end."
        )
    days = job.caps.budget.lifetime // micro_epsilon(a_day)
    silent = f"a device stays silent for good after {days} such day{'s' if days != 1 else ''}"
    if job.ledger is None:
        return (
            f"The lifetime cap is {job.caps.lifetime:g}, of which other runs do not know; only where all of them debit "
            f"one ledger file (ledger=FILE), {silent}."
        )
    return (
        f"A device's lifetime cap is {job.caps.lifetime:g} over all runs and use cases that debit the ledger file for "
        f"the same id: {silent}."
    )


def _ledger(statement: dict[str, Any], job: CountJob) -> str:
    cost, shared = statement["ledger"]["cost_of_a_report"], job.ledger is not None
    if job.exact and not shared:
        return (
            "The plan was checked against the caps before it started. Tallies were drawn from their exact law, so no "
            "ledger was kept; what other runs cost the same devices adds up."
        )
    told = "The plan is checked against the caps before it starts. " + (
        f"A ledger on the devices' side is debited {cost:g} for each report that a device would send, before the tally "
        "is drawn; "
        if job.exact
        else f"Report by report, a ledger on the devices' side is debited {cost:g} before a report leaves; "
    )
    if not shared:
        return told + (
            "it was made for this run and is gone with it, so what other runs cost the same devices is not in it, and "
            "adds up."
        )
    silent = "is in no tally" if job.exact else "sends nothing"
    told += (
        "it is a file in which a device's account is that of its number, 'device 0' and so on, the same in every use "
        f"case. {ADDS_UP} {_dealt(job)}A device whose cap is reached, or whose owner has said no in the file, "
        f"{silent}. "
        + ("The day is the clock's (UTC)." if job.system_noise else f"Days are simulated, from day {job.first_day} on.")
    )
    return told


def _dealt(job: CountJob) -> str:
    return (
        "Prompts are dealt to devices by the seed and the number of devices, so accounts are of these devices, and of "
        "no prompt and nobody who typed one. " * job.brought
    )


def _picked(job: CountJob) -> str:
    """What a report is about, and what becomes of the rest."""
    if job.always_reports:
        return (
            ": a device that opted in always sends as many. Which use case each is about is drawn before anybody looks "
            "at what happened; of that use case's events of the day it tells a random one, or else, through the same "
            "mechanism, that there is nothing to report. The rest is dropped."
        )
    return (
        ": of the day's events a random pick is privatized and sent, and the rest is dropped. The pick does not look "
        "at what happened, but a device to which less happened sends less."
    )


def _sections(statement: dict[str, Any], keys: Sequence[Key], job: CountJob) -> dict[str, list[str]]:
    """The parts of the page in which a count differs from polls in rounds."""
    values = {key.key: key.values for key in keys}
    rows = [
        f"| {key} | {reports} | {'no list' if values[key] is None else len(values[key] or ())} |"
        for key, reports in statement["composition"]["reports_by_key"].items()
    ]
    looked_at = len(keys[0].values or ())
    single = "" if job.exact else "single reports, "
    return {
        "What one device spends": [
            *spent_table(statement, ("report", "day", "run")),
            "",
            (
                f"A report's epsilon needs no trust in anybody. {_lifetime(job, statement['spent']['day'])}"
                if statement["spent"]["report"] is not None
                else "One report alone is not protected at all: the numbers hold under the trust model only."
            ),
            "",
            _ledger(statement, job),
        ],
        "Contribution, thresholds, sampling": [
            *["- Nothing is sent in this run: tallies are drawn from the law of what is said here."] * job.exact,
            f"- A device sends at most {job.reports_per_day} report{'s' if job.reports_per_day > 1 else ''} a day"
            + (f" over {', '.join(job.use_cases)} together" if len(job.use_cases) > 1 else "")
            + ", with one value each"
            + ("." if job.asked_once else _picked(job)),
            f"- Of the use cases, the server asks for {', '.join(job.collected)} in this run."
            + (
                " Reports of others go to whoever asks for them; devices pay for them all the same." * bool(job.unasked)
            ),
            f"- A key with fewer than {job.least_reports} reports, which is {job.minimum_batch} devices or more, is "
            "refused, and nothing of it is counted. Devices "
            f"that an attacker is assumed to control: {statement['thresholds']['colluding_devices']}.",
            f"- {job.rule.describe(looked_at)}"
            if looked_at
            else "- Found words are tested at the false discovery rate of the configuration and corrected for the "
            "number of candidates.",
            f"- {job.devices} devices, of which a share of {job.opt_in:g} opted in; the others send nothing.",
            f"- Accuracy at this price: a count has a standard error of {statement['accuracy']['standard_error']:.1f} "
            f"reports among {statement['accuracy']['reports']}.",
        ],
        "Composition": [
            f"{job.days} day{'s' if job.days > 1 else ''} of at most {job.reports_per_day}: reports of one device add "
            "up (basic composition; behind a shuffler and in a sum as a group), whatever key they are of. Keys are "
            "never combined on the server, and no device is in two segments.",
            "",
            f"| key | reports{'' if job.always_reports else ', at most'} | elements looked for |",
            "| --- | --- | --- |",
            *rows,
        ],
        "Randomness and known side channels": [
            f"- Randomness: {statement['noise']['words']}.",
            "- Participation: that a device takes part, and its segment, is visible to the transport. "
            + (
                "How many reports it sends, and of which key, does not depend on its data."
                if job.always_reports
                else "So is how many reports it sends, up to its cap, and of which key: this depends on how much "
                "happened on the device, and is not protected. No count of reports is published."
            ),
            "- Timing: when a report arrives, and how long a device computes, are outside of the guarantee.",
            f"- Floating point: {statement['trust']['floating_point']}.",
            fabricated(statement),
        ],
        "What is released, what is not, what is kept": [
            "- Released: for each key the elements that the release rule let out, with counts and intervals, "
            + ("the number of reports, " if job.always_reports else "the most reports that could have come, ")
            + "how many elements were looked at and how many withheld, and this statement.",
            f"- Not released and not kept: {single}tallies, and estimates of withheld elements. They exist in "
            "memory while a key is judged. What only a simulation can know (true counts of released elements, scores) "
            "is under oracle/, which must not be handed on.",
            "- Withheld is not secret: the reports less the released counts tell about how many reports were of all "
            + (
                "withheld elements and of nothing "
                if job.always_reports and not job.asked_once
                else "withheld elements "
            )
            + "together, exactly as they were counted with randomized response and subset selection, "
            "and of the only one if there is one. That is as private as what was released.",
        ],
    }
