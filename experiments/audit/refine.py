"""The canary of a refinement: its items are one of the run's candidates, or a second one.

    polls = canary_polls(folder, job)       # those that tell the two worlds apart: of disjoint cohorts, one

The slates that the run polled stay, no text is generated. As many devices report as did in the run: more would hide the
canary better than the run did. Which of the reachable devices were silent, for lack of budget in a shared ledger, is in
no run folder, so the first of a cohort stand for those that reported. The claim is for any data of so many devices, so
whose it is does not matter. The canary is among them: what is measured is what a report gives away, not whether a
device sends one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from device_poll.cohorts import draw_cohorts
from device_poll.fleet import NearestAnswers, SimulatedFleet
from device_poll.population import Population, assign_items
from embed.compact import CompactEmbeddings, compact
from experiments.audit.polls import CanaryPoll, evenly
from experiments.folder.layout import DEVICES, STATEMENT, Round
from experiments.folder.store import RunFolder, StoreError
from experiments.refine.job import RefineJob
from experiments.refine.refinement import Encoders
from privacy.poll import Choice
from privacy.randomness import NoiseSource


def canary_polls(folder: RunFolder, job: RefineJob) -> list[CanaryPoll]:
    """The rounds of a finished run that tell the canary's two worlds apart.

    Raises StoreError if the run is not complete, if its devices are not there any more, or if there is no canary; and
    what loading and embedding devices raise.
    """
    if folder.completed_rounds() < job.rounds:
        raise StoreError(f"{folder.path} is not a complete run; give its run command again, then audit it")
    slates = [compact(folder.files.array(Round(r).embeddings)) for r in range(job.rounds)]
    population, devices = population_of(job), folder.read_json(STATEMENT)["sampling"]["devices"]
    if population.devices != devices:
        raise StoreError(
            f"{folder.path} polled {devices} devices, but its source now has {population.devices}; audit it where its "
            "devices are"
        )
    if len(population.embeddings) != folder.read_json(DEVICES)["items"]:
        raise StoreError(f"{folder.path} polled devices with other items (see {DEVICES}); audit it where they are")
    reports = [folder.read_json(Round(r).mark)["reports"] for r in range(job.rounds)]
    return polls_with_canary(job, reporting(job, population, reports), population, slates)


def population_of(job: RefineJob) -> Population:
    """The run's devices and their vectors. Raises what loading and embedding them raise."""
    for part in (job.devices, job.encoder):
        part.check()
    items = job.devices.load()
    owned = assign_items(items.users, job.devices.unit, job.devices.items_per_device)
    return Population(
        embeddings=Encoders.cached(job).voting_private.encode([items.texts[i] for i in owned.order]),
        offsets=owned.offsets,
        device_ids=owned.device_ids,
        unit=owned.unit,
    )


def reporting(job: RefineJob, population: Population, reports: Sequence[int]) -> SimulatedFleet:
    """The devices, as many in each cohort as reported in its round: the first, whose answers are the run's.

    Raises StoreError for a round with more reports than devices.
    """
    cohorts = draw_cohorts(population.devices, job.rounds, job.participation, job.seed)
    for number, (cohort, reported) in enumerate(zip(cohorts.answering, reports, strict=True)):
        if reported > len(cohort):
            raise StoreError(
                f"round {number} has {reported} reports, but only {len(cohort)} devices could send one; audit the run "
                "with the devices and the participation that it had"
            )
    answering = tuple(cohort[:n] for cohort, n in zip(cohorts.answering, reports, strict=True))
    return SimulatedFleet(
        answers=NearestAnswers(population=population, rule=job.answer, seed=job.seed),
        cohorts=replace(cohorts, answering=answering),
        noise=NoiseSource.seeded(job.seed),  # not drawn from: an audit makes noise of its own
    )


def polls_with_canary(
    job: RefineJob, fleet: SimulatedFleet, population: Population, slates: Sequence[CompactEmbeddings]
) -> list[CanaryPoll]:
    """The canary is the first device of the cohort with the fewest reports, which has the fewest others to hide among.

    Rounds in which both worlds answer alike have the same law in both and are left out. Raises StoreError if the round
    has no two candidates that the canary can be made to vote for.
    """
    own = int(np.argmin([len(cohort) for cohort in fleet.cohorts.answering]))
    device = int(fleet.cohorts.answering[own][0])
    # Of equal candidates only the first can be voted for.
    pair = np.sort(np.unique(slates[own].codes, axis=0, return_index=True)[1])[:2]
    vectors = slates[own].decode()
    worlds = [_replaced(fleet, population, device, vectors[i]) for i in pair]
    answers = [[world.true_answers(slate, r).values for world in worlds] for r, slate in enumerate(slates)]
    if len(pair) < 2 or [int(world[0]) for world in answers[own]] != pair.tolist():
        raise StoreError(f"round {own} has no two candidates that a canary can vote for; lower answer.none_below")
    polls = []
    for slate, (first, second) in zip(slates, answers, strict=True):
        differs = first != second
        if not differs.any():
            continue
        values = np.arange(Choice(len(slate)).answers, dtype=np.int64)
        polls.append(
            CanaryPoll(
                key=job.name,
                mechanism=job.randomizer(len(values)),
                values=values,
                counts=evenly(int((~differs).sum()), len(values)),
                worlds=(first[differs], second[differs]),
                asked=pair.astype(np.int64),
            )
        )
    return polls


def _replaced(
    fleet: SimulatedFleet, population: Population, device: int, vector: NDArray[np.float32]
) -> SimulatedFleet:
    """The fleet with all of one device's items replaced by this one."""
    embeddings = population.embeddings.copy()
    embeddings[population.offsets[device] : population.offsets[device + 1]] = vector
    other = replace(population, embeddings=embeddings)
    answers = fleet.answers
    assert isinstance(answers, NearestAnswers)
    return replace(fleet, answers=replace(answers, population=other))
