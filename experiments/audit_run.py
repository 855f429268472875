"""`synthpoll audit`: attack a mechanism, or a whole run, and bound its epsilon from below.

    result = MechanismAudit(mechanism=partial, domain_size=41, trials=20_000, seed=0).run()
    result = audit_folder(RunFolder(path), polling, trials=1000, seed=0)     # also written into the run's statement
    result.sentence

A run is attacked through its polls: the slates that it polled stay, no text is generated. One device is the canary. In
half of the plays its items are the text that hardly any other device votes for, in the other half those of a second
such text: neighbours by replacement. The other devices' answers stay as they were in the run (their data is known to
the attacker); all noise is drawn anew. Rounds in which both worlds answer alike have the same law in both and are not
played. What is observed is what the run releases of the others: the estimate of every candidate.

As many devices report as did in the run: more would hide the canary better than the run did. Which of the reachable
devices were silent, for lack of budget in a shared ledger, is in no run folder, so the first of a cohort stand for
those that reported. The claim is for any data of so many devices, so whose it is does not matter. The canary is among
them: what is measured is what a report gives away, not whether a device sends one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aggregate.trust import Trust
from device_poll.answering import AnswerRule
from device_poll.cohorts import Participation, draw_cohorts
from device_poll.devices import Devices
from device_poll.fleet import BLOCK, SimulatedFleet
from device_poll.population import Population, assign_items
from embed.cache import CachedEncoder, load_or_create_secret
from embed.compact import CompactEmbeddings, compact
from embed.encoder import Encoder
from experiments.statement import add_audit
from experiments.store import DEVICES, RunFolder, StoreError
from privacy.audit import AuditResult, audit_mechanism, audit_run
from privacy.mechanism import Mechanism, ReportBatch, Reports
from privacy.randomness import DeviceStream, Stage
from privacy.units import check_whole

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class MechanismAudit:
    """`trials` reports of each of two values. Raises ValueError for values out of range."""

    mechanism: Callable[..., Mechanism]
    domain_size: int
    trials: int
    seed: int
    epsilon: float

    def __post_init__(self) -> None:
        check_whole("trials", self.trials, 4, "reports of each of the two values; thousands for a useful bound")
        check_whole("seed", self.seed, 0, "what the noise is drawn from")
        self.mechanism(domain_size=self.domain_size)

    def run(self) -> AuditResult:
        """Attack it: by what one report, alone, says for the first value and against the second."""
        mechanism = self.mechanism(domain_size=self.domain_size)
        values = np.array([0, 1], dtype=np.int64)

        def speaks_for_first(reports: Reports) -> Floats:
            found = np.empty(len(reports))
            for i in range(len(reports)):
                counts = mechanism.estimate(mechanism.tally(reports[i : i + 1]), values).counts
                found[i] = counts[0] - counts[1]
            return found

        rng = DeviceStream.simulation(seed=self.seed, round=0, stage=Stage.PRIVATIZE, chunk=0)
        return audit_mechanism(mechanism, trials=self.trials, rng=rng, observe=speaks_for_first, score=np.asarray)


@dataclass(frozen=True, kw_only=True)
class Polling:
    """What of a run's configuration its polls depend on, and the cache that its vectors are in."""

    name: str
    seed: int
    rounds: int
    minimum_batch: int
    devices: Devices
    participation: Participation
    answer: AnswerRule
    mechanism: Callable[..., Mechanism]
    trust: Trust
    encoder: Encoder
    cache: str

    def fleet(self) -> SimulatedFleet:
        """The run's devices. Raises what loading and embedding them raise."""
        for part in (self.devices, self.encoder):
            part.check()
        items = self.devices.load()
        owned = assign_items(items.users, self.devices.unit, self.devices.items_per_device)
        cohorts = draw_cohorts(len(owned.device_ids), self.rounds, self.participation, self.seed)
        folder = Path(self.cache).expanduser() / "embeddings"
        encoder = CachedEncoder(
            self.encoder, folder / "devices.sqlite", load_or_create_secret(folder / "devices.secret")
        )
        population = Population(
            embeddings=encoder.encode([items.texts[i] for i in owned.order]),
            offsets=owned.offsets,
            device_ids=owned.device_ids,
            unit=owned.unit,
        )
        return SimulatedFleet(population=population, cohorts=cohorts, rule=self.answer, seed=self.seed)

    def of(self, values: int) -> Mechanism:
        """What the devices run."""
        return self.trust.mechanism(lambda n: self.mechanism(domain_size=n), values, self.minimum_batch)


def audit_folder(folder: RunFolder, polling: Polling, *, trials: int, seed: int) -> AuditResult:
    """Attack a finished run, hold the bound against the claim of its statement, and add it there.

    Raises StoreError if the folder is in use, has no complete run with a statement, or its devices are not there any
    more.
    """
    with folder.reopened():
        return _audit(folder, polling, trials, seed)


def _audit(folder: RunFolder, polling: Polling, trials: int, seed: int) -> AuditResult:
    if folder.completed_rounds() < polling.rounds:
        raise StoreError(f"{folder.path} is not a complete run; give its run command again, then audit it")
    slates = [compact(np.load(folder.round(r) / "embeddings.npy", allow_pickle=False)) for r in range(polling.rounds)]
    fleet, statement = polling.fleet(), folder.read_json("privacy.json")
    if fleet.population.devices != statement["sampling"]["devices"]:
        raise StoreError(
            f"{folder.path} polled {statement['sampling']['devices']} devices, but its source now has "
            f"{fleet.population.devices}; audit it where its devices are"
        )
    if len(fleet.population.embeddings) != folder.read_json(DEVICES)["items"]:
        raise StoreError(f"{folder.path} polled devices with other items (see {DEVICES}); audit it where they are")
    reports = [folder.read_json(f"rounds/{r:03d}/round.json")["reports"] for r in range(polling.rounds)]
    fleet = _reporting(fleet, reports)
    canary = Canary.of(fleet, slates)
    claim = statement["central"] or {"epsilon": statement["spent"]["run"], "delta": 0.0}
    result = audit_polls(
        canary,
        polling.trust,
        [polling.of(len(slate) + 1) for slate in slates],
        minimum_batch=polling.minimum_batch,
        claimed=(claim["epsilon"], claim["delta"]),
        trials=trials,
        seed=seed,
    )
    add_audit(
        folder,
        {
            "kind": "canary device replaced in the run's polls, observed through the released estimates",
            "plays": 2 * trials,
            "rounds_played": len(canary.rounds),
            "reports_per_round": [reports[number] for number in canary.rounds],
            "seed": seed,
            "epsilon_lower": result.epsilon_lower,
            "most_that_could_be_shown": result.ceiling,
            "claimed_epsilon": result.claimed_epsilon,
            "delta": result.delta,
            "confidence": result.confidence,
            "refutes_claim": result.refutes_claim,
            "sentence": result.sentence,
        },
    )
    return result


@dataclass(frozen=True, kw_only=True, eq=False)
class Canary:
    """The two worlds: by round that tells them apart, all answers with and without the canary's data, and the two
    candidates that the canary votes for."""

    rounds: Mapping[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = field(repr=False)
    candidates: tuple[int, int]

    @classmethod
    def of(cls, fleet: SimulatedFleet, slates: Sequence[CompactEmbeddings]) -> Canary:
        """The first device of the cohort with the fewest reports, which has the fewest others to hide among.

        Raises StoreError if the round has no two candidates that the canary can be made to vote for.
        """
        own = int(np.argmin([len(cohort) for cohort in fleet.cohorts.answering]))
        device = int(fleet.cohorts.answering[own][0])
        votes = np.bincount(fleet.true_answers(slates[own], own).values, minlength=len(slates[own]) + 1)[:-1]
        # Of equal candidates only the first can be voted for.
        distinct = np.sort(np.unique(slates[own].codes, axis=0, return_index=True)[1])
        rare = distinct[np.argsort(votes[distinct], kind="stable")][:2]
        vectors = slates[own].decode()
        worlds = [_replaced(fleet, device, vectors[i]) for i in rare]
        answers = {r: tuple(world.true_answers(slate, r).values for world in worlds) for r, slate in enumerate(slates)}
        if len(rare) < 2 or not (answers[own][0][0], answers[own][1][0]) == tuple(rare):
            raise StoreError(f"round {own} has no two candidates that a canary can vote for; lower answer.none_below")
        differing = {r: (pair[0], pair[1]) for r, pair in answers.items() if np.any(pair[0] != pair[1])}
        return cls(rounds=differing, candidates=(int(rare[0]), int(rare[1])))


def audit_polls(
    canary: Canary,
    trust: Trust,
    mechanisms: Sequence[Mechanism],
    *,
    minimum_batch: int,
    claimed: tuple[float, float],
    trials: int,
    seed: int,
) -> AuditResult:
    """Play the canary's polls `trials` times in each world. `mechanisms` by round; `claimed` is (epsilon, delta)."""

    def release(with_canary: bool, trial: int) -> Floats:
        """Every estimate that one play releases, round after round."""
        rng = np.random.default_rng([seed, trial, int(with_canary)])
        seen = []
        for number, (present, absent) in canary.rounds.items():
            values = present if with_canary else absent
            batches = _privatized(values, mechanisms[number], rng)
            seen.append(trust.collect(batches, mechanisms[number], "audit", minimum_batch, rng).estimate.counts)
        return np.concatenate(seen)

    first, second = canary.candidates
    offsets = np.cumsum([0, *(mechanisms[r].domain_size for r in canary.rounds)])[:-1]

    def score(observed: NDArray[Any]) -> Floats:
        """Votes for the canary's first candidate against those for its second."""
        return np.asarray(sum(observed[:, at + first] - observed[:, at + second] for at in offsets), dtype=np.float64)

    epsilon, delta = claimed
    return audit_run(release, trials=trials, claimed_epsilon=epsilon, delta=delta, score=score)


def _privatized(values: NDArray[np.int64], mechanism: Mechanism, rng: np.random.Generator) -> Iterator[ReportBatch]:
    """What the fleet would hand over, with this noise."""
    for start in range(0, len(values), BLOCK):
        part = values[start : start + BLOCK]
        yield ReportBatch("audit", np.arange(start, start + len(part)), mechanism.privatize(part, rng))


def _reporting(fleet: SimulatedFleet, reports: Sequence[int]) -> SimulatedFleet:
    """The fleet with as many devices in each cohort as reported in its round: the first, whose answers are the run's.

    Raises StoreError for a round with more reports than devices.
    """
    for number, (cohort, reported) in enumerate(zip(fleet.cohorts.answering, reports, strict=True)):
        if reported > len(cohort):
            raise StoreError(
                f"round {number} has {reported} reports, but only {len(cohort)} devices could send one; audit the run "
                "with the devices and the participation that it had"
            )
    answering = tuple(cohort[:n] for cohort, n in zip(fleet.cohorts.answering, reports, strict=True))
    return replace(fleet, cohorts=replace(fleet.cohorts, answering=answering))


def _replaced(fleet: SimulatedFleet, device: int, vector: NDArray[np.float32]) -> SimulatedFleet:
    """The fleet with all of one device's items replaced by this one."""
    embeddings = fleet.population.embeddings.copy()
    embeddings[fleet.population.offsets[device] : fleet.population.offsets[device + 1]] = vector
    return replace(fleet, population=replace(fleet.population, embeddings=embeddings))
