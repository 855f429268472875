"""Carry out a job: check, load, embed, then round after round into the run folder; continue where it stopped."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from rich.console import Console

from aggregate.round import RoundState, Rules, play_round, slate_of
from device_poll.accounts import Accounts, PopulationLedger
from device_poll.cohorts import Cohorts, draw_cohorts
from device_poll.fleet import SimulatedFleet
from device_poll.population import Ownership, Population, PopulationError, assign_items
from device_poll.report_log import ReportLog
from embed.cache import CachedEncoder, load_or_create_secret
from embed.compact import compact
from embed.encoder import Encoder
from experiments.compare.page import write_page
from experiments.evaluate import Oracle
from experiments.job import Job, arm_rules
from experiments.progress import bar
from experiments.provenance import describe_run, log_file
from experiments.records import RoundWriter, StagedFleet, StagedGenerator, Stages, Timings, effort
from experiments.release import release
from experiments.report import print_header, print_rounds, print_shares, write_plots
from experiments.statement import write_statement
from experiments.store import RunFolder, StoreError
from experiments.trackers.tracking import Tracking
from privacy.ledger import Ledger
from privacy.ledger_stores import SimulatedLedger
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
    def cached(cls, job: Job) -> Encoders:
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


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The simulated world of a run, and how to look into it."""

    fleet: SimulatedFleet = field(repr=False)
    oracle: Oracle = field(repr=False)

    @property
    def unpaid(self) -> Prepared:
        """The same world for an arm: evaluation, for which all reachable devices answer and nobody pays."""
        fleet = replace(self.fleet, accounts=None)
        return Prepared(fleet=fleet, oracle=replace(self.oracle, fleet=fleet))


def run_job(job: Job, config: str, digest: str, console: Console, sweep: Path | None = None) -> Path:
    """Run or continue the job; return its run folder.

    `config` is the resolved configuration, kept in the folder and compared on resume; `digest` its short hash, the name
    of the folder where the job gives none. Raises the parts' own errors; what was written stays.
    """
    for part in (job.generator, job.encoder, job.judge, job.devices, job.tracker):
        part.check()
    folder = RunFolder.of(out=job.out, runs=job.runs, name=job.name, seed=job.seed, digest=digest)
    with folder.opened(config), log_file(folder.path), ExitStack() as stack:
        timings = Timings(folder)
        log.info("run folder %s", folder.path)
        encoders = Encoders.cached(job)
        world = _prepare(job, config, encoders, timings, console, stack)
        rules = replace(
            job.rules, encoder=encoders.voting, generator=job.generator.with_encoder(encoders.voting.encode)
        )
        describe_run(folder, job, rules, world.fleet)
        _book_complete_rounds(folder, rules, world.fleet)

        def state_what_was_revealed() -> None:
            write_statement(folder, job, rules, world.fleet, config)
            write_page(folder.path)
            tracking.update()

        write_statement(folder, job, rules, world.fleet, config)
        print_header(console, folder, job)
        tracking = stack.enter_context(Tracking(job.tracker, folder.path, job.name, config, console, sweep))
        for arm in job.arms:
            place = RunFolder(folder.path / "oracle" / "arms" / arm)
            _play(job, arm_rules(rules, arm), world.unpaid, place, timings, console, arm, lambda: None)
        corpus = _play(job, rules, world, folder, timings, console, None, state_what_was_revealed)
        release(folder, job, corpus)
        write_plots(folder, job)
        write_page(folder.path)
        print_shares(console, folder)
        console.print(f"Page: {folder.path / 'report.html'}", soft_wrap=True)
        console.print(f"Run folder: {folder.path}", soft_wrap=True)
        log.info("complete")
    return folder.path


def _prepare(
    job: Job, config: str, encoders: Encoders, timings: Timings, console: Console, stack: ExitStack
) -> Prepared:
    """Load and embed the devices' items. Everything that can fail cheaply fails before the embedding."""
    items = job.devices.load()
    ownership = assign_items(items.users, job.devices.unit, job.devices.items_per_device)
    cohorts = draw_cohorts(len(ownership.device_ids), job.rounds, job.participation, job.seed)
    smallest = min(len(cohort) for cohort in cohorts.answering)
    if smallest < job.minimum_batch:
        raise PopulationError(
            f"the smallest cohort has {smallest} reachable devices, fewer than minimum_batch={job.minimum_batch}; "
            "bring more devices, play fewer rounds, lower minimum_batch, or make every message a pseudo-device with "
            "devices.unit=item (which protects a message, not a person)"
        )
    watch = ReportLog.of(job.watch, ownership.device_ids) if job.watch else None
    accounts = _accounts(job, config, ownership.device_ids, cohorts, stack)
    if any(items.skipped.values()):
        counted = ", ".join(f"{count} {reason}" for reason, count in sorted(items.skipped.items()) if count)
        console.print(f"Left out of the devices' mail: {counted} (known only to the simulation)")
    log.info("%d devices; %d opted in", len(ownership.device_ids), cohorts.opted_in)

    texts = [items.texts[i] for i in ownership.order]
    rng = generator(job.seed, 0, Stage.EVALUATE)
    sampled = np.sort(rng.permutation(len(texts))[: job.evaluation.sample])
    with timings.measure(-1, "embed devices"), bar(console, "Embedding devices' mail") as advance:
        embeddings = encoders.voting_private.encode(texts, advance)
    with timings.measure(-1, "embed sample for the judge"), bar(console, "Embedding the judge's sample") as advance:
        sample = encoders.judge_private.encode([texts[i] for i in sampled], advance)
    return _world(job, encoders, ownership, cohorts, watch, accounts, embeddings, sample, items.labels, items.shares)


def _accounts(job: Job, config: str, device_ids: tuple[str, ...], cohorts: Cohorts, stack: ExitStack) -> Accounts:
    """The devices' accounts for this run, in a ledger that `stack` closes.

    Raises LedgerError if the file is no ledger of these devices with these caps, and PopulationError if a run that was
    not begun yet finds too few devices with budget.
    """
    ledger: Ledger = SimulatedLedger(devices=len(device_ids), budget=job.caps.budget)
    if job.ledger is not None:
        path = Path(job.ledger).expanduser()
        ledger = stack.enter_context(closing(PopulationLedger(path, device_ids=device_ids, budget=job.caps.budget)))
    # The simulated owners' decision, as participation.opt_in has it.
    ledger.opt_in(cohorts.members)
    accounts = Accounts(
        ledger=ledger,
        # The whole digest: two runs of one name in the ledger would share their debits.
        run=f"{job.name} {hashlib.sha256(config.encode()).hexdigest()}",
        cost=job.trust.cost,
        minimum_batch=job.minimum_batch,
        first_day=job.first_day,
        repeatable=job.trust.words.seeded,
    )
    if isinstance(ledger, PopulationLedger) and not ledger.has_polls_of(accounts.run):
        accounts.check(cohorts.answering, job.rules.mechanism(job.candidates + 1))
    return accounts


def _book_complete_rounds(folder: RunFolder, rules: Rules, fleet: SimulatedFleet) -> None:
    """Make sure that the ledger has every complete round: one in memory is made anew when a run is continued.

    Raises StoreError if a ledger file has not, and has no room for it either.
    """
    for number in range(folder.completed_rounds()):
        slate = compact(np.load(folder.round(number) / "embeddings.npy", allow_pickle=False))
        paid = fleet.book(slate, rules.mechanism(len(slate) + 1), number)
        reports = folder.read_json(f"rounds/{number:03d}/round.json")["reports"]
        if paid != reports:
            raise StoreError(
                f"{folder.path} has {reports} reports of round {number}, but its ledger has debits for {paid}; give "
                "the ledger that the run was begun with"
            )


def _world(
    job: Job,
    encoders: Encoders,
    ownership: Ownership,
    cohorts: Cohorts,
    watch: ReportLog | None,
    accounts: Accounts,
    embeddings: np.ndarray,
    sample: np.ndarray,
    labels: tuple[str, ...] | None,
    shares: Mapping[str, float] | None,
) -> Prepared:
    population = Population(
        embeddings=embeddings, offsets=ownership.offsets, device_ids=ownership.device_ids, unit=ownership.unit
    )
    fleet = SimulatedFleet(
        population=population,
        cohorts=cohorts,
        rule=job.answer,
        seed=job.seed,
        workers=job.workers,
        watch=watch,
        accounts=accounts,
    )
    oracle = Oracle(
        fleet=fleet,
        judge=encoders.judge,
        sample=sample,
        rule=job.evaluation,
        labels=None if labels is None else np.array(labels)[ownership.order],
        shares=shares,
    )
    return Prepared(fleet=fleet, oracle=oracle)


def _play(
    job: Job,
    rules: Rules,
    world: Prepared,
    folder: RunFolder,
    timings: Timings,
    console: Console,
    arm: str | None,
    after_round: Callable[[], None],
) -> Corpus:
    """All rounds of one arm (None: the run itself); returns the corpus that the last round left."""
    title = arm or "run"
    writer = RoundWriter(folder, world.oracle, job.threshold, arm)
    done = folder.completed_rounds()
    state = RoundState(number=done, corpus=_corpus_of(job, rules, folder, done, timings, console, title))
    if done:
        log.info("%s: %d of %d rounds were complete; continuing", title, done, job.rounds)
    stages = Stages(timings, console, title)
    fleet = StagedFleet(fleet=world.fleet, stages=stages)
    staged = replace(rules, generator=StagedGenerator(generator=rules.generator, stages=stages))
    while state.number < job.rounds:
        number = state.number
        with stages.of(number):
            advance = stages.enter("encode slate", "encoding")
            following, record = play_round(state, staged, fleet, job.seed, advance)
            stages.enter("evaluate", "evaluating")
            writer.write(state, record, following)
        log.info("%s: round %d complete", title, number)
        after_round()
        print_rounds(console, folder, job, title, since=number)
        state = following
    with stages.of(job.rounds):
        stages.enter("evaluate", "evaluating")
        writer.write_final(state.corpus, slate_of(rules.encoder, state.corpus)[0], job.rounds)
    print_rounds(console, folder, job, title, since=None)
    return state.corpus


def _corpus_of(
    job: Job, rules: Rules, folder: RunFolder, number: int, timings: Timings, console: Console, title: str
) -> Corpus:
    """The corpus that round `number` starts from: on disk after the first round, or written now."""
    path = folder.round(number) / "corpus.parquet"
    if path.exists():
        return Corpus.from_parquet(path)
    measured, shown = timings.measure(0, f"{title}: seed corpus"), bar(console, f"{title}: writing candidates")
    with measured as facts, shown as advance:
        generation = rules.generator.seed(job.candidates, seed_sequence(job.seed, 0, Stage.SEED_CORPUS), advance)
        facts.update(effort(generation))
    log.info("%s: %s", title, generation.counted)
    folder.write_json(
        "seed_corpus.json",
        {"attempted": generation.attempted, "kept": len(generation.corpus), "drops": generation.drops},
    )
    folder.write_table(folder.relative(path), generation.corpus.to_table())
    return generation.corpus
