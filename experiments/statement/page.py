"""privacy.md: the statement for a reviewer, in the order in which NIST SP 800-226 has one ask.

    render(folder.read_json("privacy.json"))     # the page's text

Made from privacy.json alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import ROUND_CEILING, Context, Decimal
from typing import Any

from privacy.audit import FAMILY_WISE_ERROR

ADDS_UP = (
    "Spending and decisions add up over all runs that give the same file, for equal ids only: simulated devices of use "
    "cases are 'device 0', 'device 1' and so on, so a user of mail and a use case's device never share an account, and "
    "a person under two names has two."
)
"""Of accounts in a ledger file."""


def rounded_up(value: float, digits: int = 4) -> str:
    """A number for reading that never claims less than the number itself."""
    up = Context(prec=digits, rounding=ROUND_CEILING).create_decimal(Decimal(repr(value))).normalize()
    return f"{up:f}" if value == 0 or abs(value) >= 1e-4 else f"{float(up):.{digits - 1}e}"


def epsilon_in_words(statement: Mapping[str, Any]) -> str:
    """The run's epsilon for a title, as its trust model means it: 'local epsilon 4', 'central epsilon 4 at delta 1e-6'.

    Both, where reports are private by themselves and a trust model adds to it. `statement` is privacy.json.
    """
    local, central = statement["spent"]["report"], statement["central"]
    at = "" if central is None else f"{rounded_up(central['epsilon'])} at delta {central['delta']:g}"
    if local is None:
        return f"central epsilon {at}"
    more = "" if central is None else f" (central {at}, {statement['trust']['model']})"
    return f"local epsilon {local:g}{more}"


def render(statement: dict[str, Any]) -> str:
    """The page. Raises KeyError for what is no statement of this version.

    A statement may bring `sections`, lines by title, which stand instead of those of the main job.
    """
    made: dict[str, Callable[[dict[str, Any]], list[str]]] = {
        "In one paragraph": lambda statement: [statement["summary"]],
        "What one device spends": _spent,
        "Under each trust model": _models,
        "Unit of privacy": _unit,
        "Who is trusted with what": _trust,
        "Contribution, thresholds, sampling": _bounds,
        "Composition": _composition,
        "Randomness and known side channels": _side_channels,
        "What is released, what is not, what is kept": _released,
        "Measured from below": _audit,
        "Which run this is": _run,
    }
    own = statement.get("sections", {})
    sections = [(name, own[name] if name in own else lines(statement)) for name, lines in made.items()]
    title = "# Privacy statement" + (" (baseline, not for release)" if statement["trust"]["baseline"] else "")
    return title + "\n" + "".join(f"\n## {name}\n\n" + "\n".join(lines) + "\n" for name, lines in sections)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    head = list(head)
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]


def _epsilon(value: float | None) -> str:
    return "infinite" if value is None else rounded_up(value)


def spent_table(statement: dict[str, Any], spans: Iterable[str] = ("report", "round", "day", "run")) -> list[str]:
    """What one device spends, by time, and its caps."""
    spent, caps = statement["spent"], statement["caps"]
    delta = "0" if spent["delta"] == 0 else rounded_up(spent["delta"])
    names = {"report": "one report", "round": "one round", "day": "one day, at most", "run": "the whole run"}
    rows = [[names[span], _epsilon(spent[span]), "0" if span == "report" else delta] for span in spans]
    over = (
        "over all runs that debit its account in one file"
        if statement["ledger"]["shared_with_other_runs"]
        else "in this run, of which others do not know"
    )
    for name, cap in caps.items():
        rows.append([f"{name} cap {over}", "no cap is set" if cap is None else f"{cap:g}", ""])
    return _table(["of one device", "epsilon", "delta"], rows)


def _spent(statement: dict[str, Any]) -> list[str]:
    told = [
        "",
        "A report's epsilon needs no trust in anybody. "
        if statement["spent"]["report"] is not None
        else "One report alone is not protected at all: the numbers hold under the trust model only. ",
    ]
    return [*spent_table(statement), *told, "", *_ledger(statement)]


def _ledger(statement: dict[str, Any]) -> list[str]:
    ledger, polls = statement["ledger"], statement["composition"]
    lines = [
        f"- Debited in a ledger on the devices' side, {ledger['cost_of_a_report']:g} for a report, before the "
        "report is made. A device that would pass a cap stays silent, and the server is not told why: it sees how many "
        "reports it has. A poll is sent only after a minimum batch has reserved what it costs; one that is called off "
        "costs nobody anything.",
        "- A round is on the day of the clock (UTC) on which it was first debited."
        if ledger["first_day"] is None
        else f"- Days are simulated: round 0 is on day {ledger['first_day']}, each further round a day later.",
        f"- The ledger is a file in which a device's account is that of its user's name in the mail. {ADDS_UP}"
        if ledger["shared_with_other_runs"]
        else "- The ledger was made for this run and is gone with it: what other runs cost the same devices is not in "
        "it, and adds up.",
    ]
    if ledger["polls_paid"]:
        lines.append(
            f"- After {ledger['polls_paid']} of {polls['rounds']} polls: {ledger['devices_charged']} devices charged "
            "by this run. What each has spent in all is known on the devices' side alone."
        )
    return lines


def _models(statement: dict[str, Any]) -> list[str]:
    rows = []
    for row in statement["trust_models"]:
        name = f"{row['model']} (baseline)" if row["baseline"] else row["model"]
        name = f"**{name}, in force**" if row["in_force"] else name
        if "not_possible" in row:
            rows.append([name, "not possible", "", "", row["not_possible"]])
            continue
        rows.append(
            [
                name,
                rounded_up(row["epsilon"]),
                f"{row['delta']:g}",
                rounded_up(row["epsilon_at_minimum_batch"]),
                f"{row['standard_error']:.1f}",
            ]
        )
    reports, batch = statement["accuracy"]["reports"], statement["thresholds"]["least_reports"]
    head = [
        "trust model",
        f"epsilon, {reports} reports",
        "delta",
        f"epsilon, {batch} reports",
        "standard error, devices",
    ]
    return [
        *_table(head, rows),
        "",
        f"The numbers are for the smallest poll of this run ({reports} reports) and for the smallest that would be "
        f"accepted ({batch}). Only the row in force is a claim about this run; the others say what the same budget "
        "would "
        "give elsewhere, and each holds only under what its model assumes.",
    ]


def _unit(statement: dict[str, Any]) -> list[str]:
    unit = statement["unit"]
    lines = [f"Protected is {unit['protected']}.", "", unit["neighbours"]]
    if not unit["is_a_person"]:
        lines += ["", "The unit is smaller than a person: a person's total is not bounded by the numbers above."]
    return lines


def _trust(statement: dict[str, Any]) -> list[str]:
    trust = statement["trust"]
    return [
        f"- Trust model: {trust['model']}. {trust['noise_from'].rstrip(',').capitalize()} adds the noise.",
        f"- The server sees {trust['server_sees']}.",
        *[
            f"- Assumed: {assumption}."
            for assumption in trust["assumes"] or ["devices run the mechanism; nothing else"]
        ],
        "- In this simulation no device reports, and one process draws the tallies; the statement is about devices "
        "that report, and roles that are kept apart."
        if statement["noise"].get("exact_law")
        else "- In this simulation all roles run in one process; the statement is about roles that are kept apart.",
    ]


def _bounds(statement: dict[str, Any]) -> list[str]:
    given, thresholds, sampling = statement["contribution"], statement["thresholds"], statement["sampling"]
    return [
        f"- A device sends {given['reports_per_device']} report in the run, with {given['values_per_report']} value, "
        "made "
        f"from {given['items_per_report']} of its latest {given['items_looked_at']} items; older ones have no "
        "influence.",
        f"- A round with fewer than {thresholds['minimum_batch']} reports is refused, and nothing of it is counted. "
        f"Devices that an attacker is assumed to control: {thresholds['colluding_devices']}.",
        f"- {sampling['opted_in']} of {sampling['devices']} devices may be asked in this run (opt-in rate "
        f"{sampling['opt_in_rate']:g}); of these, one whose owner said no in its ledger stays silent.",
        f"- Each round asks {sampling['asked_per_round']} devices ({sampling['rate_per_round']:.1%}), of which a "
        "share of "
        f"{sampling['availability']:g} is reachable. Who is asked is known to the server, so sampling is credited with "
        "no privacy.",
        f"- Accuracy at this price: a count has a standard error of {statement['accuracy']['standard_error']:.1f} "
        "devices "
        f"among {statement['accuracy']['reports']} reports.",
    ]


def _composition(statement: dict[str, Any]) -> list[str]:
    over = statement["composition"]
    to_come = over["rounds"] - statement["ledger"]["polls_paid"]
    lines = [
        f"{over['rounds']} rounds ask disjoint cohorts, drawn without looking at any data; counted over the cohorts, "
        "a device "
        f"is asked in at most {over['rounds_per_device']}. Rounds before a device's own do not depend on its data, "
        "and rounds "
        "after it depend on it only through what its own round released: parallel composition and post-processing. So "
        "the run costs a device what its round costs, and the run's epsilon is that of its smallest round.",
        "",
        f"Reports by round: {', '.join(str(n) for n in over['reports_per_round'])}"
        + (f"; expected of the last {to_come}, which are still to be polled." if to_come else "."),
    ]
    if statement["arms"]:
        lines += [
            "",
            f"Arms for evaluation ({', '.join(statement['arms'])}) poll the same simulated devices again, under "
            "oracle/. They "
            "are no part of this claim; on real devices each would have to be paid for.",
        ]
    return lines


def _side_channels(statement: dict[str, Any]) -> list[str]:
    trust = statement["trust"]
    return [
        f"- Randomness: {statement['noise']['words']}.",
        "- Participation: the exact number of reports of each round is visible, and the network sees who sends. That a "
        "device takes part is not protected.",
        "- Timing: when a report arrives, and how long a device computes, are outside of the guarantee. Mechanisms "
        "draw a "
        "fixed number of words a report from the main stream (privacy/kernels.py says what remains).",
        f"- Floating point: {trust['floating_point']}.",
        fabricated(statement),
        "- The generator's knowledge of public text, from before any poll, is no part of this claim.",
    ]


def fabricated(statement: Mapping[str, Any]) -> str:
    """What a device that lies can do, as a line of the page."""
    told = statement["fabrication"]
    begin = "- Fabricated reports: "
    if statement["noise"].get("exact_law"):
        begin += "none could be sent, since no device reports. In a deployment "
    if told["false_refusal"] is None:
        return (
            f"{begin}nobody sees a single report, and no proof of validity is sent with the shares, so "
            "none is refused. One device that lies can move every count by any amount, as far as so many reports could "
            "add up to it. This falsifies counts; it reveals nobody's data."
        )
    most = told["largest_influence"]
    moved = "is not known; take it to be unbounded" if most is None else f"is at most {rounded_up(most)}, in devices"
    return (
        f"{begin}a report that no honest device sends is refused and counted (`refused_reports` in "
        f"metrics.csv; an honest one with probability at most {told['false_refusal']:g}). By how much one that passes "
        f"moves a count {moved}. This falsifies counts; it reveals nobody's data."
    )


def _released(statement: dict[str, Any]) -> list[str]:
    return [
        "- Released: the synthetic texts of every round, each round's noisy tally and estimate with standard errors, "
        "the "
        "number of reports, the data set in dataset/ and this statement.",
        "- Not released: device texts, their vectors, single reports, senders. What only a simulation can know (true "
        "votes, evaluation) is under oracle/, which must not be handed on.",
        "- Kept: single reports live in memory for one round (those of a watched device also under oracle/); "
        "tallies stay in the run folder until it is deleted. "
        "Devices' "
        "vectors are cached encrypted on the simulating machine (embeddings/devices.* in the cache) until deleted.",
    ]


def _audit(statement: dict[str, Any]) -> list[str]:
    audits = statement["audits"]
    if not audits:
        return [
            "No audit was run on this folder: `synthpoll audit RUN` plays its polls with a canary and adds the result."
        ]
    refuting = [str(number) for number, audit in enumerate(audits, 1) if audit["refutes_claim"]]
    lines = [f"**This run's claim is refuted**, by audit {', '.join(refuting)}. No later audit lifts that.", ""]
    return [
        *(lines if refuting else []),
        "A canary device was replaced, or not, in plays of the polls. All audits of this run:",
        "",
        *(f"{number}. {audit['plays']} plays: {audit['sentence']}." for number, audit in enumerate(audits, 1)),
        "",
        f"The strongest measured bound is epsilon >= {max(audit['epsilon_lower'] for audit in audits):.3f}. Each holds "
        "with its confidence by itself, so of many a few are too high, and it refutes nothing. A claim is refuted only "
        "by a bound above it whose error, added up over all audits of a run however many there are, stays below "
        f"{FAMILY_WISE_ERROR:g}. No bound below the claim proves it.",
    ]


def _run(statement: dict[str, Any]) -> list[str]:
    run = statement["run"]
    return [
        f"- {run['name']}, seed {run['seed']}, configuration sha256 {run['configuration_sha256']} (config.yaml)",
        "- Versions and commit: run.json. Parameters of the noise: "
        + ", ".join(f"{key} {value}" for key, value in statement["mechanism"].items())
        + ".",
    ]
