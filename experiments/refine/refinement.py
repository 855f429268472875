"""A refinement: round after round the devices are polled about a slate, and the next slate is made of the votes.

A round is complete when its round.json and the next corpus are on disk.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from aggregate.round import RoundState, Rules, play_round, slate_of
from device_poll.accounts import Accounts
from device_poll.cohorts import Cohorts, draw_cohorts
from device_poll.device_ledger import DeviceLedger, check_users
from device_poll.fleet import NearestAnswers, SimulatedFleet
from device_poll.population import Ownership, Population, PopulationError, assign_items
from device_poll.report_log import ReportLog
from embed.cache import CachedEncoder, load_or_create_secret
from embed.compact import compact
from embed.encoder import Encoder
from experiments.accounts import open_accounts
from experiments.closed_polls import ClosedPolls
from experiments.compare.page import write_page
from experiments.folder import layout
from experiments.folder.layout import Round
from experiments.folder.store import RunFolder, StoreError
from experiments.progress import bar
from experiments.provenance import check_held, fingerprint
from experiments.refine.describe import describe
from experiments.refine.evaluate import Oracle
from experiments.refine.job import RefineJob, arm_rules
from experiments.refine.records import RoundWriter, polls_before
from experiments.refine.release import release
from experiments.refine.report import print_header, print_rounds, print_shares, write_plots
from experiments.setting import Setting
from experiments.stages import StagedFleet, StagedGenerator, Stages, effort
from experiments.statement.refine import build_statement
from privacy.poll import Choice
from privacy.randomness import Stage, generator, seed_sequence
from synth.corpus import Corpus

log = logging.getLogger("synthpoll")


@dataclass(frozen=True, kw_only=True)
class Encoders:
    """The voting encoder and the judge, each with a cache for synthetic and a keyed one for private texts."""

    voting: Encoder
    voting_private: Encoder
    judge: Encoder
    judge_private: Encoder

    @classmethod
    def cached(cls, job: RefineJob) -> Encoders:
        """Wrap the job's encoders. The private cache cannot be read or probed without the secret beside it."""
        folder = Path(job.cache).expanduser() / "embeddings"
        secret = load_or_create_secret(folder / "devices.secret")
        public, private = folder / "synthetic.sqlite", folder / "devices.sqlite"
        return cls(
            voting=CachedEncoder(job.encoder, public),
            voting_private=CachedEncoder(job.encoder, private, secret),
            judge=CachedEncoder(job.judge, public),
            judge_private=CachedEncoder(job.judge, private, secret),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Refinement:
    """The workload of a RefineJob: its rules, and the simulated world with the means to look into it; `held` is the
    digest of what its devices hold."""

    job: RefineJob
    setting: Setting
    rules: Rules
    fleet: SimulatedFleet = field(repr=False)
    population: Population = field(repr=False)
    oracle: Oracle = field(repr=False)
    held: str

    packages = (
        "synthpoll", "torch", "transformers", "sentence-transformers", "faiss-cpu", "numpy", "scipy", "hydra-core",
        "pyarrow", "cryptography",
    )  # fmt: skip

    @classmethod
    def of(cls, job: RefineJob, setting: Setting) -> Refinement:
        """Load and embed the devices' items. Everything that can fail cheaply fails before the embedding."""
        encoders = Encoders.cached(job)
        items = job.devices.load()
        held = fingerprint(job.seed, itertools.chain.from_iterable(zip(items.users, items.texts, strict=True)))
        check_held(setting.folder, held)
        ownership = assign_items(items.users, job.devices.unit, job.devices.items_per_device)
        cohorts = draw_cohorts(len(ownership.device_ids), job.rounds, job.participation, job.seed)
        _check_cohorts(job, cohorts)
        watch = _watch(job, setting.folder, ownership)
        accounts = _accounts(job, setting, ownership, cohorts)
        console, timings = setting.console, setting.timings
        if any(items.skipped.values()):
            counted = ", ".join(f"{count} {reason}" for reason, count in sorted(items.skipped.items()) if count)
            console.print(f"Left out of the devices' mail: {counted} (known only to the simulation)")
        log.info("%d devices; %d opted in", len(ownership.device_ids), cohorts.opted_in)

        texts = [items.texts[i] for i in ownership.order]
        sampled = np.sort(generator(job.seed, 0, Stage.EVALUATE).permutation(len(texts))[: job.evaluation.sample])
        with timings.measure(-1, "embed devices"), bar(console, "Embedding devices' mail") as advance:
            embeddings = encoders.voting_private.encode(texts, advance)
        with timings.measure(-1, "embed sample for the judge"), bar(console, "Embedding the judge's sample") as advance:
            sample = encoders.judge_private.encode([texts[i] for i in sampled], advance)
        population = Population(
            embeddings=embeddings, offsets=ownership.offsets, device_ids=ownership.device_ids, unit=ownership.unit
        )
        fleet = SimulatedFleet(
            answers=NearestAnswers(population=population, rule=job.answer, seed=job.seed),
            cohorts=cohorts,
            noise=setting.noise,
            workers=job.workers,
            watch=watch,
            accounts=accounts,
            closing=ClosedPolls(folder=setting.folder, repeats=job.trust.words.repeats).close,
        )
        oracle = Oracle(
            fleet=fleet,
            population=population,
            judge=encoders.judge,
            sample=sample,
            sampled=sampled,
            rule=job.evaluation,
            labels=None if items.labels is None else np.array(items.labels)[ownership.order],
            shares=items.shares,
        )
        rules = replace(
            job.rules, encoder=encoders.voting, generator=job.generator.with_encoder(encoders.voting.encode)
        )
        return cls(job=job, setting=setting, rules=rules, fleet=fleet, population=population, oracle=oracle, held=held)

    def describe(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """What is asked of whom, and with which budget; under oracle/ how many items devices hold."""
        facts = describe(self.job, self.rules, self.fleet.cohorts, self.population)
        return facts, {"items": len(self.population.embeddings), "fingerprint": self.held}

    def restore(self) -> None:
        """Make sure that the ledger has every complete round: one in memory is made anew when a run is continued.

        Raises StoreError if a ledger file has not, and has no room for it either.
        """
        folder = self.setting.folder
        for number in range(folder.completed_rounds()):
            slate = compact(folder.files.array(Round(number).embeddings))
            mechanism = self.rules.mechanism(Choice(len(slate)).answers)
            paid = self.fleet.book(slate, mechanism, number)
            reports = folder.read_json(Round(number).mark)["reports"]
            # Who was forgotten on request since then is not told apart any more.
            if not reports - self.fleet.forgotten <= paid <= reports:
                raise StoreError(
                    f"{folder.path} has {reports} reports of round {number}, but its ledger has debits for {paid}; "
                    "give the ledger that the run was begun with"
                )

    def statement(self) -> dict[str, Any]:
        """About the rounds that were polled, and those to come."""
        folder = self.setting.folder
        played = [folder.read_json(Round(number).mark) for number in range(folder.completed_rounds())]
        return build_statement(self.job, self.fleet, self.population, self.setting.config, played)

    def print_header(self) -> None:
        """What the budget resolves."""
        print_header(self.setting.console, self.setting.folder, self.job)

    def play(self, after_step: Callable[[], None]) -> None:
        """The arms, for evaluation: all reachable devices answer and nobody pays. Then the run itself."""
        unpaid = replace(self.fleet, accounts=None, closing=None)
        for arm in self.job.arms:
            place = RunFolder(self.setting.folder.path / layout.arm(arm))
            oracle = replace(self.oracle, fleet=unpaid)
            Arm(self, arm, arm_rules(self.rules, arm), oracle, place).play(lambda: None)
        Arm(self, None, self.rules, self.oracle, self.setting.folder).play(after_step)

    def finish(self) -> None:
        """The released set, the pictures, and how the estimates held against a known truth."""
        folder = self.setting.folder
        release(folder, self.job, Corpus.from_parquet(folder.path / Round(self.job.rounds).corpus))
        write_plots(folder, self.job)
        print_shares(self.setting.console, folder)

    def write_pages(self) -> Sequence[Path]:
        """report.html, and with the truth under oracle/."""
        return [write_page(self.setting.folder.path)]


@dataclass(frozen=True, eq=False)
class Arm:
    """All rounds of one arm, in a folder of its own; `name` None is the run itself."""

    of: Refinement
    name: str | None
    rules: Rules
    oracle: Oracle
    folder: RunFolder

    @property
    def title(self) -> str:
        """On the screen."""
        return self.name or "run"

    def play(self, after_round: Callable[[], None]) -> None:
        """Round after round, from where the folder stands."""
        job, console, title = self.of.job, self.of.setting.console, self.title
        writer = RoundWriter(self.folder, self.oracle, job.threshold, self.name)
        done = self.folder.completed_rounds()
        state = self._state(done)
        if done:
            log.info("%s: %d of %d rounds were complete; continuing", title, done, job.rounds)
        stages = Stages(self.of.setting.timings, console, title)
        fleet = StagedFleet(fleet=self.oracle.fleet, stages=stages)
        staged = replace(self.rules, generator=StagedGenerator(generator=self.rules.generator, stages=stages))
        while state.number < job.rounds:
            number = state.number
            with stages.of(number):
                advance = stages.enter("encode slate", "encoding")
                following, record = play_round(state, staged, fleet, job.seed, self.of.setting.noise, advance)
                stages.enter("evaluate", "evaluating")
                writer.write(state, record, following)
            log.info("%s: round %d complete", title, number)
            after_round()
            print_rounds(console, self.folder, job, title, since=number)
            state = following
        with stages.of(job.rounds):
            stages.enter("evaluate", "evaluating")
            writer.write_final(state.corpus, slate_of(self.rules.encoder, state.corpus)[0], job.rounds)
        print_rounds(console, self.folder, job, title, since=None)

    def _state(self, number: int) -> RoundState:
        """What round `number` starts from: on disk after the first round, or written now."""
        name, pools = Round(number).corpus, [Round(before).pool for before in range(number + 1)]
        if not self.folder.has(name):
            return self._first()
        corpus = Corpus.from_parquet(self.folder.path / name)
        if not self.folder.has(pools[0]):
            return RoundState(number=number, corpus=corpus)
        parts = [Corpus.from_parquet(self.folder.path / pool) for pool in pools]
        polls = polls_before(self.folder, number)
        return RoundState(number=number, corpus=corpus, pool=sum(parts, Corpus()), polls=polls)

    def _first(self) -> RoundState:
        """Write the seed corpus."""
        title, setting, rules, seed = self.title, self.of.setting, self.rules, self.of.job.seed
        measured = setting.timings.measure(0, f"{title}: seed corpus")
        stream = seed_sequence(seed, 0, Stage.SEED_CORPUS)
        with measured as facts, bar(setting.console, f"{title}: writing candidates") as advance:
            generation = rules.generator.seed(rules.decision.seeds(rules), stream, advance)
            facts.update(effort(generation))
        log.info("%s: %s", title, generation.counted)
        state = rules.decision.first(generation.corpus, rules, seed)
        self.folder.write_json(
            layout.SEED_CORPUS,
            {"attempted": generation.attempted, "kept": len(generation.corpus), "drops": generation.drops},
        )
        if state.pool.examples:
            self.folder.write_table(Round(0).pool, state.pool.to_table())
        self.folder.write_table(Round(0).corpus, state.corpus.to_table())
        return state


def _watch(job: RefineJob, folder: RunFolder, ownership: Ownership) -> ReportLog | None:
    """The log of the device that the run was begun with; its id stays under oracle/.

    Raises PopulationError if there is no such device, StoreError if the run was begun with another one or with none.
    """
    watch = ReportLog.of(job.watch, ownership.device_ids) if job.watch else None
    if folder.has(layout.WATCHED):
        if folder.read_json(layout.WATCHED)["device"] != job.watch:
            raise StoreError(
                f"{folder.path} was begun with another watch=ID (see {layout.WATCHED}); give the same, or choose "
                "another folder with out=DIR"
            )
    elif watch is not None:
        if folder.has(layout.FACTS):
            raise StoreError(
                f"{folder.path} was begun without watch=ID, and its reports are not kept; choose another folder with "
                "out=DIR"
            )
        folder.write_json(layout.WATCHED, {"device": job.watch})
    return watch


def _check_cohorts(job: RefineJob, cohorts: Cohorts) -> None:
    smallest = min(len(cohort) for cohort in cohorts.answering)
    if smallest < job.minimum_batch:
        raise PopulationError(
            f"the smallest cohort has {smallest} reachable devices, fewer than minimum_batch={job.minimum_batch}; "
            "bring more devices, play fewer rounds, lower minimum_batch, or make every message a pseudo-device with "
            "devices.unit=item (which protects a message, not a person)"
        )


def _accounts(job: RefineJob, setting: Setting, ownership: Ownership, cohorts: Cohorts) -> Accounts:
    """The devices' accounts for this run.

    Raises LedgerError if the file is no ledger with these caps, or if users have the names of simulated devices; and
    PopulationError if a run that was not begun yet finds too few devices with budget.
    """
    if job.ledger is not None:
        check_users(ownership.device_ids)
    accounts = open_accounts(job, setting.config, setting.noise, ownership.device_ids, setting.stack)
    ledger = accounts.ledger
    # The simulated owners' decision, as participation.opt_in has it; who decided in an earlier run keeps it.
    everybody = np.arange(len(ownership.device_ids))
    ledger.enroll(everybody, np.isin(everybody, cohorts.members, assume_unique=True))
    if isinstance(ledger, DeviceLedger) and not ledger.has_polls_of(accounts.run):
        accounts.check(cohorts.answering, job.randomizer(job.values))
    return accounts
